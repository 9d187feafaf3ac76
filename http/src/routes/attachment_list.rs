//! The list of what people of a tenant have sent, for admins.

use actix_web::{HttpResponse, http::header::LINK, web::Data};
use serde::Serialize;
use somaagent_actors::uploads::{
    Attachment,
    verdicts::{AttachmentFilter, ListCursor},
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{attachments::seconds, uploads::AttachmentReply};
use crate::{
    door::Door,
    extract::{By, Query, bad},
    link,
    problem::Problem,
};

const MAX_LIMIT: i64 = 200;
const DEFAULT_LIMIT: i64 = 50;

const STATUSES: [&str; 2] = ["clean", "quarantined"];
const REASONS: [&str; 3] = ["infected", "av_error", "limits_exceeded"];

/// Whether an attachment goes out.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the wire form")]
pub(crate) enum StatusName {
    /// It does.
    Clean,
    /// It does not.
    Quarantined,
}

/// Why an attachment is quarantined.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the wire form")]
pub(crate) enum ReasonName {
    /// Something was found in it.
    Infected,
    /// It could not be looked through.
    AvError,
    /// It could not be looked through to its end.
    LimitsExceeded,
}

/// An attachment as admins see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedAttachmentReply {
    #[serde(flatten)]
    attachment: AttachmentReply,
    /// Who sent it, if that was known …
    subject: Option<String>,
    /// … and who vouches for them.
    issuer: Option<String>,
    /// The persona that it was sent to.
    persona_id: Option<String>,
    /// What its sender calls its type.
    declared_mime: Option<String>,
    /// What was found in it.
    threat: Option<String>,
    /// When it was last looked through, in seconds since 1970; null if it never was.
    scanned_at: Option<f64>,
    /// With which version of the signatures.
    signatures: Option<String>,
    /// When somebody let it out of its quarantine, in seconds since 1970 …
    released_at: Option<f64>,
    /// … and who, if that was known.
    released_by: Option<String>,
    /// When it was deleted, in seconds since 1970.
    deleted_at: Option<f64>,
    /// Whether its bytes are still there.
    has_bytes: bool,
}

impl From<Attachment> for ListedAttachmentReply {
    fn from(mut found: Attachment) -> Self {
        Self {
            subject: found.subject.take(),
            issuer: found.issuer.take(),
            persona_id: found.persona_id.take(),
            declared_mime: found.declared_mime.take(),
            threat: found.threat.take(),
            scanned_at: found.scanned_at.map(seconds),
            signatures: found.signatures.take(),
            released_at: found.released_at.map(seconds),
            released_by: found.released_by.take(),
            deleted_at: found.deleted_at.map(seconds),
            has_bytes: found.blob_id.is_some(),
            attachment: found.into(),
        }
    }
}

/// Lists the tenant's attachments, the latest first, those that were deleted too. The header `Link` has the next page, if there is one.
#[utoipa::path(
    get,
    path = "/v1/attachments",
    tag = "attachments",
    params(
        ("session_id" = Option<Uuid>, Query, description = "Only of this session"),
        ("status" = inline(Option<StatusName>), Query, description = "Only of this status"),
        (
            "quarantine_reason" = inline(Option<ReasonName>), Query,
            description = "Only what was quarantined for this reason, also if it was released since",
        ),
        ("deleted" = Option<bool>, Query, description = "Only what was deleted, or only what was not"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Page size (50)"),
        (
            "cursor" = Option<String>, Query,
            pattern = "^[0-9]{1,17}-[0-9a-f]{32}$",
            description = "Where a page begins; taken from `Link`",
        ),
    ),
    responses((
        status = 200,
        description = "A page of attachments",
        body = Vec<ListedAttachmentReply>,
        headers(("Link" = String, description = "The next page, as `<address>; rel=\"next\"`")),
    )),
    extensions(
        ("x-action" = json!("admin.attachments.read")),
        ("x-problems" = json!(["invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_attachments(door: Data<Door>, by: By, query: Query) -> Result<HttpResponse, Problem> {
    let limit = query.limit(MAX_LIMIT, DEFAULT_LIMIT)?;
    let after = query.parsed::<ListCursor>("cursor", "taken from a Link header")?;
    let filter = AttachmentFilter {
        session_id: query.parsed::<Uuid>("session_id", "a UUID")?,
        status: one_of(&query, "status", &STATUSES)?,
        quarantine_reason: one_of(&query, "quarantine_reason", &REASONS)?,
        deleted: query.parsed::<bool>("deleted", "true or false")?,
    };
    // One more than asked for tells whether there is a next page.
    let mut found = door.uploads.list(&by.caller(), filter, after, limit + 1).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > most;
    found.truncate(most);
    let mut response = HttpResponse::Ok();
    if let Some(last) = found.last().filter(|_| more) {
        response.insert_header((LINK, next_page(last, limit, &query)?));
    }
    Ok(response.json(found.into_iter().map(ListedAttachmentReply::from).collect::<Vec<_>>()))
}

/// The parameter `name`, which is one of `words`.
fn one_of(query: &Query, name: &str, words: &[&str]) -> Result<Option<String>, Problem> {
    match query.text(name)? {
        Some(text) if !words.contains(&text) => Err(bad(name, &format!("must be one of {}", words.join(", ")))),
        text => Ok(text.map(str::to_owned)),
    }
}

/// The `Link` to the page after `last`.
fn next_page(last: &Attachment, limit: i64, query: &Query) -> Result<String, Problem> {
    let cursor = ListCursor { at: last.created_at, id: last.id };
    let (limit, cursor) = (limit.to_string(), cursor.to_string());
    let mut parameters = vec![("limit", limit.as_str()), ("cursor", cursor.as_str())];
    for name in ["session_id", "status", "quarantine_reason", "deleted", "tenant"] {
        parameters.extend(query.text(name)?.map(|value| (name, value)));
    }
    Ok(link::next("/v1/attachments", &parameters))
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use crate::testing::{ask, request};

    #[actix_web::test]
    async fn a_filter_that_says_nothing_known_is_refused_by_its_name() {
        for (filter, name) in [
            ("status=infected", "status"),
            ("status=Clean", "status"),
            ("quarantine_reason=clean", "quarantine_reason"),
            ("deleted=yes", "deleted"),
            ("session_id=x", "session_id"),
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("cursor=1", "cursor"),
            ("deleted=true&deleted=false", "deleted"),
        ] {
            let answer = ask(request(Method::GET, &format!("/v1/attachments?{filter}"))).await;
            let told = answer.json()["errors"][0]["loc"].to_string();
            assert_eq!((answer.status.as_u16(), told), (422, format!(r#"["query","{name}"]"#)), "{filter}");
        }
    }

    #[actix_web::test]
    async fn without_a_database_a_list_is_to_be_asked_for_again() {
        let answer = ask(request(Method::GET, "/v1/attachments?status=quarantined&quarantine_reason=av_error")).await;
        assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str()), (503, Some("unavailable")));
    }
}
