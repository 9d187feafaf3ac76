//! Who asks.

use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest, http::header::USER_AGENT, web::Data};
use somaagent_actors::domain::{
    caller::{Admission, Caller},
    ids::Tenant,
    trace_context::{TRACEPARENT, TRACESTATE, TraceContext},
};
use uuid::Uuid;

use super::{FromHead, Query, bad_header, header};
use crate::{
    client::Client,
    middleware::authorise::Authorised,
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// Names a tenant.
pub(crate) const TENANT_HEADER: &str = "X-Tenant-Id";

/// Longest name of a client's program that is kept.
const MAX_USER_AGENT_CHARS: usize = 256;

/// Ties together everything one request causes. Put into the request by the outermost middleware.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CorrelationId(pub(crate) Uuid);

impl CorrelationId {
    /// The id of `request`.
    pub(crate) fn of(request: &HttpRequest) -> Uuid {
        request.extensions().get::<Self>().map_or_else(Uuid::new_v4, |id| id.0)
    }
}

/// The caller of a request, made once and carried in every ask.
///
/// Somebody who proved who they are belongs to the tenant that their token says. A request whose head or query names another one
/// is refused, and so is an order about one; what the metadata of a message says of it does not count. While authentication is off, the tenant is the client's own: the header `X-Tenant-Id`, else the query
/// parameter `tenant` (an `EventSource` cannot send headers), else what the body says, else the configured default.
#[derive(Clone, Debug)]
pub(crate) struct By {
    caller: Caller,
    /// What decided the tenant.
    source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The token: nothing else counts.
    Token,
    /// Head or query.
    Head,
    /// Nothing yet.
    Default,
}

impl By {
    /// The caller of a request without a body that could name a tenant.
    pub(crate) fn caller(self) -> Caller {
        self.caller
    }

    /// The caller, whose tenant is `body` unless token, head or query named one.
    pub(crate) fn or_tenant(mut self, body: Option<Tenant>) -> Caller {
        if self.source == Source::Default
            && let Some(tenant) = body
        {
            self.caller.tenant = tenant;
        }
        self.caller
    }

    /// The caller of a request whose body is about the tenant `body`.
    ///
    /// # Errors
    /// It is not the tenant that the token says.
    pub(crate) fn of_tenant(self, body: Option<Tenant>) -> Result<Caller, Problem> {
        match body {
            Some(tenant) if self.source == Source::Token && tenant != self.caller.tenant => {
                Err(Code::TenantDenied.into())
            }
            body => Ok(self.or_tenant(body)),
        }
    }
}

impl FromHead for By {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let asked = Query::from_head(request)?.tenant()?;
        let named = match header(request, TENANT_HEADER)? {
            Some(text) => Some(Tenant::new(text).ok_or_else(|| bad_header(TENANT_HEADER, TENANT_RULE))?),
            None => asked.clone(),
        };
        let Authorised { identity, reach, decision, .. } = Authorised::of(request)?;
        let (source, tenant) = match (&identity, named) {
            (Some(who), named) if named.iter().chain(&asked).any(|named| *named != who.tenant) => {
                return Err(Code::TenantDenied.into());
            }
            (Some(who), _) => (Source::Token, who.tenant.clone()),
            (None, Some(named)) => (Source::Head, named),
            (None, None) => (Source::Default, default_tenant(request).ok_or_else(no_tenant)?),
        };
        let (subject, issuer, scope) =
            identity.map(|who| (Some(who.subject), who.issuer, who.scope)).unwrap_or_default();
        let caller = Caller {
            tenant,
            subject,
            scope,
            reach,
            correlation_id: CorrelationId::of(request),
            admission: Some(Arc::new(Admission { issuer, decision, user_agent: user_agent(request) })),
            address: Client::of(request).address,
            trace: trace(request),
        };
        Ok(Self { caller, source })
    }
}

/// What a tenant's name must be.
pub(crate) const TENANT_RULE: &str = "must be 1 to 200 characters without control characters";

fn default_tenant(request: &HttpRequest) -> Option<Tenant> {
    let settings = request.app_data::<Data<DoorSettings>>()?;
    Tenant::new(settings.default_tenant.trim())
}

fn no_tenant() -> Problem {
    Problem::new(Code::Internal).caused_by("the configured default tenant is not a usable name")
}

/// Where the request stands in a trace. Headers that do not say it, or say it twice, are as good as none (W3C Trace Context §3.2).
/// Several `tracestate` are one list (§3.3).
fn trace(request: &HttpRequest) -> Option<TraceContext> {
    let mut parents = request.headers().get_all(TRACEPARENT);
    let parent = parents.next().filter(|_| parents.next().is_none())?.to_str().ok()?;
    let states: Vec<&str> = request.headers().get_all(TRACESTATE).filter_map(|state| state.to_str().ok()).collect();
    TraceContext::new(parent.trim(), Some(states.join(",").as_str()))
}

/// What the client calls itself, cut where nobody reads any further.
fn user_agent(request: &HttpRequest) -> Option<String> {
    let name = request.headers().get(USER_AGENT)?;
    Some(String::from_utf8_lossy(name.as_bytes()).chars().take(MAX_USER_AGENT_CHARS).collect())
}
