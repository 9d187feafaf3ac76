//! How stored times and events look in JSON.

use serde_json::{Value, json};
use somaagent_actors::domain::event::StoredEvent;
use time::{OffsetDateTime, UtcOffset, format_description::StaticFormatDescription, macros::format_description};

const FORMAT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// RFC 3339 with microseconds and `Z`.
pub(crate) fn timestamp(at: OffsetDateTime) -> String {
    at.to_offset(UtcOffset::UTC).format(FORMAT).unwrap_or_default()
}

/// An event as lists show it.
pub(crate) fn listed(event: &StoredEvent) -> Value {
    json!({"id": event.seq, "occurred_at": timestamp(event.occurred_at), "payload": event.payload})
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_have_microseconds_and_are_utc() {
        assert_eq!(timestamp(datetime!(2025-11-07 12:00:00 +02:00)), "2025-11-07T10:00:00.000000Z");
    }
}
