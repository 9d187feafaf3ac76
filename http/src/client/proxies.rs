//! Which proxies are trusted, and how they write what they know.

use std::net::IpAddr;

use actix_web::http::header::{FORWARDED, HeaderMap, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use ipnet::IpNet;
use serde::Deserialize;

use super::{
    Scheme,
    forwarded::{Hop, address, elements},
};

/// What some proxies write in place of `X-Forwarded-For`.
const REAL_IP: &str = "x-real-ip";

/// In which headers the trusted proxies say whom a request is from. The others are the client's own words: a proxy that
/// writes one kind hands the other on as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies whose word counts.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    headers: ProxyHeaders,
}

impl TrustedProxies {
    /// Reads addresses and networks (`10.0.0.7,192.168.0.0/16,fd00::/8`).
    ///
    /// # Errors
    /// What is none, or a network of all addresses: then every client could say to be any other.
    pub fn parse(list: &str, headers: ProxyHeaders) -> Result<Self, String> {
        let texts = list.split(',').map(str::trim).filter(|text| !text.is_empty());
        let networks: Result<Vec<IpNet>, String> = texts.map(network).collect();
        Ok(Self { networks: networks?, headers })
    }

    /// Whether `address` is one of them.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// What they say of the way of a request, from the nearest proxy to the farthest.
    pub(super) fn hops(&self, headers: &HeaderMap) -> Vec<Hop> {
        match self.headers {
            ProxyHeaders::Forwarded => {
                let mut hops = elements(&joined(headers, FORWARDED.as_str()));
                hops.reverse();
                hops
            }
            ProxyHeaders::XForwarded => x_forwarded(headers),
        }
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) if network.prefix_len() == 0 => Err(format!("{text} would trust everybody")),
        Ok(network) => Ok(network),
        Err(_) => Err(format!("{text:?} is neither an address nor a network such as 10.0.0.0/8")),
    }
}

/// One hop for each address. Scheme and host are those that the nearest proxy wrote, for the lists need not be equally long.
fn x_forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let last = |name: &str| joined(headers, name).rsplit(',').next().map(str::trim).map(str::to_owned);
    let scheme = last(X_FORWARDED_PROTO.as_str()).and_then(|name| Scheme::parse(&name));
    let host = last(X_FORWARDED_HOST.as_str()).filter(|host| !host.is_empty());
    let addresses = joined(headers, X_FORWARDED_FOR.as_str());
    let hops = addresses.rsplit(',').map(|text| Hop { address: address(text.trim()), ..Hop::default() });
    let mut hops: Vec<Hop> = hops.collect();
    if let Some(nearest) = hops.first_mut() {
        (nearest.scheme, nearest.host) = (scheme, host);
    }
    hops
}

/// Whether whatever handed a request on, trusted or not, says that it comes from this machine, or says nothing. One that hides
/// whom it got the request from may have got it from anybody.
pub(crate) fn is_told_to_be_ours(headers: &HeaderMap) -> bool {
    let is_ours = |address: Option<IpAddr>| address.is_some_and(|address| address.is_loopback());
    let listed = [X_FORWARDED_FOR.as_str(), REAL_IP].map(|name| joined(headers, name)).join(",");
    let mut listed = listed.split(',').map(str::trim).filter(|text| !text.is_empty());
    let forwarded = joined(headers, FORWARDED.as_str());
    let hops = elements(&forwarded);
    let says_nothing = forwarded.trim().is_empty();
    listed.all(|text| is_ours(address(text)))
        && (says_nothing || !hops.is_empty() && hops.iter().all(|hop| is_ours(hop.address)))
}

/// All values of a header as one list (RFC 9110 §5.3); one that is no text reads as something that is no address.
fn joined(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<&str> = headers.get_all(name).map(|value| value.to_str().unwrap_or("?")).collect();
    values.join(",")
}
