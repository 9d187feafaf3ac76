#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::future::Future;

use actix::{Handler, Message};
use prometheus::Registry;
use somaagent_supervision::{Admitted, Restart, Strategy, SupervisorRef, SupervisorSpec, Tree};
use somaagent_test_services::vault::{Mood, Vault as Server};

use super::super::settings::VaultSettings;
use super::*;

const TOKEN: &str = "hvs.canary-token";
const PATH: &str = "secret/gateway";
const SOON: Duration = Duration::from_secs(30);

fn stage(test: impl Future<Output = ()>) {
    actix_rt::System::new().block_on(test);
}

fn settings(server: &Server) -> VaultSettings {
    VaultSettings {
        addr: Some(server.url()),
        token: Some(TOKEN.into()),
        timeout_seconds: 20.0,
        refresh_seconds: 1,
        ..VaultSettings::default()
    }
}

/// A secret of the server, and its keeper.
struct Stage {
    server: Server,
    secret: Secret,
    deps: VaultDeps,
    registry: Registry,
    root: SupervisorRef,
    tree: Tree,
}

impl Stage {
    async fn start(change: impl FnOnce(VaultSettings) -> VaultSettings) -> Self {
        Self::watching(true, change).await
    }

    async fn watching(is_live: bool, change: impl FnOnce(VaultSettings) -> VaultSettings) -> Self {
        let server = Server::start(TOKEN).await.unwrap();
        server.keep(PATH, &[("key", "one")]);
        let secret = Secret::from("one");
        let check: Check = Arc::new(|fresh| match fresh.expose_secret() {
            "bad" => Err("is bad".to_owned()),
            _ => Ok(()),
        });
        let place = "secret/gateway#key".parse().unwrap();
        let watched = Watched { key: "auth.jwt_secret", place, secret: secret.clone(), is_live, check };
        let registry = Registry::new();
        let vault = Vault::new(change(settings(&server))).unwrap();
        let deps = VaultDeps::new(vault, vec![watched], VaultMetrics::register(&registry).unwrap());
        let tree = Tree::new(&Registry::new()).unwrap();
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let stage = Self { server, secret, deps: deps.clone(), registry, root, tree };
        let seat = stage.root.seat::<VaultKeeper>(Restart::Permanent);
        seat.start(move || VaultKeeper::new(deps)).await.unwrap();
        stage
    }

    async fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let look = async {
            while !is(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(SOON, look).await.is_ok(), "it never came: {what}");
    }

    async fn is_now(&self, text: &str) {
        self.until(text, |stage| stage.secret.present().expose() == text).await;
    }

    async fn becomes(&self, condition: Condition) {
        self.until(&format!("{condition:?}"), |stage| stage.deps.condition() == condition).await;
    }

    /// Waits until everything was read twice more, so that whatever the first time led to has happened.
    async fn looked(&self) {
        let before = self.server.count("/data/gateway");
        self.server.called("/data/gateway", before + 1).await;
    }

    /// How often Vault was asked so, with this outcome.
    fn requests(&self, operation: &str, outcome: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "vault_requests_total").unwrap();
        let is = |metric: &&prometheus::proto::Metric| {
            let labels: Vec<_> = metric.get_label().iter().map(prometheus::proto::LabelPair::value).collect();
            labels == [operation, outcome]
        };
        family.get_metric().iter().filter(is).map(|metric| metric.get_counter().get_value()).sum()
    }

    fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metrics = family.get_metric().iter();
        let of = |metric: &&prometheus::proto::Metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        };
        metrics.filter(of).map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }
}

#[test]
fn a_secret_that_changes_there_changes_here() {
    stage(async {
        let stage = Stage::start(|settings| settings).await;
        stage.server.keep(PATH, &[("key", "two\n")]);
        stage.is_now("two").await;
        let proving: Vec<_> = stage.secret.proving().map(|version| version.expose().to_owned()).collect();
        assert_eq!(proving, ["two", "one"]);
        stage.becomes(Condition::Fresh).await;
        stage.until("it is counted", |stage| stage.metric("vault_exchanges_total", "taken") >= 1.0).await;
        assert!(stage.metric("vault_requests_total", "read") >= 1.0);
    });
}

#[test]
fn without_grace_the_former_secret_proves_nothing() {
    stage(async {
        let stage = Stage::start(|settings| VaultSettings { grace_seconds: 0, ..settings }).await;
        stage.server.keep(PATH, &[("key", "two")]);
        stage.is_now("two").await;
        assert_eq!(stage.secret.proving().count(), 1);
    });
}

#[test]
fn while_vault_is_away_what_was_read_last_is_used_and_it_recovers_by_itself() {
    stage(async {
        let stage = Stage::start(|settings| VaultSettings { timeout_seconds: 0.2, ..settings }).await;
        for mood in [Mood::Failing(503), Mood::Failing(403), Mood::Babbling, Mood::Dropping, Mood::Silent] {
            stage.server.set_mood(mood);
            stage.becomes(Condition::Failing).await;
            assert_eq!(stage.secret.proving().count(), 1, "{mood:?}");
            stage.until("it is counted", |stage| stage.metric("vault_failures", "") >= 1.0).await;
            stage.server.set_mood(Mood::Well);
            stage.becomes(Condition::Fresh).await;
        }
        stage.server.down().await;
        stage.becomes(Condition::Failing).await;
        stage.server.keep(PATH, &[("key", "two")]);
        stage.server.up().await.unwrap();
        stage.is_now("two").await;
    });
}

#[test]
fn what_is_not_confirmed_for_too_long_proves_nothing_until_it_is() {
    stage(async {
        let stage = Stage::start(|settings| VaultSettings { stale_seconds: 1, ..settings }).await;
        stage.server.set_mood(Mood::Failing(503));
        stage.becomes(Condition::Stale).await;
        stage.until("it proves nothing", |stage| stage.secret.proving().next().is_none()).await;
        assert_eq!(stage.secret.present().expose(), "one", "others judge what is shown to them");
        stage.server.set_mood(Mood::Well);
        stage.until("it proves again", |stage| stage.secret.proving().next().is_some()).await;
    });
}

#[test]
fn what_cannot_be_used_takes_no_other_secrets_place() {
    stage(async {
        let stage = Stage::start(|settings| settings).await;
        for unusable in [&[("key", "bad")][..], &[("key", " \n")], &[("else", "two")], &[]] {
            stage.server.keep(PATH, unusable);
            stage.becomes(Condition::Failing).await;
            stage.looked().await;
            assert_eq!(stage.secret.present().expose(), "one", "{unusable:?}");
            stage.server.keep(PATH, &[("key", "one")]);
            stage.becomes(Condition::Fresh).await;
        }
        stage.server.delete(PATH);
        stage.becomes(Condition::Failing).await;
        assert!(stage.metric("vault_exchanges_total", "refused") >= 1.0);
    });
}

#[test]
fn what_counts_from_the_next_start_on_is_left_alone_and_is_no_failure() {
    stage(async {
        let stage = Stage::watching(false, |settings| settings).await;
        stage.server.keep(PATH, &[("key", "two")]);
        stage.looked().await;
        assert_eq!(stage.secret.present().expose(), "one");
        assert_eq!(stage.deps.condition(), Condition::Fresh);
    });
}

#[test]
fn the_own_token_is_renewed_before_it_ends() {
    stage(async {
        let stage = Stage::start(|settings| settings).await;
        assert_eq!(stage.server.count("/renew-self"), 0);
        // Another token, as another program would bring it, is looked at anew.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "hvs.short").unwrap();
        stage.server.admit("hvs.short", 3, true);
        let of_file = file.path().to_owned();
        let other = Stage::start(|settings| VaultSettings {
            token_file: Some(of_file),
            addr: Some(stage.server.url()),
            ..settings
        });
        let other = other.await;
        stage.server.called("/renew-self", 2).await;
        other.until("its time is told", |other| other.metric("vault_token_seconds", "") > 0.0).await;
        let lookups = stage.server.count("/lookup-self");
        std::fs::write(&file, TOKEN).unwrap();
        stage.server.called("/lookup-self", lookups).await;
        other.until("a token for ever", |other| other.metric("vault_token_seconds", "") < 0.0).await;
    });
}

/// A keeper that has never looked. Its own token was good for ten minutes at `now`.
fn keeper(now: Instant) -> VaultKeeper {
    let place = VaultSettings { addr: Some("http://127.0.0.1:1".to_owned()), ..VaultSettings::default() };
    let metrics = VaultMetrics::register(&Registry::new()).unwrap();
    let mut keeper = VaultKeeper::new(VaultDeps::new(Vault::new(place).unwrap(), Vec::new(), metrics));
    keeper.state.lease = Some(("token".into(), Lease::told(600, true, now)));
    keeper
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_tried_ever_more_seldom_but_never_too_late() {
    let (begun, refresh) = (Instant::now(), VaultSettings::default().refresh());
    for _ in 0..20 {
        let (mut keeper, mut now) = (keeper(begun), begun + Duration::from_secs(400));
        let ends = begun + Duration::from_mins(10);
        let (mut waits, mut bound) = (Vec::new(), FIRST_WAIT);
        while now + 2 * FIRST_WAIT < ends {
            let wait = keeper.rest(now);
            // Where the drawing ends is a matter of rounding.
            let most = bound + Duration::from_millis(1);
            assert!((FIRST_WAIT..=most).contains(&wait), "{wait:?} {waits:?}");
            assert!(wait <= (ends - now) / 2, "{wait:?} with {:?} left", ends - now);
            (now, bound) = (now + wait, (bound * 2).min(refresh));
            waits.push(wait);
        }
        // One a second would be 198; waits that are drawn are half of their bounds on average.
        assert!((8..100).contains(&waits.len()), "{waits:?}");
        assert!(keeper.rest(ends) >= FIRST_WAIT, "after its end too");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_renewal_the_waits_begin_anew() {
    let now = Instant::now();
    let mut keeper = keeper(now);
    let refresh = VaultSettings::default().refresh();
    assert_eq!(keeper.rest(now), refresh, "there is nothing to do before");
    let due = now + Duration::from_secs(400);
    for _ in 0..10 {
        keeper.rest(due);
    }
    keeper.state.lease = Some(("token".into(), Lease::told(600, true, due)));
    assert_eq!(keeper.rest(due + Duration::from_secs(390)), Duration::from_secs(10), "just when it is due again");
    assert_eq!(keeper.rest(due + Duration::from_secs(400)), FIRST_WAIT);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_tried_ever_more_seldom_too() {
    let now = Instant::now();
    let (mut keeper, refresh) = (keeper(now), VaultSettings::default().refresh());
    keeper.state.failures = 1;
    let waits: Vec<_> = (0..200).map(|_| keeper.rest(now)).collect();
    assert_eq!(waits[0], FIRST_WAIT);
    assert!(waits.iter().all(|wait| (FIRST_WAIT..=refresh).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > refresh / 2), "{waits:?}");
    keeper.state.failures = 0;
    assert_eq!(keeper.rest(now), refresh);
    keeper.state.failures = 1;
    assert_eq!(keeper.rest(now), FIRST_WAIT);
}

#[test]
fn a_token_whose_renewal_fails_for_a_while_is_renewed_when_that_is_over() {
    stage(async {
        let server = Server::start(TOKEN).await.unwrap();
        server.admit("hvs.short", 3, true);
        server.hold_renewals(true);
        server.keep(PATH, &[("key", "one")]);
        let url = server.url();
        let stage =
            Stage::start(|settings| VaultSettings { token: Some("hvs.short".into()), addr: Some(url), ..settings });
        let stage = stage.await;
        server.called("/renew-self", 2).await;
        assert_eq!(stage.deps.condition(), Condition::Fresh, "the secrets are read all the while");
        server.hold_renewals(false);
        stage.until("it is renewed", |stage| stage.requests("renew", "ok") >= 1.0).await;
        assert!(stage.requests("renew", "unavailable") >= 2.0);
    });
}

#[test]
fn a_token_that_cannot_be_renewed_is_used_until_it_is_refused() {
    stage(async {
        let server = Server::start(TOKEN).await.unwrap();
        server.admit("hvs.short", 2, false);
        server.keep(PATH, &[("key", "one")]);
        let url = server.url();
        let stage =
            Stage::start(|settings| VaultSettings { token: Some("hvs.short".into()), addr: Some(url), ..settings });
        let stage = stage.await;
        let before = server.count("/data/gateway");
        server.called("/data/gateway", before + 3).await;
        assert_eq!(server.count("/renew-self"), 0);
        server.ban("hvs.short");
        stage.becomes(Condition::Failing).await;
        server.admit("hvs.short", 0, false);
        stage.becomes(Condition::Fresh).await;
    });
}

#[test]
fn after_a_crash_the_secrets_are_still_there_and_are_read_again() {
    struct Crash;
    impl Message for Crash {
        type Result = ();
    }
    impl Handler<Admitted<Crash>> for VaultKeeper {
        type Result = ();

        fn handle(&mut self, _: Admitted<Crash>, _: &mut Context<Self>) {
            panic!("planted");
        }
    }
    stage(async {
        let stage = Stage::start(|settings| VaultSettings { refresh_seconds: 3_600, ..settings }).await;
        stage.until("it was read", |stage| stage.server.count("/data/gateway") == 1).await;
        let deps = stage.deps.clone();
        let seat = stage.root.seat::<VaultKeeper>(Restart::Permanent).labelled("other");
        let crash = seat.port("crash", 1);
        seat.start(move || VaultKeeper::new(deps)).await.unwrap();
        stage.until("it was read", |stage| stage.server.count("/data/gateway") == 2).await;
        stage.server.keep(PATH, &[("key", "two")]);
        assert!(crash.ask(Crash, SOON).await.is_err());
        stage.is_now("two").await;
        let keeper = stage.tree.snapshot().actors.into_iter().find(|actor| actor.path.contains("other")).unwrap();
        assert_eq!(keeper.restarts, 1);
    });
}
