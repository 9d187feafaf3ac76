//! API keys that nobody has, in places where one may be and in others.

use super::{Case, good};

/// A key of the right form.
const KEY: &str = "sk_00000000000040008000000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(super) fn all() -> Vec<Case> {
    let (id, random) = (&KEY[3..35], &KEY[36..]);
    let mut cases = places();
    for (name, key) in [
        ("a key that nobody has", KEY.to_owned()),
        ("the prefix of a key alone", "sk_".to_owned()),
        ("a key without chance", format!("sk_{id}_")),
        ("a key without an id", format!("sk__{random}")),
        ("a key whose id is not one", format!("sk_{}_{random}", "g".repeat(32))),
        ("a key whose id is written otherwise", format!("sk_00000000-0000-4000-8000-000000000000_{random}")),
        ("a key whose id climbs", format!("sk_../../../../etc/passwd_{random}")),
        ("a key whose id is a statement", format!("sk_'OR'1'='1_{random}")),
        ("a key with too little chance", format!("sk_{id}_{}", &random[1..])),
        ("a key with more of it", format!("sk_{id}_{random}A")),
        ("a key with padding", format!("sk_{id}_{random}=")),
        ("a key with letters that mean nothing", format!("sk_{id}_{}B", &random[1..])),
        ("a key with another alphabet", format!("sk_{id}_+{}", &random[1..])),
        ("a key in percents", KEY.replace('_', "%5F")),
        ("a huge key", format!("sk_{id}_{}", "A".repeat(7_000))),
        ("a token behind the prefix of a key", format!("sk_{}", good())),
    ] {
        if key.starts_with("sk_") {
            cases.push(Case::token(&format!("{name}, as a token"), &key, 401, "api-key-invalid"));
        }
        let line = format!("X-API-Key: {key}\r\n");
        cases.push(Case::with(&format!("{name}, as a key"), line.as_bytes(), 401, "api-key-invalid"));
    }
    cases
}

fn places() -> Vec<Case> {
    let token = good();
    let twice = |name: &str, lines: &str| Case::with(name, lines.as_bytes(), 401, "authorization-invalid");
    vec![
        twice("a key beside a token", &format!("X-API-Key: {KEY}\r\nAuthorization: Bearer {token}\r\n")),
        twice("a key beside another way to sign in", &format!("X-API-Key: {KEY}\r\nAuthorization: Basic YTpi\r\n")),
        twice("a key in both headers", &format!("X-API-Key: {KEY}\r\nAuthorization: Bearer {KEY}\r\n")),
        twice("a key twice", &format!("X-API-Key: {KEY}\r\nx-api-key: {KEY}\r\n")),
        twice("an empty key beside a token", &format!("X-API-Key:\r\nAuthorization: Bearer {token}\r\n")),
        twice("an empty key", "X-API-Key:\r\n"),
        twice("two keys in one header", &format!("X-API-Key: {KEY} {KEY}\r\n")),
        twice("a key with its scheme", &format!("X-API-Key: Bearer {KEY}\r\n")),
        twice("a key of another scheme", &format!("Authorization: ApiKey {KEY}\r\n")),
        Case::with("a key that is no text", b"X-API-Key: sk_\xff\r\n", 401, "authorization-invalid"),
        Case::with("a token as a key", format!("X-API-Key: {token}\r\n").as_bytes(), 401, "api-key-invalid"),
        Case::token("a key in capitals", &KEY.to_uppercase(), 401, "token-header-invalid"),
        Case::with("a key in a cookie", format!("Cookie: jwt={KEY}\r\n").as_bytes(), 401, "token-header-invalid"),
        Case::with(
            "a key in a cookie of its name",
            format!("Cookie: X-API-Key={KEY}; api_key={KEY}\r\n").as_bytes(),
            401,
            "authorization-missing",
        ),
        Case::raw(
            "a key in the query",
            format!("GET /v1/sessions?api_key={KEY}&X-API-Key={KEY} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").as_bytes(),
            401,
            "authorization-missing",
        ),
    ]
}
