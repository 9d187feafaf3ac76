//! A reader's side of a stream: what was stored, then the unfinished answer so far, then what comes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{
    FutureExt, Stream,
    stream::{self, BoxStream},
};
use prometheus::IntGauge;
use tokio::sync::watch;

use super::{
    Conversation,
    backlog::Receiver,
    deps::Deps,
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
/// with the id of its last frame. That of a session which does not exist for its reader waits like one that nobody has used.
pub struct Subscription {
    frames: BoxStream<'static, Arc<Frame>>,
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
    fn new(deps: &Deps, snapshot: Snapshot, counted: Counted) -> Self {
        Self { frames: Box::pin(frames(deps.store.clone(), deps.closing.clone(), snapshot, counted)) }
    }

    /// One that waits until the process shuts down.
    pub(super) fn silent(deps: &Deps) -> Self {
        let counted = Counted::new(&Arc::default(), &deps.metrics.readers);
        Self { frames: Box::pin(silence(deps.closing.clone(), counted).map(|()| stream::empty()).flatten_stream()) }
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
        let live = state.readers.add(caller, mode, self.deps.sessions.reader_buffer);
        let first = missed_reset.then(|| self.reset_frame());
        let counted = Counted::new(&self.activity.readers, &self.deps.metrics.readers);
        let snapshot = Snapshot { key: self.key().clone(), first, after: from, upto: head, unfinished, live };
        Subscription::new(&self.deps, snapshot, counted)
    }
}

fn frames(
    store: Store,
    closing: Closing,
    snapshot: Snapshot,
    counted: Counted,
) -> impl Stream<Item = Arc<Frame>> + Send {
    async_stream::stream! {
        let Snapshot { key, first, mut after, upto, unfinished, mut live } = snapshot;
        if let Some(frame) = first {
            yield frame;
        }
        while after < upto {
            let (key_again, from) = (key.clone(), after);
            let page = store
                .read_for(key.tenant.clone(), move |rows| Box::pin(async move {
                    session_events::between(rows, &key_again, None, from, upto, STEP).await
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
        if live.is_hushed() {
            silence(closing, counted.of_none()).await;
        }
    }
}

/// Waits for the end of all streams, as one does that nobody writes to.
async fn silence(closing: Closing, _counted: Counted) {
    closing.begun().await;
}

/// Ends the streams that no conversation feeds: those of the others end with their conversations.
#[derive(Clone, Debug, Default)]
pub struct Closing(watch::Sender<bool>);

impl Closing {
    /// Ends them, now and from now on.
    pub(super) fn begin(&self) {
        self.0.send_replace(true);
    }

    async fn begun(&self) {
        // It fails only when the switch is gone, which is held here.
        drop(self.0.subscribe().wait_for(|begun| *begun).await);
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

    /// Counts on, but as a reader of no conversation.
    fn of_none(self) -> Self {
        Self::new(&Arc::default(), &self.gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.gauge.dec();
    }
}
