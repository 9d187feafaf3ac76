//! One attempt to sign in, from the way to the provider until somebody comes back.
//!
//! Nothing of it is stored: the browser keeps a random secret in a cookie that no script reads, and everything that the provider
//! is told (state, nonce, PKCE's verifier) is derived from it. So only the browser that began can come back, and attempts that are
//! never ended cost nothing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

/// How long people may take at the provider, in seconds.
pub const LASTS_SECONDS: u64 = 300;
/// Longest path that somebody comes back to.
const MAX_PATH_BYTES: usize = 128;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Attempt {
    began: u64,
    secret: [u8; 32],
    /// The page from which the attempt began.
    path: String,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("began", &self.began).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Attempt {
    /// One that begins `now`, in seconds since 1970, by somebody who wants to see the page at `path` afterwards.
    #[must_use]
    pub fn begin(now: u64, path: Option<&str>) -> Self {
        let path = path.filter(|path| is_page(path)).unwrap_or("/").to_owned();
        Self { began: now, secret: rand::random(), path }
    }

    /// The one whose cookie somebody has brought back, unless it is none or too old.
    #[must_use]
    pub fn resume(cookie: &str, now: u64) -> Option<Self> {
        let mut parts = cookie.splitn(3, '.');
        let began = parts.next()?.parse().ok()?;
        let secret = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?.try_into().ok()?;
        let path = String::from_utf8(URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
        let in_time = began <= now && now - began <= LASTS_SECONDS;
        (in_time && is_page(&path)).then_some(Self { began, secret, path })
    }

    /// What the cookie holds.
    #[must_use]
    pub fn cookie(&self) -> String {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}.{}", self.began, encode(&self.secret), encode(self.path.as_bytes()))
    }

    /// The page to show afterwards: one of this door.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the provider gives back, so that nobody is made to end an attempt of somebody else's (RFC 6749 §10.12).
    #[must_use]
    pub fn state(&self) -> String {
        self.derived("state")
    }

    /// What the provider writes into the token, so that no token of another attempt is taken (OpenID Connect Core §3.1.2.1).
    pub(super) fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// What shows that whoever brings the code began the attempt (RFC 7636 §4.1).
    pub(super) fn pkce_verifier(&self) -> String {
        self.derived("pkce")
    }

    fn derived(&self, label: &str) -> String {
        let mut hasher = Sha256::new();
        hasher.update(label);
        hasher.update([0]);
        hasher.update(self.secret);
        URL_SAFE_NO_PAD.encode(hasher.finalize())
    }
}

/// Whether a path is one of the page's own: the page, or the page at a session. Nobody is sent anywhere else.
fn is_page(path: &str) -> bool {
    let session = path.strip_prefix("/s/");
    let is_session = session.is_some_and(|id| id.len() == 36 && uuid::Uuid::try_parse(id).is_ok());
    path.len() <= MAX_PATH_BYTES && (path == "/" || is_session)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SESSION: &str = "/s/0190a3f0-0000-7000-8000-000000000001";

    #[test]
    fn only_the_browser_that_began_can_come_back_and_only_in_time() {
        let attempt = Attempt::begin(NOW, Some(SESSION));
        let cookie = attempt.cookie();
        assert_eq!(Attempt::resume(&cookie, NOW + LASTS_SECONDS).unwrap(), attempt);
        assert_eq!(attempt.path(), SESSION);
        assert_eq!(Attempt::resume(&cookie, NOW + LASTS_SECONDS + 1), None);
        assert_eq!(Attempt::resume(&cookie, NOW - 1), None);
        for broken in
            ["", ".", "..", "x.y.z", &cookie[..cookie.len() / 2], &format!("{cookie}.a"), &format!("-{cookie}")]
        {
            assert_eq!(Attempt::resume(broken, NOW), None, "{broken}");
        }
    }

    #[test]
    fn what_the_provider_is_told_differs_in_every_attempt_and_tells_nothing_of_the_rest() {
        let (one, two) = (Attempt::begin(NOW, None), Attempt::begin(NOW, None));
        let told = |attempt: &Attempt| [attempt.state(), attempt.nonce(), attempt.pkce_verifier()];
        let mut all = [told(&one), told(&two)].concat();
        assert!(all.iter().all(|text| text.len() == 43), "as long as a verifier must be");
        assert!(all.iter().all(|text| !one.cookie().contains(text)));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
        assert!(!format!("{one:?}").contains(&URL_SAFE_NO_PAD.encode(one.secret)));
    }

    #[test]
    fn nobody_is_sent_to_another_site() {
        for path in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/s/../../x",
            "/s/",
            "/s/0190a3f000007000800000000000000001",
            "/s/{0190a3f0-0000-7000-8000-000000000001}",
            "/v1/auth/logout",
            "/%2f/evil.example",
            "%2f%2fevil.example",
            "/%5cevil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "///evil.example",
            "\\\\evil.example",
            "/@evil.example",
            "//ada:secret@evil.example",
            "http:evil.example",
            "javascript:alert(1)",
            "data:text/html,evil",
            "/.//evil.example",
            "/..//evil.example",
            "/?next=//evil.example",
            "/#//evil.example",
            "/\u{ff0f}evil.example",
            "/s/0190a3f0-0000-7000-8000-000000000001@evil.example",
            "/s/0190a3f0-0000-7000-8000-000000000001/..//evil.example",
            "/s/0190a3f0-0000-7000-8000-000000000001?x=//evil.example",
            "/s/0190a3f0-0000-7000-8000-00000000000\u{ff11}",
            "/s/0190a3f0-0000-7000-8000-000000000001\r\nx: y",
            "",
        ] {
            assert_eq!(Attempt::begin(NOW, Some(path)).path(), "/", "{path}");
            let planted = Attempt { path: path.to_owned(), ..Attempt::begin(NOW, None) };
            assert_eq!(Attempt::resume(&planted.cookie(), NOW), None, "{path}");
        }
    }
}
