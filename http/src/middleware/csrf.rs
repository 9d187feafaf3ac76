//! Double submit: whoever relies on a cookie to change something also shows, in a header, what only a page of this door can
//! read in another cookie (OWASP's "signed double-submit cookie").
//!
//! The token is signed with what it goes with: the secret of the login, or the token of the other cookie, which no script and no
//! other site knows. So it needs no secret of its own, every process can check it, it ends with the login, and one that another
//! site of the same domain has planted is worth nothing.

use actix_web::{
    HttpRequest,
    cookie::{Cookie, CookieBuilder, SameSite, time::Duration},
    http::{
        Method,
        header::{HeaderMap, HeaderName},
    },
};
use aws_lc_rs::{
    hmac::{self, HMAC_SHA256},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    client::{Client, Scheme},
    extract::cookies::one,
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// Where the page shows the token.
const HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

/// Bytes of chance in a token.
const RANDOM_BYTES: usize = 16;

/// Keeps these signatures from being taken for any other made with the same key.
const LABEL: &[u8] = b"csrf\0";

/// Whether it is switched on, and how people see the door.
#[derive(Clone, Debug)]
pub(crate) struct CsrfRules {
    name: String,
    is_secure: bool,
}

impl CsrfRules {
    /// None where it is switched off. `is_secure` says whether people see the door by TLS, whatever a request says.
    pub(crate) fn new(settings: &DoorSettings, is_secure: bool) -> Option<Self> {
        settings.csrf_enabled.then(|| Self { name: settings.csrf_cookie_name.clone(), is_secure })
    }

    /// For `request`, which came by TLS, too, if a trusted proxy says so: such a browser keeps a cookie of its own.
    pub(crate) fn of(&self, request: &HttpRequest) -> Csrf {
        Csrf::new(&self.name, self.is_secure || Client::of(request).scheme == Some(Scheme::Https))
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Csrf {
    name: String,
    is_secure: bool,
}

impl Csrf {
    fn new(name: &str, is_secure: bool) -> Self {
        let prefix = if is_secure { "__Host-" } else { "" };
        Self { name: format!("{prefix}{name}"), is_secure }
    }

    /// The name of the cookie.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether a request that relies on the cookie `kept` may do what it asks: it only reads, or it shows the token that goes
    /// with that cookie.
    ///
    /// # Errors
    /// It shows none, or another.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap, kept: &str) -> Result<(), Problem> {
        if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
            return Ok(());
        }
        let refused = |why: &'static str| Problem::new(Code::CsrfTokenInvalid).caused_by(why);
        let cookie = one(headers, &self.name).map_err(|_| refused("the cookie of the CSRF token is there twice"))?;
        let cookie = cookie.ok_or_else(|| refused("there is no cookie with a CSRF token"))?;
        let mut shown = headers.get_all(HEADER);
        let (Some(token), None) = (shown.next(), shown.next()) else {
            return Err(refused("the header with the CSRF token is not there, or twice"));
        };
        if token.as_bytes() != cookie.as_bytes() {
            return Err(refused("the header with the CSRF token says something else than the cookie"));
        }
        if is_signed(&cookie, kept) { Ok(()) } else { Err(refused("the CSRF token is of another login")) }
    }

    /// The cookie to be set beside the cookie `kept`; none if the browser has the right one already, for pages that are open
    /// are about to show that.
    ///
    /// # Errors
    /// The system has no chance to give.
    pub(crate) fn renew(&self, headers: &HeaderMap, kept: &str) -> Result<Option<Cookie<'static>>, Problem> {
        match one(headers, &self.name) {
            Ok(Some(token)) if is_signed(&token, kept) => Ok(None),
            _ => self.make(kept).map(Some),
        }
    }

    /// A new one for the cookie `kept`.
    ///
    /// # Errors
    /// The system has no chance to give.
    pub(crate) fn make(&self, kept: &str) -> Result<Cookie<'static>, Problem> {
        let mut random = [0; RANDOM_BYTES];
        rand::fill(&mut random)
            .map_err(|_| Problem::new(Code::Unavailable).caused_by("the system has no chance to give"))?;
        let signature = hmac::sign(&key(kept), &[LABEL, &random].concat());
        let [random, signature] = [&random[..], signature.as_ref()].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Ok(self.cookie(format!("{random}.{signature}")).finish())
    }

    /// The one that takes it away.
    pub(crate) fn clear(&self) -> Cookie<'static> {
        self.cookie(String::new()).max_age(Duration::ZERO).finish()
    }

    /// It lasts as long as the browser runs; scripts of this door read it.
    fn cookie(&self, value: String) -> CookieBuilder<'static> {
        let cookie = Cookie::build(self.name.clone(), value);
        cookie.path("/").secure(self.is_secure).http_only(false).same_site(SameSite::Lax)
    }
}

fn key(kept: &str) -> hmac::Key {
    hmac::Key::new(HMAC_SHA256, kept.as_bytes())
}

/// Whether a token was made for the cookie `kept`, found out in constant time.
fn is_signed(token: &str, kept: &str) -> bool {
    let decode = |text| URL_SAFE_NO_PAD.decode(text).ok();
    let parts = token.split_once('.').and_then(|(random, signature)| Some((decode(random)?, decode(signature)?)));
    parts.is_some_and(|(random, signature)| {
        random.len() == RANDOM_BYTES && hmac::verify(&key(kept), &[LABEL, &random].concat(), &signature).is_ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use actix_web::http::header::{COOKIE, HeaderValue};

    use super::*;

    const LOGIN: &str = "sl_of_ada";

    fn csrf(is_secure: bool) -> Csrf {
        Csrf::new("csrf_token", is_secure)
    }

    fn head(cookie: &str, shown: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::from_str(cookie).unwrap());
        for token in shown {
            headers.append(HEADER, HeaderValue::from_str(token).unwrap());
        }
        headers
    }

    fn check(cookie: &str, shown: &[&str]) -> Result<(), (Code, u16)> {
        let checked = csrf(false).check(&Method::POST, &head(cookie, shown), LOGIN);
        checked.map_err(|problem| (problem.code(), problem.code().status()))
    }

    #[test]
    fn only_what_the_door_made_for_this_login_is_taken_and_only_from_both_places() {
        let refused = Err((Code::CsrfTokenInvalid, 403));
        let token = csrf(false).make(LOGIN).unwrap().value().to_owned();
        let others = csrf(false).make("sl_of_eve").unwrap().value().to_owned();
        let own = format!("theme=dark; csrf_token={token}");
        assert_eq!(check(&own, &[&token]), Ok(()));
        assert_ne!(csrf(false).make(LOGIN).unwrap().value(), token, "no two are alike");
        let (random, signature) = token.split_once('.').unwrap();
        for (cookie, shown) in [
            (&*own, &[][..]),
            (&own, &[""]),
            (&own, &[&others]),
            (&own, &[&token, &token]),
            (&own, &[random]),
            ("theme=dark", &[&token]),
            ("csrf_token=", &[""]),
            (&format!("{own}; csrf_token={token}"), &[&token]),
            (&format!("__Host-csrf_token={token}"), &[&token]),
            // Planted by another site of the same domain, and shown by its page.
            ("csrf_token=evil", &["evil"]),
            (&format!("csrf_token={others}"), &[&others]),
            (&format!("csrf_token={random}."), &[&format!("{random}.")]),
            (&format!("csrf_token=.{signature}"), &[&format!(".{signature}")]),
            (&format!("csrf_token=AAAA.{signature}"), &[&format!("AAAA.{signature}")]),
            (&format!("csrf_token={token}A"), &[&format!("{token}A")]),
        ] {
            assert_eq!(check(cookie, shown), refused, "{cookie} {shown:?}");
        }
    }

    #[test]
    fn who_only_reads_needs_none_and_whoever_changes_something_does() {
        let of = |method: &Method| csrf(false).check(method, &HeaderMap::new(), LOGIN).is_ok();
        assert!([Method::GET, Method::HEAD, Method::OPTIONS].iter().all(of));
        let unsafe_ones = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE];
        assert!(!unsafe_ones.iter().any(of) && !of(&Method::from_bytes(b"BREW").unwrap()));
    }

    #[test]
    fn a_browser_is_given_one_that_scripts_read_unless_it_has_the_right_one() {
        let (plain, secure) = (csrf(false), csrf(true));
        let made = secure.make(LOGIN).unwrap();
        let (name, rest) = made.to_string().split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        assert_eq!((&*name, rest.split_once("; ").unwrap().1), ("__Host-csrf_token", "SameSite=Lax; Secure; Path=/"));
        assert_eq!(plain.clear().to_string(), "csrf_token=; SameSite=Lax; Path=/; Max-Age=0");
        let token = plain.make(LOGIN).unwrap().value().to_owned();
        let renewed = |cookie: &str, login| plain.renew(&head(cookie, &[]), login).unwrap().is_some();
        assert!(!renewed(&format!("csrf_token={token}"), LOGIN));
        for (cookie, login) in [
            ("theme=dark", LOGIN),
            ("csrf_token=evil", LOGIN),
            (&*format!("csrf_token={token}"), "sl_of_eve"),
            (&*format!("csrf_token={token}; csrf_token={token}"), LOGIN),
        ] {
            assert!(renewed(cookie, login), "{cookie} {login}");
        }
        assert!(CsrfRules::new(&DoorSettings::default(), true).is_none(), "it is off unless it is switched on");
    }
}
