//! Dead letters of the caller's tenant: lists, one in full, deletion.

use actix_web::{
    HttpResponse,
    http::header::LINK,
    web::{Data, Json},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::Value;
use somaagent_actors::dead_letters::queries::{Letter, LetterFilter, ListedLetter, TopicSummary};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    door::Door,
    extract::{By, LetterId, LetterTopic, Query, bad},
    link,
    problem::{Code, Problem},
    wire::timestamp,
};

const MAX_LIMIT: i64 = 1000;
const DEFAULT_LIMIT: i64 = 100;

/// What a change of dead letters may be refused with.
pub(super) const CHANGING: [Code; 5] =
    [Code::NotFound, Code::Overloaded, Code::Unavailable, Code::Draining, Code::OutcomeUnknown];

/// A topic of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TopicReply {
    /// Its name.
    topic: String,
    /// How many letters the tenant has there.
    depth: i64,
    /// When the oldest came, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    oldest: Option<String>,
    /// When the newest came, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    newest: Option<String>,
}

impl From<TopicSummary> for TopicReply {
    fn from(found: TopicSummary) -> Self {
        let (oldest, newest) = (found.oldest.map(timestamp), found.newest.map(timestamp));
        Self { topic: found.topic, depth: found.depth, oldest, newest }
    }
}

/// Lists the topics of dead letters.
#[utoipa::path(
    get,
    path = "/v1/admin/dlq",
    tag = "dead-letters",
    responses((status = 200, description = "The topics, by name", body = Vec<TopicReply>)),
    extensions(
        ("x-action" = json!("admin.dlq.read")),
        ("x-problems" = json!(["unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_topics(door: Data<Door>, by: By) -> Result<Json<Vec<TopicReply>>, Problem> {
    let topics = door.dead_letters.reads.topics(&by.caller().tenant).await?;
    Ok(Json(topics.into_iter().map(TopicReply::from).collect()))
}

/// A dead letter as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedReply {
    /// Its number.
    id: i64,
    /// The dead-letter topic.
    topic: String,
    /// The record; null if it is not JSON.
    #[schema(value_type = Option<Object>)]
    event: Option<Value>,
    /// Why it could not be carried on.
    error: String,
    /// Since when it is here, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<ListedLetter> for ListedReply {
    fn from(letter: ListedLetter) -> Self {
        let created_at = timestamp(letter.created_at);
        Self { id: letter.id, topic: letter.topic, event: letter.event, error: letter.error, created_at }
    }
}

/// Lists the dead letters of a topic, the newest first. The header `Link` has the next page, if there is one; a page ends
/// early where records are large.
#[utoipa::path(
    get,
    path = "/v1/admin/dlq/{topic}",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic, such as `memory.wal.dlq`"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "Page size (100)"),
        ("cursor" = Option<i64>, Query, minimum = 1, description = "Where a page begins; taken from `Link`"),
        ("error" = Option<String>, Query, description = "Part of the error, in either case"),
        ("since" = Option<String>, Query, format = DateTime, description = "Only what came then or later, RFC 3339"),
        ("until" = Option<String>, Query, format = DateTime, description = "Only what came before, RFC 3339"),
    ),
    responses((
        status = 200,
        description = "A page of dead letters",
        body = Vec<ListedReply>,
        headers(("Link" = String, description = "The next page, as `<address>; rel=\"next\"`")),
    )),
    extensions(
        ("x-action" = json!("admin.dlq.read")),
        ("x-problems" = json!(["not-found", "invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_letters(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit(MAX_LIMIT, DEFAULT_LIMIT)?;
    let before = query.number("cursor", 1..=i64::MAX)?;
    let (tenant, filter) = (by.caller().tenant, filter(&query)?);
    let page = door.dead_letters.reads.list(&tenant, &topic.0, filter, before, limit).await?;
    let mut response = HttpResponse::Ok();
    if let (true, Some(last)) = (page.more, page.letters.last()) {
        response.insert_header((LINK, next_page(&topic.0, last.id, limit, &query)?));
    }
    Ok(response.json(page.letters.into_iter().map(ListedReply::from).collect::<Vec<_>>()))
}

/// Which letters a query speaks of.
pub(super) fn filter(query: &Query) -> Result<LetterFilter, Problem> {
    let at = |name: &str| {
        let parse =
            |text: &str| OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad(name, "must be a time, RFC 3339"));
        query.text(name)?.map(parse).transpose()
    };
    let containing = query.text("error")?.map(str::to_owned);
    Ok(LetterFilter { containing, from: at("since")?, before: at("until")? })
}

fn next_page(topic: &str, last: i64, limit: i64, query: &Query) -> Result<String, Problem> {
    let (limit, last) = (limit.to_string(), last.to_string());
    let mut parameters = vec![("limit", limit.as_str()), ("cursor", last.as_str())];
    for name in ["error", "since", "until", "tenant"] {
        parameters.extend(query.text(name)?.map(|value| (name, value)));
    }
    Ok(link::next(&format!("/v1/admin/dlq/{topic}"), &parameters))
}

/// A dead letter in full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LetterReply {
    /// Its number.
    id: i64,
    /// The dead-letter topic.
    topic: String,
    /// The topic the record was for.
    source_topic: String,
    /// What ordered the record.
    key: Option<String>,
    /// Its headers, a text each.
    #[schema(value_type = Object)]
    headers: Value,
    /// The record; null if it is not JSON.
    #[schema(value_type = Option<Object>)]
    event: Option<Value>,
    /// The record byte by byte, as base64 (RFC 4648 §4).
    #[schema(content_encoding = "base64")]
    original: String,
    /// Its length.
    size_bytes: usize,
    /// Why it could not be carried on.
    error: String,
    /// The kind of error, a fixed name.
    error_class: String,
    /// What the other side called it, such as an HTTP status.
    error_code: Option<String>,
    /// How often it was tried in all.
    attempts: i32,
    /// Each time it was given up, the oldest first: `{at, error, attempts}`.
    #[schema(value_type = Vec<Object>)]
    history: Value,
    /// What gave it up and takes it back.
    origin: OriginReply,
    /// Since when it is here, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last changed, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// Where a dead letter comes from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginReply {
    /// `outbox`, `memory` or `replicator`.
    kind: String,
    /// The session it tells of.
    session_id: Option<Uuid>,
    /// The event it comes from, by its number in the session.
    seq: Option<i64>,
    /// The partition of the log it was read from.
    partition: Option<i32>,
    /// Its place there.
    offset: Option<i64>,
}

impl From<Letter> for LetterReply {
    fn from(letter: Letter) -> Self {
        Self {
            id: letter.id,
            topic: letter.topic,
            source_topic: letter.source_topic,
            key: letter.partition_key,
            headers: letter.headers,
            event: serde_json::from_slice(&letter.original).ok(),
            original: STANDARD.encode(&letter.original),
            size_bytes: letter.original.len(),
            error: letter.error,
            error_class: letter.error_class,
            error_code: letter.error_code,
            attempts: letter.attempts,
            history: letter.history,
            origin: OriginReply {
                kind: letter.origin,
                session_id: letter.session_id,
                seq: letter.seq,
                partition: letter.partition,
                offset: letter.offset,
            },
            created_at: timestamp(letter.created_at),
            updated_at: timestamp(letter.updated_at),
        }
    }
}

/// Shows a dead letter in full.
#[utoipa::path(
    get,
    path = "/v1/admin/dlq/{topic}/{id}",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("id" = i64, Path, minimum = 1, description = "The letter's number"),
    ),
    responses((status = 200, description = "The letter", body = LetterReply)),
    extensions(
        ("x-action" = json!("admin.dlq.read")),
        ("x-problems" = json!(["not-found", "dead-letter-not-found", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_letter(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    id: LetterId,
) -> Result<Json<LetterReply>, Problem> {
    let letter = door.dead_letters.reads.letter(&by.caller().tenant, &topic.0, id.0).await?;
    Ok(Json(letter.ok_or(Code::DeadLetterNotFound)?.into()))
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedReply {
    /// `deleted` or `purged`.
    status: &'static str,
    /// How many letters.
    deleted: u64,
}

/// Deletes a dead letter for good.
#[utoipa::path(
    delete,
    path = "/v1/admin/dlq/{topic}/{id}",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("id" = i64, Path, minimum = 1, description = "The letter's number"),
    ),
    responses((status = 200, description = "The letter is gone", body = DeletedReply)),
    extensions(
        ("x-action" = json!("admin.dlq.delete")),
        ("x-problems" = json!([&CHANGING[..], &[Code::DeadLetterNotFound]].concat())),
    ),
)]
pub(crate) async fn delete_letter(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    id: LetterId,
) -> Result<Json<DeletedReply>, Problem> {
    door.dead_letters.discard(by.caller(), topic.0, id.0).await?;
    Ok(Json(DeletedReply { status: "deleted", deleted: 1 }))
}

/// Deletes all dead letters of a topic for good. The first call is refused with a token in `confirm`; sent again with it,
/// exactly the letters that were there then are deleted. Safe to repeat.
#[utoipa::path(
    delete,
    path = "/v1/admin/dlq/{topic}",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("confirm" = Option<String>, Query, description = "The token of the refusal"),
    ),
    responses((status = 200, description = "The letters are gone", body = DeletedReply)),
    extensions(
        ("x-action" = json!("admin.dlq.purge")),
        ("x-problems" = json!([&CHANGING[..], &[Code::ConfirmationNeeded, Code::InvalidQuery, Code::Timeout]].concat())),
    ),
)]
pub(crate) async fn delete_letters(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    query: Query,
) -> Result<Json<DeletedReply>, Problem> {
    let token = query.text("confirm")?.map(str::to_owned);
    let deleted = door.dead_letters.purge(by.caller(), topic.0, token).await?;
    Ok(Json(DeletedReply { status: "purged", deleted }))
}
