//! Who asks, and whether they may do what they ask.
//!
//! Every operation has an action, which its description names. The policy decides about it before the handler runs; what it cannot
//! decide is refused. Of several reasons for a refusal the first of these is told: there is no identity, the policy has not decided
//! or denies, the caller is no member of the tenant, only an admin's scope is missing. A path or method that does not exist is refused by the router in the same words for everybody, but for
//! `HEAD`, which is taken for `GET` also where there is none.

use std::{collections::HashMap, time::Duration};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
    web::Data,
};
use somaagent_actors::{
    domain::{caller::Reach, identity::Identity, ids::Tenant},
    identity::{ApiKeyError, ApiKeys, ProvenKey, Verified, Verifier, api_keys::Standing},
    policy::{
        Asker, Context, Decision, Membership, Policy, Subject,
        decision::{ADMIN_SCOPE, POLICY_ERROR, PUBLIC},
    },
    secret::Secret,
};
use tokio::time::{Instant, sleep_until};

use super::{refused, site};
use crate::{
    door::Door,
    extract::{CookieNames, Credential, internal_token},
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

/// When what somebody showed ends.
#[derive(Clone, Debug)]
pub(crate) enum Ends {
    /// A token: when it says.
    At(Instant),
    /// An API key: when it may not be believed any more.
    WithKey(Standing),
    /// A login: likewise.
    WithLogin(Standing),
}

impl Ends {
    /// Done when it has ended.
    pub(crate) async fn reached(self) {
        match self {
            Self::At(at) => sleep_until(at).await,
            Self::WithKey(standing) | Self::WithLogin(standing) => standing.ended().await,
        }
    }
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
    verifier: Option<Verifier>,
    api_keys: ApiKeys,
    policy: Policy,
    /// Knows who belongs to which tenant; without it the token is believed.
    membership: Option<Membership>,
    actions: Actions,
    cookies: CookieNames,
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
        let internal_token = settings.internal_token.clone();
        Self { verifier, api_keys, policy, membership, actions, cookies, internal_token, default_tenant }
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
        let (identity, ends) = match &self.verifier {
            Some(verifier) if action != PUBLIC && !is_internal => {
                let shown = self.shown(request.request());
                // Whoever was proved before gets in, however many others fail at their address.
                let known = shown.as_ref().ok().and_then(|shown| self.known(verifier, shown));
                let (identity, ends) = if let Some(known) = known {
                    known
                } else {
                    turnstile.may_prove()?;
                    let proven = match shown {
                        Ok(shown) => self.prove(verifier, &shown).await,
                        Err(problem) => Err(problem),
                    };
                    proven.inspect_err(|problem| turnstile.failed(problem))?
                };
                (Some(identity), Some(ends))
            }
            _ => (None, None),
        };
        if !is_probe(path) {
            turnstile.count(identity.as_ref())?;
        }
        let tenant = identity.as_ref().map(|who| &who.tenant).or(self.default_tenant.as_ref()).ok_or(Code::Internal)?;
        let asker = match &identity {
            _ if is_internal => Asker::Worker { subject: None },
            Some(Identity { subject, issuer, scope, .. }) => {
                Asker::Member { subject, issuer: issuer.as_deref(), scope: scope.as_deref() }
            }
            None => Asker::Nobody { auth_required: self.verifier.is_some() },
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
            Decision { rule, reason, .. } => {
                let problem = match &*rule {
                    ADMIN_SCOPE => Problem::new(Code::AdminScopeRequired),
                    POLICY_ERROR => unheard(Code::PolicyUnavailable, self.policy.left_alone_for()),
                    _ => Problem::new(Code::PolicyDenied),
                };
                Err(problem.caused_by(format!("rule {rule}: {reason}")))
            }
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
        turnstile.failed(&problem);
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

    /// What the sender shows of themselves. A browser adds a cookie to whatever any page makes it send, so a request that
    /// relies on one must come from a page of this door.
    fn shown<'a>(&self, request: &'a HttpRequest) -> Result<Credential<'a>, Problem> {
        let credential = Credential::of(request.headers(), &self.cookies)?;
        let is_cookie = matches!(credential, Credential::Cookie(_) | Credential::Login(_));
        if is_cookie && site::is_foreign(request) {
            return Err(Code::OriginNotAllowed.into());
        }
        Ok(credential)
    }

    /// Who that is, if it was proved before.
    fn known(&self, verifier: &Verifier, shown: &Credential<'_>) -> Option<(Identity, Ends)> {
        match shown {
            Credential::Key(key) => self.api_keys.known(key).map(of_key),
            Credential::Login(login) => self.api_keys.known_login(login).map(of_login),
            Credential::Header(_) | Credential::Cookie(_) => verifier.known(shown.text()).map(of_token),
        }
    }

    /// Proves who it is.
    async fn prove(&self, verifier: &Verifier, shown: &Credential<'_>) -> Result<(Identity, Ends), Problem> {
        match shown {
            Credential::Key(key) => Ok(of_key(self.api_keys.prove(key).await?)),
            Credential::Login(login) => match self.api_keys.prove_login(login).await {
                Ok(proven) => Ok(of_login(proven)),
                Err(ApiKeyError::Invalid(why)) => Err(Problem::new(Code::TokenInvalid).caused_by(why)),
                Err(error) => Err(error.into()),
            },
            Credential::Header(_) | Credential::Cookie(_) => Ok(of_token(verifier.verify(shown.text()).await?)),
        }
    }

    async fn identify(&self, verifier: &Verifier, request: &HttpRequest) -> Result<(Identity, Ends), Problem> {
        let shown = self.shown(request)?;
        self.prove(verifier, &shown).await
    }

    /// Whether somebody proves who they are who need not.
    pub(crate) async fn recognises(&self, request: &HttpRequest) -> bool {
        match &self.verifier {
            Some(verifier) => self.identify(verifier, request).await.is_ok(),
            None => false,
        }
    }

    /// Whether the page is to be shown to whoever asks for it: to everybody where people cannot sign in, else to those who have.
    /// Whom nobody can tell from others just now sees it too: it holds nothing, and says itself what is wrong.
    pub(crate) async fn lets_in(&self, request: &HttpRequest) -> bool {
        let (Some(verifier), Some(_)) = (&self.verifier, self.cookies.login) else { return true };
        match self.identify(verifier, request).await {
            Ok(_) => true,
            Err(problem) => problem.code().status() >= 500,
        }
    }
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

fn of_key(ProvenKey { identity, standing }: ProvenKey) -> (Identity, Ends) {
    (identity, Ends::WithKey(standing))
}

fn of_login(ProvenKey { identity, standing }: ProvenKey) -> (Identity, Ends) {
    (identity, Ends::WithLogin(standing))
}

fn of_token(Verified { identity, ends }: Verified) -> (Identity, Ends) {
    (identity, Ends::At(ends))
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
    let admitted = gate.admit(&Turnstile::new(&limits, &request), &request, path, action).await;
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
