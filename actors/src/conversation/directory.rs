//! Finds the actor of a session, or starts it: what the front door calls.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use somaagent_supervision::{AskError, Directory, Port, Reply, Restart, SupervisorRef};
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use super::{
    Activity, Conversation, Deps,
    frames::StreamMode,
    messages::{
        Accepted, Control, ConversationError, LiveState, Look, MailboxView, MessageDraft, Order, OwnerView, Passivate,
        PortView, Post, SessionState, Stopped, Watch,
    },
    queries::{Lookup, Reads},
    subscription::Subscription,
};
use crate::{
    domain::{
        caller::Caller,
        cursor::Cursor,
        event::{Draft, Metadata},
        ids::SessionKey,
    },
    store::{session_envelopes, turns},
};

/// Orders of one session that may be waiting.
const CONTROL_CAPACITY: usize = 16;
/// Subscriptions and inspections of one session that may be waiting.
const WATCH_CAPACITY: usize = 64;

/// All conversations of this process. Cheap to clone.
#[derive(Clone)]
pub struct Conversations {
    inner: Arc<Inner>,
}

struct Inner {
    deps: Arc<Deps>,
    reads: Reads,
    supervisor: SupervisorRef,
    live: Directory<SessionKey, Arc<Live>>,
    /// Told of a session whose conversation crashed; set once the keeper runs.
    crashed: tokio::sync::mpsc::UnboundedSender<SessionKey>,
    /// Told when history was erased, whose rows the keeper deletes.
    erased: Notify,
}

/// The ways into one conversation.
pub(super) struct Live {
    pub(super) posts: Port<Post>,
    pub(super) control: Port<Control>,
    pub(super) watch: Port<Watch>,
    pub(super) exit: Port<Passivate>,
    pub(super) activity: Arc<Activity>,
}

impl Conversations {
    /// Conversations that run under `supervisor`. The receiver gets the key of each one that crashes; it is the keeper's.
    #[must_use]
    pub fn new(deps: Deps, supervisor: SupervisorRef) -> (Self, tokio::sync::mpsc::UnboundedReceiver<SessionKey>) {
        let (tell, crashes) = tokio::sync::mpsc::unbounded_channel();
        let reads = Reads::new(deps.store.clone());
        (
            Self {
                inner: Arc::new(Inner {
                    deps: Arc::new(deps),
                    reads,
                    supervisor,
                    live: Directory::new(),
                    crashed: tell,
                    erased: Notify::new(),
                }),
            },
            crashes,
        )
    }

    /// Takes a message, which becomes the event `event_id`, an id never used before. Safe to repeat with the same
    /// idempotency key; then the id of the first time counts.
    ///
    /// # Errors
    /// Why it was not taken. After [`ConversationError::Unknown`] it may have been.
    pub async fn post(
        &self,
        caller: &Caller,
        session_id: Uuid,
        event_id: Uuid,
        draft: MessageDraft,
    ) -> Result<Accepted, ConversationError> {
        if self.is_kept_from(caller, session_id).await.map_err(|error| error.about(Some(event_id)))? {
            return Err(ConversationError::NotFound);
        }
        let ask = |live: Arc<Live>, within, again| {
            let (caller, draft, deadline) = (caller.clone(), draft.clone(), Instant::now() + within);
            async move { live.posts.call(|reply| Post { caller, draft, event_id, deadline, again, reply }, within).await }
        };
        self.asked(&caller.session(session_id), Some(event_id), ask).await
    }

    /// Opens the stream of a session, also of one that has no message yet.
    ///
    /// # Errors
    /// Why not.
    pub async fn subscribe(
        &self,
        caller: &Caller,
        session_id: Uuid,
        after: Option<Cursor>,
        mode: StreamMode,
    ) -> Result<Subscription, ConversationError> {
        let key = caller.session(session_id);
        if self.is_kept_from(caller, session_id).await? {
            return self.wait_for_nothing(caller, session_id).await;
        }
        let ask = |live: Arc<Live>, within, _| {
            let caller = caller.clone();
            let look = move |reply| Watch { caller, look: Look::Subscribe { after, mode, reply } };
            async move { live.watch.call(look, within).await }
        };
        self.asked(&key, None, ask).await
    }

    /// Shows whoever reads a session here something that `caller` does, such as sending a file. Nothing of it is kept and
    /// nobody is woken for it; where nobody reads, or much is asked, it is lost.
    pub fn show(&self, caller: &Caller, session_id: Uuid, type_name: &'static str, metadata: Metadata) {
        let key = caller.session(session_id);
        let Some(live) = self.inner.live.get(&key) else { return };
        let (persona_id, message, attachments, trace) = (None, "", &[][..], None);
        let event = Draft { event_id: Uuid::new_v4(), key: &key, persona_id, message, attachments, metadata, trace };
        let look = Look::Show(event.object("system", type_name));
        drop(live.watch.tell(Watch { caller: caller.clone(), look }));
    }

    /// Ends the running turn of a session.
    ///
    /// # Errors
    /// Why not.
    pub async fn stop(&self, caller: &Caller, session_id: Uuid) -> Result<Stopped, ConversationError> {
        self.order(caller, session_id, Order::Stop).await
    }

    /// Makes a session refuse messages, or take them again.
    ///
    /// # Errors
    /// Why not.
    pub async fn pause(&self, caller: &Caller, session_id: Uuid, paused: bool) -> Result<(), ConversationError> {
        self.order(caller, session_id, |reply| Order::Pause(paused, reply)).await
    }

    /// Changes a title.
    ///
    /// # Errors
    /// Why not.
    pub async fn rename(&self, caller: &Caller, session_id: Uuid, title: String) -> Result<(), ConversationError> {
        self.order(caller, session_id, |reply| Order::Rename(title.clone(), reply)).await
    }

    /// Removes a session's history and answers how many events it had.
    ///
    /// # Errors
    /// Why not.
    pub async fn reset(&self, caller: &Caller, session_id: Uuid) -> Result<u64, ConversationError> {
        self.erasing(self.order(caller, session_id, Order::Reset).await)
    }

    /// Removes a session for good and answers how many events it had.
    ///
    /// # Errors
    /// Why not.
    pub async fn delete(&self, caller: &Caller, session_id: Uuid) -> Result<u64, ConversationError> {
        self.erasing(self.order(caller, session_id, Order::Delete).await)
    }

    /// Tells the keeper at once that there are rows to delete; a lost word costs one round of its sweep.
    fn erasing<T>(&self, answer: Result<T, ConversationError>) -> Result<T, ConversationError> {
        answer.inspect(|_| self.inner.erased.notify_one())
    }

    /// Waits until history was erased.
    pub(super) async fn erased(&self) {
        self.inner.erased.notified().await;
    }

    /// Tells a session's whole state. Wakes nobody: one that is not live is read from the store.
    ///
    /// # Errors
    /// Why not.
    pub async fn inspect(&self, caller: &Caller, session_id: Uuid) -> Result<SessionState, ConversationError> {
        let key = caller.session(session_id);
        let summary = self.existing(caller, session_id).await?;
        let mut live = self.inner.live.get(&key);
        if let Some(ours) = live.as_ref().filter(|_| summary.owner.as_deref() != Some(&self.inner.deps.node)) {
            let deadline = Instant::now() + self.inner.deps.sessions.ask_timeout();
            if !self.may_answer(&key, ours, deadline).await? {
                self.dismiss(&key, ours);
                live = None;
            }
        }
        let look = |reply| Watch { caller: caller.clone(), look: Look::Inspect(reply) };
        let now = match &live {
            Some(live) => match live.watch.call(look, self.inner.deps.sessions.ask_timeout()).await {
                Ok(now) => now,
                Err(AskError::Busy | AskError::Timeout) => return Err(ConversationError::Overloaded),
                Err(AskError::Down | AskError::Draining) => LiveState::default(),
            },
            None => LiveState::default(),
        };
        let mailbox = live.as_ref().map_or_else(MailboxView::default, |live| MailboxView {
            posts: PortView { depth: live.posts.depth(), capacity: live.posts.capacity() },
            control: PortView { depth: live.control.depth(), capacity: live.control.capacity() },
            inspect: PortView { depth: live.watch.depth(), capacity: live.watch.capacity() },
        });
        Ok(SessionState {
            session_id,
            head: summary.last_seq,
            live: live.is_some(),
            paused: summary.paused,
            title: summary.title,
            persona_id: summary.persona_id,
            owner: OwnerView { node: summary.owner, epoch: summary.epoch, lease_until: summary.lease_until },
            mailbox,
            now,
        })
    }

    /// Orders exist only for sessions that do: an unused id is not found, and wakes nobody. Nor does an id known to be
    /// somebody else's.
    async fn order<T: Send + 'static>(
        &self,
        caller: &Caller,
        session_id: Uuid,
        order: impl Fn(Reply<Result<T, ConversationError>>) -> Order + Send + Sync,
    ) -> Result<T, ConversationError> {
        let key = caller.session(session_id);
        if !self.is_live(&key) || self.is_hidden(&key, caller) {
            self.existing(caller, session_id).await?;
        }
        let ask = |live: Arc<Live>, within, _| {
            let (caller, order, deadline) = (caller.clone(), &order, Instant::now() + within);
            async move { live.control.call(|reply| Control { caller, order: order(reply), deadline }, within).await }
        };
        self.asked(&key, None, ask).await
    }

    pub(super) async fn existing(
        &self,
        caller: &Caller,
        session_id: Uuid,
    ) -> Result<session_envelopes::SessionSummary, ConversationError> {
        match self.inner.reads.session(caller, session_id).await {
            Ok(Lookup::Found(summary)) => Ok(summary),
            Ok(Lookup::Deleted) => Err(ConversationError::Deleted),
            Ok(Lookup::Unknown) => Err(ConversationError::NotFound),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a session could not be read");
                Err(ConversationError::Unavailable { event_id: None })
            }
        }
    }

    /// Asks the session's conversation. One that ends just then is resolved once more within the same deadline.
    async fn asked<T, F>(
        &self,
        key: &SessionKey,
        event_id: Option<Uuid>,
        ask: impl Fn(Arc<Live>, Duration, bool) -> F,
    ) -> Result<T, ConversationError>
    where
        F: Future<Output = Result<Result<T, ConversationError>, AskError>>,
    {
        let deadline = Instant::now() + self.inner.deps.sessions.ask_timeout();
        for last_try in [false, true] {
            if self.inner.deps.is_draining() {
                return Err(ConversationError::Draining);
            }
            let mut live = self.resolve(key);
            if !self.may_answer(key, &live, deadline).await.map_err(|error| error.about(event_id))? {
                self.dismiss(key, &live);
                live = self.resolve(key);
            }
            let answer = ask(Arc::clone(&live), deadline.saturating_duration_since(Instant::now()), last_try).await;
            return match answer {
                // It lost the session to another owner and said so before it ended, or its lease may be over: look again.
                Ok(Err(ConversationError::Elsewhere { retry_after })) if retry_after.is_zero() && !last_try => {
                    if !live.activity.tenure.is_over() {
                        self.forget(key, &live);
                    }
                    continue;
                }
                // The next one takes a new epoch, so that nothing of this one can be stored late, and looks what was.
                Err(AskError::Down | AskError::Draining) if !last_try => {
                    self.forget(key, &live);
                    continue;
                }
                Ok(answer) => answer,
                Err(AskError::Busy) => Err(ConversationError::Overloaded),
                // A message in the hand of a conversation that crashed may have been stored.
                Err(AskError::Down | AskError::Timeout) => Err(ConversationError::Unknown { event_id }),
                Err(AskError::Draining) => Err(ConversationError::Unavailable { event_id }),
            };
        }
        Err(ConversationError::Unavailable { event_id })
    }

    pub(super) fn forget(&self, key: &SessionKey, live: &Arc<Live>) {
        self.inner.live.remove_if(key, |known| Arc::ptr_eq(known, live));
    }

    /// The live conversation of `key`; started if there is none. Its messages wait until it has read the store.
    fn resolve(&self, key: &SessionKey) -> Arc<Live> {
        self.inner.live.get_or_insert_with(key.clone(), || self.launch(key)).0
    }

    fn launch(&self, key: &SessionKey) -> Arc<Live> {
        let inner = &self.inner;
        let seat = inner.supervisor.seat::<Conversation>(Restart::Temporary);
        let activity = Arc::new(Activity::default());
        let live = Arc::new(Live {
            posts: seat.port("posts", inner.deps.sessions.posts_capacity),
            control: seat.port("control", CONTROL_CAPACITY),
            watch: seat.port("watch", WATCH_CAPACITY),
            exit: seat.port("exit", 1),
            activity: Arc::clone(&activity),
        });
        let (gone, of, conversations) = (Arc::downgrade(&live), key.clone(), Arc::downgrade(inner));
        let (deps, owned) = (Arc::clone(&inner.deps), key.clone());
        seat.on_exit(move |reason| {
            let Some(inner) = conversations.upgrade() else { return };
            inner.live.remove_if(&of, |known| Arc::as_ptr(known) == gone.as_ptr());
            if reason.is_abnormal() {
                // The keeper is gone only when the process ends.
                let _ = inner.crashed.send(of);
            }
        })
        .launch(move || Conversation::new(deps, owned, activity));
        live
    }

    /// Makes sure that a conversation is live: it finds its open turns by itself.
    pub(super) fn wake(&self, key: &SessionKey) {
        if !self.inner.deps.is_draining() {
            self.resolve(key);
        }
    }

    pub(super) fn is_live(&self, key: &SessionKey) -> bool {
        self.inner.live.get(key).is_some()
    }

    /// Stops taking messages and starting turns, and waits until the running turns have ended or `within` is over. Turns
    /// that are left stay open; whoever owns their session next tries them again. Answers whether all ended.
    pub async fn drain(&self, within: Duration) -> bool {
        let deps = &self.inner.deps;
        deps.draining.store(true, Ordering::Release);
        let deadline = Instant::now() + within;
        loop {
            let mut busy = 0;
            self.inner.live.for_each(|_, live| busy += usize::from(live.activity.is_working()));
            if busy == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20).min(deadline - Instant::now())).await;
        }
    }

    /// Gives back every session this node owns, and ends what streams are left. Called once, when no conversation runs any
    /// more.
    ///
    /// # Errors
    /// The store's.
    pub async fn release_all(&self) -> Result<u64, crate::store::StoreError> {
        self.inner.deps.closing.begin();
        let node = self.inner.deps.node.clone();
        self.inner
            .deps
            .store
            .run(move |connection| Box::pin(async move { session_envelopes::release_all(connection, &node).await }))
            .await
    }

    /// Sessions with open turns that no live conversation here and no other node works on.
    pub(super) async fn orphans(&self) -> Result<Vec<SessionKey>, crate::store::StoreError> {
        let deps = &self.inner.deps;
        let (node, now, limit) = (deps.node.clone(), (deps.clock)(), deps.turns.sweep_batch);
        let alive: Vec<_> = self.needed().into_iter().map(|(key, _)| key).collect();
        let found = deps
            .store
            .run(move |connection| {
                Box::pin(async move { turns::orphaned_sessions(connection, &node, &alive, now, limit).await })
            })
            .await?;
        Ok(found.into_iter().filter(|key| !self.is_live(key)).collect())
    }

    pub(super) fn live(&self) -> &Directory<SessionKey, Arc<Live>> {
        &self.inner.live
    }

    pub(super) fn deps(&self) -> &Deps {
        &self.inner.deps
    }
}
