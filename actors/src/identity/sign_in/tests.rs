#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::Mutex;

use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use somaagent_supervision::{Restart, Strategy, SupervisorSpec, Tree};
use somaagent_test_services::tokens::{Signer, ec_signer, ed_signer, other_rsa_signer, rsa_signer};

use super::*;
use crate::domain::identity::Identity;
use crate::{
    identity::keeper::Keeper,
    loopback::{Play, Server},
};

const SECRET: &str = "what the client shows, as long as must be";
const ACCESS: &str = "an access token";
const CODE: &str = "a code";

fn stage(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// What a provider does.
#[derive(Clone)]
struct Manner {
    /// What it calls itself, if not by its address.
    issuer: Option<String>,
    keys: Vec<Value>,
    /// Its answer to the next code: a status and a document.
    token: (u16, Value),
    /// What it changes of its description.
    described: Value,
}

struct Stage {
    server: Server,
    manner: Arc<Mutex<Manner>>,
    sign_in: SignIn,
    attempt: Attempt,
    _tree: Tree,
}

fn host(request: &str) -> String {
    let host = request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    format!("http://{host}")
}

fn plays(request: &str, manner: &Manner) -> Play {
    let own = host(request);
    let path = request.split(' ').nth(1).unwrap();
    match path {
        "/.well-known/openid-configuration" => {
            let mut described = json!({
                "issuer": manner.issuer.clone().unwrap_or_else(|| own.clone()),
                "authorization_endpoint": format!("{own}/authorize"),
                "token_endpoint": format!("{own}/token"),
                "jwks_uri": format!("{own}/keys"),
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            });
            described.as_object_mut().unwrap().extend(manner.described.as_object().unwrap().clone());
            Play::json(200, &described.to_string())
        }
        "/keys" => Play::json(200, &json!({"keys": manner.keys}).to_string()),
        "/token" => Play::json(manner.token.0, &manner.token.1.to_string()),
        _ => Play::json(404, "{}"),
    }
}

impl Stage {
    async fn start() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    async fn with(manners: impl FnOnce(&mut Manner), settings: impl FnOnce(&mut OidcSettings)) -> Self {
        let keys = vec![rsa_signer().jwk("one"), ec_signer().jwk("ec"), ed_signer().jwk("ed")];
        let mut manner = Manner { issuer: None, keys, token: (200, json!({})), described: json!({}) };
        manners(&mut manner);
        let manner = Arc::new(Mutex::new(manner));
        let played = Arc::clone(&manner);
        let server = Server::start(move |request| plays(request, &played.lock().unwrap())).await;
        let mut with = OidcSettings {
            enabled: true,
            issuer: server.url.clone(),
            client_id: "soma".to_owned(),
            client_secret: Some(SECRET.into()),
            base_url: "http://localhost:8080".to_owned(),
            timeout_seconds: 5.0,
            ..OidcSettings::default()
        };
        settings(&mut with);
        let tree = Tree::new(&prometheus::Registry::new()).unwrap();
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let keep = async |deps: KeeperDeps<Provider>| {
            let seat = root.seat::<Keeper<Provider>>(Restart::Permanent);
            let port = seat.port("refresh", 4);
            seat.start(move || Keeper::new(deps)).await.unwrap();
            Ok::<_, SettingsError>(port)
        };
        let sign_in = SignIn::start(&with, "tenant,org", keep).await.unwrap();
        let attempt = Attempt::begin(get_current_timestamp(), None);
        Self { server, manner, sign_in, attempt, _tree: tree }
    }

    fn claims(&self) -> Value {
        json!({
            "iss": self.server.url,
            "aud": "soma",
            "sub": "u-1",
            "tenant": "acme",
            "name": "Ann",
            "iat": get_current_timestamp(),
            "exp": get_current_timestamp() + 60,
            "nonce": self.attempt.nonce(),
        })
    }

    fn gives(&self, id_token: &str) {
        let token = json!({"access_token": ACCESS, "token_type": "Bearer", "id_token": id_token});
        self.manner.lock().unwrap().token = (200, token);
    }

    async fn back(&self) -> Result<Person, SignInError> {
        let state = self.attempt.state();
        self.sign_in.finish(&self.attempt, Callback { code: CODE, state: &state, issuer: None }).await
    }
}

#[test]
fn the_browser_is_sent_to_the_provider_with_what_only_it_can_bring_back() {
    stage(async {
        let stage = Stage::start().await;
        let url = stage.sign_in.begin(&stage.attempt, false).await.unwrap();
        assert!(url.as_str().starts_with(&format!("{}/authorize?", stage.server.url)), "{url}");
        let given = |name: &str| url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(stage.attempt.pkce_verifier()));
        for (name, expected) in [
            ("response_type", "code"),
            ("client_id", "soma"),
            ("redirect_uri", "http://localhost:8080/v1/auth/callback"),
            ("scope", "openid email profile"),
            ("state", &stage.attempt.state()),
            ("nonce", &stage.attempt.nonce()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(given(name), expected, "{name}");
        }
        assert!(!url.as_str().contains(&stage.attempt.pkce_verifier()));
        assert!(!url.as_str().contains("prompt="), "a provider that knows somebody need not ask");
        let asking = stage.sign_in.begin(&stage.attempt, true).await.unwrap();
        assert!(asking.query_pairs().any(|pair| pair == ("prompt".into(), "select_account".into())), "{asking}");
    });
}

#[test]
fn whoever_comes_back_is_who_the_providers_token_says() {
    stage(async {
        let stage = Stage::start().await;
        let hash = URL_SAFE_NO_PAD.encode(&Sha256::digest(ACCESS)[..16]);
        let mut claims = stage.claims();
        claims["at_hash"] = json!(hash);
        for (signer, key) in [(rsa_signer(), "one"), (ec_signer(), "ec")] {
            stage.gives(&signer.sign_as(key, &claims));
            let person = stage.back().await.unwrap();
            let Identity { tenant, subject, issuer, scope } = person.identity;
            assert_eq!((tenant.as_str(), &*subject, scope, person.name), ("acme", "u-1", None, Some("Ann".to_owned())));
            assert_eq!(issuer.as_deref(), Some(&*stage.server.url));
        }
        let asked = stage.server.last();
        let verifier = format!("code_verifier={}", stage.attempt.pkce_verifier());
        assert!(asked.contains(&verifier) && asked.contains("code=a+code"), "{asked}");
        assert!(asked.contains("grant_type=authorization_code") && asked.contains("authorization: Basic "), "{asked}");
    });
}

#[test]
fn what_proves_nothing_signs_nobody_in() {
    stage(async {
        let stage = Stage::start().await;
        let with = |name: &str, value: Value| {
            let mut claims = stage.claims();
            claims[name] = value;
            claims
        };
        let rsa = |claims: &Value| rsa_signer().sign_as("one", claims);
        let now = get_current_timestamp();
        let unsigned = {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", part(&json!({"alg": "none"})), part(&stage.claims()))
        };
        for (why, token, expected) in [
            ("nonce", rsa(&with("nonce", json!("other"))), SignInError::Nonce),
            ("no nonce", rsa(&with("nonce", json!(null))), SignInError::Nonce),
            ("expired", rsa(&with("exp", json!(now - 60))), SignInError::IdToken("it has expired")),
            ("audience", rsa(&with("aud", json!("tea"))), SignInError::IdToken("it is for somebody else")),
            ("audiences", rsa(&with("aud", json!(["soma", "tea"]))), SignInError::IdToken("it is for somebody else")),
            (
                "issuer",
                rsa(&with("iss", json!("https://evil.example"))),
                SignInError::IdToken("its issuer is another one"),
            ),
            ("key", other_rsa_signer().sign_as("one", &stage.claims()), SignInError::IdToken("its signature is wrong")),
            ("secret", Signer::secret(SECRET).sign(&stage.claims()), SignInError::IdToken("its signature is wrong")),
            ("none", unsigned, SignInError::IdToken("its signature is wrong")),
            (
                "access token",
                rsa(&with("at_hash", json!("AAAA"))),
                SignInError::IdToken("its access token is another one"),
            ),
            ("nobody", rsa(&with("tenant", json!(null))), SignInError::Nobody),
        ] {
            stage.gives(&token);
            assert_eq!(stage.back().await, Err(expected), "{why}");
        }
        stage.gives(&rsa(&stage.claims()));
        assert!(stage.back().await.is_ok());
    });
}

#[test]
fn a_callback_counts_only_for_the_attempt_and_the_provider_that_it_belongs_to() {
    stage(async {
        let stage = Stage::start().await;
        stage.gives(&rsa_signer().sign_as("one", &stage.claims()));
        let other = Attempt::begin(get_current_timestamp(), None).state();
        let own = stage.attempt.state();
        for (state, issuer) in [(&*other, None), ("", None), (&*own, Some("https://evil.example"))] {
            let callback = Callback { code: CODE, state, issuer };
            assert_eq!(stage.sign_in.finish(&stage.attempt, callback).await, Err(SignInError::State), "{state}");
        }
        assert!(!stage.server.seen().iter().any(|asked| asked.contains("/token")), "no code was shown to anybody");
        let callback = Callback { code: CODE, state: &own, issuer: Some(&stage.server.url) };
        assert!(stage.sign_in.finish(&stage.attempt, callback).await.is_ok());
    });
}

#[test]
fn a_provider_that_fails_or_lies_is_told_from_a_person_who_does() {
    stage(async {
        let stage = Stage::start().await;
        let refused = json!({"error": "invalid_grant", "error_description": "canary"});
        for (token, expected) in [
            ((400, refused), "invalid_grant"),
            ((200, json!("rubbish")), "the answer cannot be read"),
            ((502, json!({})), "the answer cannot be read"),
        ] {
            stage.manner.lock().unwrap().token = token;
            assert_eq!(stage.back().await, Err(SignInError::Exchange(expected.to_owned())));
        }
        stage.manner.lock().unwrap().token = (200, json!({"access_token": ACCESS, "token_type": "Bearer"}));
        assert_eq!(stage.back().await, Err(SignInError::NoIdToken));
    });
}

#[test]
fn a_key_that_is_new_is_looked_for() {
    stage(async {
        let stage = Stage::start().await;
        stage.gives(&rsa_signer().sign_as("one", &stage.claims()));
        assert!(stage.back().await.is_ok());
        stage.manner.lock().unwrap().keys = vec![other_rsa_signer().jwk("two")];
        stage.gives(&other_rsa_signer().sign_as("two", &stage.claims()));
        assert!(stage.back().await.is_ok());
        stage.gives(&rsa_signer().sign_as("one", &stage.claims()));
        assert_eq!(stage.back().await, Err(SignInError::IdToken("its key is unknown")));
    });
}

#[test]
fn a_provider_that_describes_somebody_else_is_not_asked() {
    stage(async {
        for (issuer, described) in [
            (Some("https://evil.example".to_owned()), json!({})),
            (None, json!({"token_endpoint": "http://evil.example/token"})),
            (None, json!({"authorization_endpoint": "http://evil.example/authorize"})),
            (None, json!({"jwks_uri": "http://evil.example/keys"})),
            (None, json!({"token_endpoint": null})),
        ] {
            let stage = Stage::with(
                |manner| (manner.issuer, manner.described) = (issuer.clone(), described.clone()),
                |settings| settings.timeout_seconds = 1.0,
            );
            let stage = stage.await;
            assert_eq!(stage.sign_in.begin(&stage.attempt, false).await, Err(SignInError::Discovery), "{described}");
        }
    });
}

#[test]
fn a_provider_that_takes_secrets_in_the_body_alone_gets_it_there() {
    stage(async {
        let described = json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]});
        let stage = Stage::with(|manner| manner.described = described, |_| {}).await;
        stage.gives(&rsa_signer().sign_as("one", &stage.claims()));
        assert!(stage.back().await.is_ok());
        let asked = stage.server.last();
        assert!(asked.contains("client_secret=what") && !asked.contains("authorization:"), "{asked}");
    });
}
