//! The list of sessions.

use actix_web::{HttpResponse, http::header::LINK, web::Data};
use serde::Serialize;
use serde_json::Value;
use somaagent_actors::{
    conversation::queries::{Lookup, SessionPage, SessionSummary},
    domain::{caller::Caller, list_cursor::ListCursor},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    door::Door,
    extract::{By, Query},
    link,
    problem::{Code, Problem},
    wire::timestamp,
};

const MAX_LIMIT: i64 = 200;
const DEFAULT_LIMIT: i64 = 50;

/// A session as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionReply {
    /// Its id.
    session_id: Uuid,
    /// What it is called; absent before its first message.
    title: Option<String>,
    /// The persona that answers.
    persona_id: Option<String>,
    /// Whose it is.
    tenant: String,
    /// Who began it.
    subject: Option<String>,
    /// Who vouched for them.
    issuer: Option<String>,
    /// With which scope.
    scope: Option<String>,
    /// Details of the session.
    #[schema(value_type = Object)]
    metadata: Value,
    /// A reading of the last message.
    #[schema(value_type = Object)]
    analysis: Value,
    /// The number of the last event.
    last_seq: i64,
    /// Whether it refuses messages.
    paused: bool,
    /// When it began, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last changed, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<SessionSummary> for SessionReply {
    fn from(summary: SessionSummary) -> Self {
        Self {
            session_id: summary.session_id,
            title: summary.title,
            persona_id: summary.persona_id,
            tenant: summary.tenant,
            subject: summary.subject,
            issuer: summary.issuer,
            scope: summary.scope,
            metadata: summary.metadata,
            analysis: summary.analysis,
            last_seq: summary.last_seq,
            paused: summary.paused,
            created_at: timestamp(summary.created_at),
            updated_at: timestamp(summary.updated_at),
        }
    }
}

/// Lists the tenant's sessions, the last changed first. The header `Link` has the next page, if there is one.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    tag = "sessions",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Page size (50)"),
        (
            "cursor" = Option<String>, Query,
            pattern = "^[0-9]{1,17}-[0-9a-f]{32}$",
            description = "Where a page begins; taken from `Link`",
        ),
        ("q" = Option<String>, Query, description = "Part of the title"),
    ),
    responses((
        status = 200,
        description = "A page of sessions",
        body = Vec<SessionReply>,
        headers(("Link" = String, description = "The next page, as `<address>; rel=\"next\"`")),
    )),
    extensions(
        ("x-action" = json!("conversation.list")),
        ("x-problems" = json!(["invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_sessions(door: Data<Door>, by: By, query: Query) -> Result<HttpResponse, Problem> {
    let limit = query.limit(MAX_LIMIT, DEFAULT_LIMIT)?;
    let before = query.parsed::<ListCursor>("cursor", "taken from a Link header")?;
    // One more than asked for tells whether there is a next page.
    let page = SessionPage { limit: limit + 1, before, containing: query.text("q")?.map(str::to_owned) };
    let mut found = door.reads.sessions(&by.caller(), page).await?;
    let more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = found.last().filter(|_| more).map(|last| next_page(last, limit, &query));
    let mut response = HttpResponse::Ok();
    if let Some(link) = next.transpose()? {
        response.insert_header((LINK, link));
    }
    Ok(response.json(found.into_iter().map(SessionReply::from).collect::<Vec<_>>()))
}

/// The `Link` to the page after `last`.
fn next_page(last: &SessionSummary, limit: i64, query: &Query) -> Result<String, Problem> {
    let cursor = ListCursor { at: last.updated_at, id: last.session_id };
    let (limit, cursor) = (limit.to_string(), cursor.to_string());
    let mut parameters = vec![("limit", limit.as_str()), ("cursor", cursor.as_str())];
    for name in ["q", "tenant"] {
        parameters.extend(query.text(name)?.map(|value| (name, value)));
    }
    Ok(link::next("/v1/sessions", &parameters))
}

/// The session, or the problem that says why there is none.
pub(super) async fn find(door: &Door, caller: &Caller, session_id: Uuid) -> Result<SessionSummary, Problem> {
    match door.reads.session(caller, session_id).await? {
        Lookup::Found(summary) => Ok(summary),
        Lookup::Deleted => Err(Code::SessionDeleted.into()),
        Lookup::Unknown => Err(Code::SessionNotFound.into()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{FromRequest as _, test::TestRequest};
    use time::OffsetDateTime;

    use super::*;

    #[actix_web::test]
    async fn the_next_page_asks_what_this_one_asked() {
        let request = TestRequest::get().uri("/v1/sessions?limit=2&q=t%26e%3E%C3%A4&tenant=a%20b").to_http_request();
        let query = Query::extract(&request).await.unwrap_or_default();
        let last = SessionSummary {
            session_id: Uuid::from_u128(7),
            tenant: "a b".to_owned(),
            title: None,
            persona_id: None,
            subject: None,
            issuer: None,
            scope: None,
            metadata: Value::Null,
            analysis: Value::Null,
            paused: false,
            last_seq: 1,
            owner: None,
            epoch: 0,
            lease_until: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            deleted_at: None,
        };
        assert_eq!(
            next_page(&last, 2, &query).ok().as_deref(),
            Some(
                "</v1/sessions?limit=2&cursor=0-00000000000000000000000000000007&q=t%26e%3E%C3%A4&tenant=a%20b>; rel=\"next\""
            )
        );
    }
}
