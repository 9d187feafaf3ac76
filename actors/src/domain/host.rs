//! Names of hosts.

use std::net::Ipv6Addr;

/// Whether a text can be the name of a host, or its address, without a port.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}
