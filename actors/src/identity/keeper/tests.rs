#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::{
    future::Future,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use jsonwebtoken::get_current_timestamp;
use serde_json::{Value, json};
use somaagent_supervision::{Restart, Strategy, SupervisorSpec, Tree};
use somaagent_test_services::tokens::{Signer, other_rsa_signer, rsa_signer};

use super::super::{
    fetching::MAX_BYTES,
    published_keys::PublishedKeys,
    settings::{AuthSettings, SettingsError},
    verifier::{TokenError, Verified, Verifier},
};
use super::*;
use crate::loopback::{Play, Server};

const SOON: Duration = Duration::from_secs(20);

fn stage(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

/// An issuer that says what it is told.
struct Issuer {
    server: Server,
    says: Arc<Mutex<Says>>,
    fetches: Arc<AtomicU32>,
}

#[derive(Clone)]
enum Says {
    Keys(Vec<Value>),
    Rubbish,
    Status(u16),
    Elsewhere,
    Flood,
    Nothing,
}

impl Issuer {
    async fn saying(says: Says) -> Self {
        let says = Arc::new(Mutex::new(says));
        let fetches = Arc::new(AtomicU32::new(0));
        let (spoken, counted) = (Arc::clone(&says), Arc::clone(&fetches));
        let server = Server::start(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            match &*spoken.lock().unwrap() {
                Says::Keys(keys) => Play::json(200, &json!({ "keys": keys }).to_string()),
                Says::Rubbish => Play::json(200, "<html>sign in</html>"),
                Says::Status(status) => Play::json(*status, r#"{"keys":[]}"#),
                Says::Elsewhere => Play::raw(302, "location: http://127.0.0.1:1/\r\n", ""),
                Says::Flood => Play::json(200, &" ".repeat(MAX_BYTES + 1)),
                Says::Nothing => Play::Hang,
            }
        });
        Self { server: server.await, says, fetches }
    }

    fn says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn fetches(&self) -> u32 {
        self.fetches.load(Ordering::Relaxed)
    }

    fn settings(&self) -> AuthSettings {
        AuthSettings {
            jwks_url: Some(format!("{}/keys", self.server.url)),
            jwt_algorithms: "RS256".to_owned(),
            jwks_timeout_seconds: 1.0,
            ..AuthSettings::default()
        }
    }
}

/// A verifier with its keeper.
struct Stage {
    tree: Tree,
    verifier: Verifier,
}

impl Stage {
    async fn start(settings: &AuthSettings) -> Self {
        let tree = Tree::new(&prometheus::Registry::new()).unwrap();
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let keep = |deps: KeeperDeps<PublishedKeys>| {
            let root = root.clone();
            async move {
                let seat = root.seat::<Keeper<PublishedKeys>>(Restart::Permanent);
                let port = seat.port("refresh", 64);
                seat.start(move || Keeper::new(deps)).await.unwrap();
                Ok::<_, SettingsError>(port)
            }
        };
        let verifier = Verifier::start(settings, keep).await.unwrap();
        Self { tree, verifier }
    }

    async fn verify(&self, signer: &Signer, key_id: &str) -> Result<Verified, TokenError> {
        self.verifier.verify(&signer.sign_as(key_id, &claims())).await
    }

    async fn becomes(&self, state: &str) {
        let is = || self.tree.snapshot().actors.iter().any(|actor| actor.state == state);
        tokio::time::timeout(SOON, async {
            while !is() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}

fn claims() -> Value {
    let now = get_current_timestamp();
    json!({"sub": "ada", "tenant": "acme", "exp": now + 600})
}

fn keys(names: &[(&Signer, &str)]) -> Says {
    Says::Keys(names.iter().map(|(signer, name)| signer.jwk(name)).collect())
}

#[test]
fn published_keys_prove_tokens_and_are_fetched_once() {
    stage(async {
        let issuer = Issuer::saying(keys(&[(rsa_signer(), "a")])).await;
        let stage = Stage::start(&issuer.settings()).await;
        let asked = (0..20).map(|_| stage.verify(rsa_signer(), "a"));
        assert!(futures_util::future::join_all(asked).await.iter().all(Result::is_ok));
        assert_eq!(issuer.fetches(), 1, "everybody waits for the same fetch");
        assert_eq!(stage.verify(other_rsa_signer(), "a").await, Err(TokenError::Invalid("its signature is wrong")));
        assert_eq!(issuer.fetches(), 1, "a forged signature costs the issuer nothing");
    });
}

#[test]
fn a_new_key_is_fetched_when_a_token_names_it_and_strangers_cost_little() {
    stage(async {
        let issuer = Issuer::saying(keys(&[(rsa_signer(), "a")])).await;
        let stage = Stage::start(&issuer.settings()).await;
        assert!(stage.verify(rsa_signer(), "a").await.is_ok());
        issuer.says(keys(&[(rsa_signer(), "a"), (other_rsa_signer(), "b")]));
        assert!(stage.verify(other_rsa_signer(), "b").await.is_ok());
        assert_eq!(issuer.fetches(), 2);
        for unknown in ["c", "d", "../../keys", "' OR 1=1 --", "http://evil.example/keys"] {
            let refused = stage.verify(rsa_signer(), unknown).await;
            assert_eq!(refused, Err(TokenError::Invalid("its key is unknown")), "{unknown}");
        }
        assert_eq!(issuer.fetches(), 2, "at most once a minute");
        assert!(stage.verify(rsa_signer(), "a").await.is_ok());
    });
}

#[test]
fn beside_a_fixed_key_new_ones_are_fetched_too_and_an_issuer_that_is_away_is_not_waited_for() {
    stage(async {
        let issuer = Issuer::saying(keys(&[(other_rsa_signer(), "a")])).await;
        let settings = AuthSettings { jwt_public_key: Some(rsa_signer().public_pem.clone()), ..issuer.settings() };
        let stage = Stage::start(&settings).await;
        assert!(stage.verify(other_rsa_signer(), "a").await.is_ok());
        issuer.says(keys(&[(other_rsa_signer(), "b")]));
        assert!(stage.verify(other_rsa_signer(), "b").await.is_ok());
        let away = Issuer::saying(Says::Status(500)).await;
        let stage = Stage::start(&AuthSettings { jwks_url: away.settings().jwks_url, ..settings }).await;
        stage.becomes("retrying").await;
        assert!(stage.verify(rsa_signer(), "c").await.is_ok());
    });
}

#[test]
fn an_issuer_that_cannot_be_had_is_no_bodys_fault_and_is_asked_again() {
    stage(async {
        for trouble in [Says::Rubbish, Says::Status(503), Says::Status(204), Says::Elsewhere, Says::Flood] {
            let issuer = Issuer::saying(trouble).await;
            let stage = Stage::start(&issuer.settings()).await;
            assert_eq!(stage.verify(rsa_signer(), "a").await, Err(TokenError::KeysUnavailable));
            issuer.says(keys(&[(rsa_signer(), "a")]));
            stage.becomes("resting").await;
            assert!(stage.verify(rsa_signer(), "a").await.is_ok(), "without a restart");
        }
    });
}

#[test]
fn an_issuer_that_hangs_holds_nobody_up_for_long() {
    stage(async {
        let issuer = Issuer::saying(Says::Nothing).await;
        let stage = Stage::start(&issuer.settings()).await;
        assert_eq!(stage.verify(rsa_signer(), "a").await, Err(TokenError::KeysUnavailable));
        stage.becomes("retrying").await;
    });
}

#[test]
fn a_set_without_a_usable_key_is_the_issuers_mistake() {
    stage(async {
        let issuer = Issuer::saying(Says::Keys(Vec::new())).await;
        let stage = Stage::start(&issuer.settings()).await;
        assert_eq!(stage.verify(rsa_signer(), "a").await, Err(TokenError::NoKey));
    });
}

#[test]
fn old_keys_are_used_for_a_while_and_no_longer() {
    stage(async {
        let issuer = Issuer::saying(keys(&[(rsa_signer(), "a")])).await;
        let settings = AuthSettings { jwks_cache_seconds: 1, jwks_stale_seconds: 2, ..issuer.settings() };
        let stage = Stage::start(&settings).await;
        assert!(stage.verify(rsa_signer(), "a").await.is_ok());
        issuer.says(Says::Status(500));
        stage.becomes("retrying").await;
        assert!(stage.verify(rsa_signer(), "a").await.is_ok(), "while the issuer is down");
        tokio::time::timeout(SOON, async {
            while stage.verify(rsa_signer(), "a").await != Err(TokenError::KeysUnavailable) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap();
    });
}

#[test]
fn a_key_that_is_withdrawn_proves_nothing_after_the_next_fetch() {
    stage(async {
        let issuer = Issuer::saying(keys(&[(rsa_signer(), "a"), (other_rsa_signer(), "b")])).await;
        let settings = AuthSettings { jwks_cache_seconds: 1, ..issuer.settings() };
        let stage = Stage::start(&settings).await;
        assert!(stage.verify(rsa_signer(), "a").await.is_ok());
        issuer.says(keys(&[(other_rsa_signer(), "b")]));
        tokio::time::timeout(SOON, async {
            while stage.verify(rsa_signer(), "a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap();
        assert!(stage.verify(other_rsa_signer(), "b").await.is_ok());
    });
}

#[test]
fn waits_grow_after_failures_and_never_beyond_the_cache() {
    let rest = |failures| State { failures, ..State::default() }.rest(Duration::from_mins(5));
    assert_eq!([0, 1, 2, 3, 6, 400].map(|failures| rest(failures).as_secs()), [300, 1, 2, 4, 30, 30]);
    assert_eq!(State { failures: 9, ..State::default() }.rest(Duration::from_secs(5)), Duration::from_secs(5));
}

#[test]
fn after_a_crash_the_keys_are_still_there_and_the_queue_is_served() {
    struct Crash;
    impl Message for Crash {
        type Result = ();
    }
    impl Handler<Admitted<Crash>> for Keeper<PublishedKeys> {
        type Result = ();

        fn handle(&mut self, _: Admitted<Crash>, _: &mut Context<Self>) {
            panic!("planted");
        }
    }
    stage(async {
        let issuer = Issuer::saying(keys(&[(rsa_signer(), "a")])).await;
        let deps = KeeperDeps::new(
            PublishedKeys::at(issuer.server.url.parse().unwrap(), &issuer.settings()).unwrap(),
            Duration::from_mins(5),
        );
        let mut board = deps.fetched();
        let tree = Tree::new(&prometheus::Registry::new()).unwrap();
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let seat = root.seat::<Keeper<PublishedKeys>>(Restart::Permanent);
        let (refresh, crash) = (seat.port("refresh", 4), seat.port("crash", 1));
        seat.start(move || Keeper::new(deps)).await.unwrap();
        board.wait_for(Option::is_some).await.unwrap();
        assert!(crash.ask(Crash, SOON).await.is_err());
        assert!(board.borrow().is_some());
        refresh.call(|reply| Refresh { reply }, SOON).await.unwrap();
        assert_eq!(issuer.fetches(), 2, "it begins anew with a fetch");
    });
}
