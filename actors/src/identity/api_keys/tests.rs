#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use actix::{Context, Handler, Message};
use futures_util::{FutureExt as _, future::join_all};
use serde_json::Value;
use somaagent_supervision::{Admitted, Restart, Strategy, SupervisorSpec, Tree};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{runtime::Handle, time::Instant};
use uuid::Uuid;

use super::{known::Proof, watcher::RoundError, *};
use crate::{
    domain::{caller::Caller, identity::Identity, ids::Tenant},
    store::{
        Connections, Store,
        api_keys::{Named, SecretHash, note_used},
    },
};

const SOON: Duration = Duration::from_secs(20);
pub(super) const DAY: Duration = Duration::from_hours(24);

fn today() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + DAY
}

pub(super) fn tomorrow() -> OffsetDateTime {
    today() + DAY
}

pub(super) fn on(connections: Connections, clock: fn() -> OffsetDateTime) -> ApiKeys {
    let store = Store::new(connections, SOON, Handle::current());
    ApiKeys::new(store, clock, ApiKeyMetrics::register(&prometheus::Registry::new()).unwrap())
}

/// A process of its own.
pub(super) fn process(pool: &PgPool) -> ApiKeys {
    on(Connections::of_pool(pool.clone()), today)
}

pub(super) fn caller(tenant: &str) -> Caller {
    Caller { subject: Some("ada".to_owned()), ..Caller::new(Tenant::new(tenant).unwrap(), Uuid::from_u128(7)) }
}

pub(super) fn ada(tenant: &str) -> Identity {
    let issuer = Some("https://id.example".to_owned());
    let tenant = Tenant::new(tenant).unwrap();
    Identity { tenant, subject: "ada".to_owned(), issuer, scope: Some("admin chat".to_owned()) }
}

pub(super) async fn made(keys: &ApiKeys, tenant: &str, expires_at: Option<OffsetDateTime>) -> Created {
    let scopes = vec!["chat".to_owned()];
    let order = KeyOrder { label: "deploy".to_owned(), creator: ada(tenant), scopes, expires_at };
    keys.create(&caller(tenant), order).await.unwrap()
}

pub(super) fn refused(outcome: &Result<ProvenKey, ApiKeyError>) -> &'static str {
    match outcome {
        Err(ApiKeyError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// The same key with another secret.
fn bent(secret: &str) -> String {
    let last = if secret.ends_with('A') { "E" } else { "A" };
    format!("{}{last}", &secret[..secret.len() - 1])
}

impl ApiKeys {
    /// What the watcher does every second.
    pub(super) async fn watched(&self) {
        let now = Instant::now();
        self.inner.known.lock().end_old(now);
        let round = self.inner.known.lock().begin_round(now, (self.inner.clock)());
        self.go_round(round, now).await.unwrap();
    }
}

pub(super) async fn lines(pool: &PgPool) -> Vec<(String, String, Option<String>, Value)> {
    let query = "SELECT tenant, action, target_id, details FROM audit_event ORDER BY id";
    sqlx::query_as(query).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_speaks_for_who_made_it_and_only_its_hash_is_kept(pool: PgPool) {
    let (keys, other) = (process(&pool), process(&pool));
    let created = made(&keys, "acme", None).await;
    for keys in [&keys, &other] {
        let proved = keys.prove(created.secret()).await.unwrap();
        assert_eq!(proved.identity, Identity { scope: Some("chat".to_owned()), ..ada("acme") });
    }
    let stored: String =
        sqlx::query_scalar("SELECT to_jsonb(api_keys)::text FROM api_keys").fetch_one(&pool).await.unwrap();
    assert!(stored.contains("deploy") && !stored.contains(&created.secret()[36..]), "{stored}");
    assert!(!format!("{created:?}").contains(&created.secret()[36..]));
    let line = &lines(&pool).await[0];
    assert_eq!((line.0.as_str(), line.1.as_str()), ("acme", "admin.keys.create"));
    // As it stands in the key.
    assert_eq!(line.2.as_deref(), created.secret().split('_').nth(1));
    assert!(!line.3.to_string().contains(&created.secret()[36..]));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_no_key_of_anybody_is_refused_and_not_looked_at_twice(pool: PgPool) {
    let keys = process(&pool);
    let created = made(&keys, "acme", None).await;
    let wrong = bent(created.secret());
    assert_eq!(refused(&keys.prove("rubbish").await), "it is no key");
    assert_eq!(refused(&keys.prove(&wrong).await), "its secret is wrong");
    assert_eq!(refused(&keys.prove(&wrong).await), "it was refused before");
    let unknown = created.secret().replace(&created.key.key_id.simple().to_string(), &Uuid::nil().simple().to_string());
    assert_eq!(refused(&keys.prove(&unknown).await), "nobody has it");
    assert_eq!(refused(&keys.prove(&unknown).await), "it was refused before");
    assert!(keys.prove(created.secret()).await.is_ok());
    assert_eq!(keys.inner.metrics.refused.get(), 5);
}

#[sqlx::test(migrations = "../migrations")]
async fn however_many_show_a_new_key_it_is_hashed_once(pool: PgPool) {
    let keys = process(&pool);
    let created = made(&keys, "acme", None).await;
    let outcomes = join_all((0..50).map(|_| keys.prove(created.secret()))).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!((keys.inner.metrics.proved.get(), keys.inner.metrics.known.get()), (1, 49));
    // A request that was given up half-way keeps nobody from the key.
    let other = process(&pool);
    assert!(other.prove(created.secret()).now_or_never().is_none());
    assert!(other.prove(created.secret()).await.is_ok());
}

#[sqlx::test(migrations = "../migrations")]
async fn guesses_at_one_key_keep_nobody_from_another(pool: PgPool) {
    let keys = process(&pool);
    let (attacked, other) = (made(&keys, "acme", None).await, made(&keys, "acme", None).await);
    let guess = |n: usize| format!("{}{:042}A", &attacked.secret()[..36], n);
    let guesses: Vec<String> = (0..300).map(guess).collect();
    let guessed = join_all(guesses.iter().map(|guess| keys.prove(guess)));
    let (guessed, proved) = tokio::join!(guessed, keys.prove(other.secret()));
    assert!(proved.is_ok());
    let busy = guessed.iter().filter(|outcome| matches!(outcome, Err(ApiKeyError::Busy))).count();
    assert!(busy >= 300 - 256 && guessed.iter().all(Result::is_err), "{busy}");
    assert!(keys.prove(attacked.secret()).await.is_ok(), "and the key itself is as good as before");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_one_process_revokes_no_other_believes(pool: PgPool) {
    let (here, there) = (process(&pool), process(&pool));
    let created = made(&here, "acme", None).await;
    let streams = there.prove(created.secret()).await.unwrap().standing;
    assert!(here.prove(created.secret()).await.is_ok());
    assert!(!here.revoke(&caller("umbrella"), created.key.key_id).await.unwrap(), "there is none in that tenant");
    there.watched().await;
    assert!(there.prove(created.secret()).await.is_ok());
    for _ in 0..2 {
        assert!(here.revoke(&caller("acme"), created.key.key_id).await.unwrap());
    }
    assert_eq!(refused(&here.prove(created.secret()).await), "it was revoked");
    there.watched().await;
    streams.ended().now_or_never().unwrap();
    assert_eq!(refused(&there.prove(created.secret()).await), "it was revoked");
    let actions: Vec<String> = lines(&pool).await.into_iter().map(|line| line.1).collect();
    assert_eq!(actions, ["admin.keys.create", "admin.keys.revoke"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_that_comes_back_is_asked_for_and_not_hashed_again(pool: PgPool) {
    let keys = process(&pool);
    let created = made(&keys, "acme", None).await;
    let age = |keys: &ApiKeys| {
        let stored = SecretHash { hash: vec![], salt: vec![], rounds: 0 };
        let mut known = keys.inner.known.lock();
        let digest = secret::digest(created.secret());
        let long_ago = Instant::now().checked_sub(2 * BELIEVED_FOR).unwrap();
        let hash = match known.look(&digest, Instant::now() + 2 * BELIEVED_FOR) {
            known::Found::Stale(hash) => hash,
            _ => stored,
        };
        let proof = Proof { key_id: created.key.key_id, identity: ada("acme"), hash, ends: None };
        drop(known.prove(digest, proof, long_ago));
    };
    assert!(keys.prove(created.secret()).await.is_ok());
    age(&keys);
    assert!(keys.prove(created.secret()).await.is_ok());
    assert_eq!((keys.inner.metrics.proved.get(), keys.inner.metrics.confirmed.get()), (1, 1));
    sqlx::query("UPDATE api_keys SET revoked_at = now()").execute(&pool).await.unwrap();
    age(&keys);
    assert_eq!(refused(&keys.prove(created.secret()).await), "it was revoked");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_is_taken_until_it_expires(pool: PgPool) {
    let (keys, later) = (process(&pool), on(Connections::of_pool(pool.clone()), tomorrow));
    let created = made(&keys, "acme", Some(tomorrow())).await;
    assert!(keys.prove(created.secret()).await.is_ok());
    assert_eq!(refused(&later.prove(created.secret()).await), "it has expired");
    let order = KeyOrder { label: "late".to_owned(), creator: ada("acme"), scopes: vec![], expires_at: Some(today()) };
    assert!(matches!(keys.create(&caller("acme"), order).await, Err(CreateError::Expired)));
}

#[sqlx::test(migrations = "../migrations")]
async fn each_tenant_sees_its_own_keys_the_newest_first(pool: PgPool) {
    let (early, late) = (process(&pool), on(Connections::of_pool(pool.clone()), tomorrow));
    let first = made(&early, "acme", None).await.key.key_id;
    made(&early, "umbrella", None).await;
    let second = made(&late, "acme", None).await.key.key_id;
    let of = async |tenant: &str, after, limit| {
        let listed = early.list(&Tenant::new(tenant).unwrap(), after, limit).await.unwrap();
        listed.into_iter().map(|key| key.key_id).collect::<Vec<_>>()
    };
    assert_eq!(of("acme", None, 10).await, [second, first]);
    assert_eq!(of("acme", None, 1).await, [second]);
    assert_eq!(of("acme", Some(second), 10).await, [first]);
    assert!(of("acme", Some(first), 10).await.is_empty());
    assert!(of("umbrella", Some(second), 10).await.is_empty(), "a place in another tenant's list is none");
    assert_eq!(of("umbrella", None, 10).await.len(), 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_use_of_a_key_is_written_down_behind_its_bearers_back(pool: PgPool) {
    let keys = process(&pool);
    let created = made(&keys, "acme", None).await;
    let used = async || {
        let listed = keys.list(&Tenant::new("acme").unwrap(), None, 1).await.unwrap();
        listed[0].last_used_at
    };
    assert!(keys.prove(created.secret()).await.is_ok());
    assert_eq!(used().await, None);
    keys.watched().await;
    assert_eq!(used().await, Some(today()));
}

#[tokio::test]
async fn a_database_that_is_away_says_nothing_about_a_key() {
    let keys = on(Connections::nowhere().unwrap(), today);
    let secret = secret::Fresh::new(secret::Kind::Key).unwrap().secret;
    let text = secrecy::ExposeSecret::expose_secret(&secret);
    for _ in 0..2 {
        assert!(matches!(keys.prove(text).await, Err(ApiKeyError::Unavailable(_))));
    }
    assert_eq!(keys.inner.metrics.unavailable.get(), 2);
    let order = KeyOrder { label: "x".to_owned(), creator: ada("acme"), scopes: vec![], expires_at: None };
    assert!(matches!(keys.create(&caller("acme"), order).await, Err(CreateError::Store(StoreError::Unavailable(_)))));
}

#[test]
fn after_a_crash_the_watcher_goes_on_and_what_nobody_vouches_for_ends() {
    struct Crash;
    impl Message for Crash {
        type Result = ();
    }
    impl Handler<Admitted<Crash>> for ApiKeyWatcher {
        type Result = ();

        fn handle(&mut self, _: Admitted<Crash>, _: &mut Context<Self>) {
            panic!("planted");
        }
    }
    actix_rt::System::new().block_on(async {
        let keys = on(Connections::nowhere().unwrap(), today);
        let tree = Tree::new(&prometheus::Registry::new()).unwrap();
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let seat = root.seat::<ApiKeyWatcher>(Restart::Permanent);
        let crash = seat.port("crash", 1);
        let watched = keys.clone();
        seat.start(move || ApiKeyWatcher::new(watched)).await.unwrap();
        assert!(crash.ask(Crash, SOON).await.is_err());
        let hash = SecretHash { hash: vec![], salt: vec![], rounds: 0 };
        let proof = Proof { key_id: Uuid::nil(), identity: ada("acme"), hash, ends: None };
        let (_, standing) = keys.inner.known.lock().prove([7; 32], proof, Instant::now());
        tokio::time::timeout(SOON, standing.ended()).await.unwrap();
        let states: Vec<String> = tree.snapshot().actors.iter().map(|actor| actor.state.to_string()).collect();
        assert!(states.iter().any(|state| state == "failing"), "{states:?}");
    });
}

#[sqlx::test(migrations = "../migrations")]
async fn that_a_use_is_not_written_down_is_no_doubt_of_the_key(pool: PgPool) {
    let keys = process(&pool);
    let created = made(&keys, "acme", None).await;
    keys.prove(created.secret()).await.unwrap();
    let refuse = "ALTER TABLE api_keys ADD CONSTRAINT never CHECK (last_used_at IS NULL)";
    sqlx::raw_sql(refuse).execute(&pool).await.unwrap();
    let round = async || {
        let now = Instant::now();
        let round = keys.inner.known.lock().begin_round(now, (keys.inner.clock)());
        keys.go_round(round, now).await
    };
    assert!(matches!(round().await, Err(RoundError::Noting(_))));
    assert!(keys.known(created.secret()).is_some());
    sqlx::raw_sql("ALTER TABLE api_keys DROP CONSTRAINT never").execute(&pool).await.unwrap();
    round().await.unwrap();
    let used = "SELECT last_used_at IS NOT NULL FROM api_keys";
    assert!(sqlx::query_scalar::<_, bool>(used).fetch_one(&pool).await.unwrap(), "it is made good for");
    sqlx::raw_sql("ALTER TABLE api_keys RENAME TO gone").execute(&pool).await.unwrap();
    keys.prove(created.secret()).await.unwrap();
    assert!(matches!(round().await, Err(RoundError::Standing(_))));
}

#[sqlx::test(migrations = "../migrations")]
async fn processes_that_note_the_same_keys_wait_for_each_other_in_one_order(pool: PgPool) {
    let ids = [1, 2].map(Uuid::from_u128);
    let put = "INSERT INTO api_keys (key_id, tenant, label, prefix, hash, salt, rounds, created_by, scopes, created_at)
               SELECT id, 'acme', '', '', sha256(''), substr(sha256(''), 1, 16), 390000, '', '{}', now()
               FROM unnest($1::uuid[]) AS id";
    sqlx::query(put).bind(ids).execute(&pool).await.unwrap();
    let mut first = pool.begin().await.unwrap();
    let lock = "SELECT FROM api_keys WHERE key_id = $1 FOR UPDATE NOWAIT";
    sqlx::query(lock).bind(ids[0]).execute(&mut *first).await.unwrap();
    let backwards = Named { tenants: vec!["acme".to_owned(); 2], key_ids: vec![ids[1], ids[0]] };
    let second = async {
        let mut connection = pool.acquire().await.unwrap();
        note_used(&mut connection, &backwards, &[OffsetDateTime::UNIX_EPOCH; 2]).await
    };
    let then = async {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
        // Had the other one this row already, each would wait for the other now.
        let free = sqlx::query(lock).bind(ids[1]).execute(&mut *first).await;
        first.commit().await.unwrap();
        free
    };
    let (noted, free) = tokio::join!(second, then);
    noted.and(free.map(drop)).unwrap();
}
