//! Whom a request is from and which host it was sent to: the one place that knows of proxies.
//!
//! What a proxy says counts only if the connection comes from one that is trusted, and only in the headers that the trusted ones
//! write: whatever else a request says of its way was written by whoever sent it. Hops are walked from the nearest to the
//! farthest, as far as they are trusted; what cannot be read ends the walk, so it never leads further than what is known.

mod forwarded;
mod proxies;

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    HttpMessage, HttpRequest,
    http::header::{HOST, HeaderMap},
};

pub use proxies::{ProxyHeaders, TrustedProxies};

use forwarded::Hop;
use proxies::is_told_to_be_ours;

/// Where a request comes from, found once and kept with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// The nearest address that is not a trusted proxy's; unknown where the connection has none.
    pub(crate) address: Option<IpAddr>,
    /// How the client reached the outermost trusted proxy; unknown if none says so.
    pub(crate) scheme: Option<Scheme>,
    /// The host that the client asked that proxy for, in place of the header `Host`.
    forwarded_host: Option<String>,
}

/// How a client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme of this name, whose case does not count (RFC 3986 §3.1).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            _ if name.eq_ignore_ascii_case("https") => Some(Self::Https),
            _ if name.eq_ignore_ascii_case("http") => Some(Self::Http),
            _ => None,
        }
    }

    /// The port that nobody writes.
    pub(crate) const fn default_port(self) -> &'static str {
        match self {
            Self::Http => "80",
            Self::Https => "443",
        }
    }
}

impl Client {
    /// Who sent a request with these `headers` over a connection from `peer`.
    pub(crate) fn find(trusted: &TrustedProxies, peer: Option<SocketAddr>, headers: &HeaderMap) -> Self {
        let Some(peer) = peer.map(|peer| peer.ip().to_canonical()) else { return Self::default() };
        if !trusted.has(peer) {
            return Self { address: Some(peer), ..Self::default() };
        }
        let mut found = Self { address: Some(peer), ..Self::default() };
        for hop in trusted.hops(headers) {
            // What a trusted proxy says of the request that it got, up to the one that got it from the client.
            let Hop { address, scheme, host } = hop;
            found.scheme = scheme.or(found.scheme);
            found.forwarded_host = host.or(found.forwarded_host);
            let Some(address) = address else { break };
            found.address = Some(address);
            if !trusted.has(address) {
                break;
            }
        }
        found
    }

    /// Who sent `request`.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        let found = request.extensions().get::<Self>().cloned();
        found.unwrap_or_else(|| Self::find(&TrustedProxies::default(), request.peer_addr(), request.headers()))
    }

    /// Whether a request with these `headers` is of a program on this machine, as far as anybody says.
    pub(crate) fn is_here(&self, headers: &HeaderMap) -> bool {
        self.address.is_some_and(|address| address.is_loopback()) && is_told_to_be_ours(headers)
    }

    /// The host that the request was sent to, with its port if that was written; none if it names none, or two.
    pub(crate) fn host<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a str> {
        self.forwarded_host.as_deref().or_else(|| own_host(headers))
    }
}

/// What the header `Host` says, whatever proxies say.
pub(crate) fn own_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(HOST);
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

#[cfg(test)]
mod tests;
