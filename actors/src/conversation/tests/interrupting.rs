//! A message that interrupts: what is stopped, by whom, and though the process ends in between.

use futures_util::FutureExt;

use super::*;

#[sqlx::test(migrations = "../migrations")]
async fn what_a_stored_message_interrupts_is_stopped_though_its_process_ended_before_it_could(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.always(Script::words("ok"));
        let session = Uuid::new_v4();
        // What a crash leaves behind that comes right after the message was stored: one turn under way, one in line.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at)
             VALUES ('public', '{session}', 1, 3, now(), now());
             INSERT INTO session_events (tenant, session_id, seq, event_id, turn_seq, type, occurred_at, payload)
             SELECT 'public', '{session}', n, ('00000000-0000-0000-0000-00000000000' || n)::uuid, n, 'user', now(),
                    jsonb_build_object('type', 'user', 'message', 'hi', 'metadata', '{{}}'::jsonb) FROM generate_series(1, 3) n;
             UPDATE session_events SET payload = jsonb_set(payload, '{{metadata}}',
                    '{{\"on_busy\": \"interrupt\", \"correlation_id\": \"00000000-0000-0000-0000-0000000000ff\"}}') WHERE seq = 3;
             INSERT INTO turns (tenant, session_id, turn_seq, event_id, attempt, state, started_at, updated_at)
             SELECT 'public', '{session}', seq, event_id, (seq = 1)::int, CASE seq WHEN 1 THEN 'running' ELSE 'queued' END, now(), now()
             FROM session_events"
        )))
        .execute(&pool)
        .await
        .unwrap();
        let mut stream = world.listen(session, Some(Cursor::after(3)), StreamMode::Delta).await;
        let mut ends = vec![];
        for _ in 0..3 {
            let last = turn(&mut stream).await.pop().unwrap();
            ends.push((event(&last)["metadata"]["turn"].as_i64().unwrap(), event(&last)["type"].clone()));
        }
        let (stopped, answered) = (Value::from("assistant.stopped"), Value::from("assistant.final"));
        assert_eq!(ends, [(1, stopped.clone()), (2, stopped), (3, answered)]);
        assert_eq!(world.model.exchanges().len(), 1, "a turn that was interrupted was tried again");
        let by: Vec<Option<String>> =
            sqlx::query_scalar("SELECT request_id FROM audit_event WHERE action = 'turn.stop'").fetch_all(&pool).await.unwrap();
        assert_eq!(by, vec![Some(Uuid::from_u128(0xff).to_string()); 2]);
    })
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stop_that_meets_an_interruption_waits_for_its_end_and_names_the_turn(pool: PgPool) {
    local(async {
        let world = World::start(&pool, None).await;
        world.model.next(Script::silence());
        world.model.always(Script::words("ok"));
        let session = Uuid::new_v4();
        // The end of a stopped turn is stored no sooner than this test lets it.
        sqlx::raw_sql(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.type = 'assistant.stopped' THEN PERFORM pg_advisory_xact_lock(7); END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER hold BEFORE INSERT ON session_events FOR EACH ROW EXECUTE FUNCTION hold()",
        )
        .execute(&pool)
        .await
        .unwrap();
        let mut held = Box::pin(pool.begin()).await.unwrap();
        sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *held).await.unwrap();
        world.say(session, "one").await;
        world.model.exchange(0).await;
        let draft = MessageDraft { message: "two".into(), on_busy: OnBusy::Interrupt, ..MessageDraft::default() };
        world.conversations.post(&world.caller, session, Uuid::new_v4(), draft).await.unwrap();
        let (conversations, caller) = (world.conversations.clone(), world.caller.clone());
        let stop = conversations.stop(&caller, session);
        tokio::pin!(stop);
        let closed = async { timeout(SOON, world.model.exchange(0).await.closed()).await.unwrap() };
        tokio::select! {
            _ = &mut stop => panic!("a stop was answered before the end is stored"),
            _ = closed => {}
        }
        // Whoever asks after the stop has its answer: the stop could have had its own too.
        conversations.inspect(&caller, session).await.unwrap();
        assert!(stop.as_mut().now_or_never().is_none(), "a stop was answered before the end is stored");
        held.rollback().await.unwrap();
        assert_eq!(timeout(SOON, stop).await.unwrap().unwrap().turn, Some(1));
    })
    .await;
}
