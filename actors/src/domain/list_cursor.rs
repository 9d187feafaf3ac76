//! Positions in lists that have the newest first, as they travel in the query of the next page.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;
use uuid::Uuid;

/// A position in a list that goes by time. It stays where it is when what stood there is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// The time of the last one listed: of whatever the list goes by.
    pub at: OffsetDateTime,
    /// Its id.
    pub id: Uuid,
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The database keeps microseconds.
        write!(f, "{}-{}", self.at.unix_timestamp_nanos() / 1_000, self.id.simple())
    }
}

/// The text is no list position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list position")]
pub struct ListCursorError;

impl FromStr for ListCursor {
    type Err = ListCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (micros, id) = text.split_once('-').ok_or(ListCursorError)?;
        let micros: i64 = micros.parse().map_err(|_| ListCursorError)?;
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(|_| ListCursorError)?;
        let id = Uuid::try_parse(id).map_err(|_| ListCursorError)?;
        Ok(Self { at, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_position_reads_back_what_it_writes() {
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(1_234_567);
        let cursor = ListCursor { at, id: Uuid::from_u128(7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "-", "1", "x-00000000000000000000000000000007", "1-7"] {
            assert_eq!(bad.parse::<ListCursor>(), Err(ListCursorError), "{bad:?} was taken");
        }
    }
}
