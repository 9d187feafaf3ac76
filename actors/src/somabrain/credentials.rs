//! The secret that goes with every call, and its exchange for a new one without a restart.
//!
//! A secret from a file is read again with each health probe, and at once when the server refuses the present one. A
//! file that cannot be read or used changes nothing. One that somebody else looks after is taken over with the next call.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tracing::{info, warn};

use super::settings::{BrainSettings, SettingsError};
use crate::secret::Secret;

/// The header that carries the secret. Clones share the secret.
#[derive(Clone)]
pub(super) struct Credentials {
    header: HeaderName,
    file: Option<PathBuf>,
    /// Exchanged by others; without a file.
    shared: Option<Secret>,
    keys: Arc<Mutex<Keys>>,
}

/// No key is ever shown.
struct Keys {
    present: Option<Key>,
    /// The one before: servers may still repeat it.
    former: Option<SecretString>,
    /// Whether the file was unusable when it was read last; said once.
    troubled: bool,
}

struct Key {
    secret: SecretString,
    value: HeaderValue,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("header", &self.header).field("file", &self.file).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the file if the settings name one.
    pub fn of(settings: &BrainSettings) -> Result<Self, SettingsError> {
        let header: HeaderName =
            settings.auth_header.trim().parse().map_err(|_| SettingsError::HeaderName("auth_header"))?;
        let shared = settings.api_key.clone().filter(|_| settings.api_key_file.is_none());
        let secret = match (&settings.api_key_file, &shared) {
            (Some(file), _) => Some(read(file).map_err(SettingsError::ApiKeyFile)?),
            (None, shared) => shared.as_ref().map(|shared| shared.present().expose().into()),
        };
        let secret = secret.filter(|secret| !secret.expose_secret().is_empty());
        let present = secret.map(|secret| Key::new(secret, &header)).transpose()?;
        let keys = Arc::new(Mutex::new(Keys { present, former: None, troubled: false }));
        Ok(Self { header, file: settings.api_key_file.clone(), shared, keys })
    }

    /// The header to send, if there is a secret: a bearer token under the standard name, the bare key under any other.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = self.shared.as_ref().map(Secret::present) {
            keys.follow(shared.expose(), &self.header);
        }
        keys.present.as_ref().map(|key| (self.header.clone(), key.value.clone()))
    }

    /// Reads the file again; says whether the secret is another one now.
    pub async fn refresh(&self) -> bool {
        let Some(file) = self.file.clone() else { return false };
        let read = tokio::task::spawn_blocking(move || read(&file)).await;
        let fresh = match read {
            Ok(Ok(secret)) if !secret.expose_secret().is_empty() => Key::new(secret, &self.header).ok(),
            _ => None,
        };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fresh) = fresh else {
            if !std::mem::replace(&mut keys.troubled, true) {
                warn!("the file with the key of SomaBrain is unusable: the key in use is kept");
            }
            return false;
        };
        keys.troubled = false;
        if keys.present.as_ref().is_some_and(|key| key.secret.expose_secret() == fresh.secret.expose_secret()) {
            return false;
        }
        keys.former = keys.present.replace(fresh).map(|key| key.secret);
        info!("the key of SomaBrain was exchanged for a new one");
        true
    }

    /// The text with every secret blotted out.
    pub fn scrubbed(&self, text: &str) -> String {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let secrets = keys.present.as_ref().map(|key| &key.secret).into_iter().chain(&keys.former);
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret.expose_secret(), "[redacted]"))
    }
}

impl Keys {
    /// Takes over what the secret is now, if a header can carry it. An empty one is none.
    fn follow(&mut self, text: &str, header: &HeaderName) {
        let is_same = self.present.as_ref().map_or(text.is_empty(), |key| key.secret.expose_secret() == text);
        if is_same {
            return;
        }
        if let Ok(fresh) = Key::new(text.into(), header) {
            self.former = self.present.replace(fresh).map(|key| key.secret);
        }
    }
}

impl Key {
    fn new(secret: SecretString, header: &HeaderName) -> Result<Self, SettingsError> {
        let key = secret.expose_secret();
        let text = if *header == AUTHORIZATION { format!("Bearer {key}") } else { key.to_owned() };
        let mut value = HeaderValue::from_str(&text).map_err(|_| SettingsError::ApiKey)?;
        value.set_sensitive(true);
        Ok(Self { secret, value })
    }
}

fn read(file: &Path) -> std::io::Result<SecretString> {
    std::fs::read_to_string(file).map(|text| text.trim_end_matches(['\r', '\n']).into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    fn of_file(file: &Path) -> Credentials {
        Credentials::of(&BrainSettings { api_key_file: Some(file.to_owned()), ..BrainSettings::default() }).unwrap()
    }

    fn sent(credentials: &Credentials) -> String {
        credentials.header().unwrap().1.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_key_in_a_file_is_exchanged_and_both_are_blotted_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-one\n").unwrap();
        let credentials = of_file(&file);
        assert_eq!(sent(&credentials), "Bearer sk-one");
        assert!(!credentials.refresh().await);
        std::fs::write(&file, "sk-two").unwrap();
        assert!(credentials.refresh().await);
        assert_eq!(sent(&credentials), "Bearer sk-two");
        assert_eq!(credentials.scrubbed("sk-one, sk-two"), "[redacted], [redacted]");
        assert!(!format!("{credentials:?}").contains("sk-"));
    }

    #[tokio::test]
    async fn a_key_that_others_exchange_goes_with_the_next_call_and_both_are_blotted_out() {
        let secret = Secret::from("sk-one");
        let settings = BrainSettings { api_key: Some(secret.clone()), ..BrainSettings::default() };
        let credentials = Credentials::of(&settings).unwrap();
        assert_eq!(sent(&credentials), "Bearer sk-one");
        secret.exchange("sk-two".into(), std::time::Duration::ZERO);
        assert_eq!(sent(&credentials), "Bearer sk-two");
        assert_eq!(credentials.scrubbed("sk-one, sk-two"), "[redacted], [redacted]");
    }

    #[tokio::test]
    async fn an_unusable_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-one").unwrap();
        let credentials = of_file(&file);
        for unusable in [&b"\n"[..], b"sk\0two", b"\xff"] {
            std::fs::write(&file, unusable).unwrap();
            assert!(!credentials.refresh().await);
        }
        std::fs::remove_file(&file).unwrap();
        assert!(!credentials.refresh().await);
        assert_eq!(sent(&credentials), "Bearer sk-one");
    }
}
