//! Table `ui_settings_versions`: what operators have saved before, and who they were.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

use super::ui_settings::StoredSettings;

/// Versions that are kept.
pub const KEPT: i64 = 1_000;

/// A change of the settings, without what they are since.
#[derive(Debug, Clone)]
pub struct SettingsVersion {
    /// Its number.
    pub number: i64,
    /// Names of the fields that were changed, as `section.field`.
    pub changed: Vec<String>,
    /// The version that was restored, if one was.
    pub restored: Option<i64>,
    /// When.
    pub created_at: OffsetDateTime,
    /// Whose admin changed them.
    pub tenant: String,
    /// Who that was.
    pub subject: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
}

/// The number of the next change after `current`. It has not been there before, whatever became of the row of the settings.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.ui_settings_versions.next", skip_all)]
pub async fn next(connection: &mut PgConnection, current: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT GREATEST($1::bigint, COALESCE(max(number), 0)) + 1 AS \"next!\" FROM ui_settings_versions",
        current,
    )
    .fetch_one(connection)
    .await
}

/// Keeps a version, and lets go those that are older than the last [`KEPT`].
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.ui_settings_versions.insert", skip_all)]
pub async fn insert(
    connection: &mut PgConnection,
    settings: &StoredSettings,
    change: &SettingsVersion,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO ui_settings_versions (number, document, changed, restored, created_at, tenant, subject, request_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        settings.version,
        settings.document,
        &change.changed,
        change.restored,
        change.created_at,
        change.tenant,
        change.subject,
        change.request_id,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("DELETE FROM ui_settings_versions WHERE number <= $1", settings.version - KEPT)
        .execute(connection)
        .await?;
    Ok(())
}

/// Up to `limit` versions, the newest first, of those before `before`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.ui_settings_versions.list", skip_all)]
pub async fn list(
    connection: &mut PgConnection,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<SettingsVersion>, sqlx::Error> {
    sqlx::query_as!(
        SettingsVersion,
        "SELECT number, changed, restored, created_at, tenant, subject, request_id
         FROM ui_settings_versions
         WHERE $1::bigint IS NULL OR number < $1
         ORDER BY number DESC
         LIMIT $2",
        before,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// The document of a version. That of version 0 is empty.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.ui_settings_versions.find", skip_all)]
pub async fn find(connection: &mut PgConnection, number: i64) -> Result<Option<Value>, sqlx::Error> {
    if number == 0 {
        return Ok(Some(StoredSettings::nothing().document));
    }
    sqlx::query_scalar!("SELECT document FROM ui_settings_versions WHERE number = $1", number)
        .fetch_optional(connection)
        .await
}
