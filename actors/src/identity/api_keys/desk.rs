//! Makes, lists and revokes keys. Each change is one transaction with its audit row.

use aws_lc_rs::error::Unspecified;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    ListedApiKey, StoreError,
    prover::{ApiKeys, PATIENCE},
    secret::{self, Fresh, Kind},
};
use crate::{
    domain::{caller::Caller, identity::Identity, ids::Tenant, session::audit},
    store::{
        api_keys::{self, NewApiKey},
        audit_event,
    },
};

/// The kind of thing that audit rows name.
pub const RESOURCE: &str = "api_key";

/// Somebody wants a key.
#[derive(Clone, Debug)]
pub struct KeyOrder {
    /// What people will call it.
    pub label: String,
    /// For whom it speaks.
    pub creator: Identity,
    /// What it may do; each of them a scope of the creator's.
    pub scopes: Vec<String>,
    /// Until when it is taken, if not for ever.
    pub expires_at: Option<OffsetDateTime>,
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// It would have expired already.
    #[error("it would have expired already")]
    Expired,
    /// Too many keys are to be hashed. Safe to try again.
    #[error("too many API keys are being hashed")]
    Busy,
    /// The store's; after `Interrupted` and `TimedOut` the key may be there, though nobody has its secret.
    #[error("the API key was not stored")]
    Store(#[source] StoreError),
}

/// A key that was made.
#[derive(Debug)]
pub struct Created {
    /// The key as lists show it.
    pub key: ListedApiKey,
    secret: SecretString,
}

impl Created {
    /// Its secret. Nobody will see it again.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret.expose_secret()
    }
}

impl ApiKeys {
    /// Makes a key that `caller` ordered.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn create(&self, caller: &Caller, order: KeyOrder) -> Result<Created, CreateError> {
        let at = stored((self.inner.clock)());
        if order.expires_at.is_some_and(|expires_at| expires_at <= at) {
            return Err(CreateError::Expired);
        }
        let fresh = self.hash_apart(|| {
            let fresh = Fresh::new(Kind::Key)?;
            let hash = secret::hash(Kind::Key, &fresh.secret)?;
            Ok::<_, Unspecified>((fresh, hash))
        });
        // The system has no chance to give: so it may have later.
        let fresh = timeout(PATIENCE, fresh).await.map_err(|_| CreateError::Busy)?;
        let (fresh, hash) = fresh.map_err(|_| CreateError::Busy)?.map_err(|_| CreateError::Busy)?;
        let new = NewApiKey {
            key_id: fresh.key_id,
            tenant: order.creator.tenant,
            is_login: false,
            label: order.label,
            prefix: fresh.prefix(),
            hash,
            created_by: order.creator.subject,
            issuer: order.creator.issuer,
            scopes: order.scopes,
            created_at: at,
            expires_at: order.expires_at.map(stored),
            address: None,
            user_agent: None,
        };
        let key = listed(&new);
        let details = json!({"label": new.label, "prefix": new.prefix, "scopes": new.scopes, "expires": new.expires_at.is_some()});
        let line = audit(caller, "admin.keys.create", RESOURCE, shown(key.key_id), details);
        let work = self.inner.store.change_for(new.tenant.clone(), move |rows| {
            Box::pin(async move {
                api_keys::insert(rows, &new).await?;
                audit_event::insert(rows, &new.tenant, &line, at).await
            })
        });
        work.await.map_err(CreateError::Store)?;
        Ok(Created { key, secret: fresh.secret })
    }

    /// Up to `limit` keys of a tenant, the newest first, behind the one with the id `after`.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        tenant: &Tenant,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<ListedApiKey>, StoreError> {
        let whose = tenant.clone();
        let work = self.inner.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move { api_keys::list(rows, whose.as_str(), after, limit).await })
        });
        work.await
    }

    /// Revokes a key of the caller's tenant; whether there is one. Safe to repeat.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` it may be revoked.
    pub async fn revoke(&self, caller: &Caller, key_id: Uuid) -> Result<bool, StoreError> {
        let (at, caller) = ((self.inner.clock)(), caller.clone());
        let work = self.inner.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let stood = api_keys::revoke(rows, caller.tenant.as_str(), key_id, false, at).await?;
                if stood == Some(true) {
                    let line = audit(&caller, "admin.keys.revoke", RESOURCE, shown(key_id), json!({}));
                    audit_event::insert(rows, &caller.tenant, &line, at).await?;
                }
                Ok(stood.is_some())
            })
        });
        let is_there = work.await?;
        if is_there {
            self.inner.known.lock().forget(&[key_id]);
        }
        Ok(is_there)
    }
}

/// A key's id as it is shown everywhere: in the key itself, in lists, in the audit trail.
pub(super) fn shown(key_id: Uuid) -> String {
    key_id.simple().to_string()
}

/// A time as the database keeps it: in whole microseconds.
pub(super) fn stored(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(at.nanosecond() / 1_000 * 1_000).unwrap_or(at)
}

fn listed(new: &NewApiKey) -> ListedApiKey {
    ListedApiKey {
        key_id: new.key_id,
        label: new.label.clone(),
        prefix: new.prefix.clone(),
        created_by: new.created_by.clone(),
        scopes: new.scopes.clone(),
        created_at: new.created_at,
        expires_at: new.expires_at,
        last_used_at: None,
        revoked_at: None,
    }
}
