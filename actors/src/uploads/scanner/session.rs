//! A connection to clamd, on which one command after the other is made.

use std::{io, time::Duration};

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    select,
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    COME_TO_A_VERDICT, ScanError, Verdict,
    settings::Limits,
    target::Address,
    wire::{self, Signatures},
};

/// How long a byte may take to come, beside the time that all of them have: a second for each MB.
const PACE: Duration = Duration::from_micros(1);

/// A session with clamd. Who makes a command gives it away, and gets it back only if it may be used again.
#[derive(Debug)]
pub(super) struct Session {
    stream: TcpStream,
    address: Address,
    limits: Limits,
    /// Number of the last command.
    id: u32,
    received: Received,
    signatures: Signatures,
    used_at: Instant,
}

impl Session {
    /// Connects and hears that clamd is there and which signatures it has, for a port that only accepts connections is no clamd.
    pub async fn open(address: &Address, limits: Limits) -> Result<Self, ScanError> {
        let until = Instant::now() + limits.connect;
        let connecting = TcpStream::connect((address.host.as_str(), address.port));
        let late = |_| ScanError::TimedOut { step: "accept a connection", within: limits.connect };
        let stream = timeout_at(until, connecting).await.map_err(late)?.map_err(away)?;
        // The end of a stream is 4 bytes that must not wait for more.
        stream.set_nodelay(true).map_err(away)?;
        let (mut stream, mut received, id) = (stream, Received::default(), 1);
        let begin = [wire::BEGIN, wire::VERSION].concat();
        let answer = command((&mut stream, &mut received), &begin, until, limits).await?;
        let (address, signatures) = (address.clone(), wire::signatures(id, &answer)?);
        Ok(Self { stream, address, limits, id, received, signatures, used_at: Instant::now() })
    }

    /// The session, if it is one with `address` that clamd still keeps. clamd ends sessions when it likes, and the bytes of an
    /// upload cannot be sent a second time; and it may have other signatures since.
    pub async fn again(mut self, address: &Address) -> Option<Self> {
        if !self.is_fresh(Some(address)) {
            return None;
        }
        self.id += 1;
        let until = Instant::now() + self.limits.connect;
        let answer = command((&mut self.stream, &mut self.received), wire::VERSION, until, self.limits).await.ok()?;
        self.signatures = wire::signatures(self.id, &answer).ok()?;
        Some(self)
    }

    /// Whether it is worth keeping where scans go to `address`.
    pub fn is_fresh(&self, address: Option<&Address>) -> bool {
        address == Some(&self.address) && self.used_at.elapsed() < self.limits.idle
    }

    /// Which signatures clamd had when it last said that it is there.
    pub const fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// Has all that comes by `pieces` scanned, until their sender is dropped, or until clamd has said what it thinks.
    pub async fn scan(mut self, pieces: &mut mpsc::Receiver<Bytes>) -> Result<(Verdict, Option<Self>), ScanError> {
        self.id += 1;
        let (read, write) = self.stream.split();
        let line = Line { read, write, received: &mut self.received, limits: self.limits };
        match line.converse(pieces).await? {
            Said::AtTheEnd(answer) => {
                let verdict = wire::verdict(self.id, &answer)?;
                self.used_at = Instant::now();
                Ok((verdict, Some(self)))
            }
            Said::Before(answer) => match wire::verdict(self.id, &answer)? {
                Verdict::Clean => Err(ScanError::Protocol("clean, before the end of the bytes".to_owned())),
                verdict => Ok((verdict, None)),
            },
        }
    }
}

/// Makes a command that clamd answers at once.
async fn command(
    (stream, received): (&mut TcpStream, &mut Received),
    command: &[u8],
    until: Instant,
    limits: Limits,
) -> Result<Bytes, ScanError> {
    let answered = async {
        stream.write_all(command).await.map_err(away)?;
        received.next(stream).await
    };
    let late = |_| ScanError::TimedOut { step: "say that it is there", within: limits.connect };
    timeout_at(until, answered).await.map_err(late)?
}

/// When clamd answered a stream.
enum Said {
    /// To all of it.
    AtTheEnd(Bytes),
    /// It wants no more of it.
    Before(Bytes),
}

/// The two directions of a connection during a stream.
struct Line<'a> {
    read: ReadHalf<'a>,
    write: WriteHalf<'a>,
    received: &'a mut Received,
    limits: Limits,
}

impl Line<'_> {
    async fn converse(mut self, pieces: &mut mpsc::Receiver<Bytes>) -> Result<Said, ScanError> {
        let mut early = self.send(wire::INSTREAM).await?;
        let mut left = self.limits.feed;
        while early.is_none() {
            let since = Instant::now();
            let starved = |_| ScanError::Starved { within: self.limits.feed };
            let next = select! {
                biased;
                answer = self.received.next(&mut self.read) => return answer.map(Said::Before),
                piece = timeout(left, pieces.recv()) => piece.map_err(starved)?,
            };
            let Some(piece) = next else { break };
            let earned = PACE * u32::try_from(piece.len()).unwrap_or(u32::MAX);
            left = (left.saturating_sub(since.elapsed()) + earned).min(self.limits.feed);
            early = self.send_piece(piece).await?;
        }
        if early.is_none() {
            early = self.send(wire::END).await?;
        }
        if let Some(early) = early {
            return Ok(Said::Before(early));
        }
        let within = self.limits.answer;
        let late = |_| ScanError::TimedOut { step: COME_TO_A_VERDICT, within };
        timeout(within, self.received.next(&mut self.read)).await.map_err(late)?.map(Said::AtTheEnd)
    }

    /// Sends a piece of the stream, unless clamd says something.
    async fn send_piece(&mut self, mut piece: Bytes) -> Result<Option<Bytes>, ScanError> {
        while !piece.is_empty() {
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX).min(wire::MAX_PIECE_BYTES);
            let part = piece.split_to(length as usize);
            let early = self.send(Buf::chain(&length.to_be_bytes()[..], part)).await?;
            if early.is_some() {
                return Ok(early);
            }
        }
        Ok(None)
    }

    /// Sends bytes, unless clamd says something.
    async fn send(&mut self, mut bytes: impl Buf) -> Result<Option<Bytes>, ScanError> {
        let within = self.limits.write;
        while bytes.has_remaining() {
            let sent = select! {
                biased;
                answer = self.received.next(&mut self.read) => return answer.map(Some),
                sent = timeout(within, self.write.write_buf(&mut bytes)) => sent,
            };
            match sent.map_err(|_| ScanError::TimedOut { step: "take what it was sent", within })? {
                Ok(_) => {}
                // clamd may have answered and closed in between: what it said tells more than that it is gone.
                Err(error) => {
                    let last = timeout(within, self.received.next(&mut self.read)).await;
                    return last.ok().and_then(Result::ok).map_or_else(|| Err(away(error)), |answer| Ok(Some(answer)));
                }
            }
        }
        Ok(None)
    }
}

/// What was received and is not part of an answer that was taken.
#[derive(Debug, Default)]
struct Received(BytesMut);

impl Received {
    /// The next answer. Nothing is lost if the future is dropped.
    async fn next(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, ScanError> {
        loop {
            if let Some(end) = self.0.iter().position(|byte| *byte == 0) {
                let answer = self.0.split_to(end).freeze();
                self.0.advance(1);
                return Ok(answer);
            }
            let room = wire::MAX_ANSWER_BYTES.saturating_sub(self.0.len());
            if room == 0 {
                return Err(ScanError::Protocol(format!("one of more than {} bytes", wire::MAX_ANSWER_BYTES)));
            }
            if from.read_buf(&mut (&mut self.0).limit(room)).await.map_err(away)? == 0 {
                return Err(ScanError::Unavailable("it closed the connection".to_owned()));
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn away(error: io::Error) -> ScanError {
    ScanError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests;
