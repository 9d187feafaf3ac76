//! The audit trail: whether its rows are being sealed and signed, and what holds that up.

use somaagent_actors::store::audit_chain;
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;

use super::{
    Look,
    database::{connect, is_connected},
    finding::Notes,
};
use crate::roles::Role;
use crate::telemetry::chain::Chain;

/// A row should be sealed long before it is this old.
const LATE_SECONDS: f64 = 60.0;
/// A row should be signed for after one period; somebody may be late once, or start anew.
const PERIODS: u32 = 3;

/// A transaction that has written and goes on, or that waits for its second phase.
type Open = (Option<i32>, Option<String>, f64);

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    signed(look, notes);
    let unasked = Notes::of("");
    let Some(mut connection) = connect(look, &unasked).await else {
        // What is wrong with the database is told there.
        return notes.skipped("sealed", "no database server can be asked");
    };
    if let Err(error) = examine(look, &mut connection, notes).await {
        notes.fault(
            "sealed",
            Chain(&error).to_string(),
            "see the server's log; the user must be allowed to read its own tables",
        );
    }
    drop(connection.close().await);
}

/// Whether somebody who owns the database could make the trail anew.
fn signed(look: Look<'_>, notes: &Notes) {
    let audit = &look.config.audit;
    if !look.config.server.role.has(Role::Outbox) {
        notes.skipped("signed", "a process of these roles signs nothing");
    } else if audit.checkpoint_key.is_some() {
        notes.ok("signed", format!("the ends of the chains are signed every {} s", audit.checkpoint_every_seconds));
    } else {
        let seen = "nothing is signed: whoever owns the database could make the trail anew, unseen";
        notes.warning_if(look.is_serious(), "signed", seen, "set AUDIT_CHECKPOINT_KEY_FILE: docs/audit.md");
    }
}

async fn examine(look: Look<'_>, connection: &mut PgConnection, notes: &Notes) -> Result<(), sqlx::Error> {
    let held = held_up(connection).await?;
    if let Some((process, name, seconds)) = held.as_ref().filter(|(.., seconds)| *seconds > LATE_SECONDS) {
        let whose = process.map_or_else(
            || format!("the prepared transaction {:?}", name.as_deref().unwrap_or_default()),
            |pid| format!("the process {pid} of the server ({:?})", name.as_deref().unwrap_or_default()),
        );
        let advice = match process {
            Some(pid) => format!("have its client end it, or SELECT pg_terminate_backend({pid})"),
            None => "COMMIT PREPARED or ROLLBACK PREPARED ends it".to_owned(),
        };
        let seen =
            format!("{whose} has written and not ended for {seconds:.0} s: nothing newer can be sealed, or cleaned up");
        notes.warning("held up", seen, advice);
    }
    let has_tables: bool =
        sqlx::query_scalar("SELECT to_regclass('audit_sealer') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !has_tables {
        notes.skipped("sealed", "there is no audit trail yet");
        return Ok(());
    }
    let there: OffsetDateTime = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
    signed_lately(look, connection, there, notes).await?;
    let Some(oldest) = audit_chain::oldest_unsealed(connection).await? else {
        notes.ok("sealed", "every row is in its chain");
        return Ok(());
    };
    let lag = (there - oldest).as_seconds_f64().max(0.0);
    let seen = format!("the oldest row that is in no chain is {lag:.0} s old");
    if lag <= LATE_SECONDS {
        notes.ok("sealed", seen);
    } else if held.is_some_and(|(.., seconds)| seconds > LATE_SECONDS) {
        notes.warning("sealed", seen, "what holds it up is told above");
    } else {
        notes.warning("sealed", seen, "a process with the role outbox seals: see whether one runs, and its log");
    }
    Ok(())
}

/// Whether somebody signs, where there is a key: a row that is sealed is signed for after one period.
async fn signed_lately(
    look: Look<'_>,
    connection: &mut PgConnection,
    there: OffsetDateTime,
    notes: &Notes,
) -> Result<(), sqlx::Error> {
    let audit = &look.config.audit;
    if audit.checkpoint_key.is_none() && audit.checkpoint_public_key.is_none() {
        return Ok(());
    }
    let Some(oldest) = audit_chain::oldest_unsigned(connection).await? else {
        notes.ok("signed lately", "every row that is in its chain is signed for");
        return Ok(());
    };
    let age = (there - oldest).as_seconds_f64().max(0.0);
    let seen = format!("the oldest row that is in its chain and not signed for is {age:.0} s old");
    if age <= f64::from(PERIODS) * audit.checkpoint_every().as_secs_f64() + LATE_SECONDS {
        notes.ok("signed lately", seen);
    } else if is_connected(connection, Role::Outbox).await? {
        let advice = "give every process with the role outbox AUDIT_CHECKPOINT_KEY_FILE, and see its log for what was not signed";
        notes.fault("signed lately", seen, advice);
    } else {
        let advice =
            "a process with the role outbox and AUDIT_CHECKPOINT_KEY_FILE signs when it starts: none is connected";
        notes.warning("signed lately", seen, advice);
    }
    Ok(())
}

/// The oldest transaction on the server that has written: rows are sealed once every older one is over.
async fn held_up(connection: &mut PgConnection) -> Result<Option<Open>, sqlx::Error> {
    sqlx::query_as(
        "SELECT pid, name, seconds FROM (
             SELECT pid, application_name AS name, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
             FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start IS NOT NULL
             UNION ALL
             SELECT NULL, gid, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
         ) AS open
         ORDER BY seconds DESC LIMIT 1",
    )
    .fetch_optional(connection)
    .await
}
