//! Logins: a login is a key that a browser keeps, in a cookie that no script reads. It is proved, believed, ended and watched like
//! one; it differs in how long it lasts, in who makes it, and in that it has lists of its own, which `desk` keeps.

mod desk;

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use uuid::Uuid;

pub use desk::{ListedLogin, LoginsOf};

use super::{
    ApiKeyError, ProvenKey, StoreError,
    desk::{shown, stored},
    prover::ApiKeys,
    secret::{self, Fresh, Kind},
};
use crate::{
    domain::{
        caller::{Admission, Caller, Reach},
        identity::Identity,
        session::audit,
    },
    identity::sign_in::Person,
    store::{
        api_keys::{self, NewApiKey, logins},
        audit_event,
    },
};

/// The kind of thing that audit rows name.
pub const RESOURCE: &str = "login";

/// Why nobody was logged in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The system has no chance to give. Safe to try again.
    #[error("the system has no chance to give")]
    NoChance,
    /// The store's; after `Interrupted` and `TimedOut` the login may be there, though no browser has it.
    #[error("the login was not stored")]
    Store(#[source] StoreError),
}

impl ApiKeys {
    /// Logs somebody in for so long, and gives what their browser is to keep. `by` says of which request.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(&self, by: &Caller, person: Person, lasts: Duration) -> Result<SecretString, LoginError> {
        let at = stored((self.inner.clock)());
        let fresh = Fresh::new(Kind::Login).map_err(|_| LoginError::NoChance)?;
        let hash = secret::hash(Kind::Login, &fresh.secret).map_err(|_| LoginError::NoChance)?;
        let Person { identity: who, name } = person;
        let caller = as_somebody(by, &who);
        let new = NewApiKey {
            key_id: fresh.key_id,
            tenant: who.tenant,
            is_login: true,
            label: name.unwrap_or_default(),
            prefix: fresh.prefix(),
            hash,
            created_by: who.subject,
            scopes: who.scope.iter().flat_map(|scope| scope.split(' ')).map(str::to_owned).collect(),
            issuer: who.issuer,
            created_at: at,
            expires_at: Some(at + lasts),
            address: by.address,
            user_agent: by.admission.as_deref().and_then(|admission| admission.user_agent.clone()),
        };
        let line = audit(&caller, "auth.login", RESOURCE, shown(new.key_id), json!({"scopes": new.scopes}));
        let work = self.inner.store.change_for(new.tenant.clone(), move |rows| {
            Box::pin(async move {
                let tenant = new.tenant.as_str();
                let over = logins::sweep(rows, tenant, &new.created_by, at).await?;
                let over = over.into_iter().map(|login| (tenant.to_owned(), login));
                audit_event::insert_purge(rows, "identity", ("auth.login.purge", RESOURCE), over, at).await?;
                api_keys::insert(rows, &new).await?;
                audit_event::insert(rows, &new.tenant, &line, at).await
            })
        });
        work.await.map_err(LoginError::Store)?;
        Ok(fresh.secret)
    }

    /// Proves a login.
    ///
    /// # Errors
    /// [`ApiKeyError`].
    pub async fn prove_login(&self, secret: &str) -> Result<ProvenKey, ApiKeyError> {
        self.prove_kind(secret, Kind::Login).await
    }

    /// What a login proves that was proved before. The database is not asked, and nobody waits.
    #[must_use]
    pub fn known_login(&self, secret: &str) -> Option<ProvenKey> {
        self.known_kind(secret, Kind::Login)
    }

    /// Logs somebody out everywhere: in every process, and with all that the login began. Nothing is done for what is no login
    /// or is one no more.
    ///
    /// # Errors
    /// The login could not be proved, or the store did not do it: then somebody may still be logged in.
    pub async fn log_out(&self, by: &Caller, secret: &SecretString) -> Result<(), LogoutError> {
        let secret = secret.expose_secret();
        let who = match self.prove_login(secret).await {
            Ok(ProvenKey { identity, .. }) => identity,
            Err(ApiKeyError::Invalid(_)) => return Ok(()),
            Err(error) => return Err(LogoutError::Unproved(error)),
        };
        let Some(key_id) = login_id(secret) else { return Ok(()) };
        let caller = as_somebody(by, &who);
        let at = (self.inner.clock)();
        let work = self.inner.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let stood = api_keys::revoke(rows, caller.tenant.as_str(), key_id, true, at).await?;
                if stood == Some(true) {
                    let line = audit(&caller, "auth.logout", RESOURCE, shown(key_id), json!({}));
                    audit_event::insert(rows, &caller.tenant, &line, at).await?;
                }
                Ok(())
            })
        });
        work.await.map_err(LogoutError::Store)?;
        self.inner.known.lock().forget(&[key_id]);
        Ok(())
    }

    /// What the owner of a login that was proved is called, if the provider said it.
    ///
    /// # Errors
    /// The store's.
    pub async fn login_name(&self, caller: &Caller, secret: &str) -> Result<Option<String>, StoreError> {
        let Some(key_id) = login_id(secret) else { return Ok(None) };
        let tenant = caller.tenant.clone();
        let work = self.inner.store.read_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move { logins::name(rows, tenant.as_str(), key_id).await })
        });
        Ok(work.await?.filter(|name| !name.is_empty()))
    }
}

/// The id of the login that a browser keeps; `None` if it keeps something else.
#[must_use]
pub fn login_id(secret: &str) -> Option<Uuid> {
    secret::key_id(secret).filter(|(kind, _)| *kind == Kind::Login).map(|(_, key_id)| key_id)
}

/// The one who made the request `by`, now that it is known who that is.
fn as_somebody(by: &Caller, who: &Identity) -> Caller {
    let admission =
        by.admission.as_deref().map(|admission| Admission { issuer: who.issuer.clone(), ..admission.clone() });
    Caller {
        tenant: who.tenant.clone(),
        subject: Some(who.subject.clone()),
        scope: who.scope.clone(),
        reach: Reach::Own,
        admission: admission.map(Arc::new),
        ..by.clone()
    }
}

/// Why somebody may still be logged in.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// It is not known who they are.
    #[error("the login could not be proved")]
    Unproved(#[source] ApiKeyError),
    /// The store's.
    #[error("the login was not ended")]
    Store(#[source] StoreError),
}

#[cfg(test)]
mod tests;
