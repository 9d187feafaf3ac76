//! What was said in a session.

use actix_web::web::{Data, Json, block};
use serde::Serialize;
use serde_json::{Value, json};
use somaagent_actors::{
    conversation::queries::{Page, SessionSummary},
    domain::{
        event::StoredEvent,
        transcript::{context_window, estimated_tokens, history},
    },
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sessions::find;
use crate::{
    door::Door,
    extract::{By, Query, SessionId, bad},
    openapi::shapes::ListedEvent,
    problem::{Code, Problem},
    render::to_html,
    sse::answer,
    wire::listed,
};

/// Most events of one page.
const MAX_EVENTS: i64 = 500;

/// What answers are shown as, beside their text.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes the wire form")]
pub(crate) enum RenderName {
    /// As sanitised HTML.
    Html,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventsReply {
    /// The session.
    session_id: Uuid,
    /// The events, ascending by `id`.
    #[schema(value_type = Vec<ListedEvent>)]
    events: Vec<Value>,
    /// The last `id` of the page; on an empty page what was given as `after`.
    next_cursor: Option<i64>,
    /// Whether there are more: with `last` earlier ones, else later ones. A page of long events ends before its `limit`.
    more: bool,
}

/// Lists the stored events of a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session_id}/events",
    tag = "sessions",
    params(
        ("session_id" = uuid::Uuid, Path, description = "The session"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only events with a higher `id`"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 500, description = "Page size (100)"),
        ("last" = Option<i64>, Query, minimum = 1, maximum = 500, description = "Instead of `after` and `limit`: the newest so many"),
        ("before" = Option<i64>, Query, minimum = 1, description = "With `last`: only events with a lower `id`"),
        ("render" = inline(Option<RenderName>), Query, description = "`html` adds `payload.html` to answers"),
    ),
    responses((status = 200, description = "A page of events", body = EventsReply)),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!(["session-not-found", "session-deleted", "invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_events(
    door: Data<Door>,
    by: By,
    session: SessionId,
    query: Query,
) -> Result<Json<EventsReply>, Problem> {
    let after = query.after()?;
    let limit = query.limit(MAX_EVENTS, 100)?;
    let newest = newest(&query)?;
    let html = rendered(&query)?;
    let caller = by.caller();
    let Page { events: stored, more } = match newest {
        Some((last, before)) => door.reads.recent_events(&caller, session.0, before, last).await?,
        None => door.reads.events(&caller, session.0, after.unwrap_or(0), limit).await?,
    };
    if stored.is_empty() {
        find(&door, &caller, session.0).await?;
    }
    let next_cursor = stored.last().map(|event| event.seq).or(after);
    let show_all = move || stored.into_iter().map(|event| show(event, html)).collect();
    // A page of long answers takes a while to render: not on the thread that serves everybody else.
    let events = if html {
        block(show_all).await.map_err(|error| Problem::new(Code::Internal).caused_by(error.to_string()))?
    } else {
        show_all()
    };
    Ok(Json(EventsReply { session_id: session.0, events, next_cursor, more }))
}

/// How many of the newest events are asked for, and before which one, if they are.
fn newest(query: &Query) -> Result<Option<(i64, i64)>, Problem> {
    let (last, before) = (query.number("last", 1..=MAX_EVENTS)?, query.number("before", 1..=i64::MAX)?);
    if last.is_some() && (query.text("after")?.is_some() || query.text("limit")?.is_some()) {
        return Err(bad("last", "must not be given with after or limit"));
    }
    if before.is_some() && last.is_none() {
        return Err(bad("before", "must be given with last"));
    }
    Ok(last.map(|last| (last, before.unwrap_or(i64::MAX))))
}

fn rendered(query: &Query) -> Result<bool, Problem> {
    match query.text("render")? {
        None => Ok(false),
        Some("html") => Ok(true),
        Some(_) => Err(bad("render", "must be html")),
    }
}

fn show(mut event: StoredEvent, html: bool) -> Value {
    if html && let Some(rendering) = answer(&event.payload).map(to_html) {
        event.payload["html"] = rendering.into();
    }
    listed(&event)
}

/// A session as text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryReply {
    /// Markdown with a heading per message.
    history: String,
    /// About how many tokens that is: a quarter of its characters.
    tokens: u64,
    /// Whether there are earlier events that are not told.
    more: bool,
}

/// The session as Markdown, for reading and for export.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session_id}/history",
    tag = "sessions",
    params(
        ("session_id" = uuid::Uuid, Path, description = "The session"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 2000, description = "How many of the last events (500); fewer are told where they are long"),
    ),
    responses((status = 200, description = "The text", body = HistoryReply)),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!(["session-not-found", "session-deleted", "invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_history(
    door: Data<Door>,
    by: By,
    session: SessionId,
    query: Query,
) -> Result<Json<HistoryReply>, Problem> {
    let limit = query.limit(2000, 500)?;
    let caller = by.caller();
    let Page { events, more } = door.reads.recent_events(&caller, session.0, i64::MAX, limit).await?;
    if events.is_empty() {
        find(&door, &caller, session.0).await?;
    }
    let history = history(&payloads(events));
    Ok(Json(HistoryReply { tokens: estimated_tokens(&history), history, more }))
}

/// What the model is told about a session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContextReply {
    /// Markdown: envelope, analysis, recent messages.
    content: String,
    /// About how many tokens that is: a quarter of its characters.
    tokens: u64,
}

/// The session's envelope, analysis and last messages as Markdown.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session_id}/context-window",
    tag = "sessions",
    params(
        ("session_id" = uuid::Uuid, Path, description = "The session"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 2000, description = "How many of the last events are looked at (300)"),
    ),
    responses((status = 200, description = "The text", body = ContextReply)),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!(["session-not-found", "session-deleted", "invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_context_window(
    door: Data<Door>,
    by: By,
    session: SessionId,
    query: Query,
) -> Result<Json<ContextReply>, Problem> {
    let limit = query.limit(2000, 300)?;
    let caller = by.caller();
    let summary = find(&door, &caller, session.0).await?;
    let stored = door.reads.recent_events(&caller, session.0, i64::MAX, limit).await?.events;
    let content = context_window(&envelope(&summary), &summary.analysis, &payloads(stored));
    Ok(Json(ContextReply { tokens: estimated_tokens(&content), content }))
}

fn envelope(summary: &SessionSummary) -> Value {
    json!({
        "session_id": summary.session_id,
        "persona_id": summary.persona_id,
        "tenant": summary.tenant,
        "subject": summary.subject,
        "issuer": summary.issuer,
        "scope": summary.scope,
        "metadata": summary.metadata,
    })
}

fn payloads(stored: Vec<StoredEvent>) -> Vec<Value> {
    stored.into_iter().map(|event| event.payload).collect()
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_answers_are_rendered_and_only_on_request() {
        let event = |role: &str| StoredEvent {
            seq: 2,
            event_id: Uuid::nil(),
            turn_seq: Some(1),
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            payload: json!({"role": role, "message": "*hi*"}),
        };
        assert_eq!(show(event("assistant"), true)["payload"]["html"], "<p><em>hi</em></p>\n");
        assert_eq!(show(event("assistant"), false)["payload"].get("html"), None);
        assert_eq!(show(event("user"), true)["payload"].get("html"), None);
        assert_eq!(show(event("user"), true)["id"], 2);
    }
}
