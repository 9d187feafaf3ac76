//! The live stream of a session.

use actix_web::{HttpRequest, HttpResponse, web::Data};
use futures_util::{StreamExt as _, future::Either};
use somaagent_actors::{conversation::StreamMode, domain::cursor::Cursor};
use utoipa::ToSchema;

use crate::{
    door::Door,
    extract::{By, Query, SessionId, bad, header},
    limits::Limits,
    middleware::authorise::Authorised,
    openapi::shapes::StreamBlock,
    problem::{Code, Problem},
    settings::DoorSettings,
    sse,
};

/// How the text of an answer comes.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire form")]
pub(crate) enum ModeName {
    /// As the text so far.
    Default,
    /// As what is new.
    Delta,
    /// As the text so far, rendered as well.
    Html,
}

/// What a stream may be refused with.
const REFUSALS: [Code; 11] = [
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::InvalidQuery,
    Code::InvalidHeader,
    Code::SseDisabled,
    Code::TooManyStreams,
    Code::Overloaded,
    Code::Unavailable,
    Code::Timeout,
    Code::Draining,
    Code::SessionElsewhere,
];

/// Streams a session's events. Without a position the stream begins with the current or last turn; with one, after it. A
/// session nobody has used yet waits for its first message. The stream stays open over turns, until the token or key ends that
/// it was opened with. Read it with `EventSource` or
/// line by line: each block is `id:` (where to resume) and one `data:` line of JSON.
#[utoipa::path(
    get,
    path = "/v1/session/{session_id}/events",
    tag = "messages",
    params(
        ("session_id" = uuid::Uuid, Path, description = "The session"),
        ("after" = Option<String>, Query, pattern = r"^[0-9]{1,18}(\.[1-9][0-9]{0,8}\.[0-9]{1,9})?$", description = "A position: the `id:` of the last block seen, in whatever mode"),
        ("mode" = inline(Option<ModeName>), Query, description = "`default`: text so far; `delta`: new text only; `html`: text so far, rendered as well"),
        ("Last-Event-ID" = Option<String>, Header, pattern = r"^([0-9]{1,18}(\.[1-9][0-9]{0,8}\.[0-9]{1,9})?)?$", description = "As `after`, and wins over it"),
    ),
    responses((
        status = 200,
        description = "The stream; its first bytes are `retry: 1000`, and a `system.keepalive` event comes every 20 seconds",
        content_type = "text/event-stream",
        item_schema = StreamBlock,
    )),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!(REFUSALS)),
    ),
)]
pub(crate) async fn get_stream(
    request: HttpRequest,
    door: Data<Door>,
    settings: Data<DoorSettings>,
    limits: Data<Limits>,
    by: By,
    session: SessionId,
    query: Query,
) -> Result<HttpResponse, Problem> {
    if settings.disable_sse {
        return Err(Code::SseDisabled.into());
    }
    let mode = mode(&query)?;
    let after = position(&request, &query)?;
    door.accepting()?;
    let Authorised { identity, ends, .. } = Authorised::of(&request)?;
    let slot = limits.open_stream(identity.as_ref())?;
    let subscription =
        door.conversations.subscribe(&by.caller(), session.0, after, mode).await.map_err(super::asked_to_read)?;
    let subscription = match ends {
        Some(ends) => Either::Left(Box::pin(subscription.take_until(ends.reached()))),
        None => Either::Right(subscription),
    };
    Ok(sse::respond(session.0, subscription, mode, settings.heartbeat(), slot))
}

/// The same under its old name, with the session in the query.
#[utoipa::path(
    get,
    path = "/gateway_stream",
    tag = "messages",
    params(
        ("session_id" = Option<uuid::Uuid>, Query, description = "The session"),
        ("sid" = Option<uuid::Uuid>, Query, description = "The session, if `session_id` is absent"),
        ("after" = Option<String>, Query, pattern = r"^[0-9]{1,18}(\.[1-9][0-9]{0,8}\.[0-9]{1,9})?$", description = "A position: the `id:` of the last block seen"),
        ("mode" = inline(Option<ModeName>), Query, description = "`default`, `delta` or `html`"),
        ("Last-Event-ID" = Option<String>, Header, pattern = r"^([0-9]{1,18}(\.[1-9][0-9]{0,8}\.[0-9]{1,9})?)?$", description = "As `after`, and wins over it"),
    ),
    responses((
        status = 200,
        description = "The stream",
        content_type = "text/event-stream",
        item_schema = StreamBlock,
    )),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!(REFUSALS)),
    ),
)]
pub(crate) async fn get_gateway_stream(
    request: HttpRequest,
    door: Data<Door>,
    settings: Data<DoorSettings>,
    limits: Data<Limits>,
    by: By,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let named = match query.text("session_id")? {
        Some(text) => Some(text),
        None => query.text("sid")?,
    };
    let session = SessionId::parse(named.ok_or_else(|| bad("session_id", "is missing"))?)?;
    get_stream(request, door, settings, limits, by, session, query).await
}

fn mode(query: &Query) -> Result<StreamMode, Problem> {
    match query.text("mode")? {
        None | Some("default") => Ok(StreamMode::Full),
        Some("delta") => Ok(StreamMode::Delta),
        Some("html") => Ok(StreamMode::Html),
        Some(_) => Err(bad("mode", "must be default, delta or html")),
    }
}

/// Where the reader is. The header wins: an `EventSource` repeats its first query for ever.
fn position(request: &HttpRequest, query: &Query) -> Result<Option<Cursor>, Problem> {
    const RULE: &str = "must be the id of a block, such as 7 or 7.1.3";
    match header(request, "Last-Event-ID")? {
        Some(text) => text.parse().map(Some).map_err(|_| crate::extract::bad_header("Last-Event-ID", RULE)),
        None => query.text("after")?.map(|text| text.parse().map_err(|_| bad("after", RULE))).transpose(),
    }
}
