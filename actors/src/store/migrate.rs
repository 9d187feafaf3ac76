//! Brings the schema up to date, once, whoever comes first.

use sqlx::{Connection, PgConnection, migrate::Migrator};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// Applies what is missing. Several processes may call this at once: an advisory lock lets one work and the others wait.
///
/// # Errors
/// When the database cannot be reached, or an applied migration differs from the one in this binary.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    MIGRATIONS.run(connection).await
}

/// Opens a connection of its own to apply what is missing, and closes it.
///
/// # Errors
/// As [`migrate`].
pub async fn migrate_at(options: &sqlx::postgres::PgConnectOptions) -> Result<(), sqlx::migrate::MigrateError> {
    let mut connection = PgConnection::connect_with(options).await?;
    migrate(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
