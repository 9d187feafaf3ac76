//! A subscription as a `text/event-stream` response.
//!
//! Every block is `id:` (frames that can be resumed from) and one `data:` line; there is no `event:` line, so that an
//! `EventSource` with only `onmessage` sees every frame. A frame is encoded once per mode, however many read it; where that
//! means to render a long text, a thread of its own does it and the frames behind wait. The stream ends only when the
//! subscription does, and it is never compressed.

use std::{
    future::Future,
    io::Write as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_web::{
    HttpResponse,
    error::BlockingError,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    web::block,
};
use bytes::Bytes;
use futures_util::Stream;
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json};
use somaagent_actors::conversation::{Frame, FrameBody, StreamMode};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use uuid::Uuid;

use crate::{limits::Slot, render::to_html};

/// The first bytes: how many milliseconds an `EventSource` waits before it connects again.
const OPENING: Bytes = Bytes::from_static(b"retry: 1000\n\n");

/// Longer texts, in bytes, are not rendered on the thread that serves everybody.
const RENDERED_IN_PLACE_BYTES: usize = 1 << 10;

/// Answers with everything `subscription` yields, and a heartbeat every `heartbeat`.
pub(crate) fn respond<S>(
    session_id: Uuid,
    subscription: S,
    mode: StreamMode,
    heartbeat: Duration,
    slot: Slot,
) -> HttpResponse
where
    S: Stream<Item = Arc<Frame>> + Unpin + 'static,
{
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(Blocks::new(session_id, subscription, mode, heartbeat, slot))
}

/// The blocks of one stream.
struct Blocks<S> {
    opened: bool,
    subscription: S,
    mode: StreamMode,
    heartbeat: Interval,
    keepalive: Bytes,
    /// The frame that is being encoded elsewhere. Dropped with the reader; whoever else reads the frame gets its bytes.
    encoding: Option<Encoding>,
    _slot: Slot,
}

type Encoding = Pin<Box<dyn Future<Output = Result<Bytes, BlockingError>>>>;

impl<S> Blocks<S> {
    fn new(session_id: Uuid, subscription: S, mode: StreamMode, every: Duration, slot: Slot) -> Self {
        let mut heartbeat = interval_at(Instant::now() + every, every);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let keepalive = json!({"type": "system.keepalive", "role": "system", "session_id": session_id});
        let keepalive = Bytes::from(format!("data: {keepalive}\n\n"));
        Self { opened: false, subscription, mode, heartbeat, keepalive, encoding: None, _slot: slot }
    }
}

impl<S: Stream<Item = Arc<Frame>> + Unpin> Stream for Blocks<S> {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.opened {
            this.opened = true;
            return Poll::Ready(Some(Ok(OPENING)));
        }
        // Before the frames: a reader of a busy stream gets its heartbeats too.
        if this.heartbeat.poll_tick(cx).is_ready() {
            return Poll::Ready(Some(Ok(this.keepalive.clone())));
        }
        if this.encoding.is_none() {
            let Some(frame) = ready!(Pin::new(&mut this.subscription).poll_next(cx)) else { return Poll::Ready(None) };
            let mode = this.mode;
            let encode = move |frame: &Frame| frame.encoded(mode, |frame| encoded(frame, mode));
            if rendered_bytes(&frame.body, mode) <= RENDERED_IN_PLACE_BYTES {
                return Poll::Ready(Some(Ok(encode(&frame))));
            }
            this.encoding = Some(Box::pin(block(move || encode(&frame))));
        }
        let Some(encoding) = &mut this.encoding else { return Poll::Ready(None) };
        let bytes = ready!(encoding.as_mut().poll(cx));
        this.encoding = None;
        // Without the bytes the stream ends, so that its reader comes back for them.
        Poll::Ready(bytes.ok().map(Ok))
    }
}

/// How many bytes of text have to be rendered for a frame.
fn rendered_bytes(body: &FrameBody, mode: StreamMode) -> usize {
    let text = match body {
        _ if mode != StreamMode::Html => None,
        FrameBody::Event(event) => answer(event),
        FrameBody::SoFar { text, .. } => Some(&**text),
        FrameBody::Delta { .. } => None,
    };
    text.map_or(0, str::len)
}

/// The bytes of a frame. JSON as serde writes it has no line break, so one `data:` line is enough.
fn encoded(frame: &Frame, mode: StreamMode) -> Bytes {
    let mut bytes = Vec::with_capacity(1024);
    let written = match frame.id {
        Some(id) => write!(bytes, "id: {id}\ndata: "),
        None => write!(bytes, "data: "),
    };
    let written = written.map_err(serde_json::Error::io);
    if let Err(error) = written.and_then(|()| serde_json::to_writer(&mut bytes, &Payload { body: &frame.body, mode })) {
        tracing::error!(error = &error as &dyn std::error::Error, "frame could not be encoded");
        return Bytes::new();
    }
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

/// The JSON of a frame in a mode.
struct Payload<'a> {
    body: &'a FrameBody,
    mode: StreamMode,
}

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let html = |text: &str| (self.mode == StreamMode::Html).then(|| to_html(text));
        let (event, message, delta, html) = match self.body {
            FrameBody::Event(event) => (event, said(event), None, answer(event).and_then(html)),
            FrameBody::SoFar { event, text } => (event, Some(&**text), None, html(text)),
            FrameBody::Delta { event, delta } => (event, None, Some(delta.as_str()), None),
        };
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in event.as_object().into_iter().flatten().filter(|(name, _)| *name != "message") {
            map.serialize_entry(name, value)?;
        }
        for (name, text) in [("message", message), ("delta", delta), ("html", html.as_deref())] {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        map.end()
    }
}

fn said(event: &Value) -> Option<&str> {
    event["message"].as_str()
}

/// The text of an event that shows an answer: what is worth rendering.
pub(crate) fn answer(event: &Value) -> Option<&str> {
    said(event).filter(|text| event["role"] == "assistant" && !text.is_empty())
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use somaagent_actors::domain::cursor::Cursor;

    use prometheus::IntGauge;

    use super::*;

    fn json_of(frame: &Frame, mode: StreamMode) -> Value {
        let bytes = encoded(frame, mode);
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
        assert!(text.ends_with("\n\n") && !text.trim_end().contains("\n\n"), "{text}");
        serde_json::from_str(data).unwrap_or_default()
    }

    fn frame(body: FrameBody) -> Frame {
        Frame::new(Some(Cursor::live(3, 1, 4)), body)
    }

    #[test]
    fn a_block_has_its_id_and_one_data_line() {
        let bytes = encoded(&frame(FrameBody::Event(json!({"type": "user", "message": "a\nb"}))), StreamMode::Full);
        assert_eq!(&bytes[..], b"id: 3.1.4\ndata: {\"type\":\"user\",\"message\":\"a\\nb\"}\n\n");
        let bytes = encoded(&Frame::new(None, FrameBody::Event(json!({"type": "x"}))), StreamMode::Full);
        assert_eq!(&bytes[..], b"data: {\"type\":\"x\"}\n\n");
    }

    #[test]
    fn each_mode_carries_the_text_its_own_way() {
        let event = json!({"type": "assistant.stream", "role": "assistant", "message": ""});
        let so_far = frame(FrameBody::SoFar { event: event.clone(), text: "so *far*".into() });
        let full = json_of(&so_far, StreamMode::Full);
        assert_eq!((full["message"].as_str(), full.get("html")), (Some("so *far*"), None));
        let html = json_of(&so_far, StreamMode::Html);
        assert_eq!(html["message"], "so *far*");
        assert_eq!(html["html"], "<p>so <em>far</em></p>\n");
        let delta = json_of(&frame(FrameBody::Delta { event, delta: " far".into() }), StreamMode::Delta);
        assert_eq!((delta["delta"].as_str(), delta.get("message")), (Some(" far"), None));
    }

    #[test]
    fn only_answers_are_rendered() {
        for (role, rendered) in [("assistant", true), ("user", false), ("system", false)] {
            let event = json!({"role": role, "message": "*x*"});
            let shown = json_of(&frame(FrameBody::Event(event)), StreamMode::Html);
            assert_eq!(shown.get("html").is_some(), rendered, "{role}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_opens_with_retry_and_beats_while_quiet() {
        let gauge = IntGauge::new("g", "g").unwrap_or_else(|_| unreachable!());
        let frames = stream::iter([Arc::new(frame(FrameBody::Event(json!({"n": 1}))))]).chain(stream::pending());
        let every = Duration::from_secs(20);
        let mut blocks = Blocks::new(Uuid::nil(), frames, StreamMode::Full, every, Slot::of(&gauge));
        let mut seen = Vec::new();
        let began = Instant::now();
        while seen.len() < 4 {
            seen.extend(blocks.next().await.into_iter().flatten());
        }
        assert_eq!(began.elapsed(), Duration::from_secs(40));
        assert_eq!(seen[0], OPENING);
        assert_eq!(&seen[1][..], b"id: 3.1.4\ndata: {\"n\":1}\n\n");
        assert_eq!(seen[2], seen[3]);
        assert!(seen[2].starts_with(b"data: {") && seen[2].windows(16).any(|part| part == b"system.keepalive"));
        assert_eq!(gauge.get(), 1);
        drop(blocks);
        assert_eq!(gauge.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_subscription() {
        let gauge = IntGauge::new("g", "g").unwrap_or_else(|_| unreachable!());
        let blocks =
            Blocks::new(Uuid::nil(), stream::empty(), StreamMode::Full, Duration::from_secs(1), Slot::of(&gauge));
        assert_eq!(blocks.count().await, 1);
    }

    #[tokio::test]
    async fn a_long_text_is_rendered_elsewhere_while_the_stream_keeps_its_order_and_beats() {
        let gauge = IntGauge::new("g", "g").unwrap_or_else(|_| unreachable!());
        let said = |n: u32, text: String| {
            let event = json!({"role": "assistant", "n": n, "message": text});
            Arc::new(frame(FrameBody::Event(event)))
        };
        let long = "*long* ".repeat(4_000);
        let frames = [said(1, long.clone()), said(2, "short".to_owned()), said(3, long)];
        let subscription = stream::iter(frames.clone());
        let every = Duration::from_hours(1);
        let mut blocks = Blocks::new(Uuid::nil(), subscription, StreamMode::Html, every, Slot::of(&gauge));
        assert_eq!(blocks.next().await, Some(Ok(OPENING)));
        assert!(futures_util::poll!(blocks.next()).is_pending(), "a long text was rendered in place");
        blocks.heartbeat.reset_immediately();
        let beat = blocks.next().await.and_then(Result::ok).unwrap_or_default();
        assert!(beat.starts_with(b"data: {"), "no heartbeat while a frame is encoded");
        let mut seen = Vec::new();
        while let Some(Ok(bytes)) = blocks.next().await {
            seen.push(bytes);
        }
        let expected: Vec<Bytes> = frames.iter().map(|frame| encoded(frame, StreamMode::Html)).collect();
        assert!(seen == expected, "{} frames, or not in their order", seen.len());
        drop(blocks);

        // A reader that goes away meanwhile leaves nothing open.
        let subscription = stream::iter([said(4, "*long* ".repeat(4_000))]).chain(stream::pending());
        let mut blocks = Blocks::new(Uuid::nil(), subscription, StreamMode::Html, every, Slot::of(&gauge));
        assert_eq!(blocks.next().await, Some(Ok(OPENING)));
        assert!(futures_util::poll!(blocks.next()).is_pending());
        drop(blocks);
        assert_eq!(gauge.get(), 0);
    }
}
