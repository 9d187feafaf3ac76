//! A message for a session.

mod addressee;
mod attachments;

use std::collections::BTreeMap;

use actix_web::{
    CustomizeResponder, Responder as _,
    http::header::LINK,
    web::{Data, Json},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use somaagent_actors::{
    conversation::{Accepted, MessageDraft},
    domain::{
        caller::Caller,
        event::{Metadata, RESERVED},
        idempotency::{Idempotency, body_hash},
        ids::Tenant,
        message::MAX_PERSONA_CHARS,
        turn::OnBusy,
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use self::{addressee::Addressee, attachments::Reference};
use super::write_through::{MemoryReply, write_through};
use crate::{
    door::Door,
    extract::{By, Hints, IdempotencyKey, JsonBody, TENANT_RULE, wrong},
    link,
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// A message from a person.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MessageRequest {
    /// The text, at most 256 KiB of UTF-8; may be empty.
    message: String,
    /// The session; absent, `null` or no UUID begins a new one.
    session_id: Option<String>,
    /// The persona that answers; the header `X-Persona-Id` is the fall-back.
    #[schema(max_length = 128)]
    persona_id: Option<String>,
    /// References to attachments, each a UUID, `/v1/attachments/<uuid>` or `att://<uuid>`, which is how the event names them.
    /// Each must exist for the caller and be clean.
    #[serde(default)]
    #[schema(value_type = Vec<AttachmentReference>, max_items = 32)]
    attachments: Vec<String>,
    /// Details that travel with the message and its answer. `tenant` names the tenant unless the token or the header `X-Tenant-Id`
    /// does; `idempotency_key` stands for the header `Idempotency-Key`. Names that only the service writes, such as `status`,
    /// are dropped. At most 16 KiB of names and values.
    metadata: Option<BTreeMap<String, String>>,
    /// The last `seq` the client has seen; if the session has more, the message is refused with what is missing.
    #[schema(minimum = 0)]
    expected_head: Option<i64>,
    /// What happens while the session is answering.
    #[schema(value_type = Option<OnBusyName>)]
    on_busy: Option<OnBusy>,
}

/// How a message refers to an attachment.
#[derive(ToSchema)]
#[schema(pattern = "^(att://|/v1/attachments/)?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
#[expect(dead_code, reason = "describes what is read as text")]
pub(crate) struct AttachmentReference(String);

/// What a session does with a message that arrives while it is answering.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire form of a type of the actors")]
pub(crate) enum OnBusyName {
    /// The message waits for its turn (the default).
    Enqueue,
    /// The message is refused.
    Reject,
    /// What is under way is stopped, then the message is answered.
    Interrupt,
}

/// A message that is stored and will be answered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AcceptedReply {
    /// Its session.
    session_id: Uuid,
    /// The id of its event.
    event_id: Uuid,
    /// The number of its event in the session.
    seq: i64,
    /// What became of its memory, where replies wait for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryReply>,
}

impl AcceptedReply {
    /// The reply with the way to the receipt of its memory.
    fn linked(self) -> CustomizeResponder<Json<Self>> {
        let receipt = link::receipt(&self.event_id.to_string());
        Json(self).customize().insert_header((LINK, receipt))
    }
}

/// What may come with a message beside its body.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what extractors read")]
pub(crate) struct MessageHeaders {
    /// Makes the request safe to send twice
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, pattern = "^[ -~]*[!-~][ -~]*$")]
    idempotency_key: Option<String>,
    /// The persona, unless the body names one
    #[param(rename = "X-Persona-Id", max_length = 128, pattern = r"^[\t -~]*$")]
    persona_id: Option<String>,
    /// Becomes `metadata.agent_profile_id`
    #[param(rename = "X-Agent-Profile", max_length = 128, pattern = r"^[\t -~]*$")]
    agent_profile: Option<String>,
    /// Becomes `metadata.universe_id`
    #[param(rename = "X-Universe-Id", max_length = 128, pattern = r"^[\t -~]*$")]
    universe_id: Option<String>,
}

/// What a message may be refused with.
const REFUSALS: [Code; 16] = [
    Code::SessionNotFound,
    Code::InvalidHeader,
    Code::MessageTooLong,
    Code::AttachmentNotFound,
    Code::IdempotencyKeyReused,
    Code::SessionPaused,
    Code::SessionBusy,
    Code::SessionQueueFull,
    Code::HeadMoved,
    Code::HeadAhead,
    Code::SessionDeleted,
    Code::Overloaded,
    Code::Unavailable,
    Code::Draining,
    Code::SessionElsewhere,
    Code::OutcomeUnknown,
];

/// Sends a message. The reply comes when the message is durable; the answer comes on the session's event stream.
#[utoipa::path(
    post,
    path = "/v1/session/message",
    tag = "messages",
    request_body(content = MessageRequest, content_type = "application/json"),
    params(MessageHeaders),
    responses((
        status = 200,
        description = "The message is durable",
        body = AcceptedReply,
        headers(("Link" = String, description = "`rel=\"status\"`: the receipt of its memory")),
    )),
    extensions(
        ("x-action" = json!("conversation.send")),
        ("x-problems" = json!(REFUSALS)),
    ),
)]
pub(crate) async fn post_message(
    door: Data<Door>,
    settings: Data<DoorSettings>,
    by: By,
    hints: Hints,
    key: IdempotencyKey,
    body: JsonBody<MessageRequest>,
) -> Result<CustomizeResponder<Json<AcceptedReply>>, Problem> {
    let JsonBody { fields, whole } = body;
    if fields.message.len() > settings.message_limit_bytes {
        return Err(too_long(settings.message_limit_bytes));
    }
    let references = attachments::read(&fields.attachments)?;
    let expected_head = fields.expected_head;
    if expected_head.is_some_and(|head| head < 0) {
        return Err(wrong(vec!["expected_head".into()], "must be 0 or more"));
    }
    let addressed = Addressed::new(by, hints, key, fields.session_id, fields.metadata, whole)?;
    let refused = attachments::refused(&door, &addressed.caller, &references).await?;
    let draft = MessageDraft {
        message: fields.message,
        persona_id: persona(fields.persona_id, addressed.persona_id)?,
        attachments: references.iter().map(Reference::to_string).collect(),
        refused,
        metadata: addressed.metadata,
        expected_head,
        on_busy: fields.on_busy.unwrap_or_default(),
        idempotency: addressed.idempotency,
    };
    let sent = send(&door, &settings, "/v1/session/message", &addressed.caller, addressed.session, draft).await?;
    Ok(sent.linked())
}

/// Hands a message to its session. A problem of the server names the event that the message was to become.
pub(super) async fn send(
    door: &Door,
    settings: &DoorSettings,
    path: &'static str,
    caller: &Caller,
    session: Addressee,
    draft: MessageDraft,
) -> Result<AcceptedReply, Problem> {
    let event_id = Uuid::new_v4();
    let sent = async {
        door.accepting()?;
        Ok::<_, Problem>(session.post(&door.conversations, caller, event_id, draft).await?)
    };
    let Accepted { session_id, event_id, seq } = sent.await.map_err(|problem| problem.of_event(event_id))?;
    let key = caller.session(session_id);
    let memory = write_through(door, &settings.write_through, key, event_id, path).await;
    Ok(AcceptedReply { session_id, event_id, seq, memory })
}

/// The same under its old name.
#[utoipa::path(
    post,
    path = "/message_async",
    tag = "messages",
    request_body(content = MessageRequest, content_type = "application/json"),
    params(MessageHeaders),
    responses((
        status = 200,
        description = "The message is durable",
        body = AcceptedReply,
        headers(("Link" = String, description = "`rel=\"status\"`: the receipt of its memory")),
    )),
    extensions(
        ("x-action" = json!("conversation.send")),
        ("x-problems" = json!(REFUSALS)),
    ),
)]
pub(crate) async fn post_message_async(
    door: Data<Door>,
    settings: Data<DoorSettings>,
    by: By,
    hints: Hints,
    key: IdempotencyKey,
    body: JsonBody<MessageRequest>,
) -> Result<CustomizeResponder<Json<AcceptedReply>>, Problem> {
    post_message(door, settings, by, hints, key, body).await
}

fn too_long(limit: usize) -> Problem {
    let msg = format!("must be at most {limit} bytes of UTF-8");
    Problem::new(Code::MessageTooLong).at(&["body".into(), "message".into()], &msg)
}

/// The persona that the body names, else the header's.
pub(super) fn persona(body: Option<String>, header: Option<String>) -> Result<Option<String>, Problem> {
    let fits = |name: &String| name.chars().count() <= MAX_PERSONA_CHARS;
    match body {
        Some(name) if !fits(&name) => Err(wrong(vec!["persona_id".into()], PERSONA_RULE)),
        body => Ok(body.or(header)),
    }
}

/// What a persona may be called.
const PERSONA_RULE: &str = "must be at most 128 characters";

/// Names and values together. They travel with every frame of the answer.
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// To whom a message goes, by whom, and with what details: the same for messages and quick actions.
pub(super) struct Addressed {
    pub(super) caller: Caller,
    pub(super) session: Addressee,
    pub(super) persona_id: Option<String>,
    pub(super) metadata: Metadata,
    pub(super) idempotency: Option<Idempotency>,
}

impl Addressed {
    pub(super) fn new(
        by: By,
        hints: Hints,
        key: IdempotencyKey,
        session_id: Option<String>,
        metadata: Option<BTreeMap<String, String>>,
        mut whole: Value,
    ) -> Result<Self, Problem> {
        let given = metadata.unwrap_or_default();
        if given.iter().map(|(name, text)| name.len() + text.len()).sum::<usize>() > MAX_METADATA_BYTES {
            return Err(wrong(vec!["metadata".into()], "must be at most 16 KiB of names and values"));
        }
        let key = key.0.map_or_else(|| key_in(&given), |key| Ok(Some(key)))?;
        let caller = by.or_tenant(tenant_in(&given)?);
        let session_id = session_id.and_then(|text| Uuid::try_parse(&text).ok());
        let session = session_id.map_or_else(|| Addressee::New { key: key.clone() }, Addressee::Named);
        let mut metadata: Metadata = given.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
        metadata.retain(|name, _| !RESERVED.contains(&name.as_str()));
        let mut from_head = json!({});
        for (name, value) in [("agent_profile_id", hints.agent_profile_id), ("universe_id", hints.universe_id)] {
            if let Some(value) = value.filter(|_| !metadata.contains_key(name)) {
                from_head[name] = value.as_str().into();
                metadata.insert(name.into(), value.into());
            }
        }
        if let Some(persona) = hints.persona_id.as_deref().filter(|_| whole["persona_id"].is_null()) {
            from_head["persona_id"] = persona.into();
        }
        metadata.insert("tenant".into(), caller.tenant.as_str().into());
        // A first message may be sent again with the session it was given: that is where it goes, not what it says.
        if let Some(fields) = whole.as_object_mut() {
            fields.remove("session_id");
        }
        // What the head says in the body's stead is stored as if the body had said it.
        let body_hash = body_hash(&json!([whole, from_head]));
        let idempotency = key.map(|key| Idempotency { key, body_hash });
        Ok(Self { caller, session, persona_id: hints.persona_id, metadata, idempotency })
    }
}

fn key_in(metadata: &BTreeMap<String, String>) -> Result<Option<String>, Problem> {
    match metadata.get("idempotency_key") {
        Some(key) if !Idempotency::is_usable(key) => {
            let path = vec!["metadata".into(), "idempotency_key".into()];
            Err(wrong(path, "must be 1 to 255 printable ASCII characters"))
        }
        key => Ok(key.cloned()),
    }
}

fn tenant_in(metadata: &BTreeMap<String, String>) -> Result<Option<Tenant>, Problem> {
    let refuse = || wrong(vec!["metadata".into(), "tenant".into()], TENANT_RULE);
    metadata.get("tenant").map(|text| Tenant::new(text.trim()).ok_or_else(refuse)).transpose()
}

#[cfg(test)]
mod tests;
