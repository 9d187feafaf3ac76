//! The header `Link` (RFC 8288): of a list that has more pages, of a message whose memory is on its way.

use std::fmt::Write as _;

/// The link to the next page: `path` with these parameters.
pub(crate) fn next(path: &str, parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    format!("<{path}?{}>; rel=\"next\"", pairs.join("&"))
}

/// The link from a memory that was just written to its receipt, which says how far it has come (RFC 8631).
pub(crate) fn receipt(event_id: &str) -> String {
    format!("</v1/memory/{}/receipt>; rel=\"status\"", encoded(event_id))
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
        out
    })
}
