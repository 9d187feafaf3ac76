#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::get_current_timestamp;
use serde_json::{Value, json};
use somaagent_supervision::Probe;
use somaagent_test_services::tokens::{SECRET, Signer, ec_signer, ed_signer, other_rsa_signer, rsa_signer};

use super::super::settings::IssuerSettings;
use super::*;

fn now() -> u64 {
    get_current_timestamp()
}

fn claims() -> Value {
    json!({"sub": "ada", "tenant": "acme", "exp": now() + 60})
}

fn with(members: &Value) -> Value {
    let mut all = claims();
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    all
}

fn settings() -> AuthSettings {
    AuthSettings {
        jwt_secret: Some(SECRET.into()),
        jwt_algorithms: "HS256,RS256,ES256,EdDSA".to_owned(),
        ..AuthSettings::default()
    }
}

/// A verifier whose keepers answer nothing.
async fn verifier(settings: &AuthSettings) -> Verifier {
    let keep = |_| async { Ok::<_, SettingsError>(Probe::new(1).1) };
    Verifier::start(settings, keep).await.unwrap()
}

async fn verify(settings: &AuthSettings, token: &str) -> Result<Verified, TokenError> {
    verifier(settings).await.verify(token).await
}

fn public(pem: &str, algorithms: &str) -> AuthSettings {
    AuthSettings {
        jwt_public_key: Some(pem.to_owned()),
        jwt_algorithms: algorithms.to_owned(),
        ..AuthSettings::default()
    }
}

#[tokio::test]
async fn a_token_of_each_kind_proves_who_it_speaks_of() {
    let secret = Signer::secret(SECRET);
    let cases = [
        (&secret, settings()),
        (rsa_signer(), public(&rsa_signer().public_pem, "RS256")),
        (ec_signer(), public(&ec_signer().public_pem, "ES256")),
        (ed_signer(), public(&ed_signer().public_pem, "EdDSA")),
    ];
    for (signer, settings) in cases {
        let verified = verify(&settings, &signer.sign(&with(&json!({"scope": "a b"})))).await.unwrap();
        let Identity { tenant, subject, scope, issuer } = verified.identity;
        assert_eq!((tenant.as_str(), subject.as_str(), scope.as_deref(), issuer), ("acme", "ada", Some("a b"), None));
        let left = verified.ends - Instant::now();
        assert!(left > Duration::from_secs(50) && left < Duration::from_secs(80), "{left:?}");
    }
}

#[tokio::test]
async fn a_signature_counts_only_by_a_key_of_its_kind() {
    let rsa = public(&rsa_signer().public_pem, "RS256");
    // The classic: the public key, which everybody has, taken for a secret (RFC 8725 §2.1).
    let confused = AuthSettings { jwt_algorithms: "HS256,RS256".to_owned(), ..rsa.clone() };
    let forged = Signer::secret(&rsa_signer().public_pem).sign(&claims());
    assert_eq!(verify(&confused, &forged).await, Err(TokenError::Invalid("its key is unknown")));
    let trimmed = Signer::secret(rsa_signer().public_pem.trim()).sign(&claims());
    assert_eq!(verify(&confused, &trimmed).await, Err(TokenError::Invalid("its key is unknown")));
    assert_eq!(verify(&rsa, &forged).await, Err(TokenError::Invalid("its algorithm is not allowed")));
    for other in [ec_signer(), ed_signer()] {
        assert_eq!(verify(&settings(), &other.sign(&claims())).await, Err(TokenError::Invalid("its key is unknown")));
    }
    let stranger = other_rsa_signer().sign(&claims());
    assert_eq!(verify(&rsa, &stranger).await, Err(TokenError::Invalid("its signature is wrong")));
}

#[tokio::test]
async fn a_token_that_was_changed_proves_nothing() {
    let token = Signer::secret(SECRET).sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let other = URL_SAFE_NO_PAD.encode(with(&json!({"sub": "eve"})).to_string());
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for (changed, error) in [
        (format!("{}.{other}.{}", parts[0], parts[2]), TokenError::Invalid("its signature is wrong")),
        (format!("{}.{}.", parts[0], parts[1]), TokenError::Invalid("its signature is wrong")),
        (format!("{none}.{}.", parts[1]), TokenError::Invalid("its algorithm is unknown")),
        (format!("{token}="), TokenError::Invalid("it cannot be checked")),
        (format!("{token}.{}", parts[2]), TokenError::Unreadable),
    ] {
        assert_eq!(verify(&settings(), &changed).await, Err(error), "{changed}");
    }
}

#[tokio::test]
async fn times_audience_and_issuer_are_checked() {
    let settings = AuthSettings {
        jwt_audience: Some("soma".to_owned()),
        jwt_issuer: Some("https://id.example".to_owned()),
        ..settings()
    };
    let verifier = verifier(&settings).await;
    let fine = json!({"aud": "soma", "iss": "https://id.example"});
    let missing = "a claim is missing or malformed";
    for (change, outcome) in [
        (json!({}), Ok(())),
        (json!({"aud": ["other", "soma"]}), Ok(())),
        (json!({"exp": now() - 5}), Ok(())),
        (json!({"nbf": now() + 5}), Ok(())),
        (json!({"exp": now() - 60}), Err("it has expired")),
        (json!({"exp": 0}), Err("it has expired")),
        (json!({"exp": -1}), Err(missing)),
        (json!({"exp": "9999999999"}), Err(missing)),
        (json!({"exp": 1e300}), Err(missing)),
        (json!({"exp": null}), Err(missing)),
        (json!({"nbf": now() + 60}), Err("it is not valid yet")),
        (json!({"nbf": "later"}), Err(missing)),
        (json!({"aud": "other"}), Err("it is for somebody else")),
        (json!({"aud": []}), Err("it is for somebody else")),
        (json!({"aud": null}), Err(missing)),
        (json!({"aud": {"soma": true}}), Err(missing)),
        (json!({"iss": "https://id.example/"}), Err("its issuer is not known")),
        (json!({"iss": ["https://id.example"]}), Err("its issuer is not known")),
        (json!({"iss": null}), Err("its issuer is not known")),
    ] {
        let mut all = with(&fine);
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let found = verifier.verify(&Signer::secret(SECRET).sign(&all)).await.map(drop);
        assert_eq!(found, outcome.map_err(TokenError::Invalid), "{change}");
    }
}

#[tokio::test]
async fn a_token_without_tenant_or_subject_is_nobodys() {
    for members in [json!({"sub": null}), json!({"tenant": null}), json!({"tenant": 7}), json!({"sub": ""})] {
        let token = Signer::secret(SECRET).sign(&with(&members));
        assert_eq!(verify(&settings(), &token).await, Err(TokenError::Nobody), "{members}");
    }
}

#[tokio::test]
async fn each_issuer_signs_with_its_own_key_only() {
    let other = IssuerSettings {
        issuer: "https://other.example".to_owned(),
        public_key: Some(ec_signer().public_pem.clone()),
        algorithms: "ES256".to_owned(),
        tenant_claims: Some("org_id".to_owned()),
        tenants: Some("umbrella".to_owned()),
        ..IssuerSettings::default()
    };
    let settings = AuthSettings { issuers: vec![other], ..settings() };
    let verifier = verifier(&settings).await;
    let own = with(&json!({"iss": "https://other.example", "org_id": "umbrella"}));
    let proved = verifier.verify(&ec_signer().sign(&own)).await.unwrap();
    assert_eq!(proved.identity.tenant.as_str(), "umbrella");
    let forged = verifier.verify(&Signer::secret(SECRET).sign(&own)).await;
    assert_eq!(forged, Err(TokenError::Invalid("its algorithm is not allowed")));
    let elsewhere = with(&json!({"iss": "https://third.example"}));
    assert!(
        verifier.verify(&Signer::secret(SECRET).sign(&elsewhere)).await.is_ok(),
        "the first one's name is not checked"
    );
    assert!(verifier.verify(&ec_signer().sign(&elsewhere)).await.is_err());
}

#[tokio::test]
async fn an_issuer_speaks_for_its_tenants_only() {
    let other = IssuerSettings {
        issuer: "https://other.example".to_owned(),
        public_key: Some(ec_signer().public_pem.clone()),
        algorithms: "ES256".to_owned(),
        tenants: Some("umbrella, initech".to_owned()),
        ..IssuerSettings::default()
    };
    let verifier = verifier(&AuthSettings { issuers: vec![other], ..settings() }).await;
    let of = |tenant: &str| ec_signer().sign(&with(&json!({"iss": "https://other.example", "tenant": tenant})));
    assert!(verifier.verify(&of("initech")).await.is_ok());
    let foreign = verifier.verify(&of("acme")).await;
    assert_eq!(foreign, Err(TokenError::Invalid("its issuer may not speak for this tenant")));
    let theirs = Signer::secret(SECRET).sign(&with(&json!({"tenant": "umbrella"})));
    assert_eq!(verifier.verify(&theirs).await, Err(TokenError::Invalid("its issuer may not speak for this tenant")));
}

#[tokio::test]
async fn without_published_keys_nothing_is_proved_by_them() {
    let published = AuthSettings {
        jwks_url: Some("http://127.0.0.1:1/keys".to_owned()),
        jwt_algorithms: "RS256".to_owned(),
        jwks_timeout_seconds: 0.05,
        ..AuthSettings::default()
    };
    let token = rsa_signer().sign(&claims());
    assert_eq!(verify(&published, &token).await, Err(TokenError::KeysUnavailable));
    // A fixed key goes on without them.
    let both = AuthSettings { jwt_public_key: Some(rsa_signer().public_pem.clone()), ..published };
    assert!(verify(&both, &token).await.is_ok());
}

/// A verifier of published keys, and where they are published.
async fn with_keys() -> (Verifier, watch::Sender<Option<Fetched<KeySet>>>) {
    let settings = AuthSettings {
        jwks_url: Some("http://127.0.0.1:1/keys".to_owned()),
        jwt_algorithms: "RS256".to_owned(),
        jwks_timeout_seconds: 0.05,
        ..AuthSettings::default()
    };
    let mut verifier = verifier(&settings).await;
    let (publish, fetched) = watch::channel(None);
    Arc::get_mut(&mut verifier.issuers).unwrap()[0].published.as_mut().unwrap().fetched = fetched;
    (verifier, publish)
}

fn fetched(keys: &[Value]) -> Fetched<KeySet> {
    let document = json!({"keys": keys}).to_string();
    Fetched { document: Arc::new(KeySet::published(document.as_bytes()).unwrap()), at: Instant::now() }
}

#[tokio::test]
async fn a_token_that_was_proved_proves_nothing_once_its_key_is_withdrawn() {
    let (verifier, publish) = with_keys().await;
    let token = rsa_signer().sign_as("one", &claims());
    publish.send_replace(Some(fetched(&[rsa_signer().jwk("one")])));
    assert_eq!(verifier.verify(&token).await, verifier.verify(&token).await);
    assert!(verifier.verify(&token).await.is_ok());
    publish.send_replace(Some(fetched(&[other_rsa_signer().jwk("two")])));
    assert_eq!(verifier.verify(&token).await, Err(TokenError::Invalid("its key is unknown")));
    publish.send_replace(Some(fetched(&[other_rsa_signer().jwk("one")])));
    assert_eq!(verifier.verify(&token).await, Err(TokenError::Invalid("its signature is wrong")));
}

#[tokio::test]
async fn a_token_that_was_proved_proves_nothing_once_the_keys_are_too_old() {
    let (verifier, publish) = with_keys().await;
    let token = rsa_signer().sign_as("one", &claims());
    publish.send_replace(Some(fetched(&[rsa_signer().jwk("one")])));
    assert!(verifier.verify(&token).await.is_ok());
    let usable_for = verifier.issuers[0].published.as_ref().unwrap().usable_for;
    publish.send_modify(|fetched| {
        let fetched = fetched.as_mut().unwrap();
        fetched.at = fetched.at.checked_sub(usable_for + Duration::from_secs(1)).unwrap();
    });
    assert_eq!(verifier.verify(&token).await, Err(TokenError::KeysUnavailable));
}

#[tokio::test]
async fn a_token_that_was_proved_proves_nothing_once_it_has_ended() {
    let settings = AuthSettings { jwt_leeway_seconds: 0, ..settings() };
    let verifier = verifier(&settings).await;
    let token = Signer::secret(SECRET).sign(&with(&json!({"exp": now() + 1})));
    assert!(verifier.verify(&token).await.is_ok());
    while verifier.verify(&token).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(verifier.verify(&token).await, Err(TokenError::Invalid("it has expired")));
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_exchanged_without_a_restart_and_the_former_one_counts_on_for_its_grace() {
    const OTHER: &str = "another-secret-0123456789-abcdefghij";
    let (settings, grace) = (settings(), Duration::from_mins(5));
    let verifier = verifier(&settings).await;
    let far = with(&json!({"exp": now() + 3_600}));
    let (old, new) = (Signer::secret(SECRET).sign(&far), Signer::secret(OTHER).sign(&far));
    assert!(verifier.verify(&old).await.is_ok());
    assert_eq!(verifier.verify(&new).await, Err(TokenError::Invalid("its signature is wrong")));
    settings.jwt_secret.as_ref().unwrap().exchange(OTHER.into(), grace);
    assert!(verifier.verify(&new).await.is_ok());
    assert!(verifier.known(&old).is_some() && verifier.verify(&old).await.is_ok());
    tokio::time::advance(grace).await;
    assert_eq!(verifier.known(&old), None, "what was proved before is forgotten");
    assert_eq!(verifier.verify(&old).await, Err(TokenError::Invalid("its signature is wrong")));
    assert!(verifier.known(&new).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_nobody_confirms_proves_nothing_and_other_keys_do() {
    let settings = AuthSettings { jwt_public_key: Some(rsa_signer().public_pem.clone()), ..settings() };
    let verifier = verifier(&settings).await;
    let (by_secret, by_key) = (Signer::secret(SECRET).sign(&claims()), rsa_signer().sign(&claims()));
    let secret = settings.jwt_secret.as_ref().unwrap();
    secret.confirm(Duration::from_hours(1));
    assert!(verifier.verify(&by_secret).await.is_ok());
    tokio::time::advance(Duration::from_hours(1) + Duration::from_secs(1)).await;
    assert_eq!(verifier.known(&by_secret), None);
    assert_eq!(verifier.verify(&by_secret).await, Err(TokenError::KeysUnavailable));
    assert!(verifier.verify(&by_key).await.is_ok());
    secret.confirm(Duration::from_hours(1));
    assert!(verifier.verify(&by_secret).await.is_ok());
}
