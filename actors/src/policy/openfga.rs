//! Whether somebody belongs to the tenant that their token names, by an OpenFGA on the network.
//!
//! The question is whether `user:<subject>` has the relation `member` to `tenant:<tenant>`. Answers hold for a moment; whatever
//! else comes of the question is no answer, and nobody is let in without one.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{
    kept::Kept,
    metrics::PolicyMetrics,
    remote::{Remote, RemoteError},
};
use crate::{breaker::BreakerState, domain::ids::Tenant};

pub mod looking;
pub mod settings;

pub use settings::{FgaSettings, SettingsFault};

/// The relation that is asked for.
const RELATION: &str = "member";

/// Nobody can say now whether somebody belongs to a tenant. Its words hold neither of them.
#[derive(Debug, thiserror::Error)]
#[error("the members of tenants cannot be asked for: {0}")]
pub struct MembershipUnknown(#[source] RemoteError);

/// Knows who belongs to which tenant. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Membership {
    inner: Arc<Inner>,
    metrics: Option<PolicyMetrics>,
}

#[derive(Debug)]
struct Inner {
    remote: Remote,
    model: Option<String>,
    /// By tenant and subject.
    kept: Kept<(Tenant, String), bool>,
}

/// What it answers. It may say more.
#[derive(Deserialize)]
struct Answer {
    allowed: bool,
}

impl Membership {
    /// Makes ready to ask the OpenFGA of these settings, if they name one; nothing is sent.
    ///
    /// # Errors
    /// The first of [`Membership::faults`].
    pub fn from_settings(settings: &FgaSettings) -> Result<Option<Self>, SettingsFault> {
        Self::read(settings).map_err(|mut faults| faults.remove(0))
    }

    /// All that is wrong with the settings, so that it can be told at once.
    #[must_use]
    pub fn faults(settings: &FgaSettings) -> Vec<SettingsFault> {
        Self::read(settings).err().unwrap_or_default()
    }

    fn read(settings: &FgaSettings) -> Result<Option<Self>, Vec<SettingsFault>> {
        let Some(url) = settings.check_url()? else { return Ok(None) };
        let remote = Remote::new("openfga", url, settings.manners());
        let remote =
            remote.map_err(|_| vec![SettingsFault { key: "openfga.api_url", what: "no client can be made for it" }])?;
        let inner = Inner { remote, model: settings.model_id.clone(), kept: Kept::new(settings.cache_ttl()) };
        Ok(Some(Self { inner: Arc::new(inner), metrics: None }))
    }

    /// The same, counting what it finds.
    #[must_use]
    pub fn with_metrics(self, metrics: PolicyMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// How it was when it was last asked.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.inner.remote.state()
    }

    /// How long it is left alone from now on, because it failed: until then nobody need ask again.
    #[must_use]
    pub fn left_alone_for(&self) -> Option<Duration> {
        self.inner.remote.left_alone_for()
    }

    /// Whether `subject` belongs to `tenant`.
    ///
    /// # Errors
    /// There is no answer in time, or none that says so. Safe to ask again.
    pub async fn is_member(&self, tenant: &Tenant, subject: &str) -> Result<bool, MembershipUnknown> {
        let answer = self.ask(tenant, subject).await;
        if let Some(metrics) = &self.metrics {
            metrics.asked_openfga(answer.as_ref().ok().copied());
        }
        answer.map_err(MembershipUnknown)
    }

    async fn ask(&self, tenant: &Tenant, subject: &str) -> Result<bool, RemoteError> {
        let Inner { remote, model, kept } = &*self.inner;
        let asked = (tenant.clone(), subject.to_owned());
        if let Some(allowed) = kept.get(&asked) {
            return Ok(allowed);
        }
        let question = json!({
            "tuple_key": {
                "user": format!("user:{}", id(subject)),
                "relation": RELATION,
                "object": format!("tenant:{}", id(tenant.as_str())),
            },
            "context": {},
            "authorization_model_id": model,
        });
        let asked_at = Instant::now();
        let seconds = self.metrics.as_ref().map(PolicyMetrics::openfga_seconds);
        let read = |answer: &[u8]| serde_json::from_slice(answer).ok();
        let Answer { allowed } = remote.ask(question.to_string().into_bytes(), seconds, read).await?;
        kept.put(asked, asked_at, allowed);
        Ok(allowed)
    }
}

/// A name as an id of OpenFGA. There `user:*` is everybody, `user:a#b` all who have a relation to `a`, and blanks and colons cannot be:
/// these are written as in addresses, `%` and two hexadecimal digits a byte, so that each name is one id and means itself.
fn id(name: &str) -> String {
    let mut id = String::with_capacity(name.len());
    for letter in name.chars() {
        if matches!(letter, '%' | '#' | ':' | '*' | '@') || letter.is_whitespace() || letter.is_control() {
            for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                // Nothing fails that writes into a text.
                let _ = write!(id, "%{byte:02X}");
            }
        } else {
            id.push(letter);
        }
    }
    id
}

#[cfg(test)]
mod tests;
