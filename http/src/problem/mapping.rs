//! What the actors refuse, as problems: the one place where their errors get a status.

use serde_json::Value;
use somaagent_actors::{
    conversation::{ConversationError, RefusedReference, queries::StoreError},
    dead_letters::messages::ChangeError,
    domain::settings::{Fault, Place},
    identity::{ApiKeyError, TokenError, sign_in::SignInError},
    settings,
};
use somaagent_supervision::AskError;
use uuid::Uuid;

use super::{Code, Problem};
use crate::wire::listed;

impl From<ConversationError> for Problem {
    fn from(error: ConversationError) -> Self {
        match error {
            ConversationError::NotFound => Code::SessionNotFound.into(),
            ConversationError::Deleted => Code::SessionDeleted.into(),
            ConversationError::Paused => Code::SessionPaused.into(),
            ConversationError::QueueFull => Code::SessionQueueFull.into(),
            ConversationError::SessionBusy => Code::SessionBusy.into(),
            ConversationError::HeadMoved { head, missing } => {
                let missing: Vec<_> = missing.iter().map(listed).collect();
                Self::new(Code::HeadMoved).with("head", head).with("missing", missing)
            }
            ConversationError::HeadAhead { head } => Self::new(Code::HeadAhead).with("head", head),
            ConversationError::KeyReused => Code::IdempotencyKeyReused.into(),
            ConversationError::AttachmentRefused(RefusedReference { place, why }) => {
                Self::new(Code::AttachmentNotFound).at(&["body".into(), "attachments".into(), place.into()], why)
            }
            ConversationError::Elsewhere { retry_after } => Self::new(Code::SessionElsewhere).retry_after(retry_after),
            ConversationError::Unavailable { event_id } => Self::new(Code::Unavailable).about(event_id),
            ConversationError::Unknown { event_id } => Self::new(Code::OutcomeUnknown).about(event_id),
            ConversationError::Overloaded => Code::Overloaded.into(),
            ConversationError::Draining => Code::Draining.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            // For reads a broken connection is as good as none.
            StoreError::Unavailable(..) | StoreError::Interrupted(..) => Code::Unavailable,
            StoreError::TimedOut => Code::Timeout,
            // The server gave a statement up that took too long.
            StoreError::Rejected(..) if error.sqlstate().is_some_and(|code| code == "57014") => Code::Timeout,
            // It was undone because it and another change waited for each other, or met.
            StoreError::Rejected(..) if error.is_conflict() => Code::Unavailable,
            StoreError::Rejected(..) => Code::Internal,
        };
        Self::new(code).caused_by(error)
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::NotFound => Code::DeadLetterNotFound.into(),
            ChangeError::NoSuchJob => Code::JobNotFound.into(),
            ChangeError::Unusable(why) => Self::new(Code::InvalidBody).at(&["body".into(), "event".into()], &why),
            ChangeError::Superseded => Code::LetterSuperseded.into(),
            ChangeError::Unconfirmed { token, letters } => {
                Self::new(Code::ConfirmationNeeded).with("confirm", token).with("letters", letters)
            }
            ChangeError::Ask(error) => error.into(),
            // A change that broke off may have been made.
            ChangeError::Store(error @ (StoreError::Interrupted(..) | StoreError::TimedOut)) => {
                Self::new(Code::OutcomeUnknown).caused_by(error)
            }
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<settings::ChangeError> for Problem {
    fn from(error: settings::ChangeError) -> Self {
        use settings::ChangeError as E;
        match error {
            E::NotOperator => Self::new(Code::OperatorRequired).because(
                "settings are the whole installation's: only admins of the tenants that GATEWAY_OPERATOR_TENANTS names may change them",
            ),
            E::Invalid(faults) => {
                let places: Vec<_> = faults.into_iter().map(|Fault { place, what }| (loc(place), what)).collect();
                Self::new(Code::InvalidBody).at_all(&places)
            }
            E::Stale(version) => Self::new(Code::SettingsMoved)
                .because(format!("version {version} of the settings is saved"))
                .with("version", version),
            E::Unreadable(why) => Self::new(Code::SettingsUnreadable).because(format!("the settings cannot be read: {why}")),
            E::NoSuchVersion => Code::SettingsVersionNotFound.into(),
            // A change that broke off may have been made.
            E::Store(error @ (StoreError::Interrupted(..) | StoreError::TimedOut)) => {
                Self::new(Code::OutcomeUnknown).caused_by(error)
            }
            E::Store(error) => error.into(),
        }
    }
}

/// Where in the body a place is.
fn loc(place: Place) -> Vec<Value> {
    let (section, rest) = match place {
        Place::Section(section) => (section, vec!["id".into()]),
        Place::Field(section, field) => (section, vec!["fields".into(), field.into(), "id".into()]),
        Place::Value(section, field) => (section, vec!["fields".into(), field.into(), "value".into()]),
    };
    [vec!["body".into(), "sections".into(), section.into()], rest].concat()
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Unreadable => Code::TokenHeaderInvalid,
            TokenError::Invalid(_) => Code::TokenInvalid,
            TokenError::Nobody => Code::IdentityMissing,
            TokenError::NoKey => Code::SigningKeyUnresolved,
            TokenError::KeysUnavailable => Code::JwksUnavailable,
        };
        Self::new(code).caused_by(error)
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let code = match error {
            SignInError::Discovery => Code::OidcUnavailable,
            SignInError::State => Code::OidcStateInvalid,
            SignInError::Exchange(_) => Code::OidcExchangeFailed,
            SignInError::NoIdToken => Code::IdTokenMissing,
            SignInError::IdToken(_) => Code::IdTokenInvalid,
            SignInError::Nonce => Code::NonceMismatch,
            SignInError::Nobody => Code::IdentityMissing,
            SignInError::NotHere => Code::SignInNotAllowed,
        };
        Self::new(code).caused_by(error)
    }
}

impl From<ApiKeyError> for Problem {
    fn from(error: ApiKeyError) -> Self {
        let code = match error {
            ApiKeyError::Invalid(_) => Code::ApiKeyInvalid,
            ApiKeyError::Busy => Code::Overloaded,
            ApiKeyError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code).caused_by(error)
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let code = match error {
            AskError::Busy => Code::Overloaded,
            AskError::Down => Code::Unavailable,
            AskError::Draining => Code::Draining,
            AskError::Timeout => Code::OutcomeUnknown,
        };
        Self::new(code).caused_by(error)
    }
}

impl Problem {
    /// Names the event that a request was to make, if it was the server's fault that it may not have.
    #[must_use]
    pub(crate) fn of_event(self, event_id: Uuid) -> Self {
        if self.code().status() >= 500 { self.about(Some(event_id)) } else { self }
    }

    /// Names the event whose fate the client may ask for later.
    fn about(self, event_id: Option<Uuid>) -> Self {
        match event_id {
            Some(id) => self.with("event_id", id.to_string()),
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::{ResponseError, http::header::RETRY_AFTER};
    use serde_json::json;
    use somaagent_actors::domain::event::StoredEvent;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_a_failure_of_the_server_names_the_event() {
        let named = |code: Code| Problem::new(code).of_event(Uuid::nil()).body(None)["event_id"].is_string();
        for code in [Code::Draining, Code::SessionElsewhere, Code::Overloaded, Code::Unavailable, Code::OutcomeUnknown]
        {
            assert!(named(code), "{code:?}");
        }
        assert!(!named(Code::SessionPaused) && !named(Code::InvalidBody));
    }

    #[test]
    fn every_refusal_of_a_conversation_has_its_status() {
        let id = Some(Uuid::nil());
        for (error, status, code) in [
            (ConversationError::NotFound, 404, "session-not-found"),
            (ConversationError::Deleted, 410, "session-deleted"),
            (ConversationError::Paused, 409, "session-paused"),
            (ConversationError::QueueFull, 409, "session-queue-full"),
            (ConversationError::SessionBusy, 409, "session-busy"),
            (ConversationError::HeadMoved { head: 3, missing: Vec::new() }, 409, "head-moved"),
            (ConversationError::HeadAhead { head: 3 }, 409, "head-ahead"),
            (ConversationError::KeyReused, 422, "idempotency-key-reused"),
            (
                ConversationError::AttachmentRefused(RefusedReference { place: 0, why: "is gone" }),
                422,
                "attachment-not-found",
            ),
            (ConversationError::Elsewhere { retry_after: Duration::from_secs(9) }, 503, "session-elsewhere"),
            (ConversationError::Unavailable { event_id: id }, 503, "unavailable"),
            (ConversationError::Unknown { event_id: id }, 504, "outcome-unknown"),
            (ConversationError::Overloaded, 503, "overloaded"),
            (ConversationError::Draining, 503, "draining"),
        ] {
            let problem = Problem::from(error);
            assert_eq!((problem.status_code().as_u16(), problem.code().as_str()), (status, code));
            assert_eq!(problem.error_response().headers().contains_key(RETRY_AFTER), status == 503, "{code}");
        }
    }

    #[test]
    fn a_message_whose_fate_is_open_names_its_event() {
        for error in [
            ConversationError::Unavailable { event_id: Some(Uuid::nil()) },
            ConversationError::Unknown { event_id: Some(Uuid::nil()) },
        ] {
            assert_eq!(Problem::from(error).body(None)["event_id"], Uuid::nil().to_string());
        }
    }

    #[test]
    fn a_client_that_missed_events_gets_them() {
        let event = StoredEvent {
            seq: 4,
            event_id: Uuid::nil(),
            turn_seq: Some(4),
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            payload: json!({"type": "user"}),
        };
        let body = Problem::from(ConversationError::HeadMoved { head: 4, missing: vec![event] }).body(None);
        assert_eq!(body["head"], 4);
        assert_eq!(
            body["missing"],
            json!([{"id": 4, "occurred_at": "1970-01-01T00:00:00.000000Z", "payload": {"type": "user"}}])
        );
    }

    #[test]
    fn an_ask_that_timed_out_has_an_unknown_outcome() {
        for (error, status) in
            [(AskError::Busy, 503), (AskError::Down, 503), (AskError::Draining, 503), (AskError::Timeout, 504)]
        {
            assert_eq!(Problem::from(error).status_code().as_u16(), status);
        }
    }
}
