//! The faults of a random schedule.

use std::time::Duration;

use super::{Direction, Proxy};
use crate::model::Gate;
use crate::seed::Case;

/// Longest time a fault of a schedule lasts.
const LONGEST_MS: u64 = 120;

/// One fault, with everything that was left to chance.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Every connection is reset.
    Cut,
    /// One connection is reset.
    CutOne(usize),
    /// A write is cut off before the server has seen it.
    CutBeforeCommit,
    /// A write is committed and its reply cut off.
    CutAfterCommit,
    /// A write is committed and its reply comes late.
    LateAfterCommit(Duration),
    /// A direction stands still for a while.
    Stall(Direction, Duration),
    /// A direction stands still, then every connection is reset.
    StallThenCut(Direction, Duration),
    /// Each piece of a direction is late for a while.
    Slow(Direction, Duration),
    /// Bytes of nobody come in between.
    Rubbish(Direction, Vec<u8>),
    /// No new connection for a while, and the old ones are reset.
    Refuse(Duration),
}

impl Fault {
    /// Any fault a database connection can have.
    pub fn draw(case: &mut Case) -> Self {
        match case.index(10) {
            0 | 1 => Self::CutBeforeCommit,
            2 | 3 => Self::CutAfterCommit,
            4 => Self::LateAfterCommit(some_time(case)),
            _ => Self::draw_for_bytes(case),
        }
    }

    /// Any fault a connection can have of which only bytes are known.
    pub fn draw_for_bytes(case: &mut Case) -> Self {
        let direction = *case.pick(&[Direction::Up, Direction::Down]);
        match case.index(8) {
            0 => Self::Cut,
            1 | 2 => Self::CutOne(case.index(1000)),
            3 => Self::Stall(direction, some_time(case)),
            4 => Self::StallThenCut(direction, some_time(case)),
            5 => Self::Slow(direction, some_time(case) / 20),
            6 => Self::Refuse(some_time(case)),
            _ => {
                let count = case.number(1..=64);
                let byte = |case: &mut Case| u8::try_from(case.number(0..=255)).unwrap_or(0);
                Self::Rubbish(direction, (0..count).map(|_| byte(case)).collect())
            }
        }
    }
}

fn some_time(case: &mut Case) -> Duration {
    Duration::from_millis(case.number(1..=LONGEST_MS))
}

impl Proxy {
    /// Plays one fault to its end. A fault that needs a write which contains `needle` waits for one.
    ///
    /// # Panics
    /// When no such write comes.
    pub async fn play(&self, fault: &Fault, needle: &str) {
        match fault {
            Fault::Cut => self.cut(),
            Fault::CutOne(choice) => self.cut_one(*choice),
            Fault::CutBeforeCommit => self.cut_before_commit(needle).wait().await,
            Fault::CutAfterCommit => self.cut_after_commit(needle).wait().await,
            Fault::LateAfterCommit(length) => {
                let gate = Gate::closed();
                self.hold_after_commit(needle, &gate).wait().await;
                tokio::time::sleep(*length).await;
                gate.open();
            }
            Fault::Stall(direction, length) => {
                self.stall(*direction);
                tokio::time::sleep(*length).await;
                self.resume(*direction);
            }
            Fault::StallThenCut(direction, length) => {
                self.stall(*direction);
                tokio::time::sleep(*length).await;
                self.cut();
                self.resume(*direction);
            }
            Fault::Slow(direction, delay) => {
                self.delay(*direction, *delay);
                tokio::time::sleep(*delay * 10).await;
                self.resume(*direction);
            }
            Fault::Rubbish(direction, rubbish) => self.spoil(*direction, rubbish),
            Fault::Refuse(length) => {
                self.refuse(true);
                self.cut();
                tokio::time::sleep(*length).await;
                self.refuse(false);
            }
        }
    }
}
