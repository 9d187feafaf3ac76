//! Positions in a session's stream, as they travel in SSE `id:` fields and `Last-Event-ID`.

use std::{fmt, str::FromStr};

/// A position a reader has reached: everything up to and including it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The last stored event seen; 0 before the first.
    pub seq: i64,
    /// The last live frame seen after that event.
    pub live: Option<LivePosition>,
}

/// A position among the frames of an unfinished answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LivePosition {
    /// Which attempt of the turn streamed the frame, from 1.
    pub attempt: i32,
    /// Its number among the frames of the attempt; pieces and whole texts have numbers of their own.
    pub n: u32,
}

impl Cursor {
    /// After the stored event `seq` and before any live frame.
    #[must_use]
    pub const fn after(seq: i64) -> Self {
        Self { seq, live: None }
    }

    /// At live frame `n` of `attempt`, streamed while `head` was the last stored event.
    #[must_use]
    pub const fn live(head: i64, attempt: i32, n: u32) -> Self {
        Self { seq: head, live: Some(LivePosition { attempt, n }) }
    }
}

impl Cursor {
    /// After the news that everything up to `erased` was erased. No live frame has the number 0.
    #[must_use]
    pub const fn reset(erased: i64) -> Self {
        Self::live(erased, 1, 0)
    }

    /// Whether a reader at this position was away when everything up to `erased` was erased, and does not know it. One that
    /// has seen nothing misses nothing.
    #[must_use]
    pub fn missed_reset(&self, erased: i64) -> bool {
        let before = self.seq < erased || (self.seq == erased && self.live.is_none_or(|at| at.n > 0));
        self.seq > 0 && before
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seq)?;
        self.live.map_or(Ok(()), |at| write!(f, ".{}.{}", at.attempt, at.n))
    }
}

/// The text was neither `<seq>` nor `<head>.<attempt>.<n>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a stream position: expected `<seq>` or `<head>.<attempt>.<n>`")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let seq = number(parts.next())?;
        let cursor = match (parts.next(), parts.next()) {
            (None, _) => Self::after(seq),
            (attempt, n) => Self::live(seq, number(attempt)?, number(n)?),
        };
        if parts.next().is_some() || seq < 0 || cursor.live.is_some_and(|at| at.attempt < 1) {
            return Err(CursorError);
        }
        Ok(cursor)
    }
}

fn number<T: FromStr>(part: Option<&str>) -> Result<T, CursorError> {
    let digits = part.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.ok_or(CursorError)?.parse().map_err(|_| CursorError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_what_it_writes() {
        for cursor in [Cursor::default(), Cursor::after(7), Cursor::live(3, 2, 41)] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn whoever_has_seen_something_erased_learns_of_it_once() {
        for (cursor, missed) in [
            (Cursor::default(), false),
            (Cursor::after(3), true),
            (Cursor::after(7), true),
            (Cursor::live(7, 1, 4), true),
            (Cursor::reset(5), true),
            (Cursor::reset(7), false),
            (Cursor::after(8), false),
            (Cursor::live(8, 1, 1), false),
        ] {
            assert_eq!(cursor.missed_reset(7), missed, "{cursor}");
            assert!(!cursor.missed_reset(0), "nothing was erased");
        }
        assert_eq!(Cursor::reset(7).to_string().parse(), Ok(Cursor::reset(7)));
    }

    #[test]
    fn rubbish_is_no_cursor() {
        for bad in ["", "-1", "+1", "a", "1.", "1.2", "1.2.", "1.0.3", "1.2.3.4", " 1", "1.2.x", "99999999999999999999"]
        {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad:?} was taken");
        }
    }
}
