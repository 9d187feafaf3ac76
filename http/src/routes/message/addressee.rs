//! Which session a message goes to.

use somaagent_actors::{
    conversation::{Accepted, ConversationError, Conversations, MessageDraft},
    domain::{
        caller::{Caller, Reach},
        idempotency::derived_session_id,
    },
};
use uuid::Uuid;

/// Ids that a new session is tried under. Whoever guesses the key of somebody's first message can begin a session under the id
/// that it would have got.
const TRIES: u32 = 4;

/// The session of a request.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::routes) enum Addressee {
    /// The one that it names.
    Named(Uuid),
    /// A new one. With a key, a request that is sent again finds the session that it made.
    New {
        /// The key.
        key: Option<String>,
    },
}

impl Addressee {
    /// The one that is named, or the id that is tried first.
    pub(in crate::routes) fn first_id(&self, caller: &Caller) -> Uuid {
        match self {
            Self::Named(session_id) => *session_id,
            Self::New { key: None } => Uuid::new_v4(),
            Self::New { key: Some(key) } => nth_id(caller, key, 0),
        }
    }

    /// Hands the message over.
    ///
    /// # Errors
    /// The conversation's.
    pub(super) async fn post(
        self,
        conversations: &Conversations,
        caller: &Caller,
        event_id: Uuid,
        draft: MessageDraft,
    ) -> Result<Accepted, ConversationError> {
        let Self::New { key: Some(key) } = self else {
            return conversations.post(caller, self.first_id(caller), event_id, draft).await;
        };
        let caller = &beginning(caller);
        for n in 0..TRIES {
            match conversations.post(caller, nth_id(caller, &key, n), event_id, draft.clone()).await {
                Err(ConversationError::NotFound) => {}
                posted => return posted,
            }
        }
        Err(ConversationError::NotFound)
    }
}

fn nth_id(caller: &Caller, key: &str, n: u32) -> Uuid {
    derived_session_id(&caller.tenant, caller.subject.as_deref(), key, n)
}

/// The caller as one who begins a session: others' sessions are out of reach even for those who may see them, so that nobody's
/// first words end up where somebody else waits for them.
fn beginning(caller: &Caller) -> Caller {
    let reach = if caller.subject.is_some() { Reach::Own } else { caller.reach };
    Caller { reach, ..caller.clone() }
}
