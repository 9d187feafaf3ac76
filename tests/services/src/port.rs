//! Ports for servers that must come back to the same one.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which systems take the ports of outgoing connections: such a connection could otherwise sit on the
/// port of a server that is down for a moment.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port on which nobody listens, and which no other call in this process was given.
#[must_use]
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run at the same time begin at different places.
    let start = u16::try_from(std::process::id() * 97 % u32::from(COUNT)).unwrap_or(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free()));
        let taken = taken.and_then(|listener| listener.local_addr()).map(|address| address.port());
        let (one, two) = (free(), free());
        assert!(one != two && taken.is_ok_and(|taken| taken != one && taken != two));
    }
}
