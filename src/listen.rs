//! Opens listening sockets, and says which setting to change when that fails.

use std::io;
use std::net::{SocketAddr, TcpListener};

use thiserror::Error;
use tokio::net::TcpSocket;

/// Connections that may wait to be accepted; the system lowers it to its own limit.
const BACKLOG: u32 = 4096;

/// An address cannot be listened on.
#[derive(Debug, Error)]
#[error("{}", self.text())]
pub struct ListenError {
    address: SocketAddr,
    variable: &'static str,
    #[source]
    source: io::Error,
}

impl ListenError {
    fn text(&self) -> String {
        let Self { address, variable, source } = self;
        if source.kind() == io::ErrorKind::AddrInUse {
            return format!("{address} is used by another process; stop that one or set {variable}");
        }
        format!("cannot listen on {address}, see {variable}")
    }
}

/// Listens on `address`, which `variable` sets. Must be called inside a runtime.
///
/// # Errors
/// If the address is in use, not of this machine, or not allowed.
pub fn listen(address: SocketAddr, variable: &'static str) -> Result<TcpListener, ListenError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Or a restart would have to wait for connections of the former process to time out.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    open().map_err(|source| ListenError { address, variable, source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_variable_that_changes_it() {
        let first = listen(([127, 0, 0, 1], 0).into(), "GATEWAY_PORT").unwrap();
        let address = first.local_addr().unwrap();
        let refused = listen(address, "GATEWAY_PORT").unwrap_err().to_string();
        assert_eq!(refused, format!("{address} is used by another process; stop that one or set GATEWAY_PORT"));
    }
}
