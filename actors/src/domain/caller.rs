//! On whose behalf something is asked.

use std::net::IpAddr;

use uuid::Uuid;

use super::{
    ids::{SessionKey, Tenant},
    trace_context::TraceContext,
};

/// The one who asks. Made once at the door and carried in every ask, so that each effect can be traced and audited.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant whose data may be touched.
    pub tenant: Tenant,
    /// The authenticated subject, if there is one.
    pub subject: Option<String>,
    /// The scopes granted to the subject, separated by blanks.
    pub scope: Option<String>,
    /// Ties logs, spans, audit rows and events of one request together.
    pub correlation_id: Uuid,
    /// The peer's address.
    pub address: Option<IpAddr>,
    /// Where the request stands in the trace of whoever made it, if it says so.
    pub trace: Option<TraceContext>,
}

impl Caller {
    /// Somebody of whom nothing else is known.
    #[must_use]
    pub const fn new(tenant: Tenant, correlation_id: Uuid) -> Self {
        Self { tenant, subject: None, scope: None, correlation_id, address: None, trace: None }
    }

    /// The key of `session_id` as this caller sees it: always inside the caller's own tenant.
    #[must_use]
    pub fn session(&self, session_id: Uuid) -> SessionKey {
        SessionKey::new(self.tenant.clone(), session_id)
    }
}
