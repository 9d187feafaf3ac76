//! How far a memory has come on its way: from its queue to the memory service, into the log, into the replica.
//!
//! Rows of five tables tell of it, each for its time: the queues forget what they sent after a while, the replica and the
//! dead letters do not. Of a memory that was written more than once the newest writing counts.

use time::OffsetDateTime;

/// The furthest that a memory has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits to be written to the memory service.
    Queued,
    /// The memory service has it; its record waits for its place in the log.
    Remembered,
    /// Its record is in the log.
    Logged,
    /// The replica has it.
    Replicated,
    /// It was given up on its way.
    Dead,
}

impl State {
    /// Its name in replies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Remembered => "remembered",
            Self::Logged => "logged",
            Self::Replicated => "replicated",
            Self::Dead => "dead",
        }
    }

    /// Whether it stays so unless somebody does something.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Replicated | Self::Dead)
    }
}

/// What became of a row of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It waits, or is under way.
    Waiting,
    /// It was taken.
    Done,
    /// It was refused for good.
    GivenUp,
}

/// A row of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    /// What became of it.
    pub step: Step,
    /// When it was put there.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// A place in the topic of memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The record's number in it.
    pub offset: i64,
}

/// The memory as the replica has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// Where its record is.
    pub place: Place,
    /// Whether that is in the log that is read now: places in another one say nothing of places here.
    pub of_this_log: bool,
    /// SHA-256 of that record's bytes.
    pub sha256: Vec<u8>,
    /// When the replica took it from there.
    pub at: OffsetDateTime,
}

/// The newest dead letter of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Where in the log its record was read, if it was there.
    pub place: Option<Place>,
    /// When it was buried.
    pub at: OffsetDateTime,
}

/// What the tables know of a memory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The newest row of the queue to the memory service.
    pub write: Option<Queued>,
    /// The newest row of its record in the outbox, and where in the log that went.
    pub record: Option<(Queued, Option<Place>)>,
    /// The offset up to which the replica has applied the record's partition.
    pub applied: Option<i64>,
    /// What the replica has.
    pub replica: Option<Replicated>,
    /// What could not be carried on.
    pub letter: Option<Letter>,
}

/// When which state was reached, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It was put into its queue.
    pub queued: Option<OffsetDateTime>,
    /// The memory service had it.
    pub remembered: Option<OffsetDateTime>,
    /// Its record was in the log.
    pub logged: Option<OffsetDateTime>,
    /// The replica had it.
    pub replicated: Option<OffsetDateTime>,
    /// It was given up.
    pub dead: Option<OffsetDateTime>,
}

/// How far a memory has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The furthest state.
    pub state: State,
    /// When each was reached.
    pub at: Times,
    /// Where in the log its record is.
    pub place: Option<Place>,
    /// SHA-256 of the record's bytes, once the replica has it.
    pub sha256: Option<Vec<u8>>,
}

impl Traces {
    /// What they tell of the newest writing; `None` if there is no such memory, or no longer.
    #[must_use]
    pub fn receipt(&self) -> Option<Receipt> {
        match self.write.map(|write| (write.step, write.updated_at)) {
            Some((Step::Waiting, _)) => Some(self.receipt_of(State::Queued, None)),
            Some((Step::GivenUp, at)) => Some(self.dead(None, Some(at))),
            _ => self.of_record(),
        }
    }

    fn of_record(&self) -> Option<Receipt> {
        let Some((record, place)) = self.record else { return self.without_record() };
        match record.step {
            Step::Waiting => Some(self.receipt_of(State::Remembered, None)),
            Step::GivenUp => Some(self.dead(None, Some(record.updated_at))),
            Step::Done => self.of_logged(place),
        }
    }

    /// The record was sent to `place`, which every row knows that was not sent by something else.
    fn of_logged(&self, place: Option<Place>) -> Option<Receipt> {
        let Some(here) = place else { return self.replicated().or_else(|| Some(self.receipt_of(State::Logged, None))) };
        let copied = |copy: &Replicated| {
            copy.of_this_log && copy.place.partition == here.partition && copy.place.offset >= here.offset
        };
        if self.replica.as_ref().is_some_and(copied) {
            return self.replicated();
        }
        let buried = |letter: &Letter| {
            letter.place.is_some_and(|place| place.partition == here.partition && place.offset >= here.offset)
        };
        if let Some(letter) = self.letter.filter(buried) {
            return Some(self.dead(letter.place, Some(letter.at)));
        }
        if self.applied.is_none_or(|next| next <= here.offset) {
            return Some(self.receipt_of(State::Logged, place));
        }
        // The replica is past the record and does not have it: it was taken back, or let go as a dead letter, or a later one
        // of another partition was there before it. What an earlier writing left stays.
        self.replicated()
    }

    /// Nothing of the record is in the outbox: what lasts longer tells.
    fn without_record(&self) -> Option<Receipt> {
        // A memory that was given up and then written anew has its letter still.
        let letter = self.letter.filter(|letter| self.write.is_none_or(|write| letter.at >= write.updated_at));
        let later = |letter: &Letter, copy: &Replicated| match letter.place {
            Some(place) if copy.of_this_log && place.partition == copy.place.partition => {
                place.offset > copy.place.offset
            }
            _ => letter.at > copy.at,
        };
        match (&self.replica, letter) {
            (Some(copy), Some(letter)) if later(&letter, copy) => Some(self.dead(letter.place, Some(letter.at))),
            (None, Some(letter)) => Some(self.dead(letter.place, Some(letter.at))),
            (Some(_), _) => self.replicated(),
            (None, None) => self.write.map(|_| self.receipt_of(State::Remembered, None)),
        }
    }

    fn replicated(&self) -> Option<Receipt> {
        let copy = self.replica.as_ref()?;
        let mut receipt = self.receipt_of(State::Replicated, Some(copy.place));
        // The record of another writing than the one that was copied.
        if receipt.at.logged.is_some_and(|logged| logged > copy.at) {
            receipt.at.logged = None;
        }
        receipt.at.replicated = Some(copy.at);
        receipt.sha256 = Some(copy.sha256.clone());
        Some(receipt)
    }

    fn dead(&self, place: Option<Place>, at: Option<OffsetDateTime>) -> Receipt {
        let mut receipt = self.receipt_of(State::Dead, place);
        receipt.at.dead = at;
        receipt
    }

    /// A receipt with the times that the queues know of this writing.
    fn receipt_of(&self, state: State, place: Option<Place>) -> Receipt {
        let mut at = Times { queued: self.write.map(|write| write.created_at), ..Times::default() };
        if let Some(taken) = self.write.filter(|write| write.step == Step::Done) {
            at.remembered = Some(taken.updated_at);
        }
        // Of a writing that the memory service does not have yet, the outbox only knows earlier ones.
        if let Some((record, _)) = self.record.filter(|_| self.write.is_none_or(|write| write.step == Step::Done)) {
            at.remembered = at.remembered.or(Some(record.created_at));
            at.logged = (record.step == Step::Done).then_some(record.updated_at);
        }
        Receipt { state, at, place, sha256: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second)
    }

    fn row(step: Step, created: i64, updated: i64) -> Queued {
        Queued { step, created_at: at(created), updated_at: at(updated) }
    }

    const fn place(partition: i32, offset: i64) -> Place {
        Place { partition, offset }
    }

    fn replica(place: Place, second: i64) -> Replicated {
        Replicated { place, of_this_log: true, sha256: vec![7], at: at(second) }
    }

    /// A memory that was written at 1 and taken at 2, its record sent to the place 1:5 at 3.
    fn logged() -> Traces {
        Traces {
            write: Some(row(Step::Done, 1, 2)),
            record: Some((row(Step::Done, 2, 3), Some(place(1, 5)))),
            applied: Some(5),
            ..Traces::default()
        }
    }

    /// The seconds at which the states were reached, in their order.
    fn seconds(at: Times) -> [Option<i64>; 5] {
        [at.queued, at.remembered, at.logged, at.replicated, at.dead].map(|at| at.map(OffsetDateTime::unix_timestamp))
    }

    #[track_caller]
    fn assert_receipt(traces: &Traces, state: State, at: [Option<i64>; 5], place: Option<Place>) {
        let receipt = traces.receipt();
        let told = receipt.as_ref().map(|receipt| (receipt.state, seconds(receipt.at), receipt.place));
        assert_eq!(told, Some((state, at, place)), "{traces:?}");
        let hashed = receipt.is_some_and(|receipt| receipt.sha256.is_some());
        assert_eq!(hashed, state == State::Replicated, "{traces:?}");
    }

    #[test]
    fn a_memory_is_as_far_as_its_last_step() {
        let queued = Traces { write: Some(row(Step::Waiting, 1, 1)), ..Traces::default() };
        assert_receipt(&queued, State::Queued, [Some(1), None, None, None, None], None);
        let remembered = Traces { record: Some((row(Step::Waiting, 2, 2), None)), applied: None, ..logged() };
        assert_receipt(&remembered, State::Remembered, [Some(1), Some(2), None, None, None], None);
        assert_receipt(&logged(), State::Logged, [Some(1), Some(2), Some(3), None, None], Some(place(1, 5)));
        let replicated = Traces { applied: Some(6), replica: Some(replica(place(1, 5), 4)), ..logged() };
        let all = [Some(1), Some(2), Some(3), Some(4), None];
        assert_receipt(&replicated, State::Replicated, all, Some(place(1, 5)));
    }

    #[test]
    fn the_newest_writing_counts_not_an_earlier_one() {
        let earlier = Traces { replica: Some(replica(place(1, 5), 4)), applied: Some(6), ..logged() };
        let again = Traces { write: Some(row(Step::Waiting, 8, 8)), ..earlier.clone() };
        assert_receipt(&again, State::Queued, [Some(8), None, None, None, None], None);
        let record = Some((row(Step::Done, 9, 10), Some(place(1, 7))));
        let again = Traces { write: Some(row(Step::Done, 8, 9)), record, ..earlier.clone() };
        assert_receipt(&again, State::Logged, [Some(8), Some(9), Some(10), None, None], Some(place(1, 7)));
        let record = Some((row(Step::Done, 9, 10), Some(place(2, 0))));
        let elsewhere = Traces { record, applied: Some(0), ..earlier };
        assert_eq!(elsewhere.receipt().map(|receipt| receipt.state), Some(State::Logged));
        let overtaken = Traces { applied: Some(1), replica: Some(replica(place(3, 2), 4)), ..elsewhere };
        assert_receipt(&overtaken, State::Replicated, [Some(1), Some(2), None, Some(4), None], Some(place(3, 2)));
        let of_another_log = Replicated { of_this_log: false, ..replica(place(1, 99), 4) };
        let moved = Traces { replica: Some(of_another_log), ..logged() };
        assert_receipt(&moved, State::Logged, [Some(1), Some(2), Some(3), None, None], Some(place(1, 5)));
    }

    #[test]
    fn what_was_given_up_anywhere_is_dead_until_it_is_sent_again() {
        let refused = Traces { write: Some(row(Step::GivenUp, 1, 2)), ..Traces::default() };
        assert_receipt(&refused, State::Dead, [Some(1), None, None, None, Some(2)], None);
        let unlogged = Traces { record: Some((row(Step::GivenUp, 2, 3), None)), ..logged() };
        assert_receipt(&unlogged, State::Dead, [Some(1), Some(2), None, None, Some(3)], None);
        let letter = Some(Letter { place: Some(place(1, 5)), at: at(4) });
        let unapplied = Traces { applied: Some(6), letter, ..logged() };
        assert_receipt(&unapplied, State::Dead, [Some(1), Some(2), Some(3), None, Some(4)], Some(place(1, 5)));
        let sent_again = Traces { record: Some((row(Step::Waiting, 8, 8), None)), ..unapplied };
        assert_receipt(&sent_again, State::Remembered, [Some(1), Some(2), None, None, None], None);
    }

    #[test]
    fn a_dead_letter_of_an_earlier_writing_does_not_count() {
        for letter in [Letter { place: None, at: at(0) }, Letter { place: Some(place(1, 3)), at: at(9) }] {
            let traces = Traces { letter: Some(letter), ..logged() };
            assert_eq!(traces.receipt().map(|receipt| receipt.state), Some(State::Logged));
            let traces = Traces { applied: Some(6), replica: Some(replica(place(1, 5), 4)), ..traces };
            assert_eq!(traces.receipt().map(|receipt| receipt.state), Some(State::Replicated));
        }
    }

    #[test]
    fn what_the_replica_is_past_and_does_not_have_is_no_memory_any_more() {
        assert_eq!(Traces { applied: Some(6), ..logged() }.receipt(), None);
        assert_eq!(Traces::default().receipt(), None);
    }

    #[test]
    fn when_the_queues_have_forgotten_the_replica_and_the_letters_still_tell() {
        let kept = Traces { replica: Some(replica(place(1, 5), 4)), ..Traces::default() };
        assert_receipt(&kept, State::Replicated, [None, None, None, Some(4), None], Some(place(1, 5)));
        let letter = |place, second| Some(Letter { place, at: at(second) });
        let buried = Traces { letter: letter(None, 5), ..Traces::default() };
        assert_receipt(&buried, State::Dead, [None, None, None, None, Some(5)], None);
        for (place, second, state) in [
            (Some(place(1, 4)), 9, State::Replicated),
            (Some(place(1, 6)), 1, State::Dead),
            (None, 3, State::Replicated),
            (None, 9, State::Dead),
        ] {
            let both = Traces { letter: letter(place, second), ..kept.clone() };
            assert_eq!(both.receipt().map(|receipt| receipt.state), Some(state), "{place:?} {second}");
        }
        let taken = Traces { record: None, applied: None, letter: letter(None, 1), ..logged() };
        assert_receipt(&taken, State::Remembered, [Some(1), Some(2), None, None, None], None);
    }
}
