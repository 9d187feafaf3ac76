//! What goes wrong in one run, and when: a list drawn from a seed.

use std::time::Duration;

use somaagent_test_services::proxy::Direction;
use somaagent_test_services::seed::Case;

/// A process of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    Gateway,
    Outbox,
    MemorySync,
    Replicator,
    OtherReplicator,
}

impl Seat {
    /// Every process that always runs.
    pub const ALL: [Self; 5] = [Self::Gateway, Self::Outbox, Self::MemorySync, Self::Replicator, Self::OtherReplicator];

    /// What it does, by the name of the command line.
    pub fn role(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Outbox => "outbox",
            Self::MemorySync => "memory-sync",
            Self::Replicator | Self::OtherReplicator => "replicator",
        }
    }
}

/// What the processes reach by way of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Database,
    Log,
    Memory,
    Model,
}

/// How a line misbehaves.
#[derive(Debug, Clone, Copy)]
pub enum Trouble {
    /// Every connection is reset.
    Cut,
    /// One connection is reset.
    CutOne(usize),
    /// Nothing passes in a direction for a while.
    Stall(Direction, Duration),
    /// Each piece in a direction is late for a while.
    Slow(Direction, Duration, Duration),
    /// New connections are refused and old ones reset for a while.
    Refuse(Duration),
}

/// How the memory service misbehaves.
#[derive(Debug, Clone, Copy)]
pub enum Illness {
    /// It answers with this status, and with a `Retry-After` if there is one.
    Status(u16, Option<u32>),
    /// It loses the connection before it has done anything.
    Drop,
    /// It does what it is asked for and loses the connection then: the caller cannot know.
    DropAfter,
}

/// What a record of somebody else's in the log is.
#[derive(Debug, Clone, Copy)]
pub enum Poison {
    /// No JSON.
    Bytes,
    /// JSON, and nothing that could be a memory.
    OtherType,
    /// A memory that nobody can tell from others.
    Nameless,
    /// A memory with a text that the database has no place for.
    Zero,
}

/// One fault, with everything that was left to chance.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// `kill -9`, and a start after a while.
    Kill(Seat, Duration),
    /// A process stands still for a while and then goes on as if nothing had been.
    Freeze(Seat, Duration),
    /// One more replicator, which is killed after a while.
    ThirdReplicator(Duration),
    /// The broker is killed and started again after a while.
    KillKafka(Duration),
    /// PostgreSQL ends at once, as by `pg_ctl stop -m immediate`, and is started again after a while.
    CrashPostgres(Duration),
    /// A line misbehaves.
    Line(Line, Trouble),
    /// The connection of the next write to a table is cut before the server has it.
    CutBeforeCommit(&'static str),
    /// The connection of the next write to a table is cut when the server has committed it.
    CutAfterCommit(&'static str),
    /// The memory service is ill for a number of calls.
    IllFor(Illness, usize),
    /// The memory service is ill for a while.
    IllDuring(Illness, Duration),
    /// A record that cannot be applied.
    Poison(Poison),
    /// A good record of somebody else's whose clock is behind by that much.
    Past(Duration),
}

/// A fault, and how long after the one before it comes.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub after: Duration,
    pub fault: Fault,
}

/// Tables whose writes are acknowledged to somebody, or move what was.
const TABLES: [&str; 5] =
    ["session_events", "memory_write_outbox", "message_outbox", "memory_replica", "memory_replica_offsets"];

/// A schedule. The same case gives the same one, and a shorter one is its beginning.
pub fn draw(case: &mut Case) -> Vec<Step> {
    let count = case.number(4..=9);
    (0..count).map(|_| Step { after: millis(case, 50..=900), fault: fault(case) }).collect()
}

/// The weights add up to 100.
fn fault(case: &mut Case) -> Fault {
    let seat = *case.pick(&Seat::ALL);
    match case.number(0..=99) {
        0..=20 => Fault::Kill(seat, millis(case, 0..=800)),
        21..=26 => Fault::Freeze(seat, millis(case, 200..=4_000)),
        27..=30 => Fault::ThirdReplicator(millis(case, 200..=2_000)),
        31..=35 => Fault::KillKafka(millis(case, 0..=500)),
        36..=41 => Fault::CrashPostgres(millis(case, 0..=600)),
        42..=66 => Fault::Line(line(case), trouble(case)),
        67..=69 => Fault::CutBeforeCommit(TABLES[case.index(TABLES.len())]),
        70..=75 => Fault::CutAfterCommit(TABLES[case.index(TABLES.len())]),
        76..=82 => Fault::IllFor(illness(case), case.index(8) + 1),
        83..=90 => Fault::IllDuring(illness(case), millis(case, 100..=1_500)),
        91..=95 => Fault::Poison(*case.pick(&[Poison::Bytes, Poison::OtherType, Poison::Nameless, Poison::Zero])),
        _ => Fault::Past(Duration::from_secs(case.number(60..=300_000))),
    }
}

/// The log's line, by which everything goes, more often than others.
fn line(case: &mut Case) -> Line {
    use Line::{Database, Log, Memory, Model};
    *case.pick(&[Database, Database, Log, Log, Log, Memory, Memory, Model])
}

/// What stalls longest outlasts every deadline of the settings.
fn trouble(case: &mut Case) -> Trouble {
    let direction = *case.pick(&[Direction::Up, Direction::Down]);
    match case.index(6) {
        0 => Trouble::Cut,
        1 => Trouble::CutOne(case.index(1_000)),
        2 | 3 => Trouble::Stall(direction, millis(case, 50..=4_000)),
        4 => Trouble::Slow(direction, millis(case, 5..=60), millis(case, 200..=1_500)),
        _ => Trouble::Refuse(millis(case, 50..=1_500)),
    }
}

/// A refusal of the content (422) makes dead letters; everything else passes.
fn illness(case: &mut Case) -> Illness {
    match case.index(8) {
        0 => Illness::Status(500, None),
        1 => Illness::Status(503, None),
        2 => Illness::Status(429, Some(1)),
        3 => Illness::Status(429, None),
        4 => Illness::Status(422, None),
        5 => Illness::Drop,
        _ => Illness::DropAfter,
    }
}

fn millis(case: &mut Case, range: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(case.number(range))
}

#[test]
fn one_seed_gives_one_schedule_and_many_seeds_every_kind_of_fault() {
    let of = |seed| format!("{:?}", draw(&mut Case::new("draw", seed)));
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
    let all: String = (0..200).map(of).collect();
    let kinds = [
        "Kill(Gateway",
        "Kill(Outbox",
        "Kill(MemorySync",
        "Kill(Replicator",
        "Kill(OtherReplicator",
        "Freeze(",
        "ThirdReplicator(",
        "KillKafka(",
        "CrashPostgres(",
        "Line(Database, Cut",
        "Line(Log, Stall",
        "Line(Memory, Slow",
        "Line(Model, Refuse",
        "CutBeforeCommit(",
        "CutAfterCommit(",
        "Status(500",
        "Status(503",
        "Status(429",
        "Status(422",
        "Drop,",
        "DropAfter",
        "Poison(Bytes",
        "Poison(OtherType",
        "Poison(Nameless",
        "Poison(Zero",
        "Past(",
    ];
    for kind in kinds {
        assert!(all.contains(kind), "no {kind} in 200 schedules");
    }
}
