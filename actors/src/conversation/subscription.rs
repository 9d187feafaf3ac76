//! A reader's side of a stream: what was stored, then the unfinished answer so far, then what comes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{Stream, stream::BoxStream};
use prometheus::IntGauge;

use super::{
    Conversation,
    backlog::Receiver,
    frames::{Frame, StreamMode},
    pages::STEP,
    readers::Audience,
};
use crate::{
    domain::{caller::Caller, cursor::Cursor, ids::SessionKey},
    store::{Store, session_events},
};

/// An endless stream of frames, nothing missing and nothing twice. It ends when the session is deleted or may have gone to
/// another node, the process shuts down, the reader was too slow, or its history could not be read: the reader comes back
/// with the id of its last frame.
pub struct Subscription {
    frames: BoxStream<'static, Arc<Frame>>,
    _counted: Counted,
}

/// What the conversation fixes for a reader in one step.
pub(super) struct Snapshot {
    /// Whose history.
    pub key: SessionKey,
    /// What it must know before anything else.
    pub first: Option<Arc<Frame>>,
    /// Events after this one …
    pub after: i64,
    /// … up to this one are read from the store.
    pub upto: i64,
    /// The unfinished answer so far.
    pub unfinished: Vec<Arc<Frame>>,
    /// Everything after the snapshot.
    pub live: Receiver,
}

impl Subscription {
    pub(super) fn new(store: Store, snapshot: Snapshot, counted: Counted) -> Self {
        Self { frames: Box::pin(frames(store, snapshot)), _counted: counted }
    }
}

impl Stream for Subscription {
    type Item = Arc<Frame>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.frames.as_mut().poll_next(context)
    }
}

impl Conversation {
    /// Fixes what a reader gets: what it lacks of the history, the unfinished answer, and all that comes.
    pub(super) fn subscribe(&mut self, caller: &Caller, after: Option<Cursor>, mode: StreamMode) -> Subscription {
        let state = &mut self.state;
        let (head, running) = (state.session.head, state.running.as_mut());
        // A position beyond the head is none of this history: it was erased, or the id is made up.
        let after = after.filter(|cursor| cursor.seq <= head);
        let missed_reset = after.is_some_and(|cursor| cursor.missed_reset(state.session.erased));
        let first_of_turn = || state.session.open.front().map_or(state.session.last_turn, |turn| turn.turn_seq);
        let from = after.map_or_else(|| (first_of_turn() - 1).max(0), |cursor| cursor.seq);
        let unfinished = running.map_or_else(Vec::new, |running| {
            let seen = after.filter(|cursor| cursor.seq >= running.first_head).and_then(|cursor| cursor.live);
            let nobody = !state.readers.has(Audience::WholeTexts);
            running.missed(seen, mode, head, nobody)
        });
        let live = state.readers.add(caller.correlation_id, mode, self.deps.sessions.reader_buffer);
        let first = missed_reset.then(|| self.reset_frame());
        let counted = Counted::new(&self.activity.readers, &self.deps.metrics.readers);
        let snapshot = Snapshot { key: self.key().clone(), first, after: from, upto: head, unfinished, live };
        Subscription::new(self.deps.store.clone(), snapshot, counted)
    }
}

fn frames(store: Store, snapshot: Snapshot) -> impl Stream<Item = Arc<Frame>> + Send {
    async_stream::stream! {
        let Snapshot { key, first, mut after, upto, unfinished, mut live } = snapshot;
        if let Some(frame) = first {
            yield frame;
        }
        while after < upto {
            let (key_again, from) = (key.clone(), after);
            let page = store
                .run(move |connection| Box::pin(async move {
                    session_events::between(connection, &key_again, from, upto, STEP).await
                }))
                .await;
            let events = match page {
                Ok(events) => events,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a stream ended: history could not be read");
                    return;
                }
            };
            // A page can come back short when the history was erased meanwhile.
            let Some(last) = events.last() else { break };
            after = last.seq;
            for event in &events {
                yield Arc::new(Frame::stored(event));
            }
        }
        for frame in unfinished {
            yield frame;
        }
        while let Some(frame) = live.recv().await {
            yield frame;
        }
    }
}

/// Counts a reader for as long as it lives.
pub(super) struct Counted {
    count: Arc<AtomicUsize>,
    gauge: IntGauge,
}

impl Counted {
    pub(super) fn new(count: &Arc<AtomicUsize>, gauge: &IntGauge) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        gauge.inc();
        Self { count: Arc::clone(count), gauge: gauge.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.gauge.dec();
    }
}
