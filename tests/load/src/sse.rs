//! A reader of event streams that looks only for what is measured: the moments written into the pieces of an answer.
//!
//! The model writes the instant at which it sends a piece into the piece itself ([`stamp`]), so a piece's delay is the
//! difference to the instant at which it is read, however many hands it went through.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use crate::clock::{self, Nanos};
use crate::wire;

/// Bytes read at a time.
const ROOM: usize = 64 * 1024;

/// Longest wait for something to read. Generous: it is reached only when something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// The text of a piece that is sent at the instant `at`.
#[must_use]
pub fn stamp(at: Nanos) -> String {
    format!("@{at};")
}

/// Who wrote a stream, and so how a piece looks in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The model itself.
    Model,
    /// The server, in `mode=delta`.
    Server,
}

impl Writer {
    const fn piece(self) -> &'static [u8] {
        match self {
            Self::Model => b"\"content\":\"@",
            Self::Server => b"\"delta\":\"@",
        }
    }

    const fn end(self) -> &'static [u8] {
        match self {
            Self::Model => b"[DONE]",
            Self::Server => b"\"assistant.final\"",
        }
    }
}

/// What was seen in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The head and the first line: the stream is open.
    Opened,
    /// A piece that the model sent at that instant.
    Piece(Nanos),
    /// The end of the answer. The server's streams go on with the next one.
    End,
    /// The answer ended in an error.
    Failed,
}

/// Finds in the bytes of one stream what is measured.
#[derive(Debug)]
struct Scanner {
    writer: Writer,
    opened: bool,
    /// The beginning of a line that is not complete. Lines are short, and most reads end with one.
    rest: Vec<u8>,
}

impl Scanner {
    const fn new(writer: Writer) -> Self {
        Self { writer, opened: false, rest: Vec::new() }
    }

    /// Looks at the next `bytes`. Chunk sizes of the transfer encoding stand on lines of their own and are passed over.
    fn feed(&mut self, bytes: &[u8], seen: &mut impl FnMut(Seen)) {
        let mut bytes = bytes;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, others) = (&bytes[..end], &bytes[end + 1..]);
            if self.rest.is_empty() {
                self.line(line, seen);
            } else {
                let mut whole = std::mem::take(&mut self.rest);
                whole.extend_from_slice(line);
                self.line(&whole, seen);
            }
            bytes = others;
        }
        self.rest.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8], seen: &mut impl FnMut(Seen)) {
        if let Some(data) = line.strip_prefix(b"data: ") {
            self.data(data, seen);
        } else if !self.opened && line.starts_with(b"retry: ") {
            self.opened = true;
            seen(Seen::Opened);
        }
    }

    fn data(&self, data: &[u8], seen: &mut impl FnMut(Seen)) {
        let mark = self.writer.piece();
        if let Some(at) = wire::find(data, mark) {
            stamps(&data[at + mark.len() - 1..]).for_each(|sent| seen(Seen::Piece(sent)));
        } else if wire::find(data, self.writer.end()).is_some() {
            seen(Seen::End);
        } else if wire::find(data, b"\"assistant.error\"").is_some() {
            seen(Seen::Failed);
        }
    }
}

/// The stamps at the beginning of `text`.
fn stamps(mut text: &[u8]) -> impl Iterator<Item = Nanos> {
    std::iter::from_fn(move || {
        let digits = text.strip_prefix(b"@")?;
        let end = digits.iter().position(|byte| *byte == b';')?;
        text = &digits[end + 1..];
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    })
}

/// An event stream that is being read.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    scanner: Scanner,
}

impl Stream {
    /// Connects to `port` and asks there for `request`.
    pub async fn open(port: u16, request: &[u8], writer: Writer) -> Result<Self> {
        let mut stream = Self::connect(port, writer).await?;
        stream.ask(request).await?;
        Ok(stream)
    }

    /// Connects to `port` and asks for nothing yet.
    pub async fn connect(port: u16, writer: Writer) -> Result<Self> {
        Ok(Self { socket: wire::connect(port).await?, scanner: Scanner::new(writer) })
    }

    /// Asks for something on the open connection.
    pub async fn ask(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(request).await?)
    }

    /// Opens the stream of a session of the server at `port` and waits until it is open.
    pub async fn of_session(port: u16, session: Uuid) -> Result<Self> {
        let mut stream = Self::connect(port, Writer::Server).await?;
        stream.watch(port, session).await?;
        Ok(stream)
    }

    /// The same on a connection that is open.
    pub async fn watch(&mut self, port: u16, session: Uuid) -> Result<()> {
        self.ask(&wire::get(port, &format!("/v1/session/{session}/events?mode=delta"))).await?;
        self.wait_for(Seen::Opened).await
    }

    /// Reads what has come, once something has, and tells what was seen in it with the instant at which it was read.
    ///
    /// # Errors
    /// When the other side hung up.
    pub async fn read(&mut self, mut seen: impl FnMut(Nanos, Seen)) -> Result<()> {
        thread_local! {
            // One for all streams: ten thousand readers have nothing to keep between two reads.
            static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; ROOM]);
        }
        loop {
            self.socket.readable().await?;
            let read = BUFFER.with_borrow_mut(|buffer| match self.socket.try_read(buffer) {
                Ok(0) => bail!("the stream ended"),
                Ok(read) => {
                    let at = clock::now();
                    self.scanner.feed(&buffer[..read], &mut |what| seen(at, what));
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error.into()),
            })?;
            if read {
                return Ok(());
            }
        }
    }

    /// Reads on until `what` is seen.
    ///
    /// # Errors
    /// When the other side hung up, or the answer failed.
    async fn wait_for(&mut self, what: Seen) -> Result<()> {
        let (mut found, mut failed) = (false, false);
        while !found {
            let read = self.read(|_, seen| {
                found |= seen == what;
                failed |= seen == Seen::Failed;
            });
            timeout(PATIENCE, read).await.with_context(|| format!("not seen within {PATIENCE:?}: {what:?}"))??;
            ensure!(!failed, "the answer failed");
        }
        Ok(())
    }

    /// Reads one answer to its end: for each piece when it was sent and when it was read.
    ///
    /// # Errors
    /// When the other side hung up, or the answer failed.
    pub async fn answer(&mut self) -> Result<Vec<(Nanos, Nanos)>> {
        let (mut pieces, mut ended, mut failed) = (Vec::new(), false, false);
        while !ended {
            let read = self.read(|at, seen| match seen {
                Seen::Piece(sent) => pieces.push((sent, at)),
                Seen::End => ended = true,
                Seen::Failed => failed = true,
                Seen::Opened => {}
            });
            timeout(PATIENCE, read)
                .await
                .with_context(|| format!("nothing more of an answer within {PATIENCE:?}"))??;
            ensure!(!failed, "the answer failed");
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(writer: Writer, parts: &[&[u8]]) -> Vec<Seen> {
        let (mut scanner, mut all) = (Scanner::new(writer), Vec::new());
        for part in parts {
            scanner.feed(part, &mut |seen| all.push(seen));
        }
        all
    }

    const OURS: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nd\r\nretry: 1000\n\n\r\n3f\r\nid: 1.1.3\ndata: {\"type\":\"assistant.stream\",\"delta\":\"@12;@13;\"}\n\n\r\n20\r\nid: 2\ndata: {\"message\":\"@12;@13;\",\"type\":\"assistant.final\"}\n\n\r\n";

    #[test]
    fn pieces_are_found_wherever_reads_are_cut() {
        let expected = [Seen::Opened, Seen::Piece(12), Seen::Piece(13), Seen::End];
        assert_eq!(scan(Writer::Server, &[OURS]), expected);
        for cut in 0..OURS.len() {
            assert_eq!(scan(Writer::Server, &[&OURS[..cut], &OURS[cut..]]), expected, "cut at {cut}");
        }
    }

    #[test]
    fn the_models_own_stream_is_read_the_same_way() {
        let bytes = b"5\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"@7;\"}}]}\n\n\r\ndata: [DONE]\n\n";
        assert_eq!(scan(Writer::Model, &[bytes]), [Seen::Piece(7), Seen::End]);
    }

    #[test]
    fn an_error_is_seen_and_other_events_are_not() {
        let bytes = b"data: {\"type\":\"assistant.thinking\"}\n\ndata: {\"type\":\"assistant.error\"}\n\n";
        assert_eq!(scan(Writer::Server, &[bytes]), [Seen::Failed]);
    }

    #[test]
    fn a_stamp_is_read_back() {
        assert_eq!(stamps(stamp(42).as_bytes()).collect::<Vec<_>>(), [42]);
        assert_eq!(stamps(b"@1;@x;").collect::<Vec<_>>(), [1]);
    }
}
