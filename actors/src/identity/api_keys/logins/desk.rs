//! Lists logins and ends them: their owners', and for admins anybody's of the tenant. What is over is in no list. A change is one
//! transaction with its audit row.

use serde_json::json;
use uuid::Uuid;

use super::{
    super::{
        StoreError,
        desk::{shown, stored},
        prover::ApiKeys,
    },
    RESOURCE,
};
pub use crate::store::api_keys::logins::{ListedLogin, LoginsOf};
use crate::{
    domain::{append::AuditWrite, caller::Caller, ids::Tenant, list_cursor::ListCursor, session::audit},
    store::{api_keys::logins, audit_event},
};

/// How many of the logins that were ended together an audit row names.
const MAX_TOLD: usize = 1_000;

impl LoginsOf {
    /// Those of the one who asks; `None` if it is not known who that is.
    #[must_use]
    pub fn caller(caller: &Caller) -> Option<Self> {
        let issuer = caller.admission.as_deref().and_then(|admission| admission.issuer.clone());
        caller.subject.clone().map(|subject| Self::Person { subject, issuer })
    }

    /// What they are, for the audit trail.
    fn target(&self, tenant: &Tenant) -> String {
        match self {
            Self::Person { subject, .. } | Self::Subject(subject) => subject.clone(),
            Self::Everybody => tenant.as_str().to_owned(),
        }
    }

    /// Whose they are, for the audit trail: more than one issuer may know the name.
    fn issuer(&self) -> Option<&str> {
        if let Self::Person { issuer, .. } = self { issuer.as_deref() } else { None }
    }
}

impl ApiKeys {
    /// Up to `limit` logins of `tenant`, the latest first, behind `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn logins(
        &self,
        tenant: &Tenant,
        of: LoginsOf,
        before: Option<ListCursor>,
        limit: i64,
    ) -> Result<Vec<ListedLogin>, StoreError> {
        let (at, whose) = (stored((self.inner.clock)()), tenant.clone());
        let work = self.inner.store.search_for(tenant.clone(), move |rows| {
            Box::pin(async move { logins::list(rows, whose.as_str(), &of, at, before, limit).await })
        });
        work.await
    }

    /// Ends one login of the caller's own; whether there was one to end.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` it may have ended.
    pub async fn end_own_login(&self, caller: &Caller, login_id: Uuid) -> Result<bool, StoreError> {
        let Some(of) = LoginsOf::caller(caller) else { return Ok(false) };
        let line = audit(caller, "auth.logins.end", RESOURCE, shown(login_id), json!({}));
        Ok(!self.end(caller, of, Some(login_id), line).await?.is_empty())
    }

    /// Ends all logins of the caller's own; how many.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` they may have ended.
    pub async fn end_own_logins(&self, caller: &Caller) -> Result<usize, StoreError> {
        let Some(of) = LoginsOf::caller(caller) else { return Ok(0) };
        let line = audit(caller, "auth.logins.end_all", RESOURCE, of.target(&caller.tenant), json!({}));
        Ok(self.end(caller, of, None, line).await?.len())
    }

    /// Ends logins of the caller's tenant; how many.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` they may have ended.
    pub async fn end_logins(&self, caller: &Caller, of: LoginsOf) -> Result<usize, StoreError> {
        let mut details = json!({});
        if let Some(issuer) = of.issuer() {
            details["issuer"] = issuer.into();
        }
        let line = audit(caller, "admin.logins.end", RESOURCE, of.target(&caller.tenant), details);
        Ok(self.end(caller, of, None, line).await?.len())
    }

    /// Ends logins everywhere, with what they began, and writes `line` down if there was one to end.
    async fn end(
        &self,
        caller: &Caller,
        of: LoginsOf,
        only: Option<Uuid>,
        mut line: AuditWrite,
    ) -> Result<Vec<Uuid>, StoreError> {
        let (at, tenant) = (stored((self.inner.clock)()), caller.tenant.clone());
        let work = self.inner.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let ended = logins::end(rows, tenant.as_str(), &of, only, at).await?;
                if ended.is_empty() {
                    return Ok(ended);
                }
                if only.is_none() {
                    line.details["count"] = ended.len().into();
                    line.details["ids"] = ended.iter().take(MAX_TOLD).copied().map(shown).collect();
                }
                audit_event::insert(rows, &tenant, &line, at).await?;
                Ok(ended)
            })
        });
        let ended = work.await?;
        self.inner.known.lock().forget(&ended);
        Ok(ended)
    }
}

#[cfg(test)]
mod tests;
