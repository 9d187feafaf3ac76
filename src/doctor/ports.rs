//! The ports of the door and of the metrics: free, or a running somaagent's, and who reaches them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::header::HOST;
use reqwest::redirect;
use serde_json::Value;
use somaagent_actors::bounded;
use tokio::net::TcpSocket;

use super::{Look, finding::Notes};
use crate::roles::Role;

/// Longest answer that is read, in bytes; what a somaagent says of itself has a few hundred.
const MAX_BYTES: usize = 64 * 1024;

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let (server, http) = (&look.config.server, &look.config.http);
    if server.role.has(Role::Gateway) {
        if let Ok(host) = server.address() {
            let named = http.hosts().into_iter().next();
            port(look, notes, "door", (SocketAddr::from((host, server.port)), "GATEWAY_PORT"), named).await;
            reached(look, notes);
        }
    } else {
        notes.skipped("door", "a process of these roles has none");
    }
    match server.metrics_address() {
        Some((host, number, variable)) => {
            port(look, notes, "metrics", (SocketAddr::from((host, number)), variable), None).await;
            if !host.is_loopback() {
                let advice = "let only the collector of metrics reach that port";
                notes.note("metrics", format!("whoever reaches {host} may read the metrics"), Some(advice));
            }
        }
        None => notes.skipped("metrics", "they are not served"),
    }
}

/// Who reaches the door, and what is between.
fn reached(look: Look<'_>, notes: &Notes) {
    let http = &look.config.http;
    if !look.is_reached_by_others() {
        return notes.ok("reached", "only this machine reaches the door");
    }
    if http.trusted_proxies.trim().is_empty() {
        let advice = "put a proxy in front that adds TLS, and name it in GATEWAY_TRUSTED_PROXIES: docs/access.md";
        notes.warning(
            "reached",
            "other machines reach the door, and no proxy is named that adds TLS: whoever is in between may read tokens and chats",
            advice,
        );
    } else {
        notes.ok("reached", format!("by way of the proxies {}", http.trusted_proxies));
    }
    if http.allowed_hosts.trim().is_empty() {
        let advice = "GATEWAY_ALLOWED_HOSTS names the hosts that are served";
        notes.note("reached", "requests for any host name are served", Some(advice));
    }
}

/// Whether a port is free, without listening on it, and who has it if it is not.
async fn port(
    look: Look<'_>,
    notes: &Notes,
    check: &'static str,
    (address, variable): (SocketAddr, &'static str),
    named: Option<String>,
) {
    if address.port() == 0 {
        return notes.ok(check, "any free port is taken");
    }
    let error = match bind(address) {
        Ok(()) => return notes.ok(check, format!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse => match health(address, named, look.within / 2).await {
            Some(health) => running(address, &health, check, notes),
            None => notes.fault(
                check,
                format!("{address} is used by another program"),
                format!("end that one, or set {variable}"),
            ),
        },
        io::ErrorKind::AddrNotAvailable => {
            notes.fault(
                check,
                format!("{} is no address of this machine", address.ip()),
                "set GATEWAY_HOST or GATEWAY_METRICS_HOST to one, or to 0.0.0.0",
            );
        }
        _ => notes.fault(
            check,
            format!("{address}: {error}"),
            format!("set {variable} to a port that this user may open (above 1023)"),
        ),
    }
}

/// Binds as a process would, and lets go at once. It never listens, so nobody is held up.
fn bind(address: SocketAddr) -> io::Result<()> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

fn running(address: SocketAddr, health: &Value, check: &'static str, notes: &Notes) {
    let status = health["status"].as_str().unwrap_or_default();
    let parts = health["components"].as_object().into_iter().flatten();
    let ill: Vec<String> = parts
        .filter(|(_, part)| part["status"] != "ok")
        .map(|(name, part)| format!("{name} {}", part["status"].as_str().unwrap_or_default()))
        .collect();
    if status == "ok" {
        notes.ok(check, format!("a somaagent runs at {address} and is well"));
    } else {
        let seen = format!("a somaagent runs at {address} and says that it is {status}: {}", ill.join(", "));
        notes.warning(check, seen, "what it works with is looked at below; GET /healthz says how it is");
    }
}

/// What a somaagent says of itself; nothing if it is none.
async fn health(address: SocketAddr, named: Option<String>, within: Duration) -> Option<Value> {
    let host = match address.ip() {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let http = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(within).build().ok()?;
    let mut request = http.get(format!("http://{}/healthz", SocketAddr::new(host, address.port())));
    if let Some(named) = named {
        request = request.header(HOST, named);
    }
    // Whatever has the port may answer anything.
    let health = bounded::body(request.send().await.ok()?, MAX_BYTES).await.ok()?;
    let health: Value = serde_json::from_slice(&health).ok()?;
    (health["status"].is_string() && health["components"].is_object()).then_some(health)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::listen::listen;

    #[tokio::test]
    async fn a_port_is_looked_at_without_being_taken() {
        let taken = listen(([127, 0, 0, 1], 0).into(), "GATEWAY_PORT").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        bind(address).unwrap();
        listen(address, "GATEWAY_PORT").unwrap();
        assert_eq!(bind(([192, 0, 2, 1], 80).into()).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    }
}
