//! Whose a session is, and what everybody else is answered: what they would be if there were no such session.
//!
//! Who has a session is read or written with it and never changes, so what the conversation knows of that is true, and what it
//! has told others about it stays so.

use uuid::Uuid;

use super::{
    Conversation, directory::Conversations, messages::ConversationError, steps::Step, subscription::Subscription,
};
use crate::{
    domain::{caller::Caller, ids::SessionKey, whose::Whose},
    store::session_envelopes,
};

impl Conversation {
    /// Takes over what the store says of a session that is not read any further.
    pub(super) fn learn_whose(&mut self, whose: Whose) {
        self.state.session.whose = whose;
        self.note_whose();
    }

    /// As soon as the session is somebody's, nobody else hears of it: strangers who waited for its first message wait on.
    /// Called before anything is sent of what made it so.
    pub(super) fn note_whose(&mut self) {
        let whose = &self.state.session.whose;
        if self.activity.is_now(whose) {
            self.state.readers.hush(|reader| whose.is_hidden_from(reader));
        }
    }

    /// What `caller` is answered before anything else, where the session is somebody else's.
    pub(super) fn hidden_from(&self, caller: &Caller) -> Option<ConversationError> {
        self.state.session.whose.is_hidden_from(caller).then_some(ConversationError::NotFound)
    }

    /// Answers whoever waits for `step` why it is not done. A stranger may have been waiting since before it was known whose
    /// the session is.
    pub(super) fn decline(&self, step: Step, why: ConversationError) {
        let hidden = step.caller().and_then(|caller| self.hidden_from(caller));
        step.refuse(hidden.unwrap_or(why));
    }
}

impl Conversations {
    /// Whether the session is known to be none of `caller`'s business, so that its conversation is neither asked nor woken:
    /// a stranger must not fill its mailbox, nor bring it to this node and away from its owner's. Whoever sees all sessions is
    /// kept from none.
    ///
    /// # Errors
    /// The store does not say whose it is.
    pub(super) async fn is_kept_from(&self, caller: &Caller, session_id: Uuid) -> Result<bool, ConversationError> {
        let key = caller.session(session_id);
        if caller.only().is_none() {
            return Ok(false);
        }
        if self.is_live(&key) {
            return Ok(self.is_hidden(&key, caller));
        }
        let read = self.deps().store.read_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move { session_envelopes::get(rows, &key, None).await })
        });
        match read.await {
            Ok(found) => {
                Ok(found.is_some_and(|found| Whose::stored(found.last_seq, found.subject).is_hidden_from(caller)))
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "nobody knows whose a session is");
                Err(ConversationError::Unavailable { event_id: None })
            }
        }
    }

    /// Whether the session has a live conversation that is known to be none of `caller`'s business.
    pub(super) fn is_hidden(&self, key: &SessionKey, caller: &Caller) -> bool {
        self.live().get(key).is_some_and(|live| live.activity.is_hidden_from(caller))
    }

    /// Opens the stream of a session that does not exist for `caller`. As with an id that nobody has used, the store is looked
    /// into first.
    pub(super) async fn wait_for_nothing(
        &self,
        caller: &Caller,
        session_id: Uuid,
    ) -> Result<Subscription, ConversationError> {
        if self.deps().is_draining() {
            return Err(ConversationError::Draining);
        }
        match self.existing(caller, session_id).await {
            Err(error @ ConversationError::Unavailable { .. }) => Err(error),
            _ => Ok(Subscription::silent(self.deps())),
        }
    }
}
