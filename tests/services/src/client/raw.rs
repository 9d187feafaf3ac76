//! A bare connection, for what no HTTP library would send or leave unread.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::wait::within;

/// A TCP connection to the server under test.
#[derive(Debug)]
pub struct Raw {
    socket: TcpStream,
}

impl Raw {
    /// Connects to the server at `base`, a URL as [`super::Client`] takes it. With a small `receive_buffer` (bytes) a client
    /// that does not read is noticed by the server soon.
    pub async fn connect(base: &str, receive_buffer: Option<u32>) -> Result<Self> {
        let address: SocketAddr = base.strip_prefix("http://").context("no http:// URL")?.parse()?;
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        Ok(Self { socket: socket.connect(address).await? })
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes).await?)
    }

    /// Says that nothing more will be sent, and can still read.
    pub async fn finish(&mut self) -> Result<()> {
        Ok(self.socket.shutdown().await?)
    }

    /// Asks for a path in HTTP/1.0, whose answers end with the connection and are in one piece.
    pub async fn ask(&mut self, path: &str) -> Result<()> {
        let host = self.socket.peer_addr()?;
        self.send(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await
    }

    /// Everything until the server closes; a reset ends it too.
    ///
    /// # Panics
    /// When the server does not close.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        within("the server to close a connection", async {
            let mut all = Vec::new();
            while self.socket.read_buf(&mut all).await.is_ok_and(|length| length > 0) {}
            all
        })
        .await
    }
}
