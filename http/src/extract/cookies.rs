//! The cookies of signing in. Where people see the door by TLS their names begin with `__Host-`: such a cookie comes from this
//! very host, by TLS, and no other site of the domain can plant one (RFC 6265bis §4.1.3.2).

use actix_web::{
    HttpResponse,
    cookie::{Cookie, SameSite, time::Duration},
    http::header::{COOKIE, HeaderMap},
};

use crate::problem::{Code, Problem};

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
    let lines = headers.get_all(COOKIE).filter_map(|line| line.to_str().ok());
    let cookies = lines.flat_map(|line| line.split(';')).filter_map(|pair| Cookie::parse(pair).ok());
    let mut named = cookies.filter(|cookie| cookie.name() == name && !cookie.value().is_empty());
    match (named.next(), named.next()) {
        (Some(_), Some(_)) => Err(Twice),
        (found, _) => Ok(found.map(|cookie| cookie.value().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_kept_from_scripts_other_sites_and_the_clear() {
        let secure = Purpose::Login.set(true, "sl_x", 60).to_string();
        assert_eq!(secure, "__Host-login=sl_x; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60");
        let plain = Purpose::Attempt.clear(false).to_string();
        assert_eq!(plain, "sign-in=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
    }
}
