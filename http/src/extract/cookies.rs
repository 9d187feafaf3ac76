//! The cookies of signing in. Where people see the door by TLS their names begin with `__Host-`: such a cookie comes from this
//! very host, by TLS, and no other site of the domain can plant one (RFC 6265bis §4.1.3.2).

use actix_web::{
    HttpResponse,
    cookie::{Cookie, SameSite, time::Duration},
    http::header::{COOKIE, HeaderMap},
};

use crate::problem::{Code, Problem};

/// How many cookies of one name are looked at, where each of them counts.
const MAX_ALL: usize = 8;

/// What may stand around a name and a value.
const BLANKS: [char; 2] = [' ', '\t'];

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Keeps a login.
    Login,
    /// Keeps an attempt to sign in, until somebody comes back from the provider.
    Attempt,
    /// Remembers that the provider is to ask who signs in: the last one has signed out, or may not sign in.
    AskWho,
}

impl Purpose {
    /// The cookie's name.
    pub(crate) const fn name(self, is_secure: bool) -> &'static str {
        match (self, is_secure) {
            (Self::Login, true) => "__Host-login",
            (Self::Login, false) => "login",
            (Self::Attempt, true) => "__Host-sign-in",
            (Self::Attempt, false) => "sign-in",
            (Self::AskWho, true) => "__Host-ask-who",
            (Self::AskWho, false) => "ask-who",
        }
    }

    /// The cookie, for so long. No script reads it, and pages of other sites do not send it but by a link.
    pub(crate) fn set(self, is_secure: bool, value: &str, seconds: u64) -> Cookie<'static> {
        Cookie::build(self.name(is_secure), value.to_owned())
            .path("/")
            .secure(is_secure)
            .http_only(true)
            .same_site(SameSite::Lax)
            .max_age(Duration::seconds(i64::try_from(seconds).unwrap_or(i64::MAX)))
            .finish()
    }

    /// The cookie that takes it away.
    pub(crate) fn clear(self, is_secure: bool) -> Cookie<'static> {
        self.set(is_secure, "", 0)
    }

    /// The value that a request brings.
    ///
    /// # Errors
    /// It is there twice, and nobody could say which is meant.
    pub(crate) fn of(self, is_secure: bool, headers: &HeaderMap) -> Result<Option<String>, Twice> {
        one(headers, self.name(is_secure))
    }

    /// All values that a request brings, each once.
    ///
    /// # Errors
    /// They are more than any browser has that nobody misleads.
    pub(crate) fn all(self, is_secure: bool, headers: &HeaderMap) -> Result<Vec<String>, Problem> {
        let mut values: Vec<String> = Vec::new();
        for value in named(headers, self.name(is_secure)) {
            if !values.iter().any(|known| known == value) {
                values.push(value.to_owned());
            }
        }
        if values.len() <= MAX_ALL {
            return Ok(values);
        }
        Err(Problem::new(Code::BadRequest).because(format!("the cookie {} is there too often", self.name(is_secure))))
    }
}

/// The reply, with these cookies.
///
/// # Errors
/// One of them is none that a header could carry.
pub(crate) fn with_cookies(
    mut reply: HttpResponse,
    cookies: impl IntoIterator<Item = Cookie<'static>>,
) -> Result<HttpResponse, Problem> {
    for cookie in cookies {
        reply.add_cookie(&cookie).map_err(|error| Problem::new(Code::Internal).caused_by(error.to_string()))?;
    }
    Ok(reply)
}

/// A cookie is there twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twice;

/// The value of the cookie `name`, if there is one and it is not empty.
///
/// # Errors
/// There are two: one of them may be planted by another site of the same domain.
pub(crate) fn one(headers: &HeaderMap, name: &str) -> Result<Option<String>, Twice> {
    let mut values = named(headers, name);
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Err(Twice),
        (found, _) => Ok(found.map(str::to_owned)),
    }
}

/// The values of cookies of this name that are not empty. Others may be of other sites of the domain, in any letters: what cannot be
/// read is none of ours, and hides nothing beside it. Only the blanks that HTTP has are left out: with others a name could begin
/// that browsers do not take for `__Host-`.
fn named<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(COOKIE).flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let pairs = pairs.filter_map(|pair| str::from_utf8(pair).ok()?.split_once('='));
    let values = pairs.filter(move |(given, _)| given.trim_matches(BLANKS) == name);
    values.map(|(_, value)| value.trim_matches(BLANKS)).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn head(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line).unwrap_or_else(|_| unreachable!("it is a header")));
        }
        headers
    }

    #[test]
    fn a_foreign_cookie_in_any_letters_hides_no_other() {
        let own = Ok(Some("sl_x".to_owned()));
        for line in [
            &b"login=sl_x"[..],
            b"theme=d\xfcster; login=sl_x",
            b"login=sl_x; gr\xf6\xdfe=1",
            "größe=ü; login=sl_x; =; ; x".as_bytes(),
            b" login = sl_x ;\xff",
            // It cannot be the own one, which has letters of its own.
            b"login=\xff; login=sl_x",
            b"login=; login=sl_x",
        ] {
            assert_eq!(one(&head(&[line]), "login"), own, "{}", line.escape_ascii());
            assert_eq!(one(&head(&[b"a=\x80", line]), "login"), own, "{}", line.escape_ascii());
        }
        assert_eq!(one(&head(&[b"login=a; \xe9=1; login=b"]), "login"), Err(Twice));
        let planted = "\u{2000}login=a; \u{a0}login=b; login\u{3000}=c";
        assert_eq!(one(&head(&[planted.as_bytes()]), "login"), Ok(None), "no blank that a browser knows");
        assert_eq!(one(&head(&[b"Login=a; login2=b; \xe9login=c; login"]), "login"), Ok(None));
    }

    #[test]
    fn where_each_counts_all_are_found_as_long_as_there_are_few() {
        let all = |line: &str| Purpose::Login.all(false, &head(&[line.as_bytes()])).map_err(|problem| problem.code());
        assert_eq!(all("login=a; x=1; login=b; login=a; login="), Ok(vec!["a".to_owned(), "b".to_owned()]));
        let line = |count: usize| (0..count).map(|n| format!("login={n}")).collect::<Vec<_>>().join("; ");
        assert_eq!(all(&line(MAX_ALL)).map(|all| all.len()), Ok(MAX_ALL));
        assert_eq!(all(&line(MAX_ALL + 1)), Err(Code::BadRequest));
    }

    #[test]
    fn a_login_is_kept_from_scripts_other_sites_and_the_clear() {
        let secure = Purpose::Login.set(true, "sl_x", 60).to_string();
        assert_eq!(secure, "__Host-login=sl_x; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60");
        let plain = Purpose::Attempt.clear(false).to_string();
        assert_eq!(plain, "sign-in=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    }
}
