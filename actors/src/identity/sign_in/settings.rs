//! At which provider people sign in.

use std::time::Duration;

use openidconnect::core::CoreAuthPrompt;
use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;

use super::super::settings::SettingsError;
use crate::base_url;

/// The path to which the provider sends people back.
const CALLBACK: &str = "/v1/auth/callback";

/// The section `oidc` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OidcSettings {
    /// Whether people may sign in (`OIDC_ENABLED`).
    pub enabled: bool,
    /// The provider's issuer, as its description and its tokens name it (`OIDC_ISSUER`).
    pub issuer: String,
    /// What the provider calls this service (`OIDC_CLIENT_ID`).
    pub client_id: String,
    /// What this service proves itself with at the provider; a provider may do without (`OIDC_CLIENT_SECRET`).
    pub client_secret: Option<SecretString>,
    /// Where people are sent back to, as it is registered at the provider (`OIDC_REDIRECT_URI`); the service's own address and
    /// the callback's path, unless it is said.
    pub redirect_uri: Option<String>,
    /// The address at which people see this service (`GATEWAY_BASE_URL`).
    pub base_url: String,
    /// What is asked of the provider, separated by blanks (`OIDC_SCOPES`).
    pub scopes: String,
    /// What people call the provider (`OIDC_PROVIDER`).
    pub provider: String,
    /// Whether a token without a tenant is of the tenant that its proved e-mail address ends with
    /// (`OIDC_TENANT_FROM_EMAIL_DOMAIN`).
    pub tenant_from_email_domain: bool,
    /// Tenants whose people may sign in, with commas; all that the provider vouches for, if there are none.
    pub tenants: String,
    /// Subjects and proved e-mail addresses, with commas, of those who are granted `admin`.
    pub admins: String,
    /// What the provider is asked to ask whoever comes after somebody who has signed out or may not sign in.
    pub prompt_after_sign_out: Prompt,
    /// Seconds that a login lasts (`GATEWAY_JWT_TTL_SECONDS`).
    pub login_seconds: u64,
    /// Seconds that the provider's description and keys are kept.
    pub cache_seconds: u64,
    /// Seconds that one call to the provider may take.
    pub timeout_seconds: f64,
}

/// What a provider is asked to ask people (`prompt`, OpenID Connect Core §3.1.2.1). Some providers know one of them only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Which of their accounts they want.
    SelectAccount,
    /// Their password, or whatever they prove themselves with there.
    Login,
    /// Nothing that it would not ask by itself.
    Nothing,
}

impl Prompt {
    pub(super) const fn as_prompt(self) -> Option<CoreAuthPrompt> {
        match self {
            Self::SelectAccount => Some(CoreAuthPrompt::SelectAccount),
            Self::Login => Some(CoreAuthPrompt::Login),
            Self::Nothing => None,
        }
    }
}

impl Default for OidcSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            issuer: "https://accounts.google.com".to_owned(),
            client_id: String::new(),
            client_secret: None,
            redirect_uri: None,
            base_url: "http://localhost:8080".to_owned(),
            scopes: "openid email profile".to_owned(),
            provider: "google".to_owned(),
            tenant_from_email_domain: true,
            tenants: String::new(),
            admins: String::new(),
            prompt_after_sign_out: Prompt::SelectAccount,
            login_seconds: 3_600,
            cache_seconds: 600,
            timeout_seconds: 5.0,
        }
    }
}

impl OidcSettings {
    /// All that is wrong, so that it can be told at once. Nothing is while nobody may sign in.
    #[must_use]
    pub fn faults(&self) -> Vec<SettingsError> {
        let mut faults = Vec::new();
        if !self.enabled {
            return faults;
        }
        let mut add = |setting: &str, what: &str| {
            faults.push(SettingsError { setting: setting.to_owned(), what: what.to_owned() });
        };
        if let Err(what) = address(&self.issuer) {
            add("issuer", what);
        }
        if self.client_id.trim().is_empty() {
            add("client_id", "is empty");
        }
        if let Err(what) = self.callback() {
            add(if self.redirect_uri.is_some() { "redirect_uri" } else { "base_url" }, what);
        }
        if !self.scopes.split(' ').any(|scope| scope == "openid") {
            add("scopes", "must have openid among them");
        }
        faults
    }

    /// Whether people see this service by TLS, as far as the settings say, and whether or not they sign in.
    #[must_use]
    pub fn is_seen_by_tls(&self) -> bool {
        self.callback().is_ok_and(|callback| callback.scheme() == "https")
    }

    /// Where people are sent back to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn callback(&self) -> Result<Url, &'static str> {
        match &self.redirect_uri {
            Some(given) => address(given),
            None => address(&format!("{}{CALLBACK}", self.base_url.trim_end_matches('/'))),
        }
    }

    /// How long one call to the provider may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_seconds)
    }

    pub(super) fn allows(&self, tenant: &str) -> bool {
        let mut named = words(&self.tenants).peekable();
        named.peek().is_none() || named.any(|name| name == tenant)
    }

    /// Whether somebody is an admin: by their subject, or by an address that the provider has proved to be theirs.
    pub(super) fn is_admin(&self, subject: &str, email: Option<&str>) -> bool {
        words(&self.admins).any(|name| name == subject || email.is_some_and(|email| name.eq_ignore_ascii_case(email)))
    }
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// What is said there decides who somebody is, so nobody may change it on its way.
fn address(given: &str) -> Result<Url, &'static str> {
    let url = base_url::whole(given)?;
    let is_safe = url.scheme() == "https" || base_url::is_loopback(&url);
    if is_safe { Ok(url) } else { Err("must start with https://, except on this machine") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    fn settings() -> OidcSettings {
        OidcSettings { enabled: true, client_id: "soma".to_owned(), ..OidcSettings::default() }
    }

    #[test]
    fn what_is_wrong_is_told_at_once_and_only_of_those_who_want_it() {
        assert_eq!(OidcSettings::default().faults(), []);
        assert_eq!(settings().faults(), []);
        let wrong = OidcSettings {
            issuer: "http://id.example".to_owned(),
            client_id: " ".to_owned(),
            redirect_uri: Some("https://me:hidden@chat.example/cb".to_owned()),
            scopes: "email".to_owned(),
            ..settings()
        };
        let told: Vec<String> = wrong.faults().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "issuer must start with https://, except on this machine",
                "client_id is empty",
                "redirect_uri must not hold a user name or password",
                "scopes must have openid among them",
            ]
        );
        let plain = OidcSettings { base_url: "http://chat.example".to_owned(), ..settings() };
        assert_eq!(plain.faults()[0].setting, "base_url");
    }

    #[test]
    fn people_are_sent_back_to_the_callback_of_the_services_address() {
        let of = |base_url: &str| OidcSettings { base_url: base_url.to_owned(), ..settings() }.callback().unwrap();
        assert_eq!(of("https://chat.example/").as_str(), "https://chat.example/v1/auth/callback");
        assert_eq!(of("http://localhost:8080").as_str(), "http://localhost:8080/v1/auth/callback");
    }

    #[test]
    fn the_services_address_says_whether_people_see_it_by_tls_also_where_they_do_not_sign_in() {
        let by_tls =
            |base_url: &str| OidcSettings { base_url: base_url.to_owned(), ..OidcSettings::default() }.is_seen_by_tls();
        assert!(by_tls("https://chat.example"));
        assert!(["http://localhost:8080", "http://chat.example", "chat.example", ""].iter().all(|url| !by_tls(url)));
    }

    #[test]
    fn tenants_and_admins_are_those_that_are_listed() {
        assert!(settings().allows("acme"));
        let listed = OidcSettings { tenants: "acme, tea".to_owned(), admins: "u-1,Ann@acme".to_owned(), ..settings() };
        assert_eq!(["acme", "tea", "ac", ""].map(|tenant| listed.allows(tenant)), [true, true, false, false]);
        for (subject, email, expected) in [
            ("u-1", None, true),
            ("u-2", Some("ann@ACME"), true),
            ("ann@acme", None, false),
            ("U-1", None, false),
            ("u-2", Some("bob@acme"), false),
            ("", Some(""), false),
        ] {
            assert_eq!(listed.is_admin(subject, email), expected, "{subject} {email:?}");
        }
        assert!(!settings().is_admin("", None));
    }
}
