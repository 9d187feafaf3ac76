//! Who asks, and whether they may do what they ask.
//!
//! Every operation has an action, which its description names. The policy decides about it before the handler runs; what it cannot
//! decide is refused. Of several reasons for a refusal the first of these is told: there is no identity, the policy has not decided
//! or denies, the caller is no member of the tenant, only an admin's scope is missing. A path or method that does not exist is
//! refused by the router in the same words for everybody, but for `HEAD`, which is taken for `GET` also where there is none.

mod prover;

use std::{collections::HashMap, time::Duration};

use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{CACHE_CONTROL, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use somaagent_actors::{
    domain::{caller::Reach, identity::Identity, ids::Tenant},
    policy::{
        Asker, Context, Decision, Membership, Policy, Subject,
        decision::{ADMIN_SCOPE, POLICY_ERROR, PUBLIC},
    },
    secret::Secret,
};

pub(crate) use prover::Ends;
use prover::{Proven, Prover};

use super::{
    csrf::{Csrf, CsrfRules},
    refused,
};
use crate::{
    door::Door,
    extract::{CookieNames, Credential, cookies::with_cookies, internal_token},
    limits::{Limits, Turnstile, tell},
    metrics::Metrics,
    problem::{Code, Problem},
    routes::is_probe,
    settings::DoorSettings,
};

/// What is known of whoever sent a request that was let through.
#[derive(Clone, Debug)]
pub(crate) struct Authorised {
    /// Who it is; nobody while authentication is off.
    pub(crate) identity: Option<Identity>,
    /// Whose sessions they may touch.
    pub(crate) reach: Reach,
    /// The sum of what the policy was asked.
    pub(crate) decision: String,
    /// When what they showed ends, and with it what they began and what goes on by itself.
    pub(crate) ends: Option<Ends>,
}

impl Authorised {
    /// What was found out about the sender of `request`.
    ///
    /// # Errors
    /// Nobody decided about the request, so nobody may answer it.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let found = request.extensions().get::<Self>().cloned();
        found
            .ok_or_else(|| Problem::new(Code::Internal).caused_by("nobody decided whether the request may be answered"))
    }
}

/// The actions of each path, by method.
pub(crate) type Actions = HashMap<&'static str, Vec<(Method, String)>>;

/// Decides about requests.
pub(crate) struct Gate {
    /// Proves who callers are; without it nobody has to.
    prover: Option<Prover>,
    policy: Policy,
    /// Knows who belongs to which tenant; without it the token is believed.
    membership: Option<Membership>,
    actions: Actions,
    /// What workers of this installation show.
    internal_token: Option<Secret>,
    /// Whose tenant nobody is of.
    default_tenant: Option<Tenant>,
}

impl Gate {
    /// A gate in front of the operations of `actions`. Without a verifier nobody has to prove who they are.
    pub(crate) fn new(settings: &DoorSettings, door: &Door, actions: Actions) -> Self {
        let default_tenant = Tenant::new(settings.default_tenant.trim());
        let Door { verifier, api_keys, policy, membership, sign_in, .. } = door.clone();
        let login = sign_in.map(|sign_in| sign_in.is_secure());
        let cookies = CookieNames { token: settings.jwt_cookie_name.clone(), login };
        let csrf = CsrfRules::new(settings, login == Some(true) || door.is_seen_by_tls);
        let prover = verifier.map(|verifier| Prover { verifier, api_keys, cookies, csrf });
        let internal_token = settings.internal_token.clone();
        Self { prover, policy, membership, actions, internal_token, default_tenant }
    }

    /// The action of an operation; none if the path has no such method.
    fn action(&self, path: &str, method: &Method) -> Option<&str> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.actions.get(path)?.iter().find(|(of, _)| of == method).map(|(_, action)| action.as_str())
    }

    async fn admit(
        &self,
        turnstile: &Turnstile<'_>,
        request: &ServiceRequest,
        path: &str,
        action: &str,
    ) -> Result<Authorised, Problem> {
        let is_internal = is_internal(action);
        if is_internal {
            self.admit_worker(turnstile, request.request())?;
        }
        let proven = match &self.prover {
            Some(prover) if action != PUBLIC && !is_internal => {
                Some(prover.identify(turnstile, prover.shown(request.request())).await?)
            }
            _ => None,
        };
        let (identity, ends) = proven.map(|Proven { identity, ends }| (identity, ends)).unzip();
        if !is_probe(path) {
            turnstile.count(identity.as_ref())?;
        }
        let tenant = identity.as_ref().map(|who| &who.tenant).or(self.default_tenant.as_ref()).ok_or(Code::Internal)?;
        let asker = match &identity {
            _ if is_internal => Asker::Worker { subject: None },
            Some(Identity { subject, issuer, scope, .. }) => {
                Asker::Member { subject, issuer: issuer.as_deref(), scope: scope.as_deref() }
            }
            None => Asker::Nobody { auth_required: self.prover.is_some() },
        };
        let subject = Subject { tenant, persona_id: None, asker };
        let decision = self.policy.decide(&subject, action, path, &Context::default()).await;
        // Whoever does not belong to the tenant is not told which scope would do.
        if decision.allow || &*decision.rule == ADMIN_SCOPE {
            self.belongs(identity.as_ref()).await?;
        }
        match decision {
            Decision { allow: true, reach, input_digest, .. } => {
                turnstile.count_admin(path, action)?;
                Ok(Authorised { identity, reach, decision: input_digest, ends })
            }
            decision => Err(denied(&self.policy, &decision)),
        }
    }

    /// Lets in who shows the internal token, whoever has proved what else, and whether or not people must prove anything. Whoever
    /// shows the right one gets in, however many others fail at their address: nobody guesses it.
    fn admit_worker(&self, turnstile: &Turnstile<'_>, request: &HttpRequest) -> Result<(), Problem> {
        let shown = internal_token(request.headers());
        let is_right = |token: &Secret| shown.is_some_and(|shown| token.is_shown_by(shown));
        if self.internal_token.as_ref().is_some_and(is_right) {
            return Ok(());
        }
        turnstile.may_prove()?;
        let problem = match &self.internal_token {
            Some(token) if token.proving().next().is_none() => {
                Problem::new(Code::Unavailable).caused_by("the internal token was confirmed too long ago")
            }
            Some(_) => Problem::new(Code::InternalDenied).caused_by("the internal token is missing or wrong"),
            None => Problem::new(Code::InternalDenied).caused_by("no internal token is configured"),
        };
        if shown.is_some() {
            turnstile.failed(&problem);
        }
        Err(problem)
    }

    /// Whether somebody belongs to the tenant that their token names, where that is known.
    async fn belongs(&self, identity: Option<&Identity>) -> Result<(), Problem> {
        let (Some(membership), Some(who)) = (&self.membership, identity) else { return Ok(()) };
        // Boxed, because it is large, and most doors do without.
        match Box::pin(membership.is_member(&who.tenant, &who.subject)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Problem::new(Code::TenantDenied).caused_by("the caller is no member of the tenant")),
            Err(error) => Err(unheard(Code::AuthorizationUnavailable, membership.left_alone_for()).caused_by(error)),
        }
    }

    /// Who opens a page.
    pub(crate) async fn visitor(&self, request: &HttpRequest) -> Visitor {
        let Some(prover) = self.prover.as_ref().filter(|prover| prover.signs_in()) else { return Visitor::Anybody };
        let Some(limits) = request.app_data::<Data<Limits>>() else { return Visitor::Unsure };
        let shown = prover.shown(request);
        // Whoever shows nothing fails at nothing: so does everybody who comes for the first time.
        if shown.as_ref().is_err_and(|problem| problem.code() == Code::AuthorizationMissing) {
            return Visitor::Stranger;
        }
        match prover.identify(&Turnstile::new(limits, request), shown).await {
            Ok(_) => Visitor::Known,
            Err(problem) if [401, 403].contains(&problem.code().status()) => Visitor::Stranger,
            Err(_) => Visitor::Unsure,
        }
    }

    /// What the page that sent `request` shows, in a header, to change something by a cookie; none where that is switched off.
    pub(crate) fn csrf(&self, request: &HttpRequest) -> Option<Csrf> {
        Some(self.prover.as_ref()?.csrf.as_ref()?.of(request))
    }

    /// The page, with what it is to show.
    ///
    /// # Errors
    /// The system has no chance to give.
    pub(crate) fn arm(&self, request: &HttpRequest, page: HttpResponse) -> Result<HttpResponse, Problem> {
        let Some(Prover { cookies, csrf: Some(csrf), .. }) = &self.prover else { return Ok(page) };
        let shown = Credential::of(request.headers(), cookies).ok();
        let Some(kept) = shown.as_ref().and_then(Credential::kept_by_browser) else { return Ok(page) };
        let Some(cookie) = csrf.of(request).renew(request.headers(), kept)? else { return Ok(page) };
        let mut page = with_cookies(page, [cookie])?;
        // It is this browser's alone.
        page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        Ok(page)
    }
}

/// What a caller is told whom the policy does not let through.
pub(crate) fn denied(policy: &Policy, decision: &Decision) -> Problem {
    let Decision { rule, reason, .. } = decision;
    let problem = match &**rule {
        ADMIN_SCOPE => Problem::new(Code::AdminScopeRequired),
        POLICY_ERROR => unheard(Code::PolicyUnavailable, policy.left_alone_for()),
        _ => Problem::new(Code::PolicyDenied),
    };
    problem.caused_by(format!("rule {rule}: {reason}"))
}

/// A judge that was not heard: to ask again is of use once it is not left alone any more.
fn unheard(code: Code, left_alone_for: Option<Duration>) -> Problem {
    let problem = Problem::new(code);
    match left_alone_for {
        Some(delay) => problem.retry_after(delay),
        None => problem,
    }
}

/// Whether an action is for workers of this installation.
pub(crate) fn is_internal(action: &str) -> bool {
    action.starts_with("internal.")
}

/// Who opens a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visitor {
    /// People cannot sign in here, so everybody sees the page; it says itself what is wrong.
    Anybody,
    /// Somebody who has proved who they are.
    Known,
    /// Somebody who has not.
    Stranger,
    /// Somebody whom nobody can tell from others just now. They see the page too: it holds nothing, and says itself what is
    /// wrong.
    Unsure,
}

/// Lets a request for `path` through if its sender may do what it asks. The router says which path that is: what a client
/// wrote may be another text for the same.
pub(crate) async fn authorise<B: MessageBody + 'static>(
    path: &'static str,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let parts = (request.app_data::<Data<Gate>>().cloned(), request.app_data::<Data<Limits>>().cloned());
    let (Some(gate), Some(limits)) = parts else {
        return Ok(refused(request, Problem::new(Code::Internal).caused_by("the door has no gate")));
    };
    let Some(action) = gate.action(path, request.method()) else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let admitted = gate.admit(&Turnstile::new(&limits, request.request()), &request, path, action).await;
    if let Some(metrics) = request.app_data::<Data<Metrics>>() {
        metrics.decided(action, admitted.as_ref().err().map(Problem::code));
    }
    match admitted {
        Ok(authorised) => {
            request.extensions_mut().insert(authorised);
            Ok(tell(next.call(request).await?.map_into_boxed_body()))
        }
        Err(problem) => {
            // What floods the door must not flood the log: those are counted only.
            if problem.code().status() != 429 {
                let cause = problem.cause().map(|cause| cause as &(dyn std::error::Error + 'static));
                tracing::info!(code = problem.code().as_str(), action, cause, "caller refused");
            }
            Ok(tell(refused(request, problem)))
        }
    }
}

#[cfg(test)]
mod tests;
