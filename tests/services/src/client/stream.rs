//! A subscriber of a session's events.

use std::collections::VecDeque;
use std::time::Instant;

use anyhow::{Result, bail};
use reqwest::Url;
use serde_json::Value;

use super::Client;
use crate::wait::within;

/// The encoding of the stream frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Each frame has the text so far.
    #[default]
    Default,
    /// Each frame has the new piece only.
    Delta,
    /// As the default, plus the rendering so far.
    Html,
}

/// A subscription that is not open yet.
#[derive(Debug, Clone)]
pub struct Subscription {
    client: Client,
    path: String,
    query: Vec<(&'static str, String)>,
    last_event_id: Option<String>,
}

impl Subscription {
    pub(super) fn new(client: Client, session: &str) -> Self {
        let path = format!("/v1/session/{session}/events");
        Self { client, path, query: Vec::new(), last_event_id: None }
    }

    /// In this encoding.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        match mode {
            Mode::Default => {}
            Mode::Delta => self.query.push(("mode", "delta".to_owned())),
            Mode::Html => self.query.push(("mode", "html".to_owned())),
        }
        self
    }

    /// What came after this frame, said as browsers do when they connect again.
    #[must_use]
    pub fn last_event_id(mut self, id: &str) -> Self {
        self.last_event_id = Some(id.to_owned());
        self
    }

    /// What came after this frame, said in the URL.
    #[must_use]
    pub fn after(mut self, id: &str) -> Self {
        self.query.push(("after", id.to_owned()));
        self
    }

    /// Opens it.
    ///
    /// # Errors
    /// When the connection fails or the answer is no stream.
    ///
    /// # Panics
    /// When no answer comes.
    pub async fn open(self) -> Result<Stream> {
        let mut url = Url::parse(&self.client.url(&self.path))?;
        url.query_pairs_mut().extend_pairs(&self.query);
        let mut request = self.client.http.get(url);
        if let Some(id) = &self.last_event_id {
            request = request.header("last-event-id", id);
        }
        let answer = within("the answer to a subscription", request.send()).await?;
        if answer.status().as_u16() != 200 {
            let status = answer.status();
            bail!("{} answered {status}: {}", self.path, answer.text().await.unwrap_or_default());
        }
        Ok(Stream { answer, raw: Vec::new(), parsed: 0, ready: VecDeque::new(), frames: Vec::new() })
    }
}

/// One frame of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Its `id:` line.
    pub id: Option<String>,
    /// Its data.
    pub data: Value,
    /// When it had been read.
    pub at: Instant,
}

impl Frame {
    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or_default()
    }

    /// Its text: the message, or the piece in delta mode.
    #[must_use]
    pub fn text(&self) -> &str {
        self.data["delta"].as_str().or_else(|| self.data["message"].as_str()).unwrap_or_default()
    }

    /// A stored event, by its number.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.data["metadata"]["sequence"].as_u64()
    }

    /// The attempt it belongs to.
    #[must_use]
    pub fn attempt(&self) -> Option<u64> {
        self.data["metadata"]["attempt"].as_u64()
    }

    /// Whether it ends a turn.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.data["metadata"]["completed"] == Value::Bool(true)
    }
}

/// An open subscription. Closed when dropped.
#[derive(Debug)]
pub struct Stream {
    answer: reqwest::Response,
    raw: Vec<u8>,
    parsed: usize,
    ready: VecDeque<Frame>,
    frames: Vec<Frame>,
}

impl Stream {
    /// Every byte of the body so far.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Header fields of the answer.
    #[must_use]
    pub fn headers(&self) -> &reqwest::header::HeaderMap {
        self.answer.headers()
    }

    /// The frames handed out so far, heartbeats left out.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The id to resume after: that of the last frame that had one.
    #[must_use]
    pub fn last_id(&self) -> Option<String> {
        self.frames.iter().rev().find_map(|frame| frame.id.clone())
    }

    /// The next frame that is no heartbeat, or `None` when the stream ended or broke.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn next(&mut self) -> Option<Frame> {
        within("the next frame of a stream", self.next_frame()).await
    }

    async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            while let Some(frame) = self.ready.pop_front() {
                if frame.kind() != "system.keepalive" {
                    self.frames.push(frame.clone());
                    return Some(frame);
                }
            }
            self.read().await.then_some(())?;
        }
    }

    /// Waits for one heartbeat.
    ///
    /// # Panics
    /// When none comes.
    pub async fn heartbeat(&mut self) -> Option<Frame> {
        within("a heartbeat", async {
            loop {
                if let Some(place) = self.ready.iter().position(|frame| frame.kind() == "system.keepalive") {
                    return self.ready.remove(place);
                }
                self.read().await.then_some(())?;
            }
        })
        .await
    }

    /// Reads frames until one fits, and returns that; `None` when the stream ended before.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn until(&mut self, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if fits(&frame) {
                return Some(frame);
            }
        }
    }

    /// Reads frames until a turn has ended.
    pub async fn until_terminal(&mut self) -> Option<Frame> {
        self.until(Frame::is_terminal).await
    }

    /// Reads until the server ends the stream.
    pub async fn until_end(&mut self) {
        while self.next().await.is_some() {}
    }

    async fn read(&mut self) -> bool {
        let Ok(Some(bytes)) = self.answer.chunk().await else {
            return false;
        };
        self.raw.extend_from_slice(&bytes);
        while let Some(end) = end_of_block(&self.raw[self.parsed..]) {
            let block = String::from_utf8_lossy(&self.raw[self.parsed..self.parsed + end]).into_owned();
            self.parsed += end;
            self.ready.extend(parse(&block));
        }
        true
    }
}

/// The frames in a body that was read by other means.
#[must_use]
pub fn frames_in(body: &[u8]) -> Vec<Frame> {
    String::from_utf8_lossy(body)
        .split_inclusive("\n\n")
        .filter(|block| block.ends_with("\n\n"))
        .filter_map(parse)
        .collect()
}

/// The length of the first block, its blank line included.
fn end_of_block(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\n\n").map(|place| place + 2)
}

fn parse(block: &str) -> Option<Frame> {
    let field = |name: &str| {
        let values = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        values.map(|value| value.strip_prefix(' ').unwrap_or(value)).next_back().map(str::to_owned)
    };
    let data = serde_json::from_str(&field("data")?).unwrap_or(Value::Null);
    Some(Frame { id: field("id"), data, at: Instant::now() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_become_frames() {
        let frame = parse("id: 3.1.2\ndata: {\"type\":\"assistant.stream\",\"message\":\"Hel\"}\n\n").unwrap();
        assert_eq!((frame.id.as_deref(), frame.kind(), frame.text()), (Some("3.1.2"), "assistant.stream", "Hel"));
        assert!(parse("retry: 1000\n\n").is_none());
        assert!(parse(": a comment\n\n").is_none());
        let terminal = json!({"type": "assistant.final", "metadata": {"completed": true, "sequence": 2, "attempt": 1}});
        let frame = parse(&format!("data: {terminal}\n\n")).unwrap();
        assert!(frame.is_terminal() && frame.id.is_none());
        assert_eq!((frame.sequence(), frame.attempt()), (Some(2), Some(1)));
    }
}
