//! The parts of a token (RFC 7515 §3.1, RFC 7519 §7.2), read before its signature is checked. What is read here is a claim that
//! nobody has proved yet: it only says which key and which issuer to try.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::verifier::TokenError;
use crate::domain::strict_json;

/// Longest token that is looked at, in bytes.
pub(super) const MAX_BYTES: usize = 8 * 1024;
/// Longest name of a key, in bytes.
const MAX_KEY_ID_BYTES: usize = 256;

/// What a token says about itself.
#[derive(Debug)]
pub(super) struct Parts {
    /// How it is signed.
    pub algorithm: Algorithm,
    /// The name of its key.
    pub key_id: Option<String>,
    /// What it says of its bearer.
    pub claims: Map<String, Value>,
}

/// Reads a token.
///
/// # Errors
/// [`TokenError::Unreadable`] if it has no head that can be read, [`TokenError::Invalid`] if the head wants something that is
/// not done here, or the claims cannot be read.
pub(super) fn read(token: &str) -> Result<Parts, TokenError> {
    if token.len() > MAX_BYTES {
        return Err(TokenError::Invalid("it is too long"));
    }
    let mut parts = token.split('.');
    let (Some(head), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(TokenError::Unreadable);
    };
    let head = object(head).ok_or(TokenError::Unreadable)?;
    let algorithm = head.get("alg").and_then(Value::as_str).ok_or(TokenError::Unreadable)?;
    // Extensions that must be understood (RFC 7515 §4.1.11), of which none is, and a payload that is not what it looks like.
    if ["crit", "b64", "zip", "enc"].iter().any(|name| head.contains_key(*name)) {
        return Err(TokenError::Invalid("its head asks for an extension"));
    }
    if !head.get("typ").is_none_or(is_access_token) {
        return Err(TokenError::Invalid("it is of another type"));
    }
    let key_id = match head.get("kid") {
        None => None,
        Some(Value::String(name)) if name.len() <= MAX_KEY_ID_BYTES => Some(name.clone()),
        Some(_) => return Err(TokenError::Invalid("the name of its key is none")),
    };
    Ok(Parts {
        // `none` is no algorithm to the library, in whatever case it is written.
        algorithm: algorithm.parse().map_err(|_| TokenError::Invalid("its algorithm is unknown"))?,
        key_id,
        claims: object(claims).ok_or(TokenError::Invalid("its claims cannot be read"))?,
    })
}

fn object(part: &str) -> Option<Map<String, Value>> {
    strict_json::object(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Whether a token of this type may be shown here (RFC 8725 §3.11): one that was made for another purpose, such as ending a
/// session, may not.
fn is_access_token(given: &Value) -> bool {
    let Some(given) = given.as_str() else { return false };
    let short =
        given.get(..12).filter(|start| start.eq_ignore_ascii_case("application/")).map_or(given, |_| &given[12..]);
    short.eq_ignore_ascii_case("JWT") || short.eq_ignore_ascii_case("at+jwt")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

    use super::*;

    fn part(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    fn token(head: &str) -> String {
        format!("{}.{}.c2ln", part(head), part(r#"{"sub":"u"}"#))
    }

    fn refused(token: &str) -> &'static str {
        match read(token).unwrap_err() {
            TokenError::Unreadable => "unreadable",
            TokenError::Invalid(why) => why,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_token_says_its_algorithm_its_key_and_its_claims() {
        let parts =
            read(&token(r#"{"alg":"RS256","kid":"k1","typ":"JWT","jku":"https://evil.example/keys"}"#)).unwrap();
        assert_eq!((parts.algorithm, parts.key_id.as_deref()), (Algorithm::RS256, Some("k1")));
        assert_eq!(parts.claims["sub"], "u");
        for types in ["jwt", "at+jwt", "application/at+JWT", "APPLICATION/jwt"] {
            assert!(read(&token(&format!(r#"{{"alg":"HS256","typ":"{types}"}}"#))).is_ok(), "{types}");
        }
    }

    #[test]
    fn a_head_that_cannot_be_read_is_told_from_one_that_is_refused() {
        let claims = part("{}");
        for unreadable in [
            String::new(),
            "a".to_owned(),
            "a.b".to_owned(),
            "a.b.c.d".to_owned(),
            "..".to_owned(),
            format!("%.{claims}.c"),
            format!("{}.{claims}.c", part("[]")),
            format!("{}.{claims}.c", part("{}")),
            format!("{}.{claims}.c", part(r#"{"alg":7}"#)),
            format!("{}.{claims}.c", part(r#"{"alg":"HS256","alg":"none"}"#)),
            format!("{}=.{claims}.c", part(r#"{"alg":"HS256"} "#)),
            format!(" {}", token(r#"{"alg":"HS256"}"#)),
        ] {
            assert_eq!(refused(&unreadable), "unreadable", "{unreadable}");
        }
        for (head, why) in [
            (r#"{"alg":"none"}"#, "its algorithm is unknown"),
            (r#"{"alg":"NoNe"}"#, "its algorithm is unknown"),
            (r#"{"alg":"hs256"}"#, "its algorithm is unknown"),
            (r#"{"alg":""}"#, "its algorithm is unknown"),
            (r#"{"alg":"HS256","crit":[]}"#, "its head asks for an extension"),
            (r#"{"alg":"HS256","b64":false}"#, "its head asks for an extension"),
            (r#"{"alg":"HS256","zip":"DEF"}"#, "its head asks for an extension"),
            (r#"{"alg":"HS256","typ":"logout+jwt"}"#, "it is of another type"),
            (r#"{"alg":"HS256","typ":["JWT"]}"#, "it is of another type"),
            (r#"{"alg":"HS256","typ":""}"#, "it is of another type"),
            (r#"{"alg":"HS256","kid":7}"#, "the name of its key is none"),
        ] {
            assert_eq!(refused(&token(head)), why, "{head}");
        }
        let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(MAX_KEY_ID_BYTES + 1));
        assert_eq!(refused(&token(&long)), "the name of its key is none");
        let twice = format!("{}.{}.c2ln", part(r#"{"alg":"HS256"}"#), part(r#"{"sub":"a","sub":"b"}"#));
        assert_eq!(refused(&twice), "its claims cannot be read");
        assert_eq!(refused(&"a".repeat(MAX_BYTES + 1)), "it is too long");
    }
}
