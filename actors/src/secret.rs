//! A secret of the settings that may be exchanged while the process runs.
//!
//! Whoever needs it holds a [`Secret`] and reads it anew for each use; clones are one secret. It is exchanged by whoever looks
//! after it. What it was before counts on for as long as that one says, and what nobody has confirmed for too long is not to prove
//! anything any more: it may have been withdrawn long ago where it is kept.

use std::{fmt, sync::Arc, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use parking_lot::RwLock;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// See the module. No text of it is ever shown.
#[derive(Clone)]
pub struct Secret(Arc<RwLock<Held>>);

/// A text that the secret is or was. Two of them are the same exactly if they are the same allocation.
pub struct Version(SecretString);

struct Held {
    present: Arc<Version>,
    former: Option<(Arc<Version>, Instant)>,
    /// When it was last seen where it is kept, and for how long that counts; nothing if it stands in the settings themselves.
    seen: Option<(Instant, Duration)>,
}

impl Secret {
    /// What the secret is, for showing it to others. It counts however old it is: they judge that.
    #[must_use]
    pub fn present(&self) -> Arc<Version> {
        Arc::clone(&self.0.read().present)
    }

    /// What others may prove something by: the secret, and for a while what it was before. Nothing if it has been confirmed too
    /// long ago.
    pub fn proving(&self) -> impl Iterator<Item = Arc<Version>> {
        let (held, now) = (self.0.read(), Instant::now());
        let is_fresh = held.seen.is_none_or(|(at, usable)| now.duration_since(at) <= usable);
        let former = held.former.as_ref().filter(|(_, until)| now < *until).map(|(former, _)| Arc::clone(former));
        [Some(Arc::clone(&held.present)), former].into_iter().flatten().filter(move |_| is_fresh)
    }

    /// Whether somebody has shown it, or what it was before while that counts. How long it takes tells nothing about the text.
    #[must_use]
    pub fn is_shown_by(&self, shown: &str) -> bool {
        let shown = Sha256::digest(shown);
        // Every version is compared, and none of them byte by byte until they differ.
        let is = |version: Arc<Version>| verify_slices_are_equal(&Sha256::digest(version.expose()), &shown).is_ok();
        self.proving().map(is).fold(false, |any, is| any | is)
    }

    /// The present text and the one before, whatever their age: neither is to be told to anybody.
    pub fn texts(&self) -> impl Iterator<Item = Arc<Version>> {
        let held = self.0.read();
        let former = held.former.as_ref().map(|(former, _)| Arc::clone(former));
        [Some(Arc::clone(&held.present)), former].into_iter().flatten()
    }

    /// It was seen where it is kept just now, and may prove something for `usable` from here on.
    pub(crate) fn confirm(&self, usable: Duration) {
        self.0.write().seen = Some((Instant::now(), usable));
    }

    /// Another text takes its place. What it was counts on for `grace`.
    pub(crate) fn exchange(&self, fresh: SecretString, grace: Duration) {
        let mut held = self.0.write();
        let former = std::mem::replace(&mut held.present, Arc::new(Version(fresh)));
        held.former = Some((former, Instant::now() + grace));
    }
}

impl Version {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<SecretString> for Secret {
    fn from(text: SecretString) -> Self {
        Self(Arc::new(RwLock::new(Held { present: Arc::new(Version(text)), former: None, seen: None })))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        SecretString::from(text).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        SecretString::from(text).into()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretString::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([REDACTED])")
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Version([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_mins(5);
    const USABLE: Duration = Duration::from_hours(1);

    fn proving(secret: &Secret) -> Vec<String> {
        secret.proving().map(|version| version.expose().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_secret_was_before_counts_on_for_its_grace() {
        let secret = Secret::from("one");
        let read_by_others = secret.clone();
        secret.exchange("two".into(), GRACE);
        assert_eq!(proving(&read_by_others), ["two", "one"]);
        assert_eq!(read_by_others.present().expose(), "two");
        tokio::time::advance(GRACE).await;
        assert_eq!(proving(&read_by_others), ["two"]);
        secret.exchange("three".into(), Duration::ZERO);
        assert_eq!(proving(&read_by_others), ["three"]);
        assert_eq!(secret.texts().count(), 2, "both are still to be kept quiet");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_confirms_proves_nothing_after_its_time_and_is_shown_to_others_on() {
        let (kept, fixed) = (Secret::from("kept"), Secret::from("fixed"));
        kept.confirm(USABLE);
        tokio::time::advance(USABLE + Duration::from_secs(1)).await;
        assert_eq!(proving(&kept), [""; 0]);
        assert_eq!(kept.present().expose(), "kept");
        assert_eq!(proving(&fixed), ["fixed"]);
        kept.confirm(USABLE);
        assert_eq!(proving(&kept), ["kept"]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_shown_by_exactly_its_text() {
        let secret = Secret::from("one");
        for (shown, is) in [("one", true), ("", false), ("on", false), ("one ", false), ("ONE", false), ("two", false)]
        {
            assert_eq!(secret.is_shown_by(shown), is, "{shown:?}");
        }
        secret.exchange("two".into(), GRACE);
        assert!(secret.is_shown_by("one") && secret.is_shown_by("two"));
        secret.confirm(Duration::ZERO);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!secret.is_shown_by("two"));
    }

    #[test]
    fn no_form_of_it_shows_its_text() {
        let read: Result<Secret, _> = serde_json::from_str("\"canary\"");
        let shown = format!("{read:?} {:?}", Secret::from("canary").present());
        assert!(read.is_ok() && !shown.contains("canary"), "{shown}");
    }
}
