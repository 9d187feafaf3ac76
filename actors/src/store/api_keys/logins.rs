//! Those rows of the table that are logins.

use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::{domain::list_cursor::ListCursor, store::wall::TenantTx};

/// Which logins of a tenant are meant, of those that are not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginsOf {
    /// One person's: a name says who it is only together with who vouches for it.
    Person {
        /// What the issuer calls them.
        subject: String,
        /// Who vouches for them.
        issuer: Option<String>,
    },
    /// Those of everybody of this name, whoever vouches for them.
    Subject(String),
    /// Everybody's.
    Everybody,
}

impl LoginsOf {
    /// The name, the issuer, and whether it has to be that one.
    fn parts(&self) -> (Option<&str>, Option<&str>, bool) {
        match self {
            Self::Person { subject, issuer } => (Some(subject), issuer.as_deref(), true),
            Self::Subject(subject) => (Some(subject), None, false),
            Self::Everybody => (None, None, false),
        }
    }
}

/// A login as lists show it.
#[derive(Clone, Debug)]
pub struct ListedLogin {
    /// Its id.
    pub login_id: Uuid,
    /// Whose.
    pub subject: String,
    /// Who vouches for them.
    pub issuer: Option<String>,
    /// What they are called; empty if nobody said it.
    pub name: String,
    /// Since when.
    pub created_at: OffsetDateTime,
    /// Until when.
    pub expires_at: OffsetDateTime,
    /// When it was last used, to a minute or so.
    pub last_used_at: Option<OffsetDateTime>,
    /// The address from which it was begun, if that is known.
    pub address: Option<String>,
    /// What the browser there called itself.
    pub user_agent: Option<String>,
}

/// Up to `limit` logins that are not over at the time `at`, the latest first, behind `before`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.list_logins", skip_all)]
pub async fn list(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    of: &LoginsOf,
    at: OffsetDateTime,
    before: Option<ListCursor>,
    limit: i64,
) -> Result<Vec<ListedLogin>, sqlx::Error> {
    let (subject, issuer, is_exact) = of.parts();
    sqlx::query_as!(
        ListedLogin,
        "SELECT key_id AS login_id, created_by AS subject, issuer, label AS name, created_at,
                expires_at AS \"expires_at!\", last_used_at, host(ip) AS address, user_agent
         FROM api_keys
         WHERE tenant = $1 AND kind = 'login' AND revoked_at IS NULL AND expires_at > $2
           AND ($3::text IS NULL OR created_by = $3) AND (NOT $5 OR issuer IS NOT DISTINCT FROM $4)
           AND ($6::timestamptz IS NULL OR (created_at, key_id) < ($6, $7))
         ORDER BY created_at DESC, key_id DESC
         LIMIT $8",
        tenant,
        at,
        subject,
        issuer,
        is_exact,
        before.map(|before| before.at),
        before.map(|before| before.id),
        limit,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Ends logins that are not over at the time `at`, or only the one with the id `only`, and returns which.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.end_logins", skip_all)]
pub async fn end(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    of: &LoginsOf,
    only: Option<Uuid>,
    at: OffsetDateTime,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (subject, issuer, is_exact) = of.parts();
    sqlx::query_scalar!(
        "WITH ending AS (
             -- In the order of whoever notes that keys are used: of two one waits for the other.
             SELECT key_id FROM api_keys
             WHERE tenant = $1 AND kind = 'login' AND revoked_at IS NULL AND expires_at > $2
               AND ($3::text IS NULL OR created_by = $3) AND (NOT $5 OR issuer IS NOT DISTINCT FROM $4)
               AND ($6::uuid IS NULL OR key_id = $6)
             ORDER BY key_id
             FOR NO KEY UPDATE
         )
         UPDATE api_keys AS held
         SET revoked_at = $2
         FROM ending
         WHERE held.key_id = ending.key_id AND held.tenant = $1
         RETURNING held.key_id",
        tenant,
        at,
        subject,
        issuer,
        is_exact,
        only,
    )
    .fetch_all(&mut **rows)
    .await
}

/// What a login's owner is called.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.login_name", skip_all)]
pub async fn name(rows: &mut TenantTx<'_>, tenant: &str, key_id: Uuid) -> Result<Option<String>, sqlx::Error> {
    let query = sqlx::query_scalar!(
        "SELECT label FROM api_keys WHERE tenant = $1 AND key_id = $2 AND kind = 'login'",
        tenant,
        key_id,
    );
    query.fetch_optional(&mut **rows).await
}

/// Removes logins of somebody that are over, and returns which.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.sweep_logins", skip_all)]
pub async fn sweep(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    subject: &str,
    at: OffsetDateTime,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "DELETE FROM api_keys
         WHERE tenant = $1 AND created_by = $2 AND kind = 'login' AND (revoked_at IS NOT NULL OR expires_at <= $3)
         RETURNING key_id",
        tenant,
        subject,
        at,
    )
    .fetch_all(&mut **rows)
    .await
}
