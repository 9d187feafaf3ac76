//! The schema, as numbered migrations that are part of the program.

use sqlx::migrate::Migrator;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// What brings a database up to date. Several processes may run it at once: an advisory lock lets one work and the
/// others wait.
#[must_use]
pub fn migrator() -> &'static Migrator {
    &MIGRATIONS
}
