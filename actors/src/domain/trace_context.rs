//! Where a request stands in its caller's distributed trace: W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context-1/>).
//!
//! This system adds no spans of its own to such a trace. It hands on what it was given, unchanged: to the memory service, in
//! the events of a turn, and with what waits to be remembered.

use serde::Serialize;
use serde_json::{Value, json};

/// The name of the header, and of its member in a JSON object.
pub const TRACEPARENT: &str = "traceparent";

/// The name of the header with what vendors add, and of its member in a JSON object.
pub const TRACESTATE: &str = "tracestate";

/// The member of events, and of the metadata of memories, that holds the trace.
pub const TRACE_CONTEXT: &str = "trace_context";

/// Longest `traceparent` that is handed on, in bytes. Version 00 has 55; later ones may append to it.
const MAX_PARENT: usize = 256;

/// Longest `tracestate` that is handed on, in bytes (§3.3.1.5 asks for at least this much).
const MAX_STATE: usize = 512;

/// A place in a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceContext {
    traceparent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
}

impl TraceContext {
    /// The place that these headers name. A `traceparent` that is not one (§3.2.2) names none, and a `tracestate` that no
    /// header can hold or that is too long is left out: a trace is never a reason to refuse a request.
    #[must_use]
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let is_state =
            |text: &&str| (1..=MAX_STATE).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let tracestate = tracestate.filter(is_state).map(ToOwned::to_owned);
        is_parent(traceparent).then(|| Self { traceparent: traceparent.to_owned(), tracestate })
    }

    /// The place that the member [`TRACE_CONTEXT`] of `object` names.
    #[must_use]
    pub fn within(object: &Value) -> Option<Self> {
        let given = &object[TRACE_CONTEXT];
        Self::new(given[TRACEPARENT].as_str()?, given[TRACESTATE].as_str())
    }

    /// The id of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.traceparent.split('-').nth(1).unwrap_or_default()
    }

    /// The headers of a request that belongs there, by name.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.tracestate.as_deref().map(|state| (TRACESTATE, state));
        std::iter::once((TRACEPARENT, self.traceparent.as_str())).chain(state)
    }

    /// The JSON object that events hold; an empty one for no trace.
    #[must_use]
    pub fn json(context: Option<&Self>) -> Value {
        context.and_then(|context| serde_json::to_value(context).ok()).unwrap_or_else(|| json!({}))
    }
}

/// `<version>-<trace id>-<parent id>-<flags>`, all of them lower-case hexadecimal. Only a version that is not known yet may
/// have more behind that.
fn is_parent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut next = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(part)
    };
    let is_nothing = |part: &str| part.bytes().all(|byte| byte == b'0');
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (next(2), next(32), next(16), next(2)) else {
        return false;
    };
    let more_is_allowed =
        version != "00" && text.len() <= MAX_PARENT && text.bytes().all(|byte| byte.is_ascii_graphic());
    version != "ff" && !is_nothing(trace) && !is_nothing(parent) && (parts.next().is_none() || more_is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    #[test]
    fn what_is_no_place_in_a_trace_is_as_good_as_none() {
        let good = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(TraceContext::new(&good, None).as_ref().map(TraceContext::trace_id), Some(TRACE));
        assert!(TraceContext::new(&format!("cc-{TRACE}-{PARENT}-00-what-comes-later"), None).is_some());
        let long = "x".repeat(MAX_PARENT);
        for wrong in [
            String::new(),
            format!("{good} "),
            format!("{good}-more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("cc-{TRACE}-{PARENT}-00-{long}"),
            format!("cc-{TRACE}-{PARENT}-00-a b"),
        ] {
            assert_eq!(TraceContext::new(&wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn a_state_that_no_header_can_hold_is_left_out() {
        let parent = format!("00-{TRACE}-{PARENT}-01");
        let headers = |state: &str| {
            let context = TraceContext::new(&parent, Some(state)).unwrap_or_else(|| unreachable!());
            context.headers().map(|(name, value)| (name, value.to_owned())).collect::<Vec<_>>()
        };
        let alone = [(TRACEPARENT, parent.clone())];
        assert_eq!(headers("a=1,b=2"), [alone[0].clone(), (TRACESTATE, "a=1,b=2".into())]);
        for wrong in ["", "a=\r\nX-Forged: 1", &"x".repeat(MAX_STATE + 1)] {
            assert_eq!(headers(wrong), alone);
        }
    }

    #[test]
    fn what_an_event_holds_is_read_again() {
        let context = TraceContext::new(&format!("00-{TRACE}-{PARENT}-01"), Some("a=1"));
        assert_eq!(TraceContext::within(&json!({TRACE_CONTEXT: TraceContext::json(context.as_ref())})), context);
        assert_eq!(TraceContext::within(&json!({TRACE_CONTEXT: TraceContext::json(None)})), None);
        assert_eq!(TraceContext::within(&json!({})), None);
    }
}
