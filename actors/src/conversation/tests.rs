//! Conversations on a real database with a scripted model: one process, one thread, real time, no sleeps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation ends the test")]
#![allow(clippy::disallowed_methods, reason = "the tests play the process: they read the clock and know the runtime")]

mod changing;
mod erasing;
mod interrupting;
mod owning;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join};
use serde_json::Value;
use somaagent_supervision::{Probe, Restart, Strategy, SupervisorSpec, Tree};
use somaagent_test_services::model::{Gate, Model, Script};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{sync::Mutex, sync::Semaphore, task::LocalSet, time::timeout};
use uuid::Uuid;

use super::{
    ConversationError, ConversationMetrics, Conversations, Deps, Frame, FrameBody, MessageDraft, PlantedPanic,
    SessionKeeper, SessionSettings, StreamMode, Subscription, TurnSettings, doubt, queries::Reads,
};
use crate::{
    contents::Contents,
    domain::{
        caller::Caller,
        cursor::Cursor,
        idempotency::Idempotency,
        ids::{SessionKey, Tenant},
        memory::MemorySpace,
        turn::OnBusy,
    },
    extraction::{ExtractionSettings, Extractor},
    journal::{Journal, JournalMetrics, messages::Commit},
    llm::{ModelClient, ModelSettings},
    policy::{Policy, PolicySettings},
    store::{Connections, Store, turns},
};

/// Longest wait for anything that must happen.
const SOON: Duration = Duration::from_mins(1);

struct World {
    model: Model,
    conversations: Conversations,
    reads: Reads,
    caller: Caller,
    _tree: Tree,
}

impl World {
    async fn start(pool: &PgPool, planted: Option<PlantedPanic>) -> Self {
        Self::of_node(pool, planted, "test-node").await
    }

    async fn of_node(pool: &PgPool, planted: Option<PlantedPanic>, node: &str) -> Self {
        let connections = Connections::of_pool(pool.clone());
        let store = Store::new(connections, Duration::from_secs(5), tokio::runtime::Handle::current());
        let registry = prometheus::Registry::new();
        let tree = Tree::new(&registry).unwrap();
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let sessions = root.supervisor(SupervisorSpec::new("sessions", Strategy::OneForOne)).await.unwrap();
        let seat = sessions.seat::<Journal>(Restart::Permanent);
        let journal = seat.port::<Commit>("commit", 1024);
        let deps = crate::journal::Deps { store: store.clone(), metrics: JournalMetrics::register(&registry).unwrap() };
        seat.start(move || Journal::new(deps)).await.unwrap();
        let model = Model::start().await.unwrap();
        let settings = ModelSettings {
            base_url: model.base_url(),
            api_key: Some("secret".into()),
            model: "scripted".into(),
            max_retries: 0,
            idle_timeout_ms: 500,
            first_byte_timeout_ms: 500,
            ..ModelSettings::default()
        };
        let extractor = Extractor::new("/nowhere/at/all".into(), ExtractionSettings::default());
        let deps = Deps {
            store: store.clone(),
            journal,
            recall: Probe::new(1).1,
            policy: Policy::from_settings(&PolicySettings::default()).unwrap(),
            contents: Contents::new(store.clone(), extractor, OffsetDateTime::now_utc),
            context_budget: settings.context_budget(),
            model: ModelClient::new(settings).unwrap(),
            model_name: "scripted".into(),
            sessions: Arc::new(SessionSettings { idle_ms: 200, queue_max: 2, ..SessionSettings::default() }),
            turns: Arc::new(TurnSettings { sweep_ms: 100, recall_deadline_ms: 0, ..TurnSettings::default() }),
            metrics: ConversationMetrics::register(&registry).unwrap(),
            node: node.into(),
            slots: Arc::new(Semaphore::new(16)),
            space: Arc::new(MemorySpace { universe: None, namespace: "wm".into() }),
            draining: Arc::default(),
            closing: super::Closing::default(),
            clock: OffsetDateTime::now_utc,
            tenant_sessions: false,
            planted: planted.map(Arc::new),
        };
        let (conversations, crashes) = Conversations::new(deps, sessions.clone());
        let (kept, crashes) = (conversations.clone(), Arc::new(Mutex::new(crashes)));
        sessions
            .seat::<SessionKeeper>(Restart::Permanent)
            .start(move || SessionKeeper::new(kept, crashes))
            .await
            .unwrap();
        let tenant = Tenant::new("public").unwrap();
        let caller = Caller::new(tenant, Uuid::nil());
        Self { model, conversations, reads: Reads::new(store), caller, _tree: tree }
    }

    async fn say(&self, session: Uuid, text: &str) -> i64 {
        let draft = MessageDraft { message: text.into(), ..MessageDraft::default() };
        self.conversations.post(&self.caller, session, Uuid::new_v4(), draft).await.unwrap().seq
    }

    async fn listen(&self, session: Uuid, after: Option<Cursor>, mode: StreamMode) -> Subscription {
        self.conversations.subscribe(&self.caller, session, after, mode).await.unwrap()
    }

    async fn history(&self, session: Uuid) -> Vec<Value> {
        let events = self.reads.events(&self.caller, session, 0, 1000).await.unwrap().events;
        assert!((1..).zip(&events).all(|(seq, event)| event.seq == seq), "numbers rise by one");
        events.into_iter().map(|event| event.payload).collect()
    }
}

async fn next(stream: &mut Subscription) -> Arc<Frame> {
    timeout(SOON, stream.next()).await.expect("a frame comes").expect("the stream goes on")
}

/// Reads until a frame completes a turn.
async fn turn(stream: &mut Subscription) -> Vec<Arc<Frame>> {
    let mut frames = vec![];
    loop {
        frames.push(next(stream).await);
        if event(&frames[frames.len() - 1])["metadata"]["completed"] == true {
            return frames;
        }
    }
}

fn event(frame: &Frame) -> &Value {
    match &frame.body {
        FrameBody::Event(event) | FrameBody::SoFar { event, .. } | FrameBody::Delta { event, .. } => event,
    }
}

fn kinds(frames: &[Arc<Frame>]) -> Vec<String> {
    let mut kinds: Vec<_> = frames.iter().map(|frame| event(frame)["type"].as_str().unwrap().to_owned()).collect();
    kinds.dedup();
    kinds
}

async fn local<F: Future>(work: F) -> F::Output {
    LocalSet::new().run_until(work).await
}

#[sqlx::test(migrations = "../migrations")]
async fn a_message_is_answered_as_a_stream_that_is_stored_as_it_was_streamed(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("The night train leaves late").usage(3, 5));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Delta).await;
        assert_eq!(world.say(session, "When?").await, 1);
        let frames = turn(&mut stream).await;
        assert_eq!(
            kinds(&frames),
            ["user", "assistant.started", "assistant.thinking", "assistant.stream", "assistant.final"]
        );
        let ids: Vec<_> = frames.iter().map(|frame| frame.id.unwrap().to_string()).collect();
        assert_eq!(ids[..4], ["1", "1.1.1000001", "1.1.1000002", "1.1.1000003"]);
        let streamed: String = frames
            .iter()
            .filter_map(
                |frame| if let FrameBody::Delta { delta, .. } = &frame.body { Some(delta.as_str()) } else { None },
            )
            .collect();
        let history = world.history(session).await;
        assert_eq!(history[1]["message"], streamed);
        assert_eq!(history[1], *event(&frames[frames.len() - 1]));
        assert_eq!((&history[0]["message"], history.len()), (&Value::from("When?"), 2));
        assert_eq!(world.say(session, "And back?").await, 3);
        turn(&mut stream).await;
        let exchange = world.model.exchange(1).await;
        assert!(exchange.context().contains("When?") && exchange.context().contains("leaves late"));
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_crash_in_the_middle_of_an_answer_is_tried_again_and_ends_once(pool: PgPool) {
    local(async {
        let world = World::start(&pool, Some(PlantedPanic::at_piece(2, 1))).await;
        world.model.always(Script::words("one two three"));
        let session = Uuid::new_v4();
        world.say(session, "go").await;
        let mut frames = vec![];
        while frames.is_empty() {
            let mut stream = world.listen(session, Some(Cursor::default()), StreamMode::Full).await;
            while let Some(frame) = timeout(SOON, stream.next()).await.unwrap() {
                if event(&frame)["metadata"]["completed"] == true {
                    frames.push(frame);
                    break;
                }
            }
        }
        assert_eq!(event(&frames[0])["metadata"]["attempt"], 2);
        let history = world.history(session).await;
        assert_eq!((history.len(), &history[1]["message"]), (2, &Value::from("one two three")));
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_is_answered_when_it_is_stored_though_the_provider_is_left_at_once(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        let gate = Gate::closed();
        world.model.next(Script::gated(["Half ", "an answer"], &gate));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Delta).await;
        world.say(session, "go").await;
        while !matches!(next(&mut stream).await.body, FrameBody::Delta { .. }) {}
        let mut held = Box::pin(pool.begin()).await.unwrap();
        sqlx::query("LOCK TABLE session_events IN SHARE MODE").execute(&mut *held).await.unwrap();
        let conversations = world.conversations.clone();
        let (one, two) = (world.caller.clone(), world.caller.clone());
        let stops = join(conversations.stop(&one, session), conversations.stop(&two, session));
        tokio::pin!(stops);
        let closed = async { timeout(SOON, world.model.exchange(0).await.closed()).await.unwrap() };
        tokio::select! {
            _ = &mut stops => panic!("a stop was answered that a crash could take back"),
            _ = closed => {}
        }
        held.rollback().await.unwrap();
        let (one, two) = timeout(SOON, stops).await.unwrap();
        assert_eq!((one.unwrap().turn, two.unwrap().turn), (Some(1), Some(1)));
        let history = world.history(session).await;
        assert_eq!((history.len(), &history[1]["type"]), (2, &Value::from("assistant.stopped")));
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_keeps_what_was_said_and_closes_the_providers_connection(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        let gate = Gate::closed();
        world.model.next(Script::gated(["Half ", "an answer"], &gate));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Delta).await;
        world.say(session, "go").await;
        while !matches!(next(&mut stream).await.body, FrameBody::Delta { .. }) {}
        let stopped = world.conversations.stop(&world.caller, session).await.unwrap();
        assert_eq!(stopped.turn, Some(1));
        timeout(SOON, world.model.exchange(0).await.closed()).await.unwrap();
        let frames = turn(&mut stream).await;
        let last = event(&frames[frames.len() - 1]);
        assert_eq!((&last["type"], &last["message"]), (&Value::from("assistant.stopped"), &Value::from("Half ")));
        assert!(last["metadata"]["usage"]["output_tokens"].as_u64().unwrap() > 0);
        assert_eq!(world.conversations.stop(&world.caller, session).await.unwrap().turn, None);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_stored_before_another_owner_came_counts_as_stored(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("yes"));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Delta).await;
        world.say(session, "Is it kept?").await;
        let said = event(&turn(&mut stream).await[0])["event_id"].as_str().unwrap().parse().unwrap();
        let other =
            "UPDATE session_envelopes SET owner = 'other', epoch = epoch + 1, lease_until = now() + interval '1 h'";
        sqlx::query(other).execute(&pool).await.unwrap();
        let (deps, key) = (world.conversations.deps(), world.caller.session(session));
        assert_eq!(doubt::look(deps, &key, Some(said), false).await.unwrap(), doubt::Settled::HandedOver);
        assert_eq!(doubt::look(deps, &key, Some(Uuid::new_v4()), false).await.unwrap(), doubt::Settled::Lost);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn reasoning_between_texts_keeps_to_the_rate_of_whole_texts(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        let mut script = Script::new();
        for n in 0..60 {
            script = script.reasoning(&format!("because {n} ")).text(&format!("word {n} "));
        }
        world.model.next(script);
        let session = Uuid::new_v4();
        let mut wholes = world.listen(session, None, StreamMode::Full).await;
        let mut pieces = world.listen(session, None, StreamMode::Delta).await;
        world.say(session, "go").await;
        let (wholes, pieces) = (turn(&mut wholes).await, turn(&mut pieces).await);
        let thoughts = |frames: &[Arc<Frame>]| {
            frames.iter().filter(|frame| event(frame)["type"] == "assistant.thinking").cloned().collect::<Vec<_>>()
        };
        assert!(thoughts(&pieces).len() > 50, "every piece has its place");
        assert!(thoughts(&wholes).len() < 30, "{} whole texts of reasoning", thoughts(&wholes).len());
        let last = thoughts(&wholes).pop().unwrap();
        assert!(matches!(&last.body, FrameBody::SoFar { text, .. } if text.ends_with("because 59 ")));
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn messages_wait_in_line_are_refused_or_interrupt_as_they_say(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        let gate = Gate::closed();
        world.model.always(Script::gated(["a", "b"], &gate));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Delta).await;
        world.say(session, "one").await;
        let post = |on_busy| {
            let draft = MessageDraft { message: "more".into(), on_busy, ..MessageDraft::default() };
            world.conversations.post(&world.caller, session, Uuid::new_v4(), draft)
        };
        assert!(matches!(post(OnBusy::Reject).await, Err(ConversationError::SessionBusy)));
        assert_eq!(post(OnBusy::Enqueue).await.unwrap().seq, 2);
        assert_eq!(post(OnBusy::Enqueue).await.unwrap().seq, 3);
        assert!(matches!(post(OnBusy::Enqueue).await, Err(ConversationError::QueueFull)));
        assert_eq!(post(OnBusy::Interrupt).await.unwrap().seq, 4);
        for expected in [1, 2, 3] {
            let frames = turn(&mut stream).await;
            let last = event(&frames[frames.len() - 1]);
            assert_eq!(
                (&last["type"], &last["metadata"]["turn"]),
                (&Value::from("assistant.stopped"), &Value::from(expected))
            );
        }
        gate.open();
        let frames = turn(&mut stream).await;
        assert_eq!(event(&frames[frames.len() - 1])["metadata"]["turn"], 4);
        assert_eq!(world.history(session).await.len(), 8);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_sent_twice_makes_one_event_and_another_body_is_refused(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let session = Uuid::new_v4();
        let post = |hash: u8| {
            let idempotency = Some(Idempotency { key: "k".into(), body_hash: [hash; 32] });
            let draft = MessageDraft { message: "hi".into(), idempotency, ..MessageDraft::default() };
            world.conversations.post(&world.caller, session, Uuid::new_v4(), draft)
        };
        let (first, twin) = tokio::join!(post(1), post(1));
        let (first, twin) = (first.unwrap(), twin.unwrap());
        assert_eq!(first, twin);
        assert_eq!(post(1).await.unwrap(), first);
        assert!(matches!(post(2).await, Err(ConversationError::KeyReused)));
        assert_eq!(world.history(session).await.iter().filter(|event| event["type"] == "user").count(), 1);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn an_idle_conversation_goes_and_comes_back_with_its_history(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Full).await;
        world.say(session, "hi").await;
        turn(&mut stream).await;
        drop(stream);
        let gone = async {
            while world.conversations.inspect(&world.caller, session).await.unwrap().live {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, gone).await.expect("it passivates");
        let state = world.conversations.inspect(&world.caller, session).await.unwrap();
        assert_eq!((state.head, state.title.as_deref()), (2, Some("hi")));
        assert_eq!(world.say(session, "again").await, 3);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn reset_goes_on_with_the_next_number_and_delete_leaves_a_tombstone(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Full).await;
        world.say(session, "hi").await;
        turn(&mut stream).await;
        assert_eq!(world.conversations.reset(&world.caller, session).await.unwrap(), 2);
        assert_eq!(event(&*next(&mut stream).await)["type"], "session.reset");
        assert_eq!(world.say(session, "anew").await, 3);
        turn(&mut stream).await;
        assert_eq!(world.conversations.delete(&world.caller, session).await.unwrap(), 2);
        assert_eq!(event(&*next(&mut stream).await)["type"], "session.deleted");
        assert!(timeout(SOON, stream.next()).await.unwrap().is_none());
        let draft = MessageDraft { message: "late".into(), ..MessageDraft::default() };
        let late = world.conversations.post(&world.caller, session, Uuid::new_v4(), draft).await;
        assert!(matches!(late, Err(ConversationError::Deleted)));
        let unknown = world.conversations.rename(&world.caller, Uuid::new_v4(), "x".into()).await;
        assert!(matches!(unknown, Err(ConversationError::NotFound)));
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_session_holds_up_no_drain(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Full).await;
        world.say(session, "hi").await;
        turn(&mut stream).await;
        world.conversations.delete(&world.caller, session).await.unwrap();
        assert!(world.conversations.drain(SOON).await);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_ends_each_turn_in_its_place_and_only_once(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        let gate = Gate::closed();
        world.model.always(Script::gated(["a", "b"], &gate));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Delta).await;
        world.say(session, "one").await;
        world.say(session, "two").await;
        for expected in [1, 2] {
            assert_eq!(world.conversations.stop(&world.caller, session).await.unwrap().turn, Some(expected));
            let frames = turn(&mut stream).await;
            assert_eq!(event(&frames[frames.len() - 1])["metadata"]["turn"], expected);
        }
        assert_eq!(world.conversations.stop(&world.caller, session).await.unwrap().turn, None);
        assert_eq!(world.history(session).await.len(), 4);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_turn_without_an_owner_is_found_behind_those_that_live(pool: PgPool) {
    let start = OffsetDateTime::now_utc();
    let keys: Vec<_> = (0..3).map(|n| SessionKey::new(Tenant::new("t").unwrap(), Uuid::from_u128(n))).collect();
    for (age, key) in (0_i64..).zip(&keys) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "INSERT INTO session_envelopes (tenant, session_id, owner, epoch, created_at, updated_at)
             VALUES ('t', '{id}', 'n', 1, now(), now());
             INSERT INTO turns (tenant, session_id, turn_seq, event_id, state, started_at, updated_at)
             VALUES ('t', '{id}', 1, '{id}', 'running', now() + interval '{age} s', now())",
            id = key.session_id
        )))
        .execute(&pool)
        .await
        .unwrap();
    }
    let mut connection = pool.acquire().await.unwrap();
    let found = turns::orphaned_sessions(&mut connection, "n", &keys[..2], start, 1).await.unwrap();
    assert_eq!(found, keys[2..]);
}
