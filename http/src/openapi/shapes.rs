//! Shapes that the actors write themselves, described for readers of the API.
#![expect(dead_code, reason = "these types are only described, never made")]

use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{self, ObjectBuilder, Ref, Type},
};
use uuid::Uuid;

use crate::routes::memory_deletion::DeletionResult;

/// Why a request failed (RFC 9457).
#[derive(ToSchema)]
pub(crate) struct ProblemReply {
    /// A URI that ends in the code.
    #[schema(format = "uri")]
    r#type: String,
    /// The stable code; `problems.md` explains each.
    code: String,
    /// What the code means.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong, for people.
    detail: String,
    /// The request: `urn:uuid:` and its correlation id.
    instance: String,
    /// With 422: every wrong place.
    errors: Option<Vec<FieldError>>,
    /// With 503 and 504 of a message: the id its event has or would have had.
    event_id: Option<Uuid>,
    /// With `head-moved` and `head-ahead`: the last `seq` of the session.
    head: Option<i64>,
    /// With `head-moved`: the first events in between; `head` tells whether there are more.
    missing: Option<Vec<ListedEvent>>,
    /// With `replica-behind`: everything before this offset of the partition is applied.
    next_offset: Option<i64>,
    /// With `unavailable` of `/readyz`: the actors that are stuck.
    actors: Option<Vec<String>>,
    /// With `confirmation-needed`: the token that allows it.
    confirm: Option<String>,
    /// With `confirmation-needed`: how many dead letters would be deleted.
    letters: Option<i64>,
    /// With `deletion-incomplete`: what each part did.
    result: Option<DeletionResult>,
}

/// One wrong place.
#[derive(ToSchema)]
pub(crate) struct FieldError {
    /// `body`, `query` or `header`, then the path inside.
    loc: Vec<Value>,
    /// What is wrong with it.
    msg: String,
}

/// A stored event.
#[derive(ToSchema)]
pub(crate) struct ListedEvent {
    /// Its number in the session.
    id: i64,
    /// When it was stored, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    occurred_at: String,
    /// The event.
    payload: StreamedEvent,
}

/// One block of a stream.
#[derive(ToSchema)]
pub(crate) struct StreamBlock {
    /// Where to resume after it: `after` or `Last-Event-ID` of another stream. Absent where nothing new was said.
    id: Option<String>,
    /// The event, one line of JSON.
    #[schema(schema_with = event_as_text)]
    data: String,
}

fn event_as_text() -> openapi::Object {
    let event = Ref::from_schema_name(StreamedEvent::name());
    ObjectBuilder::new()
        .schema_type(Type::String)
        .content_media_type("application/json")
        .content_schema(Some(event))
        .description(Some("The event, one line of JSON."))
        .build()
}

/// An event as streams and lists carry it. `system.keepalive` has neither id nor other members than `type`, `role` and `session_id`.
#[derive(ToSchema)]
pub(crate) struct StreamedEvent {
    /// Its identity.
    event_id: Option<Uuid>,
    /// Its session.
    session_id: Uuid,
    /// The persona that answers.
    persona_id: Option<String>,
    /// `user`, `assistant`, `system` or `tool`.
    role: String,
    /// The text; of `assistant.stream` the text so far. Absent in `mode=delta` while streaming.
    message: Option<String>,
    /// In `mode=delta` the new piece of text; of `assistant.thinking` the new piece of reasoning.
    delta: Option<String>,
    /// In `mode=html` the text as sanitised HTML.
    html: Option<String>,
    /// References to attachments.
    attachments: Option<Vec<String>>,
    /// Details: `sequence` (stored events), `turn`, `attempt`, `completed` (the event ends its turn), `error_code`,
    /// `finish_reason` (why the model ended an answer that is not whole: `length` or `content_filter`), and
    /// what the message came with.
    metadata: Option<Object>,
    /// `sa01-v1`.
    version: Option<String>,
    /// Of stored events: `traceparent` and `tracestate` of the request that the turn goes back to, if it had any.
    trace_context: Option<Object>,
    /// `user`, `assistant.started`, `assistant.thinking`, `assistant.stream`, `assistant.final`, `assistant.stopped`,
    /// `assistant.error`, `session.deleted` or `system.keepalive`.
    r#type: String,
}

/// A row of the audit trail.
#[derive(ToSchema)]
pub(crate) struct AuditItem {
    /// Its number; later changes have higher ones.
    id: i64,
    /// When, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    ts: String,
    /// In which request.
    request_id: Option<String>,
    /// In which trace (W3C Trace Context).
    trace_id: Option<String>,
    /// What it is a step of: a turn, or an order that goes on by itself.
    workflow_id: Option<String>,
    /// In which session.
    session_id: Option<Uuid>,
    /// Whose.
    tenant: String,
    /// Who.
    subject: Option<String>,
    /// Who vouched for them.
    issuer: Option<String>,
    /// What was done, such as `message.enqueue`.
    action: String,
    /// To what kind of thing.
    resource: String,
    /// To which one.
    target_id: Option<String>,
    /// SHA-256 of what the policy was asked when it allowed this.
    decision: Option<String>,
    /// From which address.
    ip: Option<String>,
    /// With which program.
    user_agent: Option<String>,
    /// Names and sizes, never content.
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
    /// What was changed, by name: `before` and `after`, each a SHA-256.
    #[schema(value_type = Option<Object>)]
    diff: Option<Value>,
}

/// A memory as the replica has it.
#[derive(ToSchema)]
pub(crate) struct ReplicaItem {
    /// The row of the replica; later rows have higher ones.
    id: i64,
    /// The memory's id, unique for the tenant.
    event_id: String,
    /// The session it comes from.
    session_id: Option<String>,
    /// The persona it was said to or by.
    persona_id: Option<String>,
    /// Whose it is.
    tenant: String,
    /// Who said it.
    role: Option<String>,
    /// Where the memory service put it: `x,y,z`.
    coord: Option<String>,
    /// The memory service's name of the request.
    request_id: Option<String>,
    /// The memory service's name of the trace.
    trace_id: Option<String>,
    /// The memory.
    payload: Object,
    /// When it was told to the log, in seconds since 1970.
    wal_timestamp: Option<f64>,
    /// When the row was made, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

/// How far a memory has come.
#[derive(ToSchema)]
pub(crate) struct Receipt {
    /// The memory's id.
    event_id: String,
    /// The furthest that it has come.
    state: ReceiptState,
    /// When it reached which state, as far as that is known.
    at: ReceiptTimes,
    /// The topic of its record; null until the log has it.
    #[schema(required)]
    topic: Option<String>,
    /// The partition of its record.
    #[schema(required)]
    partition: Option<i32>,
    /// The record's number there: with its partition what `min_offset` of reads takes.
    #[schema(required)]
    offset: Option<i64>,
    /// SHA-256 of the record's bytes in hexadecimal digits; null until the replica has it.
    #[schema(required)]
    sha256: Option<String>,
}

/// How far a memory may have come.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum ReceiptState {
    /// It waits for the memory service.
    Queued,
    /// The memory service has it; its record waits for the log.
    Remembered,
    /// The log has its record.
    Logged,
    /// The replica has it.
    Replicated,
    /// It was given up on its way: a dead letter, until somebody sends that again.
    Dead,
}

/// When a memory reached which state, RFC 3339 in UTC; what is not reached or not known is absent.
#[derive(ToSchema)]
pub(crate) struct ReceiptTimes {
    /// It was put into its queue.
    #[schema(format = DateTime)]
    queued: Option<String>,
    /// The memory service had it.
    #[schema(format = DateTime)]
    remembered: Option<String>,
    /// The log had its record.
    #[schema(format = DateTime)]
    logged: Option<String>,
    /// The replica had it.
    #[schema(format = DateTime)]
    replicated: Option<String>,
    /// It was given up.
    #[schema(format = DateTime)]
    dead: Option<String>,
}

/// Members by name.
type Object = std::collections::BTreeMap<String, Value>;

/// A conversation as its actor sees it.
#[derive(ToSchema)]
pub(crate) struct StateReply {
    /// The session.
    session_id: Uuid,
    /// The number of the last event.
    head: i64,
    /// The turn that is being answered.
    turn: Option<TurnState>,
    /// Messages that wait.
    queue: Vec<QueuedTurn>,
    /// The ways into the actor's mailbox: `posts`, `control`, `inspect`.
    mailbox: std::collections::BTreeMap<String, MailboxState>,
    /// Readers of the stream.
    subscribers: u64,
    /// Whether the conversation was live before this request.
    live: bool,
    /// Whether it refuses messages.
    paused: bool,
    /// What it is called.
    title: Option<String>,
    /// The persona that answers.
    persona_id: Option<String>,
    /// The node that owns it.
    owner: Option<OwnerState>,
    /// What the last recall brought.
    last_recall: Option<RecallState>,
    /// What the last context held.
    last_context: Option<ContextState>,
    /// Tokens of the last answer.
    last_usage: Option<UsageState>,
    /// Times of the last answer.
    last_timing: Option<TimingState>,
}

/// A turn under way.
#[derive(ToSchema)]
pub(crate) struct TurnState {
    /// The `seq` of its user event.
    turn_seq: i64,
    /// Which attempt.
    attempt: i32,
    /// What it is doing.
    state: String,
    /// Since when, RFC 3339 in UTC.
    started_at: String,
    /// Bytes of text so far.
    text_bytes: u64,
    /// Time to the first piece of text.
    first_delta_ms: Option<u64>,
    /// The model that answers.
    model: Option<String>,
}

/// A message that waits for its turn.
#[derive(ToSchema)]
pub(crate) struct QueuedTurn {
    /// The `seq` of its event.
    turn_seq: i64,
    /// The id of its event.
    event_id: Uuid,
}

/// One way into a mailbox.
#[derive(ToSchema)]
pub(crate) struct MailboxState {
    /// Messages queued or in hand.
    depth: u64,
    /// The most there can be.
    capacity: u64,
}

/// The node that owns a session.
#[derive(ToSchema)]
pub(crate) struct OwnerState {
    /// Its name.
    node: String,
    /// The fence: rises with every owner.
    epoch: i64,
    /// Until when, RFC 3339 in UTC; null: it has let go of the session.
    lease_until: Option<String>,
}

/// What a recall brought.
#[derive(ToSchema)]
pub(crate) struct RecallState {
    /// `ok`, `unavailable`, `timeout`, `denied` (by the policy) or `off`.
    state: String,
    /// How long it took.
    took_ms: u64,
    /// The memories.
    items: Vec<RecalledItem>,
}

/// One recalled memory.
#[derive(ToSchema)]
pub(crate) struct RecalledItem {
    /// Its text.
    text: String,
    /// How well it fits.
    score: f64,
    /// Where it comes from.
    source: Option<String>,
}

/// What a context held.
#[derive(ToSchema)]
pub(crate) struct ContextState {
    /// Its tokens.
    tokens: u64,
    /// The most it may have.
    budget: u64,
    /// Its messages.
    messages: u64,
    /// What did not fit.
    cut: ContextCut,
    /// The files that came with its messages, those of the new one first.
    files: Vec<ContextFile>,
}

/// A file of a context.
#[derive(ToSchema)]
pub(crate) struct ContextFile {
    /// Its id.
    id: Uuid,
    /// Its name.
    name: String,
    /// Characters of its text that the model was given.
    chars: u64,
    /// Characters that it was not given.
    missing_chars: u64,
    /// Why it was given nothing of it, if so.
    why: Option<String>,
}

/// What did not fit into a context.
#[derive(ToSchema)]
pub(crate) struct ContextCut {
    /// Memories.
    memories: u64,
    /// Earlier messages.
    history_messages: u64,
    /// Files, of which there is nothing at all.
    files: u64,
}

/// Tokens of an answer.
#[derive(ToSchema)]
pub(crate) struct UsageState {
    /// Read by the model.
    input_tokens: u64,
    /// Written by the model.
    output_tokens: u64,
    /// Both.
    total_tokens: u64,
    /// Present and true if the process counted, because the model did not.
    estimated: Option<bool>,
}

/// Times of an answer.
#[derive(ToSchema)]
pub(crate) struct TimingState {
    /// Time to the first piece of text.
    first_delta_ms: Option<u64>,
    /// Time to the end.
    total_ms: u64,
}
