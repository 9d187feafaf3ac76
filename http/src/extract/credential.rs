//! What a request shows to prove who it is from.

use actix_web::{
    cookie::Cookie,
    http::header::{AUTHORIZATION, COOKIE, HeaderMap},
};

use crate::problem::{Code, Problem};

/// A token, and how it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credential<'a> {
    /// In the header: a program put it there.
    Header(&'a str),
    /// In a cookie: a browser added it by itself, whoever made it send the request.
    Cookie(String),
}

impl<'a> Credential<'a> {
    /// The token of the header `Authorization` (RFC 6750 §2.1), else that of the cookie `name`.
    ///
    /// # Errors
    /// There is none, or what is there is no token. What is there twice is refused: nobody could say which is meant, and a
    /// second cookie may be one that another site of the same domain has planted.
    pub(crate) fn of(headers: &'a HeaderMap, name: &str) -> Result<Self, Problem> {
        let mut given = headers.get_all(AUTHORIZATION);
        if let Some(value) = given.next() {
            let token = value.to_str().ok().filter(|_| given.next().is_none()).and_then(bearer);
            return token.map(Self::Header).ok_or_else(|| Code::AuthorizationInvalid.into());
        }
        let lines = headers.get_all(COOKIE).filter_map(|line| line.to_str().ok());
        let cookies = lines.flat_map(|line| line.split(';')).filter_map(|pair| Cookie::parse(pair).ok());
        let mut named = cookies.filter(|cookie| cookie.name() == name && !cookie.value().is_empty());
        let Some(cookie) = named.next() else { return Err(Code::AuthorizationMissing.into()) };
        if named.next().is_some() {
            return Err(Problem::new(Code::TokenInvalid).caused_by("the cookie of the token is there twice"));
        }
        Ok(Self::Cookie(cookie.value().to_owned()))
    }

    /// The token.
    pub(crate) fn token(&self) -> &str {
        match self {
            Self::Header(token) => token,
            Self::Cookie(token) => token,
        }
    }
}

/// The one token behind `Bearer`, whose case does not count (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let is_one = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_one).then_some(token)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn of(given: &[(&'static str, &str)]) -> Result<(bool, String), Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""));
            headers.append(HeaderName::from_static(name), value);
        }
        let found = Credential::of(&headers, "jwt").map_err(|problem| problem.code())?;
        Ok((matches!(found, Credential::Header(_)), found.token().to_owned()))
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
}
