//! A client's end of HTTP/1.1 by hand: one connection, kept alive, one request at a time.
//!
//! What it costs is taken from the server's cores, so it does little: requests are written as they are, of an answer only
//! status and length are read, and the body is left in the buffer.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// A connection to a server on this machine.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    /// The last answer, whole.
    answer: Vec<u8>,
    /// Where its body begins.
    body: usize,
}

impl Wire {
    /// Connects to `port`.
    pub async fn connect(port: u16) -> Result<Self> {
        let socket = connect(port).await?;
        Ok(Self { socket, answer: Vec::new(), body: 0 })
    }

    /// Sends a part of a request, to be ended by [`ask`](Self::ask) or [`expect_ok`](Self::expect_ok).
    ///
    /// # Errors
    /// When the server hangs up.
    pub async fn send(&mut self, part: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(part).await?)
    }

    /// Sends a request and reads its answer, which must tell its length. Answers the status.
    ///
    /// # Errors
    /// When the server hangs up, or answers something else than HTTP/1.1 with a length.
    pub async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        self.send(request).await?;
        self.answer.clear();
        loop {
            let read = self.socket.read_buf(&mut self.answer).await?;
            ensure!(read > 0, "the server hung up");
            if let Some(head) = Head::of(&self.answer)? {
                let length = head.length.context("the answer tells no length")?;
                if self.answer.len() >= head.body + length {
                    self.body = head.body;
                    return Ok(head.status);
                }
            }
        }
    }

    /// Sends a request that must be answered with 200.
    ///
    /// # Errors
    /// When it is not; the error holds the answer.
    pub async fn expect_ok(&mut self, request: &[u8]) -> Result<()> {
        let status = self.ask(request).await?;
        ensure!(status == 200, "the server answered {status}: {}", self.text());
        Ok(())
    }

    /// The body of the last answer.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.answer[self.body..]).into_owned()
    }
}

/// A socket to `port` of this machine that sends at once.
pub async fn connect(port: u16) -> Result<TcpStream> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A request without a body.
#[must_use]
pub fn get(port: u16, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n").into_bytes()
}

/// A request with a JSON body, which may be empty.
#[must_use]
pub fn post(port: u16, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// What is read of the head of an answer, or of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// The status; 0 for a request.
    pub status: u16,
    /// Length of the body, if it is told.
    pub length: Option<usize>,
    /// Where the body begins.
    pub body: usize,
}

impl Head {
    /// Reads the head of `bytes`; `None` as long as it is not complete.
    ///
    /// # Errors
    /// When it is no HTTP/1.1.
    pub fn of(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = find(bytes, HEAD_END) else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..end])?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = match first.strip_prefix("HTTP/1.1 ") {
            Some(rest) => rest.get(..3).and_then(|code| code.parse().ok()).context("an answer without a status")?,
            None if first.ends_with(" HTTP/1.1") => 0,
            None => bail!("no HTTP/1.1: {first}"),
        };
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok());
        Ok(Some(Self { status, length, body: end + HEAD_END.len() }))
    }
}

/// Where `part` begins in `bytes`.
pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let answer = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(Head::of(answer).unwrap(), Some(Head { status: 200, length: Some(5), body: answer.len() - 5 }));
        assert_eq!(Head::of(&answer[..20]).unwrap(), None);
        let stream = Head::of(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!((stream.status, stream.length), (200, None));
        let request = Head::of(b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}").unwrap().unwrap();
        assert_eq!((request.status, request.length), (0, Some(2)));
        assert!(Head::of(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_tells_the_length_of_its_body() {
        let request = String::from_utf8(post(80, "/p", "{\"a\":1}")).unwrap();
        assert!(request.starts_with("POST /p HTTP/1.1\r\nhost: 127.0.0.1:80\r\n"));
        assert!(request.ends_with("content-length: 7\r\n\r\n{\"a\":1}"), "{request}");
        assert!(String::from_utf8(get(80, "/p")).unwrap().ends_with("\r\n\r\n"));
    }
}
