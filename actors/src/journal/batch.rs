//! Which steps are committed together.

use std::collections::{HashSet, VecDeque};

use crate::domain::{append::Append, ids::SessionKey};

/// Most steps in one statement.
pub const MAX_STEPS: usize = 512;
/// Most bytes in one statement, unless its first step alone has more.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Takes the longest allowed batch off the front of `waiting`: at most one step a session, the others keep their place.
pub fn take<T>(waiting: &mut VecDeque<T>, step: impl Fn(&T) -> &Append) -> Vec<T> {
    let mut sessions: HashSet<SessionKey> = HashSet::new();
    let (mut batch, mut later) = (Vec::new(), VecDeque::new());
    let mut bytes = 0;
    while let Some(next) = waiting.pop_front() {
        let size = step(&next).size_bytes();
        if !batch.is_empty() && (batch.len() == MAX_STEPS || bytes + size > MAX_BYTES) {
            waiting.push_front(next);
            break;
        }
        if !sessions.insert(step(&next).key.clone()) {
            later.push_back(next);
            continue;
        }
        bytes += size;
        batch.push(next);
    }
    while let Some(kept) = later.pop_back() {
        waiting.push_front(kept);
    }
    batch
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        append::{EnvelopeChange, NewEvent},
        event::EventType,
        ids::Tenant,
    };

    fn step(session: u128, text_bytes: usize) -> Append {
        Append {
            key: SessionKey::new(Tenant::new("t").unwrap_or_else(|| unreachable!()), Uuid::from_u128(session)),
            epoch: 1,
            head: 0,
            at: time::OffsetDateTime::UNIX_EPOCH,
            fresh: false,
            begun: None,
            envelope: EnvelopeChange::default(),
            events: vec![NewEvent {
                event_id: Uuid::nil(),
                event_type: EventType::User,
                turn_seq: 1,
                idempotency: None,
                payload: json!({"message": "x".repeat(text_bytes)}),
                topic: "t",
                memory: None,
            }],
            turns: vec![],
            audit: vec![],
        }
    }

    #[test]
    fn a_huge_step_goes_alone() {
        let mut waiting: VecDeque<_> = [step(1, 1_000_000), step(2, 1)].into();
        assert_eq!(take(&mut waiting, |step| step).len(), 1);
        assert_eq!(take(&mut waiting, |step| step).len(), 1);
        assert!(take(&mut waiting, |step| step).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_each_session_keeps_its_order(sessions in proptest::collection::vec(0_u128..20, 0..900)) {
            let mut waiting: VecDeque<_> = sessions.iter().enumerate().map(|(n, session)| (n, step(*session, 100))).collect();
            let mut seen: Vec<(u128, usize)> = vec![];
            while !waiting.is_empty() {
                let batch = take(&mut waiting, |(_, step)| step);
                prop_assert!(!batch.is_empty() && batch.len() <= MAX_STEPS);
                let mut ids: Vec<_> = batch.iter().map(|(_, step)| step.key.session_id).collect();
                ids.sort_unstable();
                ids.dedup();
                prop_assert_eq!(ids.len(), batch.len());
                seen.extend(batch.iter().map(|(n, step)| (step.key.session_id.as_u128(), *n)));
            }
            prop_assert_eq!(seen.len(), sessions.len());
            for session in 0..20 {
                let order: Vec<_> = seen.iter().filter(|(id, _)| *id == session).map(|(_, n)| *n).collect();
                prop_assert!(order.is_sorted());
            }
        }
    }
}
