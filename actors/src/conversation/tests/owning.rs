//! A session is its beginner's: whoever may not see it is answered as if there were none.

use std::fmt::Debug;

use futures_util::{FutureExt, future::join_all};
use time::Duration as Span;

use super::*;
use crate::{
    conversation::{
        doubt::Settled,
        messages::{Control, Look, Order, Watch},
        queries::SessionPage,
    },
    domain::{append::Outcome, caller::Reach, session::Session},
    store::session_envelopes,
};

const NONE: [Uuid; 0] = [];

/// Somebody of the tenant who sees only what they began.
fn own(subject: &str) -> Caller {
    let tenant = Tenant::new("public").unwrap();
    Caller { subject: Some(subject.into()), reach: Reach::Own, ..Caller::new(tenant, Uuid::nil()) }
}

impl World {
    /// A session of `caller`, its first message answered.
    async fn begun(&self, caller: &Caller) -> Uuid {
        let session = Uuid::new_v4();
        let mut stream = self.conversations.subscribe(caller, session, None, StreamMode::Full).await.unwrap();
        self.post(caller, session).await.unwrap();
        turn(&mut stream).await;
        session
    }

    async fn post(&self, caller: &Caller, session: Uuid) -> Result<i64, ConversationError> {
        let draft = MessageDraft { message: "my secret".into(), ..MessageDraft::default() };
        Ok(self.conversations.post(caller, session, Uuid::new_v4(), draft).await?.seq)
    }

    async fn gone(&self, session: Uuid) {
        let gone = async {
            while self.conversations.is_live(&self.caller.session(session)) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, gone).await.expect("it passivates");
    }

    /// What each order is answered.
    async fn orders(&self, caller: &Caller, session: Uuid) -> Vec<String> {
        let all = &self.conversations;
        vec![
            told(&all.stop(caller, session).await),
            told(&all.pause(caller, session, true).await),
            told(&all.pause(caller, session, false).await),
            told(&all.rename(caller, session, "Taken".into()).await),
            told(&all.reset(caller, session).await),
            told(&all.delete(caller, session).await),
        ]
    }

    /// What each question is answered that wakes nobody.
    async fn questions(&self, caller: &Caller, session: Uuid) -> Vec<String> {
        let reads = &self.reads;
        vec![
            told(&reads.session(caller, session).await),
            told(&reads.events(caller, session, 0, 100).await),
            told(&reads.recent_events(caller, session, i64::MAX, 100).await),
            told(&self.conversations.inspect(caller, session).await),
        ]
    }
}

fn told(answer: &impl Debug) -> String {
    format!("{answer:?}")
}

/// Whether a stream is open and has nothing to tell.
fn waits(stream: &mut Subscription) -> bool {
    stream.next().now_or_never().is_none()
}

/// Everything that is stored of sessions and of what was done.
async fn stored(pool: &PgPool) -> Vec<String> {
    let sql = "SELECT row(tenant, session_id, title, subject, scope, metadata, analysis, paused, last_seq, erased_seq,
                   updated_at, deleted_at)::text FROM session_envelopes
               UNION ALL SELECT e::text FROM session_events AS e
               UNION ALL SELECT t::text FROM turns AS t
               UNION ALL SELECT a::text FROM audit_event AS a
               UNION ALL SELECT m::text FROM message_outbox AS m
               UNION ALL SELECT w::text FROM memory_write_outbox AS w
               ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

async fn subject(pool: &PgPool, session: Uuid) -> Option<String> {
    let sql = "SELECT subject FROM session_envelopes WHERE session_id = $1";
    sqlx::query_scalar(sql).bind(session).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn orders_of_a_stranger_are_answered_as_for_an_unused_id_and_change_nothing(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let none = vec!["Err(NotFound)".to_owned(); 6];
        assert_eq!(world.orders(&bob, Uuid::new_v4()).await, none);
        for beginner in [&ann, &world.caller] {
            let session = world.begun(beginner).await;
            let before = stored(&pool).await;
            assert!(world.conversations.is_live(&ann.session(session)));
            assert_eq!(world.orders(&bob, session).await, none);
            world.gone(session).await;
            assert_eq!(world.orders(&bob, session).await, none);
            assert_eq!(stored(&pool).await, before);
        }
        let session = world.begun(&ann).await;
        let done = ["Ok(Stopped { turn: None })", "Ok(())", "Ok(())", "Ok(())", "Ok(2)", "Ok(0)"];
        assert_eq!(world.orders(&ann, session).await, done);
        let session = world.begun(&ann).await;
        assert_eq!(world.orders(&world.caller, session).await, done, "the whole tenant's reach has it all");
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_of_a_stranger_ends_no_answer(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        let gate = Gate::closed();
        world.model.next(Script::gated(["Half ", "an answer"], &gate));
        let (ann, session) = (own("ann"), Uuid::new_v4());
        let mut stream = world.conversations.subscribe(&ann, session, None, StreamMode::Delta).await.unwrap();
        world.post(&ann, session).await.unwrap();
        while !matches!(next(&mut stream).await.body, FrameBody::Delta { .. }) {}
        assert_eq!(told(&world.conversations.stop(&own("bob"), session).await), "Err(NotFound)");
        gate.open();
        let frames = turn(&mut stream).await;
        assert_eq!(event(&frames[frames.len() - 1])["type"], "assistant.final");
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_conversation_itself_answers_a_stranger_so(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let session = world.begun(&ann).await;
        let live = world.conversations.live().get(&ann.session(session)).unwrap();
        let deadline = tokio::time::Instant::now() + SOON;
        let order = |order| Control { caller: bob.clone(), order, deadline };
        assert_eq!(told(&live.control.call(|reply| order(Order::Stop(reply)), SOON).await), "Ok(Err(NotFound))");
        assert_eq!(told(&live.control.call(|reply| order(Order::Pause(true, reply)), SOON).await), "Ok(Err(NotFound))");
        assert_eq!(told(&live.control.call(|reply| order(Order::Delete(reply)), SOON).await), "Ok(Err(NotFound))");
        let (after, mode) = (Some(Cursor::default()), StreamMode::Full);
        let look = |reply| Watch { caller: bob.clone(), look: Look::Subscribe { after, mode, reply } };
        assert!(waits(&mut live.watch.call(look, SOON).await.unwrap().unwrap()));
        assert_eq!(world.history(session).await.len(), 2);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn who_asks_while_the_first_message_is_on_its_way_is_judged_by_it(pool: PgPool) {
    local(Box::pin(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::silence());
        let (all, ann, bob) = (&world.conversations, own("ann"), own("bob"));
        let under_way = async |session| {
            while !all.is_live(&ann.session(session)) {
                tokio::task::yield_now().await;
            }
        };
        let session = Uuid::new_v4();
        let (said, his, hers) = tokio::join!(
            world.post(&ann, session),
            under_way(session).then(|()| all.stop(&bob, session)),
            under_way(session).then(|()| all.stop(&ann, session)),
        );
        assert_eq!((told(&said), told(&his)), ("Ok(1)".into(), "Err(NotFound)".into()));
        assert_eq!(hers.unwrap().turn, Some(1));
        let session = Uuid::new_v4();
        let (said, erased, his) = tokio::join!(
            world.post(&ann, session),
            under_way(session).then(|()| all.delete(&ann, session)),
            under_way(session).then(|()| world.post(&bob, session)),
        );
        assert_eq!((told(&said), told(&erased), told(&his)), ("Ok(1)".into(), "Ok(1)".into(), "Err(NotFound)".into()));
    }))
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn reads_of_a_stranger_find_what_an_unused_id_has(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob, nobody) = (own("ann"), own("bob"), Caller { subject: None, ..own("") });
        let none = world.questions(&bob, Uuid::new_v4()).await;
        assert_eq!(
            none,
            [
                "Ok(Unknown)",
                "Ok(Page { events: [], more: false })",
                "Ok(Page { events: [], more: false })",
                "Err(NotFound)"
            ]
        );
        let (hers, ownerless) = (world.begun(&ann).await, world.begun(&world.caller).await);
        for (stranger, session) in [(&bob, hers), (&nobody, hers), (&bob, ownerless), (&nobody, ownerless)] {
            assert_eq!(world.questions(stranger, session).await, none);
        }
        for (known, session) in [(&ann, hers), (&world.caller, hers), (&world.caller, ownerless)] {
            let answers = world.questions(known, session).await;
            assert!(answers[0].starts_with("Ok(Found(") && answers[3].starts_with("Ok(SessionState"), "{answers:?}");
            assert!(answers[1..3].iter().all(|page| page.contains("my secret")), "{answers:?}");
        }
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_has_the_sessions_that_exist_for_whoever_asks(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let (one, two) = (world.begun(&ann).await, world.begun(&ann).await);
        let (his, ownerless) = (world.begun(&bob).await, world.begun(&world.caller).await);
        let deleted = world.begun(&ann).await;
        world.conversations.delete(&ann, deleted).await.unwrap();
        let list = async |caller: &Caller, page| {
            world
                .reads
                .sessions(caller, page)
                .await
                .unwrap()
                .into_iter()
                .map(|found| found.session_id)
                .collect::<Vec<_>>()
        };
        let all = |limit| SessionPage { limit, ..SessionPage::default() };
        assert_eq!(list(&world.caller, all(9)).await, [ownerless, his, two, one]);
        assert_eq!(list(&ann, all(9)).await, [two, one]);
        assert_eq!(list(&bob, all(9)).await, [his]);
        assert_eq!(list(&own("eve"), all(9)).await, NONE);
        assert_eq!(list(&Caller { subject: None, ..own("") }, all(9)).await, NONE);
        let first = world.reads.sessions(&ann, all(1)).await.unwrap().remove(0);
        let before = Some(crate::domain::list_cursor::ListCursor { at: first.updated_at, id: first.session_id });
        assert_eq!(list(&ann, SessionPage { before, ..all(1) }).await, [one]);
        world.conversations.rename(&ann, one, "Tea and Trains".into()).await.unwrap();
        let containing = Some("TRAINS".to_owned());
        assert_eq!(list(&ann, SessionPage { containing: containing.clone(), ..all(9) }).await, [one]);
        assert_eq!(list(&bob, SessionPage { containing, ..all(9) }).await, NONE);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_message_of_a_stranger_is_not_taken_and_learns_nothing(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let session = Uuid::new_v4();
        let key = |hash| Some(Idempotency { key: "k".into(), body_hash: [hash; 32] });
        let draft = |expected_head, idempotency| MessageDraft {
            message: "hi".into(),
            expected_head,
            idempotency,
            ..MessageDraft::default()
        };
        let mut stream = world.conversations.subscribe(&ann, session, None, StreamMode::Full).await.unwrap();
        world.conversations.post(&ann, session, Uuid::new_v4(), draft(None, key(1))).await.unwrap();
        turn(&mut stream).await;
        drop(stream);
        for paused in [false, true] {
            world.conversations.pause(&ann, session, paused).await.unwrap();
            let before = stored(&pool).await;
            // With none of them: the missing events, the first answer to the key, the head, the pause.
            let drafts = [
                draft(None, None),
                draft(Some(0), None),
                draft(Some(9), None),
                draft(None, key(1)),
                draft(None, key(2)),
            ];
            for draft in drafts {
                let answer = world.conversations.post(&bob, session, Uuid::new_v4(), draft).await;
                assert_eq!(told(&answer), "Err(NotFound)");
            }
            world.gone(session).await;
            assert_eq!(told(&world.post(&bob, session).await), "Err(NotFound)");
            assert_eq!(stored(&pool).await, before);
        }
        let ownerless = world.begun(&world.caller).await;
        assert_eq!(told(&world.post(&ann, ownerless).await), "Err(NotFound)");
        assert_eq!(world.post(&world.caller, session).await.unwrap_err().to_string(), "session is paused");
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_is_not_known_begins_no_session(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        let nobody = Caller { subject: None, ..own("") };
        assert_eq!(told(&world.post(&nobody, Uuid::new_v4()).await), "Err(NotFound)");
        assert!(stored(&pool).await.is_empty());
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_who_begin_one_session_at_once_one_has_it(pool: PgPool) {
    local(async {
        let (one, other) = (World::of_node(&pool, None, "one").await, World::of_node(&pool, None, "other").await);
        for world in [&one, &other] {
            world.model.always(Script::words("ok"));
        }
        let (ann, bob) = (own("ann"), own("bob"));
        for n in 0..24 {
            let session = Uuid::new_v4();
            // On one node and on two, in either order.
            let node = if n % 2 == 0 { &one } else { &other };
            let (hers, his) = join(one.post(&ann, session), node.post(&bob, session)).await;
            let winner = match (&hers, &his) {
                (Ok(1), Err(ConversationError::NotFound)) => "ann",
                (Err(ConversationError::NotFound), Ok(1)) => "bob",
                other => panic!("{other:?}"),
            };
            assert_eq!(subject(&pool, session).await.as_deref(), Some(winner));
            let asked: i64 =
                sqlx::query_scalar("SELECT count(*) FROM session_events WHERE session_id = $1 AND type = 'user'")
                    .bind(session)
                    .fetch_one(&pool)
                    .await
                    .unwrap();
            assert_eq!(asked, 1);
        }
        let session = Uuid::new_v4();
        let posts = ["ann", "bob", "eve"].map(|name| (own(name), &one)).into_iter();
        let answers = join_all(posts.map(|(by, world)| async move { world.post(&by, session).await })).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_stream_of_a_stranger_waits_whatever_happens(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let session = Uuid::new_v4();
        let open = async |caller: &Caller, after, mode| {
            world.conversations.subscribe(caller, session, after, mode).await.unwrap()
        };
        let mut hers = open(&ann, None, StreamMode::Full).await;
        let mut everybodys = open(&world.caller, None, StreamMode::Full).await;
        // Before it is begun, on a conversation that is live, and on one that is not.
        let mut his = vec![
            open(&bob, None, StreamMode::Full).await,
            open(&bob, Some(Cursor::default()), StreamMode::Delta).await,
        ];
        assert!(his.iter_mut().all(waits));
        world.post(&ann, session).await.unwrap();
        turn(&mut hers).await;
        turn(&mut everybodys).await;
        for (after, mode) in [
            (None, StreamMode::Full),
            (Some(Cursor::default()), StreamMode::Html),
            (Some(Cursor::after(1)), StreamMode::Delta),
        ] {
            his.push(open(&bob, after, mode).await);
        }
        let state = world.conversations.inspect(&ann, session).await.unwrap();
        assert_eq!((state.live, state.now.subscribers), (true, 2), "a stranger is no reader of it");
        assert!(his.iter_mut().all(waits));
        drop((hers, everybodys));
        world.gone(session).await;
        his.push(open(&bob, Some(Cursor::default()), StreamMode::Full).await);
        let mut hers = open(&ann, Some(Cursor::after(2)), StreamMode::Full).await;
        world.post(&ann, session).await.unwrap();
        turn(&mut hers).await;
        world.conversations.reset(&ann, session).await.unwrap();
        assert_eq!(event(&*next(&mut hers).await)["type"], "session.reset");
        world.conversations.delete(&ann, session).await.unwrap();
        assert_eq!(event(&*next(&mut hers).await)["type"], "session.deleted");
        assert!(timeout(SOON, hers.next()).await.unwrap().is_none(), "hers ends");
        his.push(open(&bob, None, StreamMode::Full).await);
        world.gone(session).await;
        his.push(open(&bob, None, StreamMode::Full).await);
        assert!(his.iter_mut().all(waits), "his tell nothing, not even that there is an end");
        assert_eq!(world.conversations.deps().metrics.readers.get(), 8);
        world.conversations.release_all().await.unwrap();
        for stream in &mut his {
            assert!(timeout(SOON, stream.next()).await.unwrap().is_none(), "they end with the process");
        }
        drop(his);
        assert_eq!(world.conversations.deps().metrics.readers.get(), 0);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_waits_for_a_session_and_begins_it_hears_of_it(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, session) = (own("ann"), Uuid::new_v4());
        let mut stream = world.conversations.subscribe(&ann, session, None, StreamMode::Full).await.unwrap();
        assert_eq!(told(&world.conversations.stop(&ann, session).await), "Err(NotFound)", "as without a reader");
        world.post(&ann, session).await.unwrap();
        assert_eq!(kinds(&turn(&mut stream).await)[0], "user");
        assert_eq!(subject(&pool, session).await.as_deref(), Some("ann"));
        assert_eq!(world.post(&world.caller, session).await.unwrap(), 3);
        assert_eq!(subject(&pool, session).await.as_deref(), Some("ann"), "it stays hers, whoever else writes");
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_deleted_session_is_gone_for_its_owner_and_never_was_for_others(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let session = world.begun(&ann).await;
        world.conversations.delete(&ann, session).await.unwrap();
        let (nothing, no_order) = (world.questions(&bob, Uuid::new_v4()).await, vec!["Err(NotFound)".to_owned(); 6]);
        // The conversation that deleted it, a new one, and none.
        for _ in 0..2 {
            assert_eq!(told(&world.post(&bob, session).await), "Err(NotFound)");
            assert_eq!(world.orders(&bob, session).await, no_order);
            assert_eq!(world.questions(&bob, session).await, nothing);
            assert_eq!(told(&world.post(&ann, session).await), "Err(Deleted)");
            assert_eq!(world.orders(&ann, session).await, vec!["Err(Deleted)"; 6]);
            assert_eq!(world.questions(&ann, session).await[0], "Ok(Deleted)");
            assert_eq!(
                told(&world.conversations.subscribe(&ann, session, None, StreamMode::Full).await.map(|_| ())),
                "Err(Deleted)"
            );
            world.gone(session).await;
            assert_eq!(world.orders(&bob, session).await, no_order);
        }
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_that_another_node_owns_is_unknown_to_a_stranger(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let session = world.begun(&ann).await;
        world.gone(session).await;
        sqlx::query(
            "UPDATE session_envelopes SET owner = 'other', epoch = epoch + 1, lease_until = now() + interval '1 h'",
        )
        .execute(&pool)
        .await
        .unwrap();
        assert!(matches!(world.post(&ann, session).await, Err(ConversationError::Elsewhere { .. })));
        for _ in 0..2 {
            assert_eq!(told(&world.post(&bob, session).await), "Err(NotFound)");
            assert_eq!(world.orders(&bob, session).await, vec!["Err(NotFound)"; 6]);
            let mut stream = world.conversations.subscribe(&bob, session, None, StreamMode::Full).await.unwrap();
            assert!(waits(&mut stream));
            world.gone(session).await;
            assert!(waits(&mut stream));
        }
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn the_row_of_a_lost_first_message_is_nobodys_until_somebody_begins(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob, session) = (own("ann"), own("bob"), Uuid::new_v4());
        let mut connection = pool.acquire().await.unwrap();
        let long_ago = OffsetDateTime::now_utc() - Span::HOUR;
        session_envelopes::fence_unused(&mut connection, &ann.session(session), "test-node", long_ago).await.unwrap();
        assert_eq!(world.orders(&bob, session).await, vec!["Err(NotFound)"; 6]);
        let mut his = world.conversations.subscribe(&bob, session, None, StreamMode::Full).await.unwrap();
        assert_eq!(world.post(&ann, session).await.unwrap(), 1);
        assert_eq!(subject(&pool, session).await.as_deref(), Some("ann"));
        assert_eq!(told(&world.post(&bob, session).await), "Err(NotFound)");
        assert_eq!(world.questions(&bob, session).await, world.questions(&bob, Uuid::new_v4()).await);
        assert!(waits(&mut his));
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_first_message_that_came_after_anothers_is_lost_and_does_not_take_the_session_over(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let (ann, bob) = (own("ann"), own("bob"));
        let session = world.begun(&ann).await;
        world.gone(session).await;
        // What another node would send that looked before it was begun; the answer of its Journal is lost.
        let deps = world.conversations.deps();
        let late = Session::unused(bob.session(session));
        let draft = MessageDraft { message: "mine".into(), ..MessageDraft::default() };
        let append = late.message(&draft, Uuid::new_v4(), &bob, &deps.space, &deps.stamp());
        let (mut journal, port) = Probe::<Commit>::new(1);
        let deps = Deps { journal: port, ..deps.clone() };
        let answered = async {
            let (commit, _) = journal.next().await;
            commit.reply.send(Outcome::Unknown);
        };
        let (settled, ()) = join(doubt::settle(&deps, append, tokio::time::Instant::now()), answered).await;
        assert_eq!(settled, Settled::Lost);
        assert_eq!(world.history(session).await.len(), 2);
        assert_eq!(world.post(&ann, session).await.unwrap(), 3);
    })
    .await;
}
