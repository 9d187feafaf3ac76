//! Table `ui_settings`: what operators save. One row for the whole installation.

use serde_json::Value;
use sqlx::PgConnection;
use tracing::instrument;

/// The document, and how often it was changed.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSettings {
    /// The number of the last change; 0 before the first.
    pub version: i64,
    /// What is saved, by section and field. Whoever owns the database may have written anything.
    pub document: Value,
}

impl StoredSettings {
    /// Before anything was saved.
    #[must_use]
    pub fn nothing() -> Self {
        Self { version: 0, document: Value::Object(serde_json::Map::new()) }
    }
}

/// What is saved.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.ui_settings.read", skip_all)]
pub async fn read(connection: &mut PgConnection) -> Result<StoredSettings, sqlx::Error> {
    let row =
        sqlx::query_as!(StoredSettings, "SELECT version, value AS document FROM ui_settings WHERE key = 'global'",);
    Ok(row.fetch_optional(connection).await?.unwrap_or_else(StoredSettings::nothing))
}

/// What is saved, kept from others until the end of the transaction.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.ui_settings.lock", skip_all)]
pub async fn lock(connection: &mut PgConnection) -> Result<StoredSettings, sqlx::Error> {
    sqlx::query_as!(
        StoredSettings,
        "INSERT INTO ui_settings (key) VALUES ('global')
         ON CONFLICT (key) DO UPDATE SET key = excluded.key
         RETURNING version, value AS document",
    )
    .fetch_one(connection)
    .await
}

/// Saves a document over the one that is [locked](lock).
///
/// # Errors
/// The database's; `RowNotFound` if there is none to be locked.
#[instrument(level = "debug", name = "db.ui_settings.write", skip_all)]
pub async fn write(connection: &mut PgConnection, settings: &StoredSettings) -> Result<(), sqlx::Error> {
    let written = sqlx::query!(
        "UPDATE ui_settings SET value = $1, version = $2 WHERE key = 'global'",
        settings.document,
        settings.version,
    );
    match written.execute(connection).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(sqlx::Error::RowNotFound),
    }
}
