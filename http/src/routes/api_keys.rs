//! API keys of the caller's tenant: made, listed, revoked.

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, LINK},
    web::Data,
};
use serde::{Deserialize, Serialize};
use somaagent_actors::identity::api_keys::{CreateError, KeyOrder, ListedApiKey};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use super::memory_deletion::unknown;
use crate::{
    door::Door,
    extract::{ApiKeyId, By, IdempotencyKey, JsonBody, KeyMaker, Query, bad_header, wrong},
    link,
    problem::{Code, Problem},
};

const MAX_LIMIT: i64 = 1_000;
const DEFAULT_LIMIT: i64 = 100;
/// Longest label, in characters.
const MAX_LABEL: usize = 100;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct KeyOrderBody {
    /// What people will call it: 1 to 100 characters, none of them a control character.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]*[^\s\u0000-\u001F\u007F-\u009F][^\u0000-\u001F\u007F-\u009F]*$"
    )]
    label: String,
    /// What it may do: scopes of whoever makes it; absent: all of them.
    #[serde(default)]
    scopes: Option<Vec<String>>,
    /// Until when it is taken, in seconds since 1970; absent: until it is revoked.
    #[serde(default)]
    expires_at: Option<f64>,
}

impl KeyOrderBody {
    fn label(&self) -> Result<String, Problem> {
        let fits = self.label.chars().count() <= MAX_LABEL && !self.label.chars().any(char::is_control);
        let label = Some(self.label.trim()).filter(|label| fits && !label.is_empty());
        label
            .map(str::to_owned)
            .ok_or_else(|| wrong(vec!["label".into()], "must be 1 to 100 characters without control characters"))
    }

    fn expires_at(&self) -> Result<Option<OffsetDateTime>, Problem> {
        let at = |seconds| OffsetDateTime::UNIX_EPOCH.checked_add(Duration::checked_seconds_f64(seconds)?);
        self.expires_at.map(|seconds| at(seconds).ok_or_else(no_end)).transpose()
    }
}

fn no_end() -> Problem {
    wrong(vec!["expires_at".into()], "must be a time to come, in seconds since 1970")
}

/// A key as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyReply {
    /// Its id.
    key_id: String,
    /// What people call it.
    label: String,
    /// When it was made, in seconds since 1970.
    created_at: f64,
    /// Who made it, and for whom it speaks.
    created_by: String,
    /// How its secret begins.
    prefix: String,
    /// What it may do.
    scopes: Vec<String>,
    /// Until when it is taken, in seconds since 1970; null: until it is revoked.
    expires_at: Option<f64>,
    /// When it was last used, to a minute or so, in seconds since 1970.
    last_used_at: Option<f64>,
    /// Whether it was revoked.
    revoked: bool,
}

impl From<ListedApiKey> for ApiKeyReply {
    fn from(key: ListedApiKey) -> Self {
        let seconds = |at: OffsetDateTime| (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64();
        Self {
            key_id: key.key_id.simple().to_string(),
            label: key.label,
            created_at: seconds(key.created_at),
            created_by: key.created_by,
            prefix: key.prefix,
            scopes: key.scopes,
            expires_at: key.expires_at.map(seconds),
            last_used_at: key.last_used_at.map(seconds),
            revoked: key.revoked_at.is_some(),
        }
    }
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewApiKeyReply {
    #[serde(flatten)]
    key: ApiKeyReply,
    /// Its secret, shown this once.
    secret: String,
}

/// Makes an API key, which speaks for whoever makes it. Show its secret as `Authorization: Bearer sk_…` or `X-API-Key: sk_…`;
/// nobody can show it a second time, so an `Idempotency-Key` is refused: if the reply was lost, revoke the key and make another.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "api-keys",
    request_body(content = KeyOrderBody, content_type = "application/json"),
    responses((status = 200, description = "The key with its secret", body = NewApiKeyReply)),
    extensions(
        ("x-action" = json!("admin.keys.create")),
        ("x-problems" = json!(["overloaded", "unavailable", "timeout", "draining", "outcome-unknown"])),
    ),
)]
pub(crate) async fn post_key(
    door: Data<Door>,
    by: By,
    maker: KeyMaker,
    idempotency: IdempotencyKey,
    body: JsonBody<KeyOrderBody>,
) -> Result<HttpResponse, Problem> {
    if idempotency.0.is_some() {
        return Err(bad_header("Idempotency-Key", "cannot be honoured: a secret is shown only once"));
    }
    door.accepting()?;
    let (KeyMaker(creator), body) = (maker, body.fields);
    let (label, expires_at) = (body.label()?, body.expires_at()?);
    let scopes = creator
        .lend(body.scopes.as_deref())
        .map_err(|place| wrong(vec!["scopes".into(), place.into()], "is no scope of whoever makes the key"))?;
    let order = KeyOrder { label, creator, scopes, expires_at };
    let created = door.api_keys.create(&by.caller(), order).await.map_err(|error| match error {
        CreateError::Expired => no_end(),
        CreateError::Busy => Code::Overloaded.into(),
        CreateError::Store(error) => unknown(error),
    })?;
    let secret = created.secret().to_owned();
    let reply = NewApiKeyReply { key: created.key.into(), secret };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(reply))
}

/// Lists the API keys of the tenant, the newest first, revoked ones too. The header `Link` has the next page, if there is one.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "api-keys",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "Page size (100)"),
        ("cursor" = Option<Uuid>, Query, description = "Where a page begins; taken from `Link`"),
    ),
    responses((
        status = 200,
        description = "A page of keys",
        body = Vec<ApiKeyReply>,
        headers(("Link" = String, description = "The next page, as `<address>; rel=\"next\"`")),
    )),
    extensions(
        ("x-action" = json!("admin.keys.read")),
        ("x-problems" = json!(["unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_keys(door: Data<Door>, by: By, query: Query) -> Result<HttpResponse, Problem> {
    let limit = query.limit(MAX_LIMIT, DEFAULT_LIMIT)?;
    let after = query.parsed::<Uuid>("cursor", "the id of a key")?;
    let tenant = by.caller().tenant;
    let mut keys = door.api_keys.list(&tenant, after, limit + 1).await?;
    let more = i64::try_from(keys.len()).unwrap_or(i64::MAX) > limit;
    keys.truncate(usize::try_from(limit).unwrap_or_default());
    let mut response = HttpResponse::Ok();
    if let (true, Some(last)) = (more, keys.last()) {
        let (limit, cursor) = (limit.to_string(), last.key_id.simple().to_string());
        let mut parameters = vec![("limit", limit.as_str()), ("cursor", cursor.as_str())];
        parameters.extend(query.text("tenant")?.map(|tenant| ("tenant", tenant)));
        response.insert_header((LINK, link::next("/v1/keys", &parameters)));
    }
    Ok(response.json(keys.into_iter().map(ApiKeyReply::from).collect::<Vec<_>>()))
}

/// Revokes an API key for good: within a few seconds no process takes it any more, and the streams that were opened with it
/// have ended. Safe to repeat.
#[utoipa::path(
    delete,
    path = "/v1/keys/{key_id}",
    tag = "api-keys",
    params(("key_id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "The key is revoked")),
    extensions(
        ("x-action" = json!("admin.keys.revoke")),
        ("x-problems" = json!(["unavailable", "draining", "outcome-unknown", "timeout"])),
    ),
)]
pub(crate) async fn delete_key(door: Data<Door>, by: By, id: ApiKeyId) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    if door.api_keys.revoke(&by.caller(), id.0).await.map_err(unknown)? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Code::ApiKeyNotFound.into())
    }
}
