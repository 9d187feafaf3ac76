//! The wall between tenants inside the database: whether it is up, and keeps out whom it should.

use somaagent_actors::store::wall::{
    Wall,
    survey::{Gap, Survey, survey},
};
use sqlx::Connection as _;

use super::{Look, database::connect, finding::Notes};
use crate::telemetry::chain::Chain;

/// What mends rights, policies and the role, as far as the user of the database may.
const NEXT_START: &str = "the next start of a process does that, or SELECT raise_tenant_wall()";

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let unasked = Notes::of("");
    let Some(mut connection) = connect(look, &unasked).await else {
        // What is wrong with the database is told there.
        return notes.skipped("up", "no database server can be asked");
    };
    match survey(&mut connection).await {
        Ok(Some(survey)) => tell(&survey, notes),
        Ok(None) => notes.skipped("up", "the tables are not there yet"),
        Err(error) => notes.fault(
            "up",
            Chain(&error).to_string(),
            "see the server's log; the user must be allowed to read its own tables",
        ),
    }
    drop(connection.close().await);
}

fn tell(survey: &Survey, notes: &Notes) {
    let Survey { role, user, wall, gaps } = survey;
    match wall {
        Wall::Up(_) if gaps.is_empty() => {
            notes.ok("up", format!("what is done for a tenant is done as {role}, which sees the rows of that one"));
        }
        Wall::Up(_) | Wall::Gaping(_) => notes.note("up", format!("it is, and has a fault ({role})"), None),
        Wall::Absent(why) => {
            let seen = format!("{why}: only the queries keep tenants apart");
            let advice = format!(
                "have an administrator CREATE ROLE {role} NOLOGIN, if it is not there, and GRANT {role} TO {user:?}; {NEXT_START} \
                 (docs/access.md)"
            );
            notes.warning("up", seen, advice);
        }
    }
    for gap in gaps {
        tell_gap(gap, survey, notes);
    }
}

fn tell_gap(gap: &Gap, Survey { role, user, .. }: &Survey, notes: &Notes) {
    match gap {
        Gap::Unbound(attributes) => notes.fault(
            "role",
            format!("{role} has {attributes}, so row-level security does not hold it back"),
            format!("ALTER ROLE {role} NOSUPERUSER NOBYPASSRLS"),
        ),
        Gap::LogsIn => notes.fault(
            "role",
            format!("{role} may log in: whoever does is any tenant they like"),
            format!("ALTER ROLE {role} NOLOGIN"),
        ),
        Gap::Owns(tables) => notes.fault(
            "role",
            format!("{role} owns, or may act for the owner of, {}: an owner sees all rows", tables.join(", ")),
            format!("ALTER TABLE … OWNER TO {user:?}, and REVOKE from {role} every role that it was given; {NEXT_START} for its rights"),
        ),
        Gap::Open(tables) => notes.fault(
            "policies",
            format!("row-level security is off for {}", tables.join(", ")),
            "ALTER TABLE … ENABLE ROW LEVEL SECURITY",
        ),
        Gap::OtherPolicy(tables) => notes.fault(
            "policies",
            format!("other policies than the program made: {}", tables.join(", ")),
            "DROP POLICY what is not `one_tenant`, and give that back the condition that migrations/0013_tenant_rows.sql has",
        ),
        Gap::MayMore(rights) => notes.fault(
            "rights",
            format!("{role} may more than it needs: {}", rights.join(", ")),
            format!("REVOKE that from {role}, or from PUBLIC; TRUNCATE asks no policy"),
        ),
        Gap::MayLess(rights) => notes.fault(
            "rights",
            format!("{role} may not do what is done for tenants, which fails: {}", rights.join(", ")),
            NEXT_START,
        ),
        Gap::Strangers(roles) => notes.fault(
            "strangers",
            format!("the tenants' roles of other databases have rights here: {}", roles.join(", ")),
            format!("{NEXT_START}; else REVOKE ALL ON ALL TABLES IN SCHEMA public FROM them"),
        ),
        Gap::HidesFromUs(tables) => notes.fault(
            "user",
            format!("row-level security hides rows from {user:?}, who works for all tenants, of {}", tables.join(", ")),
            "name the owner of the tables in SA01_DB_DSN, and ALTER TABLE … NO FORCE ROW LEVEL SECURITY",
        ),
        Gap::WeBypass => notes.warning(
            "user",
            format!("{user:?} has BYPASSRLS on the whole server, and owns the tables: an owner needs no more"),
            format!("ALTER ROLE {user:?} NOBYPASSRLS"),
        ),
    }
}
