//! What the process configures about the door.

mod cors;
mod limits;

use std::time::Duration;

use serde::Deserialize;
use somaagent_actors::secret::Secret;

pub use crate::client::{ProxyHeaders, TrustedProxies};
pub use cors::CorsSettings;
pub(crate) use cors::Named;
pub use limits::LimitSettings;
pub use somaagent_actors::domain::host::is_host_name;

/// The section `http` of the configuration. Every field has a default that suits one person on one machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DoorSettings {
    /// Whether callers must prove who they are. While off, only pages and programs of this machine are served.
    pub require_auth: bool,
    /// The cookie in which a browser may keep its token.
    pub jwt_cookie_name: String,
    /// Whether a request that changes something and relies on a cookie must show a CSRF token.
    pub csrf_enabled: bool,
    /// The cookie of that token; its name begins with `__Host-` where people see the door by TLS.
    pub csrf_cookie_name: String,
    /// Proxies that are believed whom a request is from: addresses and networks, with commas.
    pub trusted_proxies: String,
    /// In which headers they say it.
    pub proxy_headers: ProxyHeaders,
    /// With authentication: the host names that are served, with commas; empty: any.
    pub allowed_hosts: String,
    /// What workers in other processes show in `X-Internal-Token` (`GATEWAY_INTERNAL_TOKEN`); without it nobody is one.
    pub internal_token: Option<Secret>,
    /// Whether event streams are refused.
    pub disable_sse: bool,
    /// The tenant of callers that name none.
    pub default_tenant: String,
    /// Seconds between heartbeats on a quiet or busy stream.
    pub sse_heartbeat_seconds: u64,
    /// Largest request body, in bytes.
    pub body_limit_bytes: usize,
    /// Largest message, in bytes of UTF-8.
    pub message_limit_bytes: usize,
    /// Milliseconds a client has to send its request's head.
    pub header_timeout_ms: u64,
    /// Milliseconds a client has to send its request's body.
    pub body_timeout_ms: u64,
    /// Milliseconds an idle connection is kept.
    pub keep_alive_ms: u64,
    /// Milliseconds a closing connection may take.
    pub disconnect_timeout_ms: u64,
    /// Milliseconds sent bytes may stay unacknowledged, or a reader's window shut, before its connection is dropped.
    pub send_timeout_ms: u64,
    /// Milliseconds a health component has to answer.
    pub health_timeout_ms: u64,
    /// Milliseconds the oldest message of an actor may be queued or in hand before the process counts as not ready.
    pub stalled_ms: u64,
    /// Threads that serve requests; 0 means one per core.
    pub workers: usize,
    /// Connections one worker holds at once.
    pub max_connections: usize,
    /// Text of the header `X-API-Version`.
    pub api_version: String,
    /// Version of the API description.
    pub openapi_version: String,
    /// Whether replies to messages wait for the memory.
    pub write_through: WriteThroughSettings,
    /// Headers of every reply.
    pub headers: HeaderSettings,
    /// How much callers may ask for.
    pub limits: LimitSettings,
    /// Which pages of other sites may use the API.
    pub cors: CorsSettings,
}

/// Whether what was said is written to memory at once. It is remembered in any case: else when its turn in the queue comes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteThroughSettings {
    /// Whether it is written at once.
    pub enabled: bool,
    /// Whether the reply goes out without waiting for that.
    pub background: bool,
    /// Milliseconds the reply waits at most.
    pub timeout_ms: u64,
}

impl Default for WriteThroughSettings {
    fn default() -> Self {
        Self { enabled: false, background: false, timeout_ms: 2_000 }
    }
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            require_auth: false,
            jwt_cookie_name: "jwt".to_owned(),
            csrf_enabled: false,
            csrf_cookie_name: "csrf_token".to_owned(),
            trusted_proxies: String::new(),
            proxy_headers: ProxyHeaders::XForwarded,
            allowed_hosts: String::new(),
            internal_token: None,
            disable_sse: false,
            default_tenant: "public".to_owned(),
            sse_heartbeat_seconds: 20,
            body_limit_bytes: 1 << 20,
            message_limit_bytes: 256 << 10,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            keep_alive_ms: 75_000,
            disconnect_timeout_ms: 1_000,
            send_timeout_ms: 30_000,
            health_timeout_ms: 2_000,
            stalled_ms: 120_000,
            workers: 0,
            max_connections: 25_000,
            api_version: "v1".to_owned(),
            openapi_version: "1.0.0".to_owned(),
            write_through: WriteThroughSettings::default(),
            headers: HeaderSettings::default(),
            limits: LimitSettings::default(),
            cors: CorsSettings::default(),
        }
    }
}

impl DoorSettings {
    /// Threads that serve: `workers`, or as many as there are cores.
    #[must_use]
    pub fn threads(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given => given,
        }
    }

    /// The proxies that are believed.
    ///
    /// # Errors
    /// What of the list is no address or network, or too wide.
    pub fn proxies(&self) -> Result<TrustedProxies, String> {
        TrustedProxies::parse(&self.trusted_proxies, self.proxy_headers)
    }

    /// What is wrong with the name of the cookie of CSRF tokens.
    #[must_use]
    pub fn csrf_faults(&self) -> Vec<&'static str> {
        let name = self.csrf_cookie_name.as_str();
        let bare = name.strip_prefix("__Host-").unwrap_or(name);
        let taken = [self.jwt_cookie_name.as_str(), "login", "sign-in", "ask-who"];
        [
            (!is_cookie_name(name), "is no name of a cookie"),
            (taken.contains(&name) || taken.contains(&bare), "is the name of another cookie"),
            (name.starts_with("__"), "must be without a prefix: it is added where people see the door by TLS"),
        ]
        .into_iter()
        .filter_map(|(is_so, fault)| is_so.then_some(fault))
        .collect()
    }

    /// The host names that are served with authentication; empty: any.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        listed(&self.allowed_hosts)
    }

    /// The time between heartbeats, at least one second.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.sse_heartbeat_seconds.max(1))
    }

    /// The time a client has to send its body.
    #[must_use]
    pub const fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }

    /// The time a health component has to answer.
    #[must_use]
    pub const fn health_timeout(&self) -> Duration {
        Duration::from_millis(self.health_timeout_ms)
    }
}

/// The entries of a list with commas.
fn listed(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// Headers of every reply; a handler's own value wins.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderSettings {
    /// `X-Frame-Options`: `DENY` or `SAMEORIGIN`; `NONE` sends none.
    pub frame_options: String,
    /// `Referrer-Policy`; empty sends none.
    pub referrer_policy: String,
    /// `Permissions-Policy`; sent only when set.
    pub permissions_policy: Option<String>,
    /// `Content-Security-Policy` of replies that are no page; unset, one that allows nothing is sent, and empty, none. Pages
    /// have a strict one of their own.
    pub csp: Option<String>,
    /// Whether `Strict-Transport-Security` is sent.
    pub hsts: bool,
    /// Its `max-age`, in seconds.
    pub hsts_max_age_seconds: u64,
    /// Its `includeSubDomains`.
    pub hsts_include_subdomains: bool,
    /// Its `preload`.
    pub hsts_preload: bool,
}

impl HeaderSettings {
    /// What cannot be sent: the setting and what is wrong with it. A header that protects is never left out in silence.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !["DENY", "SAMEORIGIN", "NONE"].iter().any(|known| self.frame_options.eq_ignore_ascii_case(known)) {
            faults.push(("frame_options", format!("{:?} is not DENY, SAMEORIGIN or NONE", self.frame_options)));
        }
        let texts = [
            ("referrer_policy", Some(&self.referrer_policy)),
            ("permissions_policy", self.permissions_policy.as_ref()),
            ("csp", self.csp.as_ref()),
        ];
        for (name, text) in texts {
            if !text.is_none_or(|text| is_header_text(text)) {
                faults.push((name, NO_HEADER_TEXT.to_owned()));
            }
        }
        faults
    }
}

/// What is wrong with a text that [`is_header_text`] refuses.
pub const NO_HEADER_TEXT: &str = "has a character that no header can carry: only visible ASCII on one line will do";

/// Whether a text can be the value of a header as it is.
#[must_use]
pub fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// Whether a text can be the name of a cookie (RFC 6265 §4.1.1).
#[must_use]
pub fn is_cookie_name(text: &str) -> bool {
    let separators = b"()<>@,;:\\\"/[]?={} \t";
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !separators.contains(&byte))
}

impl Default for HeaderSettings {
    fn default() -> Self {
        Self {
            frame_options: "DENY".to_owned(),
            referrer_policy: "no-referrer".to_owned(),
            permissions_policy: None,
            csp: None,
            hsts: false,
            hsts_max_age_seconds: 31_536_000,
            hsts_include_subdomains: true,
            hsts_preload: false,
        }
    }
}
