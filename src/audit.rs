//! The command `audit verify`: tells whether anybody touched the audit trail.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use somaagent_actors::audit::{
    told::{self, Book},
    verify::{Checkpoints, Report, Signature, verify},
};
use somaagent_actors::store::{Connections, Store};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::runtime::Handle;

use crate::cli::Verify;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::database::{Database, built_ins_first, read_only};
use crate::embedded::postgres::EmbeddedServer;
use crate::rooms::log::{audit_reader, kafka_log};
use crate::{refuse, say};

/// Something does not fit.
const FOUND: u8 = 1;
/// It could not be found out.
const UNKNOWN: u8 = 2;
/// What is told where there is a key and nothing that it signed.
const UNSIGNED: &str = "the audit trail could not be verified: there is a key and no checkpoint, so nobody can tell whether the \
                        chains are those that were made; either nothing was signed yet, or the checkpoints are gone";
/// How long the embedded database may take to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Verifies, tells, and gives the exit code. Changes nothing.
pub(crate) async fn run(config: &Config, asked: &Verify) -> ExitCode {
    match report(config, asked).await {
        Ok(report) => {
            say(&if asked.json { serde_json::json!(report).to_string() } else { text(&report) });
            if !report.findings.is_empty() {
                ExitCode::from(FOUND)
            } else if report.is_unsigned {
                refuse(&UNSIGNED, UNKNOWN)
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => refuse(&format!("the audit trail could not be verified: {error:#}"), UNKNOWN),
    }
}

async fn report(config: &Config, asked: &Verify) -> anyhow::Result<Report> {
    let within = Duration::from_millis(config.database.statement_timeout_ms);
    let (pool, embedded) = open(config)?;
    // One query after the other is all it takes.
    let connections = Connections { shared: pool, journal: None };
    let store = Store::new(connections, within + Duration::from_secs(1), Handle::current());
    let report = async {
        let checkpoints = checkpoints(config, asked.checkpoints.as_deref(), &store).await?;
        let report = verify(&store, asked.tenant.as_deref(), checkpoints).await.context("database")?;
        match &asked.tenant {
            Some(tenant) if report.tenants == 0 => bail!("there is no trail of a tenant {tenant:?}"),
            _ => Ok(report),
        }
    };
    let report = report.await;
    if let Some(database) = embedded {
        database.close(CLOSE_WITHIN).await;
    }
    report
}

/// The configured database, where nothing can be written, else the one of the data folder, which nobody else may have open.
fn open(config: &Config) -> anyhow::Result<(PgPool, Option<Database>)> {
    let server = read_only(&config.database, "somaagent-audit")?;
    if let Some(options) = server {
        // Whoever may read only some rows is refused: to find the others missing would be a false alarm.
        let options = options.options([("row_security", "off")]);
        let patience = Duration::from_millis(config.database.acquire_timeout_ms);
        return Ok((
            PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(patience)
                .after_connect(|connection, _| Box::pin(built_ins_first(connection)))
                .connect_lazy_with(options),
            None,
        ));
    }
    // Whoever verifies makes nothing, least of all an empty database that is found to be in order.
    let folder = config.data.folder().ok_or(DataDirError::NoHome)?;
    if !EmbeddedServer::has_database(&folder) {
        bail!("there is no database in {}: set SA01_DATA_DIR, or SA01_DB_DSN", folder.display());
    }
    let server = Arc::new(EmbeddedServer::new(DataDir::open(&config.data)?)?);
    server.start()?;
    let database = Database::embedded(&config.database, server);
    Ok((database.pool(), Some(database)))
}

/// The checkpoints of a file, else of the log.
async fn checkpoints(config: &Config, file: Option<&Path>, store: &Store) -> anyhow::Result<Checkpoints> {
    let signed = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
            let told = told::of_text(&text);
            if told.is_empty() {
                bail!("{} has no checkpoints", file.display());
            }
            told
        }
        None if config.kafka.bootstrap_servers.is_empty() => Book::Table(store.clone()).all().await?,
        None => Book::Log(Arc::new(kafka_log(&config.kafka)), audit_reader()).all().await?,
    };
    match config.audit.key().context("a key of the section audit")? {
        Some(key) => Ok(Checkpoints::read(&signed, &key)),
        None if signed.is_empty() => Ok(Checkpoints::default()),
        None => bail!(
            "there are checkpoints, and no key to know them by: set AUDIT_CHECKPOINT_PUBLIC_KEY or its file, AUDIT_CHECKPOINT_PUBLIC_KEY_FILE"
        ),
    }
}

/// Who vouches for a takeover.
const fn vouched(signature: Signature) -> &'static str {
    match signature {
        Signature::Good => "a process with the key saw it",
        Signature::OlderThanKey => "nothing was signed at that time",
        Signature::Missing => "nobody vouches for it",
        Signature::Wrong => "what vouches for it is signed by another key, or for another place",
        Signature::Unread => "without a key nobody can tell who wrote that",
    }
}

fn text(report: &Report) -> String {
    let Report { tenants, links, checkpoints, takeovers, findings, .. } = report;
    let mut lines = vec![format!("{tenants} chains with {links} links, compared with {checkpoints} checkpoints")];
    if *tenants == 0 {
        lines.push("there is nothing in the trail".to_owned());
    }
    if *checkpoints == 0 {
        lines.push("without checkpoints nobody can tell whether a chain was made anew as a whole".to_owned());
    }
    lines.extend(takeovers.iter().map(|moved| {
        let [from, to] = [&moved.from, &moved.to].map(|server| server.as_deref().unwrap_or("unknown"));
        let (tenant, number, rows) = (&moved.tenant, moved.number, moved.rows);
        let by = vouched(moved.signature);
        format!(
            "{tenant}: from number {number} on the chain goes on on another server, {to} after {from}; {rows} rows came along \
             unsealed; {by}"
        )
    }));
    lines.extend(findings.iter().map(|found| {
        let of = if found.tenant.is_empty() { String::new() } else { format!("{}: ", found.tenant) };
        format!("{of}{}", found.what)
    }));
    lines.push(match findings.len() {
        0 if report.is_unsigned => "what there is fits".to_owned(),
        0 => "everything fits".to_owned(),
        count => format!("{count} findings"),
    });
    lines.join("\n")
}
