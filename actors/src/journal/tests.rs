//! The Journal on a real database against a model, by random schedules: appends of the owner and of a stale one side by
//! side, bad rows among good ones, answers that nobody waits for, and journals that end with work in hand.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failed expectation ends the test")]

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use somaagent_supervision::{AskError, Port, Restart, Strategy, SupervisorRef, SupervisorSpec, Tree};
use somaagent_test_services::seed::cases;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{runtime::Handle, task::LocalSet};
use uuid::Uuid;

use super::{Deps, Journal, JournalMetrics, messages::Commit};
use crate::{
    domain::{
        append::{Append, Beginner, EnvelopeChange, NewEvent, Outcome, RefusedReason, TurnWrite},
        event::EventType,
        ids::{SessionKey, Tenant},
        turn::TurnState,
    },
    store::{
        Connections, Store,
        append::append_batch,
        session_envelopes::{self, Claim},
        session_events, turns,
    },
};

const SCHEDULES: usize = 12;
const ROUNDS: usize = 25;
const SESSIONS: u128 = 4;
const WRITERS: usize = 2;

/// What a writer believes of a session.
#[derive(Clone, Copy)]
struct View {
    epoch: i64,
    head: i64,
    fresh: bool,
}

/// What the Journal said of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Stored(i64),
    Refused,
}

struct World {
    store: Store,
    journal: Port<Commit>,
    root: SupervisorRef,
    tree: Tree,
    rng: StdRng,
    views: HashMap<(usize, SessionKey), View>,
    said: HashMap<SessionKey, Vec<(Uuid, Said)>>,
}

async fn journal(store: &Store) -> (Tree, SupervisorRef, Port<Commit>) {
    let registry = prometheus::Registry::new();
    let tree = Tree::new(&registry).unwrap();
    let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
    let deps = Deps { store: store.clone(), metrics: JournalMetrics::register(&registry).unwrap() };
    let seat = root.seat::<Journal>(Restart::Permanent);
    let port = seat.port::<Commit>("commit", 256);
    seat.start(move || Journal::new(deps)).await.unwrap();
    (tree, root, port)
}

fn append(key: &SessionKey, view: View, event_id: Uuid, bad: bool) -> Append {
    let message = if bad { "\0" } else { "fine" };
    Append {
        key: key.clone(),
        epoch: view.epoch,
        head: view.head,
        at: OffsetDateTime::now_utc(),
        fresh: view.fresh,
        begun: view.fresh.then(Beginner::default),
        envelope: EnvelopeChange::default(),
        events: vec![NewEvent {
            event_id,
            event_type: EventType::User,
            turn_seq: view.head + 1,
            idempotency: None,
            payload: json!({"type": "user", "message": message}),
            topic: "conversation.inbound",
            memory: Some((json!({"id": event_id}), event_id.to_string())),
        }],
        turns: vec![TurnWrite {
            turn_seq: view.head + 1,
            event_id,
            attempt: 1,
            state: TurnState::Running,
            usage: None,
            error_code: None,
        }],
        audit: vec![],
    }
}

impl World {
    async fn new(pool: &PgPool, seed: u64) -> Self {
        let connections = Connections::of_pool(pool.clone());
        let store = Store::new(connections, Duration::from_secs(10), Handle::current());
        let (tree, root, journal) = journal(&store).await;
        let rng = StdRng::seed_from_u64(seed);
        Self { store, journal, root, tree, rng, views: HashMap::new(), said: HashMap::new() }
    }

    /// One round: any writers append to any sessions at the same time, the stale ones too.
    async fn round(&mut self, keys: &[SessionKey]) {
        let mut asks = vec![];
        for key in keys {
            for writer in 0..WRITERS {
                let view = match self.views.get(&(writer, key.clone())) {
                    Some(view) => *view,
                    None if self.rng.random_bool(0.5) => View { epoch: 1, head: 0, fresh: true },
                    None => continue,
                };
                if self.rng.random_bool(0.3) {
                    continue;
                }
                let (bad, patience) = (self.rng.random_bool(0.15), if self.rng.random_bool(0.15) { 0 } else { 10_000 });
                let event_id = Uuid::from_u128(self.rng.random());
                let (journal, append) = (self.journal.clone(), append(key, view, event_id, bad));
                asks.push(async move {
                    let answer = journal.call(|reply| Commit { append, reply }, Duration::from_millis(patience)).await;
                    (writer, key.clone(), view, event_id, answer)
                });
            }
        }
        let ends = self.rng.random_bool(0.1);
        let root = self.root.clone();
        // A journal that ends now takes with it what it has in hand; its last statement goes on without it.
        let (answers, ()) = tokio::join!(join_all(asks), async {
            if ends {
                root.stop(Duration::ZERO).await;
            }
        });
        if ends {
            (self.tree, self.root, self.journal) = journal(&self.store).await;
        }
        for (writer, key, view, event_id, answer) in answers {
            self.learn(writer, key, view, event_id, answer).await;
        }
    }

    async fn learn(
        &mut self,
        writer: usize,
        key: SessionKey,
        view: View,
        event_id: Uuid,
        answer: Result<Outcome, AskError>,
    ) {
        let said = self.said.entry(key.clone()).or_default();
        match answer {
            Ok(Outcome::Committed) => {
                said.push((event_id, Said::Stored(view.head + 1)));
                let next = View { head: view.head + 1, fresh: false, ..view };
                self.views.insert((writer, key), next);
            }
            Ok(Outcome::Refused(reason)) => {
                said.push((event_id, Said::Refused));
                if reason == RefusedReason::Stale {
                    self.claim(writer, &key).await;
                }
            }
            Err(AskError::Busy | AskError::Draining) => said.push((event_id, Said::Refused)),
            Ok(Outcome::Unknown) | Err(AskError::Timeout | AskError::Down) => {
                // The rule for doubt: first the fence, then the truth.
                self.claim(writer, &key).await;
                let (of, found) = (key.clone(), self.store.clone());
                let stored = found
                    .run(move |connection| {
                        Box::pin(async move { session_events::by_id(connection, &of, event_id).await })
                    })
                    .await
                    .unwrap();
                let truth = stored.map_or(Said::Refused, |event| Said::Stored(event.seq));
                self.said.entry(key).or_default().push((event_id, truth));
            }
        }
    }

    async fn claim(&mut self, writer: usize, key: &SessionKey) {
        let (of, now) = (key.clone(), OffsetDateTime::now_utc());
        let claim = self
            .store
            .run(move |connection| {
                Box::pin(async move {
                    session_envelopes::fence_unused(connection, &of, "n", now).await?;
                    // A lease that is over at once: any writer may take the session from any other.
                    session_envelopes::claim(connection, &of, &format!("writer-{writer}"), now, now).await
                })
            })
            .await
            .unwrap();
        if let Claim::Taken(owned) = claim {
            self.views.insert((writer, key.clone()), View { epoch: owned.epoch, head: owned.head, fresh: false });
        }
    }

    /// P1 and P3, and nothing that was refused.
    async fn check(&self, keys: &[SessionKey], seed: u64) {
        for key in keys {
            let of = key.clone();
            let stored = self
                .store
                .run(move |connection| {
                    Box::pin(async move { session_events::between(connection, &of, None, 0, i64::MAX, 10_000).await })
                })
                .await
                .unwrap();
            assert!((1..).zip(&stored).all(|(seq, event)| event.seq == seq), "seed {seed}: {key} has a gap");
            let by_id: HashMap<_, _> = stored.iter().map(|event| (event.event_id, event.seq)).collect();
            for (event_id, said) in self.said.get(key).into_iter().flatten() {
                let truth = by_id.get(event_id).map_or(Said::Refused, |seq| Said::Stored(*seq));
                assert_eq!(truth, *said, "seed {seed}: {key} {event_id}");
            }
            let known =
                self.said.get(key).map_or(0, |all| all.iter().filter(|(_, said)| *said != Said::Refused).count());
            assert_eq!(known, stored.len(), "seed {seed}: {key} has an event nobody was told of");
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn whatever_happens_what_was_acknowledged_is_there_and_numbers_have_no_gap(pool: PgPool) {
    let schedules = async {
        let (mut stored, mut played) = (0, 0);
        for case in cases("the Journal beside its model", SCHEDULES) {
            let seed = case.seed();
            let mut world = World::new(&pool, seed).await;
            let tenant = Tenant::new(&format!("tenant-{seed}")).unwrap();
            let keys: Vec<_> = (0..SESSIONS).map(|n| SessionKey::new(tenant.clone(), Uuid::from_u128(n))).collect();
            for _ in 0..ROUNDS {
                world.round(&keys).await;
            }
            // Statements of journals that ended may still be under way; the fence makes them void.
            for key in &keys {
                world.claim(0, key).await;
            }
            world.check(&keys, seed).await;
            stored += world.said.values().flatten().filter(|(_, said)| *said != Said::Refused).count();
            world.root.stop(Duration::from_secs(5)).await;
            played += 1;
        }
        assert!(stored > 25 * played, "{played} schedules stored only {stored} events");
    };
    LocalSet::new().run_until(schedules).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn side_effects_are_stored_with_the_event_or_not_at_all(pool: PgPool) {
    let work = async {
        let mut world = World::new(&pool, 0).await;
        let key = SessionKey::new(Tenant::new("t").unwrap(), Uuid::nil());
        let fresh = View { epoch: 1, head: 0, fresh: true };
        for (view, bad, expected) in [
            (fresh, true, Outcome::Refused(RefusedReason::BadData)),
            (fresh, false, Outcome::Committed),
            (fresh, false, Outcome::Refused(RefusedReason::Stale)),
            (View { epoch: 2, head: 1, fresh: false }, false, Outcome::Refused(RefusedReason::Stale)),
            (View { epoch: 1, head: 1, fresh: false }, false, Outcome::Committed),
        ] {
            let append = append(&key, view, Uuid::from_u128(world.rng.random()), bad);
            let answer = world.journal.call(|reply| Commit { append, reply }, Duration::from_secs(10)).await.unwrap();
            assert_eq!(answer, expected);
        }
        for table in ["session_events", "message_outbox", "memory_write_outbox", "turns"] {
            let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
            let rows: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
            assert_eq!(rows, 2, "{table}");
        }
    };
    LocalSet::new().run_until(work).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn two_tenants_may_have_an_event_of_the_same_id(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let view = View { epoch: 1, head: 0, fresh: true };
    let of = |tenant| SessionKey::new(Tenant::new(tenant).unwrap(), Uuid::from_u128(1));
    let batch = ["a", "b"].map(|tenant| append(&of(tenant), view, Uuid::from_u128(2), false));
    assert_eq!(append_batch(&mut connection, &batch).await.unwrap(), [true, true]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_turn_that_waited_begins_with_its_first_attempt_in_the_store_too(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let key = SessionKey::new(Tenant::new("t").unwrap(), Uuid::from_u128(1));
    let start = OffsetDateTime::UNIX_EPOCH;
    let mut step = append(&key, View { epoch: 1, head: 0, fresh: true }, Uuid::from_u128(2), false);
    (step.at, step.turns[0].attempt, step.turns[0].state) = (start, 0, TurnState::Queued);
    let mut begun = vec![];
    for (attempt, minutes) in [(0, 0), (1, 30), (2, 31)] {
        step.at = start + Duration::from_mins(minutes);
        step.turns[0].attempt = attempt;
        assert_eq!(append_batch(&mut connection, &[step.clone()]).await.unwrap(), [true]);
        begun.push(turns::open(&mut connection, &key).await.unwrap()[0].started_at - start);
        (step.fresh, step.begun, step.head, step.events) = (false, None, 1, vec![]);
        step.turns[0].state = TurnState::Running;
    }
    assert_eq!(begun, [0, 30, 30].map(time::Duration::minutes));
}
