use std::time::Duration;

use super::*;
use crate::domain::ids::Tenant;

fn session() -> Session {
    Session::unused(SessionKey::new(Tenant::new("public").unwrap_or_else(|| unreachable!()), Uuid::nil()))
}

fn caller() -> Caller {
    let tenant = session().key.tenant;
    Caller::new(tenant, Uuid::nil())
}

fn stamp() -> Stamp {
    let at = OffsetDateTime::UNIX_EPOCH;
    Stamp { at, node: "n".into(), lease_until: at }
}

fn space() -> MemorySpace {
    MemorySpace { universe: None, namespace: "wm".into() }
}

fn say(session: &mut Session, text: &str) -> Append {
    let draft = MessageDraft { message: text.into(), ..MessageDraft::default() };
    let append = session.message(&draft, Uuid::from_u128(7), &caller(), &space(), &stamp());
    session.committed(&append);
    append
}

fn end(session: &mut Session, turn_seq: i64, event_type: EventType) -> Append {
    let ending = Ending {
        turn_seq,
        user_event_id: Uuid::from_u128(7),
        attempt: 1,
        event_id: Uuid::from_u128(8),
        event_type,
        message: "text".into(),
        metadata: Metadata::new(),
        trace: None,
        usage: None,
        error_code: None,
        by: None,
    };
    let append = session.ending(&ending, &space(), &stamp());
    session.committed(&append);
    append
}

#[test]
fn numbers_rise_by_one_over_messages_and_endings() {
    let mut session = session();
    let first = say(&mut session, "one");
    assert!(first.fresh && first.begun.is_some() && first.turns[0].state == TurnState::Running);
    let second = say(&mut session, "two");
    assert!(!second.fresh && second.begun.is_none() && second.turns[0].state == TurnState::Queued);
    let ended = end(&mut session, 1, EventType::Final);
    assert_eq!(ended.events[0].payload["metadata"]["sequence"], 3);
    assert_eq!((session.head, session.last_turn, session.open.len()), (3, 2, 1));
    assert_eq!(session.open[0].turn_seq, 2);
}

#[test]
fn whoever_ended_a_turn_is_told_be_it_the_process() {
    let mut session = session();
    say(&mut session, "one");
    let line = end(&mut session, 1, EventType::Error).audit.remove(0);
    assert_eq!((line.action, line.doer.subject.as_deref()), ("turn.end", Some("system:conversation")));
    assert_eq!(
        (line.details["event"].as_str(), line.doer.correlation_id),
        (Some("assistant.error"), Uuid::from_u128(7))
    );
    assert_eq!(
        (&line.workflow_id, &line.target_id),
        (&Some(Uuid::from_u128(7).to_string()), &Uuid::from_u128(7).to_string())
    );
}

#[test]
fn a_turn_that_waited_is_as_old_as_its_first_attempt() {
    let mut session = session();
    say(&mut session, "one");
    say(&mut session, "two");
    end(&mut session, 1, EventType::Final);
    let turn = session.open[0].clone();
    assert_eq!((turn.attempt, turn.started_at), (0, OffsetDateTime::UNIX_EPOCH));
    let later = |minutes| Stamp { at: OffsetDateTime::UNIX_EPOCH + Duration::from_mins(minutes), ..stamp() };
    for (attempt, minutes) in [(1, 30), (2, 31)] {
        let append = session.attempt(&turn, attempt, &later(minutes));
        session.committed(&append);
        assert_eq!(session.open[0].started_at, later(30).at);
    }
}

#[test]
fn what_was_said_is_remembered_and_an_error_is_not() {
    let mut session = session();
    assert!(say(&mut session, "one").events[0].memory.is_some());
    assert!(end(&mut session, 1, EventType::Error).events[0].memory.is_none());
    say(&mut session, "two");
    assert!(end(&mut session, 3, EventType::Stopped).events[0].memory.is_some());
}

#[test]
fn the_first_message_names_the_session_and_later_ones_do_not() {
    let mut session = session();
    say(&mut session, "tea");
    say(&mut session, "trains");
    assert_eq!(session.title.as_deref(), Some("tea"));
    let renamed = EnvelopeChange { title: Some("Both".into()), ..EnvelopeChange::default() };
    let append = session.change(renamed, &caller(), "session.rename", &stamp());
    session.committed(&append);
    assert_eq!((session.title.as_deref(), session.head), (Some("Both"), 2));
}

#[test]
fn a_paused_session_or_a_wrong_head_takes_nothing() {
    let mut session = session();
    say(&mut session, "one");
    let draft = |expected_head, on_busy| MessageDraft { expected_head, on_busy, ..MessageDraft::default() };
    assert_eq!(session.admits(&draft(Some(0), OnBusy::Enqueue), 16), Err(NotAccepted::HeadMoved));
    assert_eq!(session.admits(&draft(Some(2), OnBusy::Enqueue), 16), Err(NotAccepted::HeadAhead));
    assert_eq!(session.admits(&draft(Some(1), OnBusy::Enqueue), 16), Ok(Admission::Wait));
    assert_eq!(session.admits(&draft(None, OnBusy::Reject), 16), Err(NotAccepted::Busy));
    session.paused = true;
    assert_eq!(session.admits(&draft(None, OnBusy::Enqueue), 16), Err(NotAccepted::Paused));
}
