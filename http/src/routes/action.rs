//! Quick actions: one press instead of a sentence.

use std::collections::BTreeMap;

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use somaagent_actors::conversation::MessageDraft;
use utoipa::ToSchema;
use uuid::Uuid;

use super::message::{AcceptedReply, Addressed, persona, send};
use crate::{
    door::Door,
    extract::{By, Hints, IdempotencyKey, JsonBody},
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// A quick action.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ActionRequest {
    /// The session; absent, `null` or no UUID begins a new one.
    session_id: Option<String>,
    /// The persona that answers.
    #[schema(max_length = 128)]
    persona_id: Option<String>,
    /// `summarize`, `next_steps`, `status_report`, `nudge`, `pause` or `resume`.
    #[schema(value_type = ActionName)]
    action: String,
    /// Details that travel with the message and its answer.
    metadata: Option<BTreeMap<String, String>>,
}

/// The quick actions there are.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the wire form; unknown names get an error of their own")]
pub(crate) enum ActionName {
    /// Sum up what was said.
    Summarize,
    /// Propose what to do next.
    NextSteps,
    /// Report where things stand.
    StatusReport,
    /// Go on.
    Nudge,
    /// Take no messages until resumed. Posts nothing.
    Pause,
    /// Take messages again. Posts nothing.
    Resume,
}

/// What an action did.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ActionReply {
    /// It sent a message.
    Accepted(AcceptedReply),
    /// It paused or resumed the session.
    Paused(PausedReply),
}

/// A session that was paused or resumed by an action.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PausedReply {
    /// The session.
    session_id: Uuid,
    /// `ok`.
    status: &'static str,
    /// Whether the session now refuses messages.
    paused: bool,
}

/// What an action is turned into.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    Say(&'static str),
    Pause(bool),
}

fn effect(action: &str) -> Option<Effect> {
    Some(match action {
        "summarize" => Effect::Say("Please sum up our conversation so far in a few short points."),
        "next_steps" => Effect::Say("What are the next steps? Please list them in the order you would take them."),
        "status_report" => {
            Effect::Say("Please report where things stand: what is done, what is open, and what is in the way.")
        }
        "nudge" => Effect::Say("Please go on from where you stopped."),
        "pause" => Effect::Pause(true),
        "resume" => Effect::Pause(false),
        _ => return None,
    })
}

/// Does a quick action: most send a fixed sentence as a message; `pause` and `resume` only set the session's flag.
#[utoipa::path(
    post,
    path = "/v1/session/action",
    tag = "messages",
    request_body(content = ActionRequest, content_type = "application/json"),
    params((
        "Idempotency-Key" = Option<String>, Header,
        min_length = 1, max_length = 255, pattern = "^[ -~]*[!-~][ -~]*$",
        description = "Makes the request safe to send twice",
    )),
    responses((status = 200, description = "The action is done", body = ActionReply)),
    extensions(
        ("x-action" = json!("conversation.send")),
        ("x-problems" = json!([
            "unknown-action", "invalid-header", "idempotency-key-reused", "session-not-found", "session-paused", "session-queue-full",
            "session-deleted", "overloaded", "unavailable", "draining", "session-elsewhere", "outcome-unknown",
        ])),
    ),
)]
pub(crate) async fn post_action(
    door: Data<Door>,
    settings: Data<DoorSettings>,
    by: By,
    hints: Hints,
    key: IdempotencyKey,
    body: JsonBody<ActionRequest>,
) -> Result<Json<ActionReply>, Problem> {
    let JsonBody { fields, whole } = body;
    let effect = effect(&fields.action).ok_or(Code::UnknownAction)?;
    let mut to = Addressed::new(by, hints, key, fields.session_id, fields.metadata, whole)?;
    let message = match effect {
        Effect::Say(sentence) => sentence.to_owned(),
        Effect::Pause(paused) => {
            door.accepting()?;
            let session_id = to.session.first_id(&to.caller);
            door.conversations.pause(&to.caller, session_id, paused).await?;
            let reply = PausedReply { session_id, status: "ok", paused };
            return Ok(Json(ActionReply::Paused(reply)));
        }
    };
    to.metadata.insert("source".into(), "quick_action".into());
    to.metadata.insert("action".into(), fields.action.into());
    let draft = MessageDraft {
        message,
        persona_id: persona(fields.persona_id, to.persona_id)?,
        attachments: Vec::new(),
        refused: None,
        metadata: to.metadata,
        expected_head: None,
        on_busy: somaagent_actors::domain::turn::OnBusy::default(),
        idempotency: to.idempotency,
    };
    let sent = send(&door, &settings, "/v1/session/action", &to.caller, to.session, draft);
    Ok(Json(ActionReply::Accepted(sent.await?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pause_and_resume_say_nothing() {
        assert_eq!((effect("pause"), effect("resume")), (Some(Effect::Pause(true)), Some(Effect::Pause(false))));
        for action in ["summarize", "next_steps", "status_report", "nudge"] {
            assert!(
                matches!(effect(action), Some(Effect::Say(sentence)) if sentence.ends_with(['.', '?'])),
                "{action}"
            );
        }
        for unknown in ["", "Pause", "next steps"] {
            assert_eq!(effect(unknown), None);
        }
    }
}
