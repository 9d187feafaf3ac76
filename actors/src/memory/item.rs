//! A memory as people read it: the item of lists and the line of exports.

use serde::Serialize;
use serde_json::value::RawValue;
use time::{OffsetDateTime, UtcOffset, format_description::StaticFormatDescription, macros::format_description};

use crate::store::memory_replica::reads::ReplicaRow;

const LISTED: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
const EXPORTED: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");

/// A memory, its members named as on the wire.
#[derive(Debug, Serialize)]
pub struct MemoryItem {
    /// The row of the replica.
    pub id: i64,
    /// The memory's id.
    pub event_id: String,
    /// The session it comes from.
    pub session_id: Option<String>,
    /// The persona it was said to or by.
    pub persona_id: Option<String>,
    /// Whose it is.
    pub tenant: String,
    /// Who said it.
    pub role: Option<String>,
    /// Where the memory service put it: `x,y,z`.
    pub coord: Option<String>,
    /// The memory service's name of the request.
    pub request_id: Option<String>,
    /// The memory service's name of the trace.
    pub trace_id: Option<String>,
    /// The memory, a JSON object.
    pub payload: Box<RawValue>,
    /// When the record was published, in seconds since 1970.
    pub wal_timestamp: Option<f64>,
    /// When the row was made, RFC 3339 in UTC.
    pub created_at: String,
}

impl MemoryItem {
    /// The item of a list: its time ends in `Z`.
    pub(super) fn listed(row: ReplicaRow) -> Self {
        Self::of(row, LISTED)
    }

    /// The line of an export: its time ends in an offset, as the original's.
    pub(super) fn exported(row: ReplicaRow) -> Self {
        Self::of(row, EXPORTED)
    }

    fn of(row: ReplicaRow, format: StaticFormatDescription) -> Self {
        Self {
            id: row.id,
            event_id: row.event_id,
            session_id: row.session_id,
            persona_id: row.persona_id,
            tenant: row.tenant,
            role: row.role,
            coord: row.coord,
            request_id: row.request_id,
            trace_id: row.trace_id,
            // The database's own text of a JSON value is one.
            payload: RawValue::from_string(row.payload).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            wal_timestamp: row.wal_timestamp,
            created_at: in_utc(row.created_at, format),
        }
    }
}

/// A time as lists show it.
pub(super) fn listed_time(at: OffsetDateTime) -> String {
    in_utc(at, LISTED)
}

fn in_utc(at: OffsetDateTime, format: StaticFormatDescription) -> String {
    at.to_offset(UtcOffset::UTC).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_has_the_members_of_the_original_and_its_payload_as_an_object() {
        let row = ReplicaRow {
            id: 7,
            event_id: "e".into(),
            session_id: Some("s".into()),
            persona_id: None,
            tenant: "t".into(),
            role: Some("user".into()),
            coord: Some("1,2,3".into()),
            request_id: None,
            trace_id: None,
            payload: r#"{"content": "hi"}"#.into(),
            wal_timestamp: Some(1.5),
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let expected = |time: &str| {
            format!(
                r#"{{"id":7,"event_id":"e","session_id":"s","persona_id":null,"tenant":"t","role":"user","coord":"1,2,3","request_id":null,"trace_id":null,"payload":{{"content": "hi"}},"wal_timestamp":1.5,"created_at":"{time}"}}"#
            )
        };
        let text = |item| serde_json::to_string(&item).unwrap_or_default();
        assert_eq!(text(MemoryItem::listed(row.clone())), expected("1970-01-01T00:00:00.000000Z"));
        assert_eq!(text(MemoryItem::exported(row)), expected("1970-01-01T00:00:00.000000+00:00"));
    }
}
