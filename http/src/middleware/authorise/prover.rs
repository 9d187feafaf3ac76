//! Who sent a request: the one way to find that out.

use actix_web::HttpRequest;
use somaagent_actors::{
    domain::identity::Identity,
    identity::{ApiKeyError, ApiKeys, ProvenKey, Verified, Verifier, api_keys::Standing},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    extract::{CookieNames, Credential},
    limits::Turnstile,
    middleware::{csrf::CsrfRules, site},
    problem::{Code, Problem},
};

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

/// Somebody who has proved who they are.
pub(super) struct Proven {
    pub(super) identity: Identity,
    pub(super) ends: Ends,
}

/// Proves who callers are.
pub(super) struct Prover {
    pub(super) verifier: Verifier,
    pub(super) api_keys: ApiKeys,
    pub(super) cookies: CookieNames,
    /// What a request shows beside a cookie to change something; nothing where that is switched off.
    pub(super) csrf: Option<CsrfRules>,
}

impl Prover {
    /// Whether people can sign in here.
    pub(super) const fn signs_in(&self) -> bool {
        self.cookies.login.is_some()
    }

    /// What the sender shows of themselves. A browser adds a cookie to whatever any page makes it send, so a request that
    /// relies on one must come from a page of this door.
    ///
    /// # Errors
    /// There is nothing, or nothing that may be looked at.
    pub(super) fn shown<'a>(&self, request: &'a HttpRequest) -> Result<Credential<'a>, Problem> {
        let credential = Credential::of(request.headers(), &self.cookies)?;
        if let Some(kept) = credential.kept_by_browser() {
            if site::is_foreign(request) {
                return Err(Code::OriginNotAllowed.into());
            }
            if let Some(csrf) = &self.csrf {
                csrf.of(request).check(request.method(), request.headers(), kept)?;
            }
        }
        Ok(credential)
    }

    /// Who that is. Whoever was proved before gets in, however many others fail at their address; else it is proved, if the
    /// address may still try, and a failure counts.
    ///
    /// # Errors
    /// They may not try, or do not prove it, or nobody can tell now.
    pub(super) async fn identify(
        &self,
        turnstile: &Turnstile<'_>,
        shown: Result<Credential<'_>, Problem>,
    ) -> Result<Proven, Problem> {
        if let Some(known) = shown.as_ref().ok().and_then(|shown| self.known(shown)) {
            return Ok(known);
        }
        turnstile.may_prove()?;
        let proven = match shown {
            Ok(shown) => self.prove(&shown).await,
            Err(problem) => Err(problem),
        };
        proven.inspect_err(|problem| turnstile.failed(problem))
    }

    fn known(&self, shown: &Credential<'_>) -> Option<Proven> {
        match shown {
            Credential::Key(key) => self.api_keys.known(key).map(of_key),
            Credential::Login(login) => self.api_keys.known_login(login).map(of_login),
            Credential::Header(_) | Credential::Cookie(_) => self.verifier.known(shown.text()).map(of_token),
        }
    }

    async fn prove(&self, shown: &Credential<'_>) -> Result<Proven, Problem> {
        match shown {
            Credential::Key(key) => Ok(of_key(self.api_keys.prove(key).await?)),
            Credential::Login(login) => match self.api_keys.prove_login(login).await {
                Ok(proven) => Ok(of_login(proven)),
                Err(ApiKeyError::Invalid(why)) => Err(Problem::new(Code::TokenInvalid).caused_by(why)),
                Err(error) => Err(error.into()),
            },
            Credential::Header(_) | Credential::Cookie(_) => Ok(of_token(self.verifier.verify(shown.text()).await?)),
        }
    }
}

fn of_key(ProvenKey { identity, standing }: ProvenKey) -> Proven {
    Proven { identity, ends: Ends::WithKey(standing) }
}

fn of_login(ProvenKey { identity, standing }: ProvenKey) -> Proven {
    Proven { identity, ends: Ends::WithLogin(standing) }
}

fn of_token(Verified { identity, ends }: Verified) -> Proven {
    Proven { identity, ends: Ends::At(ends) }
}
