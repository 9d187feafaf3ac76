//! The PostgreSQL server: whether it answers, keeps what it acknowledges, has room, and has the tables of this program.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use somaagent_actors::store::migrate;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use super::{
    Look,
    clock::{self, Asked},
    finding::{Notes, counted},
};
use crate::database::{APPLICATION, VERSION_MIN, built_ins_first, read_only, tls};
use crate::roles::{Role, Roles};
use crate::rooms::now;
use crate::telemetry::chain::Chain;

/// Connections that a process opens besides its pool: the Journal's, and one for the migrations or an index.
const BESIDES: u32 = 2;
/// The clock of the server has this resolution.
const STEPS: Duration = Duration::from_micros(1);
/// A statement that has waited this long for another one is stuck behind it.
const STUCK_SECONDS: f64 = 5.0;

/// What is asked of the server's settings.
const ASKED: &[&str] = &[
    "fsync",
    "full_page_writes",
    "max_connections",
    "reserved_connections",
    "server_encoding",
    "server_version",
    "server_version_num",
    "superuser_reserved_connections",
    "synchronous_commit",
];

type Settings = BTreeMap<String, String>;

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let Some(mut connection) = connect(look, notes).await else { return };
    if let Err(error) = examine(look, &mut connection, notes).await {
        notes.fault(
            "questions",
            Chain(&error).to_string(),
            "see the server's log; the user must be allowed to read its own tables",
        );
    }
    drop(connection.close().await);
}

/// A connection on which nothing can be written. Why there is none is noted.
pub(super) async fn connect(look: Look<'_>, notes: &Notes) -> Option<PgConnection> {
    let options = match read_only(&look.config.database, "somaagent-doctor") {
        Ok(Some(options)) => options,
        Ok(None) => {
            notes.skipped("reachable", "none is configured: the PostgreSQL inside the process is used (SA01_DB_DSN)");
            return None;
        }
        Err(error) => {
            notes.fault("reachable", error.to_string(), "mend SA01_DB_DSN");
            return None;
        }
    };
    let place = place(&options);
    // Before the subject's time is over.
    let within = (look.within / 2).min(Duration::from_millis(look.config.database.acquire_timeout_ms));
    let begun = Instant::now();
    let advice = "see whether SA01_DB_DSN is right and the server reached from here; until then no process starts";
    let opened = async {
        let mut connection = PgConnection::connect_with(&options).await?;
        built_ins_first(&mut connection).await?;
        Ok(connection)
    };
    match timeout(within, opened).await {
        Ok(Ok(connection)) => {
            notes.ok("reachable", format!("{place} lets us in within {} ms", begun.elapsed().as_millis()));
            Some(connection)
        }
        Ok(Err(error)) => {
            notes.fault("reachable", format!("{place}: {}", Chain(&error)), tls::advice(&error).unwrap_or(advice));
            None
        }
        Err(_) => {
            notes.fault("reachable", format!("{place} did not answer within {} ms", within.as_millis()), advice);
            None
        }
    }
}

fn place(options: &PgConnectOptions) -> String {
    options
        .get_socket()
        .map_or_else(|| format!("{}:{}", options.get_host(), options.get_port()), |socket| socket.display().to_string())
}

async fn examine(look: Look<'_>, connection: &mut PgConnection, notes: &Notes) -> Result<(), sqlx::Error> {
    let before = now();
    let shown: OffsetDateTime = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
    let after = now();
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT name, setting FROM pg_settings WHERE name = ANY($1)")
        .bind(ASKED)
        .fetch_all(&mut *connection)
        .await?;
    let settings: Settings = rows.into_iter().collect();
    version(&settings, notes);
    durability(&settings, notes);
    user(connection, notes).await?;
    line(look, connection, notes).await?;
    room(look, connection, &settings, notes).await?;
    migrations(connection, notes).await?;
    stuck(connection, notes).await?;
    let asked = Asked { whose: "the server", before, after, shown, steps: STEPS };
    clock::compare(notes, asked, look.config.auth.jwt_leeway_seconds);
    Ok(())
}

fn text<'a>(settings: &'a Settings, name: &str) -> &'a str {
    settings.get(name).map_or("", String::as_str)
}

fn number(settings: &Settings, name: &str) -> u32 {
    text(settings, name).parse().unwrap_or_default()
}

fn version(settings: &Settings, notes: &Notes) {
    let seen = format!("PostgreSQL {}", text(settings, "server_version"));
    let is_enough = text(settings, "server_version_num").parse::<i32>().is_ok_and(|version| version >= VERSION_MIN);
    if is_enough {
        notes.ok("version", seen);
    } else {
        notes.fault("version", format!("{seen}, and 15 is the oldest that will do"), "upgrade the server");
    }
    let encoding = text(settings, "server_encoding");
    if encoding != "UTF8" {
        let seen = format!("the database has the encoding {encoding}: not every text can be kept");
        notes.fault("encoding", seen, "make a database with ENCODING 'UTF8' and move the tables there");
    }
}

/// Whether what was acknowledged survives.
fn durability(settings: &Settings, notes: &Notes) {
    let is_off = |name: &str| text(settings, name) == "off";
    if is_off("fsync") {
        notes.fault(
            "fsync",
            "off: a crash of the machine can leave the database unusable",
            "set fsync = on in postgresql.conf",
        );
    }
    if is_off("full_page_writes") {
        let seen = "off: a crash of the machine can leave torn pages behind";
        notes.warning("full_page_writes", seen, "set it on, unless the file system writes pages whole (ZFS)");
    }
    if is_off("synchronous_commit") {
        let seen = "off: a crash of the server loses what was acknowledged a moment before";
        notes.warning(
            "synchronous_commit",
            seen,
            "set it on, for the server, the database or the user of this program",
        );
    }
    if !["fsync", "full_page_writes", "synchronous_commit"].into_iter().any(is_off) {
        let seen =
            format!("what is acknowledged is on disk (synchronous_commit {})", text(settings, "synchronous_commit"));
        notes.ok("durable", seen);
    }
}

/// Who we are there.
async fn user(connection: &mut PgConnection, notes: &Notes) -> Result<(), sqlx::Error> {
    let is_super: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut *connection)
        .await?;
    if is_super {
        let advice = "make a user that owns this database and nothing else, and name it in SA01_DB_DSN";
        notes.warning("user", "we are a superuser: whoever takes over this program has the whole server", advice);
    } else {
        notes.ok("user", "no superuser");
    }
    Ok(())
}

/// Who could listen on the line, and pretend to be the server.
async fn line(look: Look<'_>, connection: &mut PgConnection, notes: &Notes) -> Result<(), sqlx::Error> {
    let spoken: Option<String> = sqlx::query_scalar("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_optional(&mut *connection)
        .await?
        .flatten();
    if let Ok(Some(options)) = look.config.database.server() {
        tell_line(&options, spoken.as_deref(), notes);
    }
    Ok(())
}

/// Tells of a line on which this version of TLS is spoken, as the server sees it.
fn tell_line(options: &PgConnectOptions, spoken: Option<&str>, notes: &Notes) {
    let version = spoken.unwrap_or("TLS");
    if tls::is_here(options) {
        return notes.ok("tls", "the server is on this machine: nobody is in between");
    }
    match options.get_ssl_mode() {
        PgSslMode::VerifyFull => notes.ok("tls", format!("{version}, and the server proves its name")),
        PgSslMode::VerifyCa => notes.ok("tls", format!("{version}, and its authority vouches for the server")),
        PgSslMode::Require => {
            let seen =
                format!("{version}, and whoever gets in between may say to be the server: nobody vouches for it");
            notes.warning("tls", seen, tls::GUARD);
        }
        PgSslMode::Allow | PgSslMode::Prefer if spoken.is_some() => {
            let seen =
                format!("{version}, but whoever is in between can have it go without: SA01_DB_DSN does not ask for it");
            notes.warning("tls", seen, tls::GUARD);
        }
        PgSslMode::Allow | PgSslMode::Prefer | PgSslMode::Disable => {
            let advice = format!("set ssl = on at the server, and {}", tls::GUARD);
            notes.warning("tls", "the connection is not encrypted: whoever is in between reads everything", advice);
        }
    }
}

/// Whether there are connections enough, and who has some.
async fn room(
    look: Look<'_>,
    connection: &mut PgConnection,
    settings: &Settings,
    notes: &Notes,
) -> Result<(), sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT COALESCE(application_name, '') FROM pg_stat_activity
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    )
    .fetch_all(&mut *connection)
    .await?;
    let reserved = number(settings, "superuser_reserved_connections") + number(settings, "reserved_connections");
    let most = number(settings, "max_connections").saturating_sub(reserved);
    let needed = look.config.database.pool_size + BESIDES;
    let open = u32::try_from(names.len()).unwrap_or(u32::MAX);
    let ours = ours(&names);
    let seen =
        format!("a process needs up to {needed} connections; of {most} {open} are open, {} of them ours", ours.len());
    let advice = "raise max_connections, or lower PG_POOL_MAX_SIZE";
    if needed > most {
        notes.fault("connections", seen, advice);
    } else if ours.is_empty() && open.saturating_add(needed) > most {
        notes.warning("connections", seen, advice);
    } else {
        notes.ok("connections", seen);
    }
    roles(&ours, notes);
    Ok(())
}

/// The roles of those clients that are processes of this program.
fn ours(clients: &[String]) -> Vec<Roles> {
    clients.iter().filter_map(|name| name.strip_prefix(APPLICATION)?.parse().ok()).collect()
}

/// Whether a process with a role works with this database now.
pub(super) async fn is_connected(connection: &mut PgConnection, role: Role) -> Result<bool, sqlx::Error> {
    let clients: Vec<String> = sqlx::query_scalar(
        "SELECT COALESCE(application_name, '') FROM pg_stat_activity WHERE datname = current_database()",
    )
    .fetch_all(connection)
    .await?;
    Ok(ours(&clients).iter().any(|roles| roles.has(role)))
}

/// Which roles processes have that are connected now.
fn roles(ours: &[Roles], notes: &Notes) {
    let connected: BTreeSet<Role> = ours.iter().flat_map(|roles| roles.iter().collect::<Vec<_>>()).collect();
    if connected.is_empty() {
        return notes.note("processes", "no somaagent is connected now", None);
    }
    let missing: Vec<&str> = Roles::default().iter().filter(|role| !connected.contains(role)).map(Role::name).collect();
    if missing.is_empty() {
        notes.ok("processes", "every role has a process that is connected");
    } else {
        let seen = format!("no process that is connected has the role {}: that work waits", missing.join(", "));
        notes.warning("processes", seen, format!("start one with SA01_ROLE={}", missing.join(",")));
    }
}

/// Whether the tables are those of this program.
async fn migrations(connection: &mut PgConnection, notes: &Notes) -> Result<(), sqlx::Error> {
    let (has_table, may_make): (bool, bool) = sqlx::query_as(
        "SELECT to_regclass('_sqlx_migrations') IS NOT NULL,
                COALESCE(has_schema_privilege(current_schema(), 'CREATE'), false)",
    )
    .fetch_one(&mut *connection)
    .await?;
    let applied: Vec<(i64, bool, Vec<u8>)> = if has_table {
        let all = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
        sqlx::query_as(all).fetch_all(&mut *connection).await?
    } else {
        Vec::new()
    };
    let known: BTreeMap<i64, &[u8]> =
        migrate::migrator().iter().map(|migration| (migration.version, &*migration.checksum)).collect();
    let head = known.keys().next_back().copied().unwrap_or_default();
    if let Some((version, ..)) = applied.iter().find(|(_, success, _)| !success) {
        let advice = "see the log of the process that tried; the row of _sqlx_migrations tells which it is";
        notes.fault("migrations", format!("the migration {version} was begun and not ended"), advice);
    }
    let foreign: Vec<String> = applied
        .iter()
        .filter(|(version, ..)| !known.contains_key(version))
        .map(|(version, ..)| version.to_string())
        .collect();
    if !foreign.is_empty() {
        let seen = format!(
            "the tables are of a newer program: this one knows migrations up to {head}, there is {} too",
            foreign.join(", ")
        );
        notes.fault("migrations", seen, "start the newer version, or give this one a database of its own");
    }
    let changed =
        |(version, _, sum): &&(i64, bool, Vec<u8>)| known.get(version).is_some_and(|known| *known != sum.as_slice());
    if let Some((version, ..)) = applied.iter().find(changed) {
        let advice = "the tables come from a build that was never released: give this one a database of its own";
        notes.fault(
            "migrations",
            format!("the migration {version} that was applied is another one than this program's"),
            advice,
        );
    }
    let missing = known.keys().filter(|version| !applied.iter().any(|(applied, ..)| applied == *version)).count();
    if missing > 0 && !may_make {
        let seen = format!("{} to be applied, and this user may make no table", counted(missing, "migration"));
        notes.fault(
            "migrations",
            seen,
            "GRANT CREATE ON SCHEMA public to the user of SA01_DB_DSN, or have it own the database",
        );
    } else if missing > 0 {
        notes.note(
            "migrations",
            format!("{} to be applied: the next start does that", counted(missing, "migration")),
            None,
        );
    } else if foreign.is_empty() {
        notes.ok("migrations", format!("all are applied, up to {head}"));
    }
    Ok(())
}

/// Whether somebody waits for somebody else's lock.
async fn stuck(connection: &mut PgConnection, notes: &Notes) -> Result<(), sqlx::Error> {
    let waiting: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND clock_timestamp() - query_start > make_interval(secs => $1)",
    )
    .bind(STUCK_SECONDS)
    .fetch_one(&mut *connection)
    .await?;
    if waiting == 0 {
        notes.ok("locks", "nobody waits for a lock for long");
    } else {
        let seen = format!("{waiting} of the statements under way wait for a lock for more than {STUCK_SECONDS} s");
        notes.warning("locks", seen, "pg_blocking_pids(pid) of pg_stat_activity tells who has it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_line_to_another_machine_is_a_warning_until_the_server_proves_who_it_is() {
        let told = |host: &str, mode, spoken| {
            let notes = Notes::of("database");
            let options = PgConnectOptions::new_without_pgpass().host(host).ssl_mode(mode);
            tell_line(&options, spoken, &notes);
            notes.into_findings().pop().unwrap()
        };
        let spoken = Some("TLSv1.3");
        assert_eq!(told("127.0.0.1", PgSslMode::Disable, None).severity, Severity::Ok);
        for mode in [PgSslMode::VerifyCa, PgSslMode::VerifyFull] {
            assert_eq!(told("db.example", mode, spoken).severity, Severity::Ok);
        }
        for (mode, spoken, says) in [
            (PgSslMode::Require, spoken, "say to be the server"),
            (PgSslMode::Prefer, spoken, "have it go without"),
            (PgSslMode::Prefer, None, "not encrypted"),
            (PgSslMode::Disable, None, "not encrypted"),
        ] {
            let found = told("db.example", mode, spoken);
            assert_eq!(found.severity, Severity::Warning, "{mode:?}");
            assert!(found.seen.contains(says), "{found:?}");
            assert!(found.advice.unwrap().contains("sslmode=verify-full"), "{mode:?}");
        }
    }
}
