//! Table `api_keys`: keys with which programs say who they are, and logins, which are keys that a browser keeps. One is found by
//! its id alone where its bearer shows it, for only the key itself says of which tenant it is.

pub mod logins;

use std::net::IpAddr;

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;
use crate::domain::ids::Tenant;

/// A key that is made.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Its id.
    pub key_id: Uuid,
    /// Whose.
    pub tenant: Tenant,
    /// Whether it is a login, and no key that lists show.
    pub is_login: bool,
    /// What people call it; of a login, who has logged in.
    pub label: String,
    /// How its secret begins.
    pub prefix: String,
    /// What is kept of the secret.
    pub hash: SecretHash,
    /// Who makes it, and for whom it speaks.
    pub created_by: String,
    /// Who vouches for them.
    pub issuer: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When.
    pub created_at: OffsetDateTime,
    /// Until when it is taken, if not for ever.
    pub expires_at: Option<OffsetDateTime>,
    /// Of a login: from where it was begun.
    pub address: Option<IpAddr>,
    /// Of a login: what the browser there calls itself.
    pub user_agent: Option<String>,
}

/// What is kept of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    /// 32 bytes.
    pub hash: Vec<u8>,
    /// 16 bytes.
    pub salt: Vec<u8>,
    /// How often it was hashed.
    pub rounds: i32,
}

/// Not what is in it: with it secrets could be tried elsewhere.
impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretHash").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

/// A key as it is to be proved.
#[derive(Clone, Debug)]
pub struct StoredApiKey {
    /// Whose.
    pub tenant: String,
    /// Whether it is a login.
    pub is_login: bool,
    /// What is kept of its secret.
    pub hash: SecretHash,
    /// For whom it speaks.
    pub created_by: String,
    /// Who vouches for them.
    pub issuer: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// Until when it is taken.
    pub expires_at: Option<OffsetDateTime>,
    /// Since when it is not taken any more.
    pub revoked_at: Option<OffsetDateTime>,
}

/// A key as lists show it.
#[derive(Clone, Debug)]
pub struct ListedApiKey {
    /// Its id.
    pub key_id: Uuid,
    /// What people call it.
    pub label: String,
    /// How its secret begins.
    pub prefix: String,
    /// Who made it, and for whom it speaks.
    pub created_by: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Until when it is taken.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to a minute or so.
    pub last_used_at: Option<OffsetDateTime>,
    /// Since when it is not taken any more.
    pub revoked_at: Option<OffsetDateTime>,
}

/// Keys of any tenants, each with its tenant.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Their tenants, in the order of the ids.
    pub tenants: Vec<String>,
    /// Their ids.
    pub key_ids: Vec<Uuid>,
}

/// Writes a key down.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.insert", skip_all)]
pub async fn insert(rows: &mut TenantTx<'_>, key: &NewApiKey) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO api_keys (
             key_id, tenant, label, prefix, hash, salt, rounds, created_by, issuer, scopes, created_at, expires_at,
             ip, user_agent, kind
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::text::inet, $14,
             CASE WHEN $15 THEN 'login' ELSE 'key' END)",
        key.key_id,
        key.tenant.as_str(),
        key.label,
        key.prefix,
        key.hash.hash,
        key.hash.salt,
        key.hash.rounds,
        key.created_by,
        key.issuer,
        &key.scopes,
        key.created_at,
        key.expires_at,
        key.address.map(|address| address.to_string()),
        key.user_agent,
        key.is_login,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

/// The key that a secret names.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.find", skip_all)]
pub async fn find(connection: &mut PgConnection, key_id: Uuid) -> Result<Option<StoredApiKey>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT tenant, kind = 'login' AS \"is_login!\", hash, salt, rounds, created_by, issuer, scopes, expires_at, revoked_at
         FROM api_keys
         WHERE key_id = $1",
        key_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| StoredApiKey {
        tenant: row.tenant,
        is_login: row.is_login,
        hash: SecretHash { hash: row.hash, salt: row.salt, rounds: row.rounds },
        created_by: row.created_by,
        issuer: row.issuer,
        scopes: row.scopes,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    }))
}

/// Up to `limit` keys of a tenant, the newest first, behind the one with the id `after`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.list", skip_all)]
pub async fn list(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ListedApiKey>, sqlx::Error> {
    sqlx::query_as!(
        ListedApiKey,
        "SELECT key_id, label, prefix, created_by, scopes, created_at, expires_at, last_used_at, revoked_at
         FROM api_keys
         WHERE tenant = $1 AND kind = 'key'
           AND ($2::uuid IS NULL
                OR (created_at, key_id) < (SELECT created_at, key_id FROM api_keys WHERE tenant = $1 AND key_id = $2))
         ORDER BY created_at DESC, key_id DESC
         LIMIT $3",
        tenant,
        after,
        limit,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Takes a key, or a login, from its bearers for good. `None` if the tenant has none; else whether it was taken until now.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.revoke", skip_all)]
pub async fn revoke(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    key_id: Uuid,
    is_login: bool,
    at: OffsetDateTime,
) -> Result<Option<bool>, sqlx::Error> {
    let revoked = sqlx::query!(
        "UPDATE api_keys SET revoked_at = $3
         WHERE tenant = $1 AND key_id = $2 AND (kind = 'login') = $4 AND revoked_at IS NULL",
        tenant,
        key_id,
        at,
        is_login,
    )
    .execute(&mut **rows)
    .await?;
    if revoked.rows_affected() == 1 {
        return Ok(Some(true));
    }
    let before = sqlx::query_scalar!(
        "SELECT 1 FROM api_keys WHERE tenant = $1 AND key_id = $2 AND (kind = 'login') = $3",
        tenant,
        key_id,
        is_login,
    );
    Ok(before.fetch_optional(&mut **rows).await?.map(|_| false))
}

/// Those of the keys that were not revoked.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.standing", skip_all)]
pub async fn standing(connection: &mut PgConnection, keys: &Named) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT held.key_id
         FROM unnest($1::text[], $2::uuid[]) AS asked (tenant, key_id)
         JOIN api_keys AS held ON held.key_id = asked.key_id AND held.tenant = asked.tenant
         WHERE held.revoked_at IS NULL",
        &keys.tenants,
        &keys.key_ids,
    )
    .fetch_all(connection)
    .await
}

/// Writes down when keys were last used; a later time that is there already stays.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.api_keys.note_used", skip_all)]
pub async fn note_used(connection: &mut PgConnection, keys: &Named, at: &[OffsetDateTime]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH locked AS (
             -- In one order for everybody: of two that note the same keys one waits for the other.
             SELECT held.key_id, used.at
             FROM unnest($1::text[], $2::uuid[], $3::timestamptz[]) AS used (tenant, key_id, at)
             JOIN api_keys AS held ON held.key_id = used.key_id AND held.tenant = used.tenant
             ORDER BY held.key_id
             FOR NO KEY UPDATE OF held
         )
         UPDATE api_keys AS held
         SET last_used_at = GREATEST(held.last_used_at, locked.at)
         FROM locked
         WHERE held.key_id = locked.key_id",
        &keys.tenants,
        &keys.key_ids,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
