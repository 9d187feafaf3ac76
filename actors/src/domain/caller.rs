//! On whose behalf something is asked.

use std::{net::IpAddr, sync::Arc};

use uuid::Uuid;

use super::{
    append::Doer,
    ids::{SessionKey, Tenant},
    trace_context::TraceContext,
};

/// Which of the tenant's sessions exist for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All of them.
    Tenant,
    /// Those that the caller began. Everything asked of another one is answered as if there were none.
    Own,
}

/// How somebody was let in: what the audit trail tells besides who they are.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Who vouches for them, if that is known.
    pub issuer: Option<String>,
    /// SHA-256 of what the policy was asked when it let the request through, in hexadecimal digits.
    pub decision: String,
    /// What they call their program.
    pub user_agent: Option<String>,
}

/// The one who asks. Made once at the door and carried in every ask, so that each effect can be traced and audited.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant whose data may be touched.
    pub tenant: Tenant,
    /// The authenticated subject, if there is one.
    pub subject: Option<String>,
    /// The scopes granted to the subject, separated by blanks.
    pub scope: Option<String>,
    /// Which sessions exist for the caller.
    pub reach: Reach,
    /// Ties logs, spans, audit rows and events of one request together.
    pub correlation_id: Uuid,
    /// How it was let in, if it came through the door.
    pub admission: Option<Arc<Admission>>,
    /// The peer's address.
    pub address: Option<IpAddr>,
    /// Where the request stands in the trace of whoever made it, if it says so.
    pub trace: Option<TraceContext>,
}

impl Caller {
    /// Somebody of whom nothing else is known.
    #[must_use]
    pub const fn new(tenant: Tenant, correlation_id: Uuid) -> Self {
        Self {
            tenant,
            subject: None,
            scope: None,
            reach: Reach::Tenant,
            correlation_id,
            admission: None,
            address: None,
            trace: None,
        }
    }

    /// Who this is for the audit trail.
    #[must_use]
    pub fn doer(&self) -> Doer {
        Doer {
            correlation_id: self.correlation_id,
            trace_id: self.trace.as_ref().map(|trace| trace.trace_id().to_owned()),
            subject: self.subject.clone(),
            ip: self.address,
            admission: self.admission.clone(),
        }
    }

    /// The key of `session_id` as this caller sees it: always inside the caller's own tenant.
    #[must_use]
    pub fn session(&self, session_id: Uuid) -> SessionKey {
        SessionKey::new(self.tenant.clone(), session_id)
    }

    /// Whose sessions alone exist for this caller, if not everybody's: its own, and nobody's if it is not known who it is.
    /// A list, because a query can take that.
    #[must_use]
    pub fn only(&self) -> Option<&[String]> {
        (self.reach == Reach::Own).then_some(self.subject.as_slice())
    }

    /// Whether the sessions that `subject` began exist for this caller. Those that were begun without authentication are
    /// in nobody's own reach.
    #[must_use]
    pub fn may_touch(&self, subject: Option<&str>) -> bool {
        self.only().is_none_or(|only| subject.is_some_and(|subject| only.iter().any(|own| own == subject)))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::domain) fn caller(reach: Reach, subject: Option<&str>) -> Caller {
        let tenant = Tenant::new("t").unwrap_or_else(|| unreachable!());
        Caller { reach, subject: subject.map(str::to_owned), ..Caller::new(tenant, Uuid::nil()) }
    }

    #[test]
    fn a_caller_of_own_reach_sees_what_it_began_and_nothing_else() {
        let (ann, bob) = (Some("ann"), Some("bob"));
        for (reach, subject, of, expected) in [
            (Reach::Tenant, None, None, true),
            (Reach::Tenant, None, ann, true),
            (Reach::Tenant, bob, ann, true),
            (Reach::Tenant, bob, None, true),
            (Reach::Own, ann, ann, true),
            (Reach::Own, bob, ann, false),
            (Reach::Own, Some("an"), ann, false),
            (Reach::Own, Some("Ann"), ann, false),
            (Reach::Own, ann, None, false),
            (Reach::Own, None, ann, false),
            (Reach::Own, None, None, false),
            (Reach::Own, None, Some(""), false),
        ] {
            assert_eq!(caller(reach, subject).may_touch(of), expected, "{reach:?} {subject:?} {of:?}");
        }
    }

    #[test]
    fn a_query_looks_for_everybodys_for_ones_own_or_for_nobodys() {
        assert_eq!(caller(Reach::Tenant, Some("ann")).only(), None);
        assert_eq!(caller(Reach::Own, Some("ann")).only(), Some(&["ann".to_owned()][..]));
        assert_eq!(caller(Reach::Own, None).only(), Some(&[][..]));
    }
}
