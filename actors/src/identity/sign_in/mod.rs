//! People sign in at an OpenID provider: authorization code with PKCE (OpenID Connect Core §3.1, RFC 7636).
//!
//! | file | holds |
//! | --- | --- |
//! | [`settings`] | at which provider, and who may |
//! | [`attempt`] | one attempt, kept by the browser alone |
//! | `provider` | the provider's description and keys, and calls to it |
//! | [`person`] | who came back |
//! | [`looking`] | how the provider describes itself, for whoever sets it up |
//!
//! What a provider says is proved by its keys, which come from where its description says, which comes from where the settings
//! say. Signatures by secret are not taken: everybody who knows the client's secret could make them.

pub mod attempt;
pub mod looking;
pub mod person;
mod provider;
pub mod settings;

use std::{future::Future, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::get_current_timestamp;
use openidconnect::{
    AccessTokenHash, AuthType, AuthorizationCode, AuthorizationRequest, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, IssuerUrl, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier,
    RedirectUrl, Scope, SignatureVerificationError, TokenResponse as _,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreIdToken, CoreJwsSigningAlgorithm,
        CoreProviderMetadata, CoreTokenResponse,
    },
};
use reqwest::{Client, Url};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use somaagent_supervision::Port;
use tokio::sync::watch;

pub use self::{attempt::Attempt, person::Person, provider::Provider, settings::OidcSettings};
use self::{person::Unknown, provider::call};
use super::{
    fetching,
    keeper::{Fetched, KeeperDeps, Refresh},
    settings::SettingsError,
};

/// How much longer than its calls somebody waits for the provider's description: another fetch may be under way.
const GRACE: Duration = Duration::from_secs(1);

/// Signatures that are taken.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 5] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// Why somebody is not signed in. No text of it holds anything that the provider or the browser sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// The provider has not said yet how it is to be asked. Safe to try again.
    #[error("the provider's description cannot be had")]
    Discovery,
    /// What came back belongs to no attempt of this browser's.
    #[error("the attempt is none of this browser's, or was too long ago")]
    State,
    /// The provider gave nothing for the code. Safe to begin anew.
    #[error("the provider gave no token for the code: {0}")]
    Exchange(String),
    /// The provider gave something else.
    #[error("the provider gave no ID token")]
    NoIdToken,
    /// The token proves nothing; the words are for the log.
    #[error("the ID token is refused: {0}")]
    IdToken(&'static str),
    /// The token is that of another attempt.
    #[error("the ID token is of another attempt")]
    Nonce,
    /// The token is right and names no tenant or no subject.
    #[error("the ID token names no tenant or no subject")]
    Nobody,
    /// The tenant may not sign in here.
    #[error("people of this tenant may not sign in here")]
    NotHere,
}

/// Signs people in. Cheap to clone.
#[derive(Clone)]
pub struct SignIn {
    inner: Arc<Inner>,
}

struct Inner {
    settings: OidcSettings,
    tenant_claims: Vec<String>,
    http: Client,
    callback: Url,
    provider: watch::Receiver<Option<Fetched<CoreProviderMetadata>>>,
    refresh: Port<Refresh>,
}

/// What the callback brings.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
    /// The code.
    pub code: &'a str,
    /// The state.
    pub state: &'a str,
    /// The issuer, if the provider names itself (RFC 9207).
    pub issuer: Option<&'a str>,
}

impl SignIn {
    /// Makes ready to sign people in whose tokens name their tenant by one of `tenant_claims`. `keep` starts a keeper of the
    /// provider's description and gives the way to it.
    ///
    /// # Errors
    /// That of the settings, or of `keep`.
    pub async fn start<E, F>(
        settings: &OidcSettings,
        tenant_claims: &str,
        keep: impl FnOnce(KeeperDeps<Provider>) -> F,
    ) -> Result<Self, E>
    where
        E: From<SettingsError>,
        F: Future<Output = Result<Port<Refresh>, E>>,
    {
        let fault = |setting: &str, what: String| SettingsError { setting: setting.to_owned(), what };
        let issuer = IssuerUrl::new(settings.issuer.trim().to_owned());
        let issuer = issuer.map_err(|_| fault("issuer", "is not a URL".to_owned()))?;
        let callback = settings.callback().map_err(|what| fault("redirect_uri", what.to_owned()))?;
        let http = fetching::client(settings.timeout()).map_err(|error| fault("issuer", error.to_string()))?;
        let cache = Duration::from_secs(settings.cache_seconds);
        let deps = KeeperDeps::new(Provider::new(http.clone(), issuer), cache);
        let provider = deps.fetched();
        let refresh = keep(deps).await?;
        let tenant_claims = tenant_claims.split(',').map(|name| name.trim().to_owned()).collect();
        let settings = settings.clone();
        Ok(Self { inner: Arc::new(Inner { settings, tenant_claims, http, callback, provider, refresh }) })
    }

    /// What people call the provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.inner.settings.provider
    }

    /// Whether people see this service by TLS, so that cookies may be kept to it.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.inner.callback.scheme() == "https"
    }

    /// How long a login lasts.
    #[must_use]
    pub fn login_lasts(&self) -> Duration {
        Duration::from_secs(self.inner.settings.login_seconds)
    }

    /// An attempt that begins now, by somebody who wants to see the page at `path` afterwards.
    #[must_use]
    pub fn attempt(&self, path: Option<&str>) -> Attempt {
        Attempt::begin(get_current_timestamp(), path)
    }

    /// The attempt whose cookie somebody has brought back, unless it is none or too old.
    #[must_use]
    pub fn resume(&self, cookie: &str) -> Option<Attempt> {
        Attempt::resume(cookie, get_current_timestamp())
    }

    /// Where the browser goes to sign in; with `ask_who` the provider asks who it is, even if it has not forgotten the last one.
    ///
    /// # Errors
    /// [`SignInError::Discovery`].
    pub async fn begin(&self, attempt: &Attempt, ask_who: bool) -> Result<Url, SignInError> {
        let Inner { settings, callback, .. } = &*self.inner;
        let provider = self.described(false).await?;
        let client = CoreClient::from_provider_metadata((*provider).clone(), self.client_id(), None)
            .set_redirect_uri(RedirectUrl::from_url(callback.clone()));
        let (state, nonce) = (CsrfToken::new(attempt.state()), Nonce::new(attempt.nonce()));
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(attempt.pkce_verifier()));
        let scopes = settings.scopes.split_whitespace().filter(|scope| *scope != "openid");
        let request = client.authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || state, move || nonce);
        let request = request.add_scopes(scopes.map(|scope| Scope::new(scope.to_owned())));
        let prompt = settings.prompt_after_sign_out.as_prompt().filter(|_| ask_who);
        let request = prompt.into_iter().fold(request, AuthorizationRequest::add_prompt);
        Ok(request.set_pkce_challenge(challenge).url().0)
    }

    /// Who came back.
    ///
    /// # Errors
    /// [`SignInError`].
    pub async fn finish(&self, attempt: &Attempt, callback: Callback<'_>) -> Result<Person, SignInError> {
        let other_issuer = callback.issuer.is_some_and(|issuer| issuer != self.inner.settings.issuer.trim());
        if callback.state != attempt.state() || other_issuer {
            return Err(SignInError::State);
        }
        let tokens = self.exchange(attempt, callback.code).await?;
        let token = tokens.id_token().ok_or(SignInError::NoIdToken)?;
        let mut proved = self.prove(attempt, token, &tokens, false).await;
        if proved == Err(Refused::Key) {
            // The provider may have new keys.
            proved = self.prove(attempt, token, &tokens, true).await;
        }
        proved.map_err(|refused| match refused {
            Refused::Key => SignInError::IdToken("its key is unknown"),
            Refused::For(error) => error,
        })?;
        let claims = claims(token).ok_or(SignInError::IdToken("its claims cannot be read"))?;
        Person::of(claims, &self.inner.settings, &self.inner.tenant_claims).map_err(|unknown| match unknown {
            Unknown::Nobody => SignInError::Nobody,
            Unknown::NotHere => SignInError::NotHere,
        })
    }

    async fn exchange(&self, attempt: &Attempt, code: &str) -> Result<CoreTokenResponse, SignInError> {
        let Inner { settings, callback, http, .. } = &*self.inner;
        let provider = self.described(false).await?;
        let secret = settings.client_secret.as_ref().map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
        let client = CoreClient::from_provider_metadata((*provider).clone(), self.client_id(), secret)
            .set_redirect_uri(RedirectUrl::from_url(callback.clone()))
            .set_auth_type(auth_type(&provider));
        let request = client.exchange_code(AuthorizationCode::new(code.to_owned()));
        let request = request.map_err(|_| SignInError::Discovery)?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(attempt.pkce_verifier()));
        let send = |request| call(http.clone(), request);
        request.request_async(&send).await.map_err(|error| {
            use openidconnect::{HttpClientError, RequestTokenError};
            SignInError::Exchange(match error {
                // A word of the standard, such as `invalid_grant` (RFC 6749 §5.2).
                RequestTokenError::ServerResponse(answer) => answer.error().to_string(),
                RequestTokenError::Request(HttpClientError::Other(what)) => what,
                RequestTokenError::Request(_) => "the call failed".to_owned(),
                RequestTokenError::Parse(..) | RequestTokenError::Other(_) => "the answer cannot be read".to_owned(),
            })
        })
    }

    /// Checks signature, issuer, audience, times, nonce, and that the access token is the one that came with it.
    async fn prove(
        &self,
        attempt: &Attempt,
        token: &CoreIdToken,
        tokens: &CoreTokenResponse,
        anew: bool,
    ) -> Result<(), Refused> {
        let provider = self.described(anew).await.map_err(Refused::For)?;
        let client = CoreClient::from_provider_metadata((*provider).clone(), self.client_id(), None);
        let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
        let claims = token.claims(&verifier, &Nonce::new(attempt.nonce())).map_err(|error| refused(&error))?;
        if let Some(expected) = claims.access_token_hash() {
            let unusable = |_| Refused::For(SignInError::IdToken("its key is unknown"));
            let algorithm =
                token.signing_alg().map_err(|_| Refused::For(SignInError::IdToken("it has no signature")))?;
            let key = token.signing_key(&verifier).map_err(unusable)?;
            let actual = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
            let actual =
                actual.map_err(|_| Refused::For(SignInError::IdToken("its access token cannot be checked")))?;
            if actual != *expected {
                return Err(Refused::For(SignInError::IdToken("its access token is another one")));
            }
        }
        Ok(())
    }

    /// The provider's description; waited for where there is none yet, and looked at again if that is wanted.
    async fn described(&self, anew: bool) -> Result<Arc<CoreProviderMetadata>, SignInError> {
        let Inner { provider, refresh, settings, .. } = &*self.inner;
        let known = || provider.borrow().as_ref().map(|fetched| Arc::clone(&fetched.document));
        if anew || known().is_none() {
            // Two calls: the description and the keys.
            let patience = settings.timeout() * 2 + GRACE;
            if let Err(error) = refresh.call(|reply| Refresh { reply }, patience).await {
                tracing::debug!(%error, "the keeper of the provider's description did not answer");
            }
        }
        known().ok_or(SignInError::Discovery)
    }

    fn client_id(&self) -> ClientId {
        ClientId::new(self.inner.settings.client_id.trim().to_owned())
    }
}

/// Why a token was not proved.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    /// None of the keys is the one that it names.
    Key,
    /// Something else.
    For(SignInError),
}

fn refused(error: &ClaimsVerificationError) -> Refused {
    Refused::For(SignInError::IdToken(match error {
        ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey) => {
            return Refused::Key;
        }
        ClaimsVerificationError::InvalidNonce(_) => return Refused::For(SignInError::Nonce),
        ClaimsVerificationError::SignatureVerification(_) => "its signature is wrong",
        ClaimsVerificationError::Expired(_) => "it has expired",
        ClaimsVerificationError::InvalidAudience(_) => "it is for somebody else",
        ClaimsVerificationError::InvalidIssuer(_) => "its issuer is another one",
        _ => "it cannot be checked",
    }))
}

/// How the client proves itself: as the standard has it unless the provider takes only the other way (OpenID Connect
/// Discovery §3).
fn auth_type(provider: &CoreProviderMetadata) -> AuthType {
    let methods = provider.token_endpoint_auth_methods_supported();
    let takes = |wanted: &CoreClientAuthMethod| methods.is_none_or(|methods| methods.contains(wanted));
    if takes(&CoreClientAuthMethod::ClientSecretBasic) { AuthType::BasicAuth } else { AuthType::RequestBody }
}

/// The claims of a token that was proved.
fn claims(token: &CoreIdToken) -> Option<Map<String, Value>> {
    let text = token.to_string();
    let payload = text.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

#[cfg(test)]
mod tests;
