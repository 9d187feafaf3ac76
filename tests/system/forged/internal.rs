//! What passes for the internal token and is none.

use super::{Case, INTERNAL, good};

pub(super) fn all() -> Vec<Case> {
    let shown = |token: &str| format!("X-Internal-Token: {token}\r\n");
    [
        ("no token", String::new()),
        ("an empty one", shown("")),
        ("one character too few", shown(&INTERNAL[..INTERNAL.len() - 1])),
        ("one character too many", shown(&format!("{INTERNAL}0"))),
        ("another case", shown(&INTERNAL.to_uppercase())),
        ("the right one twice", shown(INTERNAL).repeat(2)),
        ("a wrong one before the right one", shown("wrong") + &shown(INTERNAL)),
        ("two with a comma", shown(&format!("{INTERNAL}, {INTERNAL}"))),
        ("behind a scheme", shown(&format!("Bearer {INTERNAL}"))),
        ("in quotes", shown(&format!("\"{INTERNAL}\""))),
        ("as a bearer", format!("Authorization: Bearer {INTERNAL}\r\n")),
        ("as an API key", format!("X-API-Key: {INTERNAL}\r\n")),
        ("as a cookie", format!("Cookie: X-Internal-Token={INTERNAL}; internal_token={INTERNAL}\r\n")),
        ("under another name", format!("X-Internal-Tokens: {INTERNAL}\r\nX_Internal_Token: {INTERNAL}\r\n")),
        ("the default of old", shown("dev-internal-token")),
        ("what stands for nothing", shown("null")),
        ("an admin's token", format!("Authorization: Bearer {}\r\n", good())),
        ("an admin's token in its place", shown(&good())),
    ]
    .into_iter()
    .map(|(name, lines)| asked(&format!("internal: {name}"), &lines))
    .collect()
}

/// A request for what only workers may do.
fn asked(name: &str, lines: &str) -> Case {
    const BODY: &str = r#"{"role":"dialogue"}"#;
    let head =
        "POST /v1/llm/test HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n{lines}\r\n{BODY}", BODY.len());
    Case::raw(name, request.as_bytes(), 403, "internal-denied")
}
