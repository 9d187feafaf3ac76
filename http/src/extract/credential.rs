//! What a request shows to prove who it is from.

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use somaagent_actors::identity::api_keys::PREFIX;

use super::cookies::{Purpose, Twice, one};
use crate::problem::{Code, Problem};

/// The header of an API key, for programs that cannot send `Authorization`.
const KEY_HEADER: &str = "X-API-Key";

/// The header of the internal token.
pub(crate) const INTERNAL_HEADER: &str = "X-Internal-Token";

/// What a worker of this installation shows; nothing if it is there twice.
pub(crate) fn internal_token(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(INTERNAL_HEADER);
    let first = given.next().and_then(text).filter(|token| is_one(token));
    first.filter(|_| given.next().is_none())
}

/// A token, an API key or a login, and how it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    /// An API key, in one of two headers: a program put it there.
    Key(&'a str),
    /// A token in the header: a program put it there.
    Header(&'a str),
    /// A token in a cookie: a browser added it by itself, whoever made it send the request.
    Cookie(String),
    /// A login, in a cookie too.
    Login(String),
}

/// The cookies in which browsers may keep what they show.
#[derive(Clone, Debug)]
pub(crate) struct CookieNames {
    /// That of a token.
    pub(crate) token: String,
    /// Where people can sign in: whether they see the door by TLS.
    pub(crate) login: Option<bool>,
}

impl<'a> Credential<'a> {
    /// What is in the header `Authorization` (RFC 6750 §2.1) or `X-API-Key`, else the login or the token of a cookie. A key
    /// counts in no cookie: no browser is to keep one.
    ///
    /// # Errors
    /// There is none, or what is there is neither token nor key. What is there twice is refused, also in two headers: nobody
    /// could say which is meant, and a second cookie may be one that another site of the same domain has planted.
    pub(crate) fn of(headers: &'a HeaderMap, cookies: &CookieNames) -> Result<Self, Problem> {
        let bearers = headers.get_all(AUTHORIZATION).map(|value| text(value).and_then(bearer));
        let keys = headers.get_all(KEY_HEADER).map(|value| text(value).filter(|key| is_one(key)).map(Self::Key));
        let mut given = bearers.map(|found| found.map(Self::of_bearer)).chain(keys);
        if let Some(found) = given.next() {
            let found = found.filter(|_| given.next().is_none());
            return found.ok_or_else(|| Code::AuthorizationInvalid.into());
        }
        let twice =
            |Twice| Problem::new(Code::TokenInvalid).caused_by("the cookie of the token or login is there twice");
        let login = cookies.login.map(|is_secure| Purpose::Login.of(is_secure, headers)).transpose().map_err(twice)?;
        if let Some(login) = login.flatten() {
            return Ok(Self::Login(login));
        }
        one(headers, &cookies.token).map_err(twice)?.map(Self::Cookie).ok_or_else(|| Code::AuthorizationMissing.into())
    }

    fn of_bearer(shown: &'a str) -> Self {
        if shown.starts_with(PREFIX) { Self::Key(shown) } else { Self::Header(shown) }
    }

    /// What a browser keeps and sends by itself.
    pub(crate) fn kept_by_browser(&self) -> Option<&str> {
        match self {
            Self::Cookie(text) | Self::Login(text) => Some(text),
            Self::Key(_) | Self::Header(_) => None,
        }
    }

    /// The token or key.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Key(text) | Self::Header(text) => text,
            Self::Cookie(text) | Self::Login(text) => text,
        }
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

fn is_one(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The one token behind `Bearer`, whose case does not count (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && is_one(token)).then_some(token)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use actix_web::http::header::HeaderName;

    use super::*;

    fn names(login: Option<bool>) -> CookieNames {
        CookieNames { token: "jwt".to_owned(), login }
    }

    fn of(given: &[(&'static str, &str)]) -> Result<(bool, String), Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""));
            headers.append(HeaderName::from_static(name), value);
        }
        let found = Credential::of(&headers, &names(None)).map_err(|problem| problem.code())?;
        Ok((matches!(found, Credential::Header(_)), found.text().to_owned()))
    }

    fn is_key(given: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        matches!(Credential::of(&headers, &names(None)), Ok(Credential::Key("sk_a_b")))
    }

    #[test]
    fn a_key_comes_in_either_header_and_in_no_cookie() {
        let cookie = ("cookie", "jwt=c.c.c");
        for given in
            [("authorization", "Bearer sk_a_b"), ("authorization", "bearer  sk_a_b "), ("x-api-key", " sk_a_b")]
        {
            assert!(is_key(&[given]) && is_key(&[given, cookie]), "{given:?}");
        }
        assert_eq!(of(&[("cookie", "jwt=sk_a_b")]), Ok((false, "sk_a_b".to_owned())));
        assert!(!is_key(&[("cookie", "jwt=sk_a_b")]));
    }

    #[test]
    fn a_key_beside_anything_in_a_header_is_refused() {
        let (key, bearer) = (("x-api-key", "sk_a_b"), ("authorization", "Bearer sk_a_b"));
        for given in [
            &[key, key][..],
            &[key, bearer],
            &[bearer, bearer],
            &[key, ("authorization", "Bearer a.b.c")],
            &[key, ("authorization", "Basic YTpi")],
            &[("x-api-key", "")],
            &[("x-api-key", "sk_a_b sk_a_b")],
            &[("x-api-key", "sk_a_\u{e9}")],
            &[("x-api-key", ""), bearer],
        ] {
            assert_eq!(of(given), Err(Code::AuthorizationInvalid), "{given:?}");
        }
    }

    #[test]
    fn the_header_comes_before_the_cookie() {
        let cookie = ("cookie", "theme=dark; jwt=c.c.c; other=1");
        assert_eq!(of(&[("authorization", "Bearer a.b.c"), cookie]), Ok((true, "a.b.c".to_owned())));
        assert_eq!(of(&[("authorization", "bEaReR   a.b.c ")]), Ok((true, "a.b.c".to_owned())));
        assert_eq!(of(&[cookie]), Ok((false, "c.c.c".to_owned())));
        assert_eq!(of(&[("cookie", "a=1"), ("cookie", "jwt=c.c.c")]), Ok((false, "c.c.c".to_owned())));
    }

    #[test]
    fn what_shows_no_token_is_told_from_what_shows_something_else() {
        for missing in [&[][..], &[("cookie", "")], &[("cookie", "jwt=")], &[("cookie", "JWT=a; jwt2=b; =jwt; jwt")]] {
            assert_eq!(of(missing), Err(Code::AuthorizationMissing), "{missing:?}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer  ",
            "Basic YTpi",
            "a.b.c",
            "Bearer a b",
            "Bearer a\tb",
            "Bearer \u{e9}",
            "Bearer,a",
        ] {
            let given = [("authorization", wrong), ("cookie", "jwt=c.c.c")];
            assert_eq!(of(&given), Err(Code::AuthorizationInvalid), "{wrong:?}");
        }
        let twice = [("authorization", "Bearer a.b.c"), ("authorization", "Bearer a.b.c")];
        assert_eq!(of(&twice), Err(Code::AuthorizationInvalid));
        for tossed in [&[("cookie", "jwt=a.a.a; jwt=b.b.b")][..], &[("cookie", "jwt=a"), ("cookie", "jwt=b")]] {
            assert_eq!(of(tossed), Err(Code::TokenInvalid), "{tossed:?}");
        }
    }

    #[test]
    fn a_login_comes_before_a_token_where_people_can_sign_in() {
        let shown = |login: Option<bool>, cookie: &str| {
            let mut headers = HeaderMap::new();
            headers.append(HeaderName::from_static("cookie"), HeaderValue::from_str(cookie).unwrap());
            Credential::of(&headers, &names(login)).map(|found| format!("{found:?}")).map_err(|problem| problem.code())
        };
        let both = "jwt=a.b.c; login=sl_1; __Host-login=sl_2";
        assert_eq!(shown(None, both), Ok("Cookie(\"a.b.c\")".to_owned()));
        assert_eq!(shown(Some(false), both), Ok("Login(\"sl_1\")".to_owned()));
        assert_eq!(shown(Some(true), both), Ok("Login(\"sl_2\")".to_owned()));
        assert_eq!(shown(Some(true), "login=sl_1"), Err(Code::AuthorizationMissing), "anybody may have planted it");
        assert_eq!(shown(Some(false), "login=sl_1; login=sl_2"), Err(Code::TokenInvalid));
    }
}
