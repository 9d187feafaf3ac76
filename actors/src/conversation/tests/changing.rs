//! What a change of a session leaves behind: for readers who were away, for the audit trail, for a turn that had begun.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::domain::hex::hex;

fn told(frames: &[Arc<Frame>]) -> Vec<(String, String)> {
    let id = |frame: &Frame| frame.id.map_or_else(String::new, |id| id.to_string());
    frames.iter().map(|frame| (id(frame), event(frame)["type"].as_str().unwrap().to_owned())).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reader_that_was_away_during_a_reset_learns_of_it_first_and_once(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let session = Uuid::new_v4();
        let mut stream = world.listen(session, None, StreamMode::Full).await;
        world.say(session, "hi").await;
        let live = turn(&mut stream).await[1].id;
        assert_eq!(world.conversations.reset(&world.caller, session).await.unwrap(), 2);
        let there = next(&mut stream).await;
        assert_eq!(told(&[there]), [("2.1.0".into(), "session.reset".into())]);
        world.say(session, "anew").await;
        turn(&mut stream).await;

        for seen in [Some(Cursor::after(1)), live, Some(Cursor::after(2))] {
            let mut away = world.listen(session, seen, StreamMode::Full).await;
            let frames = turn(&mut away).await;
            let expected = [("2.1.0", "session.reset"), ("3", "user"), ("4", "assistant.final")];
            assert_eq!(told(&frames), expected.map(|(id, kind)| (id.into(), kind.into())), "{seen:?}");
            // Whoever has seen it, or anything after it, or nothing at all, is not told again.
            for next in [frames[0].id, Some(Cursor::default()), None] {
                let mut again = world.listen(session, next, StreamMode::Full).await;
                assert_eq!(told(&turn(&mut again).await), told(&frames[1..]), "{next:?}");
            }
        }
        // Another conversation knows of it from the store.
        drop(stream);
        let gone = async {
            while world.conversations.inspect(&world.caller, session).await.unwrap().live {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, gone).await.expect("it passivates");
        let mut away = world.listen(session, Some(Cursor::after(2)), StreamMode::Full).await;
        assert_eq!(event(&*next(&mut away).await)["type"], "session.reset");
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn each_kind_of_change_leaves_a_line_that_says_who_made_it(pool: PgPool) {
    local(async {
        let mut world = World::start(&pool, None).await;
        let gate = Gate::closed();
        world.model.always(Script::gated(["a", "b"], &gate));
        world.caller.subject = Some("ada".into());
        world.caller.correlation_id = Uuid::from_u128(5);
        let (session, all) = (Uuid::new_v4(), &world.conversations);
        let mut stream = world.listen(session, None, StreamMode::Delta).await;
        world.say(session, "one").await;
        assert_eq!(all.stop(&world.caller, session).await.unwrap().turn, Some(1));
        turn(&mut stream).await;
        assert_eq!(all.stop(&world.caller, session).await.unwrap().turn, None);
        world.say(session, "two").await;
        let draft = MessageDraft { message: "three".into(), on_busy: OnBusy::Interrupt, ..MessageDraft::default() };
        all.post(&world.caller, session, Uuid::new_v4(), draft).await.unwrap();
        turn(&mut stream).await;
        all.rename(&world.caller, session, "Tea".into()).await.unwrap();
        all.pause(&world.caller, session, true).await.unwrap();
        all.pause(&world.caller, session, false).await.unwrap();
        all.reset(&world.caller, session).await.unwrap();
        all.delete(&world.caller, session).await.unwrap();
        let lines: Vec<(String, String, Option<String>, Option<String>)> = sqlx::query_as(
            "SELECT action, resource, subject, request_id FROM audit_event WHERE tenant = 'public' AND session_id = $1 ORDER BY id",
        )
        .bind(session)
        .fetch_all(&pool)
        .await
        .unwrap();
        let done: Vec<_> = lines.iter().map(|line| (line.0.as_str(), line.1.as_str())).collect();
        assert_eq!(
            done,
            [
                ("message.enqueue", "conversation.message"),
                ("turn.stop", "conversation.turn"),
                ("message.enqueue", "conversation.message"),
                ("message.enqueue", "conversation.message"),
                ("turn.stop", "conversation.turn"),
                ("session.rename", "session"),
                ("session.pause", "session"),
                ("session.resume", "session"),
                ("session.reset", "session"),
                ("session.delete", "session"),
            ]
        );
        let by = (Some("ada".to_owned()), Some(Uuid::from_u128(5).to_string()));
        assert!(lines.into_iter().all(|line| (line.2, line.3) == by), "somebody else made a change");
        let sql = "SELECT diff FROM audit_event WHERE session_id = $1 AND action IN ('session.reset', 'session.delete') ORDER BY id";
        let diffs: Vec<Value> = sqlx::query_scalar(sql).bind(session).fetch_all(&pool).await.unwrap();
        let [reset, delete] = &diffs[..] else { panic!("{diffs:?}") };
        let names = |diff: &Value| diff.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(reset), ["analysis", "history"]);
        assert_eq!(names(delete), ["title"], "nothing else was left");
        assert_eq!(delete["title"]["before"], hex(&Sha256::digest("Tea")));
        assert_eq!(delete["title"]["after"], hex(&Sha256::digest("")));
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_before_the_next_attempt_is_no_end_of_the_attempt_that_readers_hold(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::silence());
        let session = Uuid::new_v4();
        // What a crash leaves behind: a turn whose first attempt has begun.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at)
             VALUES ('public', '{session}', 1, 1, now(), now());
             INSERT INTO session_events (tenant, session_id, seq, event_id, turn_seq, type, occurred_at, payload)
             VALUES ('public', '{session}', 1, '{session}', 1, 'user', now(), '{{\"type\": \"user\", \"message\": \"hi\"}}');
             INSERT INTO turns (tenant, session_id, turn_seq, event_id, attempt, state, started_at, updated_at)
             VALUES ('public', '{session}', 1, '{session}', 1, 'running', now(), now())"
        )))
        .execute(&pool)
        .await
        .unwrap();
        assert_eq!(world.conversations.stop(&world.caller, session).await.unwrap().turn, Some(1));
        let mut stream = world.listen(session, Some(Cursor::live(1, 1, 7)), StreamMode::Full).await;
        let frames = turn(&mut stream).await;
        let end = event(&frames[frames.len() - 1]);
        assert_eq!((&end["type"], &end["message"]), (&"assistant.stopped".into(), &"".into()));
        assert_eq!(end["metadata"]["attempt"], 2);
    })
    .await;
}
