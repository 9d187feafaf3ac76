//! Which partitions a member has, and what it holds of them that nobody has asked for yet.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
    error::KafkaError,
};
use tokio::time::Instant;

use super::client::{is_outage, log_error, log_line};
use crate::bus::{Batch, LoggedRecord};

/// Most bytes that are held; from here on nothing more is sent until half of it is gone.
const HELD_BYTES: usize = 16 << 20;
/// Most records that are held.
const HELD_RECORDS: usize = 10_000;

/// A partition came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Came(i32),
    Went(i32),
}

/// What the library tells outside of its calls. It is told while the member looks for news, on the same thread.
#[derive(Default)]
pub(super) struct Events {
    moves: Mutex<Vec<Move>>,
    trouble: Mutex<Option<String>>,
    /// The last trouble, as long as no record has come after it.
    silent_since: Mutex<Option<Instant>>,
}

impl Events {
    /// What came and went since the last look.
    pub(super) fn moves(&self) -> Vec<Move> {
        std::mem::take(&mut self.moves.lock())
    }

    /// The last trouble since it was forgotten.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }

    pub(super) fn note_trouble(&self, why: String) {
        *self.trouble.lock() = Some(why);
        *self.silent_since.lock() = Some(Instant::now());
    }

    /// A record came.
    pub(super) fn note_record(&self) {
        *self.silent_since.lock() = None;
    }

    /// Whether there was trouble, and since then nothing for so long: neither a record nor more trouble.
    pub(super) fn is_silent_for(&self, long: Duration) -> bool {
        self.silent_since.lock().is_some_and(|since| since.elapsed() >= long)
    }

    pub(super) fn forget_trouble(&self) {
        *self.trouble.lock() = None;
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
        if is_outage(&error) {
            self.note_trouble("no broker can be reached".into());
        }
    }
}

impl ConsumerContext for Events {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut moves = self.moves.lock();
        match rebalance {
            Rebalance::Assign(partitions) => moves.extend(numbers(partitions).into_iter().map(Move::Came)),
            Rebalance::Revoke(partitions) => moves.extend(numbers(partitions).into_iter().map(Move::Went)),
            Rebalance::Error(error) => self.note_trouble(super::client::said(error)),
        }
    }
}

fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
    partitions.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect()
}

/// See the module.
#[derive(Default)]
pub(super) struct Tenure {
    held: BTreeMap<i32, Held>,
    /// The partition that was asked last: the next batch is of the one after it, if that has any.
    last: i32,
    paused: bool,
    /// What is held of all partitions.
    records: usize,
    bytes: usize,
}

#[derive(Default)]
struct Held {
    /// False once it went: what was handed out before is another's to commit, also if it came back.
    ours: bool,
    /// Whether what was handed out last is still ours.
    due: bool,
    records: VecDeque<LoggedRecord>,
}

impl Tenure {
    /// Takes in what came and went; whether that was anything.
    pub(super) fn apply(&mut self, moves: Vec<Move>) -> bool {
        let any = !moves.is_empty();
        for moved in moves {
            match moved {
                Move::Came(partition) => {
                    let known = self.held.contains_key(&partition);
                    let held = self.held.entry(partition).or_default();
                    held.ours = true;
                    // Nothing of an unknown partition was ever handed out.
                    held.due |= !known;
                }
                Move::Went(partition) => {
                    self.forget(partition);
                    self.held.insert(partition, Held::default());
                }
            }
        }
        any
    }

    pub(super) fn holds(&self, partition: i32) -> bool {
        self.held.get(&partition).is_some_and(|held| held.ours)
    }

    /// Whether this member may commit: it has the partition, and has had it since it last handed something out.
    pub(super) fn is_due(&self, partition: i32) -> bool {
        self.held.get(&partition).is_some_and(|held| held.ours && held.due)
    }

    pub(super) fn keep(&mut self, partition: i32, record: LoggedRecord) {
        if let Some(held) = self.held.get_mut(&partition).filter(|held| held.ours) {
            self.records += 1;
            self.bytes += record.payload.len();
            held.records.push_back(record);
        }
    }

    /// Whether nothing is held that nobody has asked for yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Every partition is somebody else's until it comes again.
    pub(super) fn lose_all(&mut self) {
        let went = self.held.keys().map(|partition| Move::Went(*partition)).collect();
        self.apply(went);
    }

    /// Whether there is as much as one batch may have, or as much as is held at most.
    pub(super) fn has(&self, limit: usize) -> bool {
        self.paused || self.held.values().any(|held| held.records.len() >= limit)
    }

    /// Up to `limit` records of one partition.
    pub(super) fn batch(&mut self, limit: usize) -> Option<Batch> {
        let (upto, after) = (self.held.range(..=self.last), self.held.range(self.last.saturating_add(1)..));
        let (partition, _) = after.chain(upto).find(|(_, held)| !held.records.is_empty())?;
        let partition = *partition;
        let held = self.held.get_mut(&partition)?;
        let count = limit.min(held.records.len());
        let records: Vec<LoggedRecord> = held.records.drain(..count).collect();
        held.due = true;
        self.last = partition;
        self.records -= records.len();
        self.bytes -= size(&records);
        Some(Batch { partition, records })
    }

    /// Puts back what nobody took.
    pub(super) fn put_back(&mut self, Batch { partition, records }: Batch) {
        let Some(held) = self.held.get_mut(&partition).filter(|held| held.ours && held.due) else { return };
        self.records += records.len();
        self.bytes += size(&records);
        for record in records.into_iter().rev() {
            held.records.push_front(record);
        }
    }

    /// Forgets what is held of a partition, which goes on elsewhere.
    pub(super) fn begin_anew(&mut self, partition: i32) {
        self.forget(partition);
        if let Some(held) = self.held.get_mut(&partition) {
            held.due = true;
        }
    }

    fn forget(&mut self, partition: i32) {
        if let Some(held) = self.held.get_mut(&partition) {
            self.records -= held.records.len();
            self.bytes -= size(&held.records);
            held.records.clear();
        }
    }

    /// Whether sending has to stop or may go on; none if all is as it was. New partitions begin unpaused.
    pub(super) fn pause(&mut self, moved: bool) -> Option<bool> {
        let full = self.records >= HELD_RECORDS || self.bytes >= HELD_BYTES;
        let low = self.records <= HELD_RECORDS / 2 && self.bytes <= HELD_BYTES / 2;
        match self.paused {
            false if full => self.paused = true,
            true if low => self.paused = false,
            true if moved => {}
            _ => return None,
        }
        Some(self.paused)
    }
}

fn size<'a>(records: impl IntoIterator<Item = &'a LoggedRecord>) -> usize {
    records.into_iter().map(|record| record.payload.len()).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use time::OffsetDateTime;

    use super::*;

    fn record(offset: i64, bytes: usize) -> LoggedRecord {
        let (headers, appended_at) = (serde_json::json!({}), OffsetDateTime::UNIX_EPOCH);
        LoggedRecord { offset, key: None, headers, payload: vec![0; bytes], appended_at }
    }

    fn with(partitions: &[i32], records: i64) -> Tenure {
        let mut tenure = Tenure::default();
        tenure.apply(partitions.iter().map(|partition| Move::Came(*partition)).collect());
        for offset in 0..records {
            for partition in partitions {
                tenure.keep(*partition, record(offset, 1));
            }
        }
        tenure
    }

    #[test]
    fn partitions_take_turns() {
        let mut tenure = with(&[0, 1, 2], 4);
        let turns: Vec<_> = std::iter::from_fn(|| tenure.batch(2)).map(|batch| batch.partition).collect();
        assert_eq!(turns, [1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn what_went_is_forgotten_and_may_not_be_committed_even_if_it_comes_back() {
        let mut tenure = with(&[0], 4);
        let batch = tenure.batch(2).unwrap();
        assert!(tenure.is_due(0));
        tenure.apply(vec![Move::Went(0)]);
        assert!(!tenure.holds(0) && !tenure.is_due(0) && tenure.batch(2).is_none());
        tenure.apply(vec![Move::Came(0)]);
        tenure.put_back(batch);
        assert!(tenure.holds(0) && !tenure.is_due(0) && tenure.batch(2).is_none());
        tenure.keep(0, record(9, 1));
        assert_eq!(tenure.batch(2).unwrap().records[0].offset, 9);
        assert!(tenure.is_due(0));
    }

    #[test]
    fn what_was_handed_out_before_all_was_lost_may_not_be_committed() {
        let mut tenure = with(&[0, 1], 4);
        tenure.batch(2).unwrap();
        assert!(!tenure.is_empty());
        tenure.lose_all();
        tenure.apply(vec![Move::Came(0), Move::Came(1), Move::Came(2)]);
        assert_eq!([0, 1, 2].map(|partition| tenure.is_due(partition)), [false, false, true]);
        assert!(tenure.is_empty() && tenure.batch(2).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_silent_from_its_last_trouble_to_the_next_record() {
        let (events, long) = (Events::default(), Duration::from_secs(10));
        let after = async |seconds| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            events.is_silent_for(long)
        };
        assert!(!after(60).await, "nothing has happened");
        events.note_trouble("no answer".into());
        assert!(!after(9).await);
        events.note_trouble("again".into());
        assert!(!after(9).await);
        assert!(after(1).await);
        events.note_record();
        assert!(!after(60).await);
    }

    #[test]
    fn records_of_a_partition_that_went_are_not_kept() {
        let mut tenure = with(&[0], 0);
        tenure.apply(vec![Move::Went(0)]);
        tenure.keep(0, record(0, 1));
        tenure.keep(7, record(0, 1));
        assert!(tenure.batch(1).is_none());
    }

    #[test]
    fn what_nobody_took_comes_first_the_next_time() {
        let mut tenure = with(&[0], 5);
        let batch = tenure.batch(3).unwrap();
        tenure.put_back(batch);
        let offsets: Vec<_> = tenure.batch(9).unwrap().records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn sending_stops_when_much_is_held_and_goes_on_when_half_of_it_is_gone() {
        let mut tenure = with(&[0, 1], 0);
        tenure.keep(0, record(0, HELD_BYTES / 2));
        assert_eq!(tenure.pause(false), None);
        tenure.keep(0, record(1, HELD_BYTES / 2));
        assert_eq!(tenure.pause(false), Some(true));
        assert_eq!(tenure.pause(false), None);
        assert!(tenure.has(100), "nothing more will come");
        // A partition that comes meanwhile is sent from until it is told too.
        tenure.apply(vec![Move::Came(2)]);
        assert_eq!(tenure.pause(true), Some(true));
        tenure.batch(1).unwrap();
        assert_eq!(tenure.pause(false), Some(false));
        assert_eq!((tenure.records, tenure.bytes), (1, HELD_BYTES / 2));
        tenure.apply(vec![Move::Went(0)]);
        assert_eq!((tenure.records, tenure.bytes), (0, 0));
    }
}
