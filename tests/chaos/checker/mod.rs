//! Decides the four promises from what a run left behind. It is written apart from the system: what it knows of the system
//! is its interface, and each part looks at the evidence without trusting another's conclusion.
//!
//! | file | decides |
//! | --- | --- |
//! | `history` | P1, and of P3 the numbers of each session |
//! | `memory` | P2 |
//! | `notes` | P2 of memories that were written anew and taken back |
//! | `log` | of P3 the order of each session in the log |
//! | `stream` | P4 |

mod history;
mod log;
mod memory;
mod notes;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::evidence::Evidence;

/// The status with which the memory service refuses a memory for its content.
const REFUSED: &str = "422";

/// Everything that is not as promised, a line each; nothing if the promises are kept.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let events = events(evidence);
    let mut findings = evidence.told.absurd.clone();
    findings.extend(history::check(evidence));
    findings.extend(memory::check(evidence, &events));
    findings.extend(notes::check(evidence));
    findings.extend(log::check(evidence, &events));
    findings.extend(stream::check(evidence));
    findings
}

/// A stored event, whichever session it is of.
struct Event<'a> {
    session: &'a str,
    seq: u64,
    payload: &'a Value,
}

impl Event<'_> {
    fn is_user(&self) -> bool {
        self.payload["type"] == "user"
    }

    /// Whether it is a memory too.
    fn is_memory(&self) -> bool {
        is_memory(self.payload)
    }
}

/// Whether a stored event becomes a memory. Messages and answers with text do; an answer that failed is nothing that
/// was said, as the interface tells whoever asks for its receipt.
pub fn is_memory(payload: &Value) -> bool {
    payload["type"] != "assistant.error" && payload["message"] != ""
}

/// The stored events by their ids.
fn events(evidence: &Evidence) -> BTreeMap<&str, Event<'_>> {
    let listed =
        evidence.histories.iter().flat_map(|(session, history)| history.iter().map(move |event| (session, event)));
    listed
        .filter_map(|(session, event)| {
            let (seq, payload) = (event["id"].as_u64()?, &event["payload"]);
            Some((payload["event_id"].as_str()?, Event { session, seq, payload }))
        })
        .collect()
}

/// A text of an object; empty if it is none.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}
