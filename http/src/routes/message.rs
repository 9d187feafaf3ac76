//! A message for a session.

use std::collections::BTreeMap;

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use somaagent_actors::{
    conversation::{Accepted, MessageDraft},
    domain::{
        caller::Caller,
        event::Metadata,
        idempotency::{Idempotency, body_hash, derived_session_id},
        ids::Tenant,
        message::MAX_PERSONA_CHARS,
        turn::OnBusy,
    },
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::write_through::{MemoryReply, write_through};
use crate::{
    door::Door,
    extract::{By, Hints, IdempotencyKey, JsonBody, TENANT_RULE, bad_header, wrong},
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
    /// References to attachments: a UUID, `/v1/attachments/<uuid>` or `att://<uuid>`.
    #[serde(default)]
    attachments: Vec<String>,
    /// Details that travel with the message and its answer. `tenant` names the tenant unless the header `X-Tenant-Id`
    /// does; `idempotency_key` stands for the header `Idempotency-Key`. At most 16 KiB of names and values.
    metadata: Option<BTreeMap<String, String>>,
    /// The last `seq` the client has seen; if the session has more, the message is refused with what is missing.
    #[schema(minimum = 0)]
    expected_head: Option<i64>,
    /// What happens while the session is answering.
    #[serde(default)]
    #[schema(value_type = Option<OnBusyName>)]
    on_busy: OnBusy,
}

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

/// What may come with a message beside its body.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what extractors read")]
pub(crate) struct MessageHeaders {
    /// Makes the request safe to send twice
    #[param(rename = "Idempotency-Key", max_length = 255)]
    idempotency_key: Option<String>,
    /// The persona, unless the body names one
    #[param(rename = "X-Persona-Id")]
    persona_id: Option<String>,
    /// Becomes `metadata.agent_profile_id`
    #[param(rename = "X-Agent-Profile")]
    agent_profile: Option<String>,
    /// Becomes `metadata.universe_id`
    #[param(rename = "X-Universe-Id")]
    universe_id: Option<String>,
}

/// What a message may be refused with.
const REFUSALS: [Code; 15] = [
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
    responses((status = 200, description = "The message is durable", body = AcceptedReply)),
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
) -> Result<Json<AcceptedReply>, Problem> {
    let JsonBody { fields, whole } = body;
    if fields.message.len() > settings.message_limit_bytes {
        return Err(too_long(settings.message_limit_bytes));
    }
    check_attachments(&fields.attachments)?;
    let expected_head = fields.expected_head;
    if expected_head.is_some_and(|head| head < 0) {
        return Err(wrong(vec!["expected_head".into()], "must be 0 or more"));
    }
    let addressed = Addressed::new(by, hints, key, fields.session_id, fields.metadata, whole)?;
    let draft = MessageDraft {
        message: fields.message,
        persona_id: persona(fields.persona_id, addressed.persona_id)?,
        attachments: fields.attachments,
        metadata: addressed.metadata,
        expected_head,
        on_busy: fields.on_busy,
        idempotency: addressed.idempotency,
    };
    Ok(Json(send(&door, &settings, "/v1/session/message", &addressed.caller, addressed.session_id, draft).await?))
}

/// Hands a message to its session. A problem of the server names the event that the message was to become.
pub(super) async fn send(
    door: &Door,
    settings: &DoorSettings,
    path: &'static str,
    caller: &Caller,
    session_id: Uuid,
    draft: MessageDraft,
) -> Result<AcceptedReply, Problem> {
    let event_id = Uuid::new_v4();
    let sent = async {
        door.accepting()?;
        Ok::<_, Problem>(door.conversations.post(caller, session_id, event_id, draft).await?)
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
    responses((status = 200, description = "The message is durable", body = AcceptedReply)),
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
) -> Result<Json<AcceptedReply>, Problem> {
    post_message(door, settings, by, hints, key, body).await
}

fn too_long(limit: usize) -> Problem {
    let msg = format!("must be at most {limit} bytes of UTF-8");
    Problem::new(Code::MessageTooLong).at(&["body".into(), "message".into()], &msg)
}

/// The persona that the body names, else the header's.
pub(super) fn persona(body: Option<String>, header: Option<String>) -> Result<Option<String>, Problem> {
    let fits = |name: &String| name.chars().count() <= MAX_PERSONA_CHARS;
    match (body, header) {
        (Some(name), _) if !fits(&name) => Err(wrong(vec!["persona_id".into()], PERSONA_RULE)),
        (None, Some(name)) if !fits(&name) => Err(bad_header("X-Persona-Id", PERSONA_RULE)),
        (body, header) => Ok(body.or(header)),
    }
}

/// Refuses references to attachments. Nothing can be uploaded yet, so a well-formed one names nothing either.
fn check_attachments(references: &[String]) -> Result<(), Problem> {
    let Some(reference) = references.first() else { return Ok(()) };
    let id = ["att://", "/v1/attachments/"].iter().find_map(|prefix| reference.strip_prefix(prefix));
    if Uuid::try_parse(id.unwrap_or(reference)).is_err() {
        let msg = "must be a UUID, /v1/attachments/<uuid> or att://<uuid>";
        return Err(wrong(vec!["attachments".into(), 0.into()], msg));
    }
    Err(Problem::new(Code::AttachmentNotFound).at(&["body".into(), "attachments".into(), 0.into()], "does not exist"))
}

/// What a persona may be called.
const PERSONA_RULE: &str = "must be at most 128 characters";

/// Names and values together. They travel with every frame of the answer.
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// Names in `metadata` that only this system writes.
const RESERVED: [&str; 4] = ["sequence", "turn", "attempt", "completed"];

/// To whom a message goes, by whom, and with what details: the same for messages and quick actions.
pub(super) struct Addressed {
    pub(super) caller: Caller,
    pub(super) session_id: Uuid,
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
        let session_id = session_id.unwrap_or_else(|| new_session_id(&caller, key.as_deref()));
        let mut metadata: Metadata = given.into_iter().map(|(name, text)| (name, Value::from(text))).collect();
        metadata.retain(|name, _| !RESERVED.contains(&name.as_str()));
        for (name, value) in [("agent_profile_id", hints.agent_profile_id), ("universe_id", hints.universe_id)] {
            if let Some(value) = value {
                metadata.entry(name).or_insert(value.into());
            }
        }
        metadata.insert("tenant".into(), caller.tenant.as_str().into());
        // A first message may be sent again with the session it was given: that is where it goes, not what it says.
        if let Some(fields) = whole.as_object_mut() {
            fields.remove("session_id");
        }
        let idempotency = key.map(|key| Idempotency { key, body_hash: body_hash(&whole) });
        Ok(Self { caller, session_id, persona_id: hints.persona_id, metadata, idempotency })
    }
}

fn new_session_id(caller: &Caller, key: Option<&str>) -> Uuid {
    key.map_or_else(Uuid::new_v4, |key| derived_session_id(&caller.tenant, caller.subject.as_deref(), key))
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
mod tests {
    use actix_web::{FromRequest as _, test::TestRequest};
    use serde_json::json;

    use super::*;

    /// What becomes of a body, sent with these headers.
    async fn addressed(headers: &[(&'static str, &'static str)], body: Value) -> Addressed {
        let settings = DoorSettings { default_tenant: "house".to_owned(), ..DoorSettings::default() };
        let request = headers.iter().fold(TestRequest::default(), |request, header| request.insert_header(*header));
        let request = request.app_data(Data::new(settings)).to_http_request();
        let by = By::extract(&request).await.unwrap_or_else(|problem| unreachable!("{problem:?}"));
        let hints = Hints::extract(&request).await.unwrap_or_else(|problem| unreachable!("{problem:?}"));
        let key = IdempotencyKey::extract(&request).await.unwrap_or_else(|problem| unreachable!("{problem:?}"));
        let fields: MessageRequest =
            serde_json::from_value(body.clone()).unwrap_or_else(|error| unreachable!("{error}"));
        Addressed::new(by, hints, key, fields.session_id, fields.metadata, body)
            .unwrap_or_else(|problem| unreachable!("{problem:?}"))
    }

    #[actix_web::test]
    async fn a_first_message_with_a_key_always_finds_its_session() {
        let body = json!({"message": "hi"});
        let first = addressed(&[("Idempotency-Key", "k")], body.clone()).await;
        let again = addressed(&[("Idempotency-Key", "k")], body.clone()).await;
        assert_eq!((first.session_id, &first.idempotency), (again.session_id, &again.idempotency));
        let named =
            addressed(&[("Idempotency-Key", "k")], json!({"message": "hi", "session_id": first.session_id})).await;
        assert_eq!((named.session_id, named.idempotency), (again.session_id, again.idempotency));
        let inside = addressed(&[], json!({"message": "hi", "metadata": {"idempotency_key": "k"}})).await;
        assert_eq!(inside.session_id, first.session_id);
        let (one, two) = (addressed(&[], body.clone()).await, addressed(&[], body.clone()).await);
        assert_ne!(one.session_id, two.session_id);
        let other_tenant = addressed(&[("Idempotency-Key", "k"), ("X-Tenant-Id", "t")], body).await;
        assert_ne!(other_tenant.session_id, first.session_id);
    }

    #[actix_web::test]
    async fn a_session_id_that_is_no_uuid_counts_as_none() {
        let given = Uuid::from_u128(5);
        assert_eq!(addressed(&[], json!({"message": "", "session_id": given})).await.session_id, given);
        for odd in [json!("chat-1"), json!(""), Value::Null] {
            let fresh = addressed(&[], json!({"message": "", "session_id": odd})).await.session_id;
            assert_eq!(fresh.get_version_num(), 4);
        }
    }

    #[actix_web::test]
    async fn the_tenant_is_the_heads_then_the_bodys_then_the_houses() {
        let body = json!({"message": "", "metadata": {"tenant": "body"}});
        for (headers, body, tenant) in [
            (&[("X-Tenant-Id", "head")][..], body.clone(), "head"),
            (&[], body, "body"),
            (&[], json!({"message": ""}), "house"),
        ] {
            let addressed = addressed(headers, body).await;
            assert_eq!((addressed.caller.tenant.as_str(), &addressed.metadata["tenant"]), (tenant, &json!(tenant)));
        }
    }

    #[actix_web::test]
    async fn headers_fill_in_what_the_body_does_not_say() {
        let headers = [("X-Agent-Profile", "head"), ("X-Universe-Id", "head"), ("X-Persona-Id", "p")];
        let body = json!({"message": "", "metadata": {"universe_id": "body", "completed": "true", "turn": "9"}});
        let addressed = addressed(&headers, body).await;
        let expected = json!({"agent_profile_id": "head", "universe_id": "body", "tenant": "house"});
        assert_eq!((Value::Object(addressed.metadata), addressed.persona_id.as_deref()), (expected, Some("p")));
    }
}
