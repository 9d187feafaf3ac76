//! Logins: people see their own and end them; admins see and end those of the tenant.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::LINK,
    web::{Data, Json},
};
use serde::Serialize;
use somaagent_actors::{
    domain::{ids::Tenant, list_cursor::ListCursor},
    identity::api_keys::logins::{ListedLogin, LoginsOf, login_id},
};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    auth::{shown_login, signed_out},
    memory_deletion::unknown,
};
use crate::{
    door::Door,
    extract::{By, LoginId, Query, WithoutKey, bad},
    link,
    middleware::authorise::Gate,
    problem::{Code, Problem},
};

const MAX_LIMIT: i64 = 1_000;
const DEFAULT_LIMIT: i64 = 100;

/// A login as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LoginReply {
    /// Its id.
    login_id: String,
    /// Whether it is the one with which this list was asked for.
    current: bool,
    /// Whose it is.
    subject: String,
    /// Who vouches for them.
    issuer: Option<String>,
    /// What they are called, if the provider said it.
    name: Option<String>,
    /// Since when, in seconds since 1970.
    created_at: f64,
    /// When it was last used, to a minute or so, in seconds since 1970.
    last_used_at: Option<f64>,
    /// When it ends by itself, in seconds since 1970.
    expires_at: f64,
    /// The address from which it was begun, if that is known.
    address: Option<String>,
    /// What the browser there called itself.
    user_agent: Option<String>,
}

impl LoginReply {
    fn new(login: ListedLogin, current: Option<Uuid>) -> Self {
        let seconds = |at: OffsetDateTime| (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64();
        Self {
            login_id: login.login_id.simple().to_string(),
            current: current == Some(login.login_id),
            subject: login.subject,
            issuer: login.issuer,
            name: Some(login.name).filter(|name| !name.is_empty()),
            created_at: seconds(login.created_at),
            last_used_at: login.last_used_at.map(seconds),
            expires_at: seconds(login.expires_at),
            address: login.address,
            user_agent: login.user_agent,
        }
    }
}

/// Logins were ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LoginsEndedReply {
    /// How many.
    ended: usize,
}

/// Lists the caller's logins, the latest first: where they have signed in and not out again. The header `Link` has the next page, if
/// there is one. Not for API keys.
#[utoipa::path(
    get,
    path = "/v1/auth/logins",
    tag = "sign-in",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "Page size (100)"),
        (
            "cursor" = Option<String>, Query,
            pattern = "^[0-9]{1,17}-[0-9a-f]{32}$",
            description = "Where a page begins; taken from `Link`",
        ),
    ),
    responses((
        status = 200,
        description = "A page of logins",
        body = Vec<LoginReply>,
        headers(("Link" = String, description = "The next page, as `<address>; rel=\"next\"`")),
    )),
    extensions(("x-action" = json!("auth.logins.read")), ("x-problems" = json!(["unavailable", "timeout"]))),
)]
pub(crate) async fn get_own_logins(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    _: WithoutKey,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let (page, caller) = (Page::of(&query)?, by.caller());
    match LoginsOf::caller(&caller) {
        Some(own) => page.show(&request, &door, &caller.tenant, own).await,
        None => Ok(HttpResponse::Ok().json(Vec::<LoginReply>::new())),
    }
}

/// Ends all logins of the caller: within a few seconds no process takes one of them any more, and what was opened with them has ended.
/// A browser that asks by its login forgets it. API keys of the caller go on; not for API keys.
#[utoipa::path(
    delete,
    path = "/v1/auth/logins",
    tag = "sign-in",
    responses((status = 200, description = "The caller is logged in nowhere", body = LoginsEndedReply)),
    extensions(
        ("x-action" = json!("auth.logins.end")),
        ("x-problems" = json!(["unavailable", "draining", "outcome-unknown", "timeout"])),
    ),
)]
pub(crate) async fn delete_own_logins(
    request: HttpRequest,
    door: Data<Door>,
    gate: Data<Gate>,
    by: By,
    _: WithoutKey,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    let ended = door.api_keys.end_own_logins(&by.caller()).await.map_err(unknown)?;
    let reply = HttpResponse::Ok().json(LoginsEndedReply { ended });
    match &door.sign_in {
        Some(sign_in) if shown_login(&request, &door)?.is_some() => signed_out(reply, &request, sign_in, &gate),
        _ => Ok(reply),
    }
}

/// Ends one login of the caller: within a few seconds no process takes it any more, and what was opened with it has ended. Not for API
/// keys.
#[utoipa::path(
    delete,
    path = "/v1/auth/logins/{login_id}",
    tag = "sign-in",
    params(("login_id" = String, Path, description = "The login's id")),
    responses((status = 204, description = "The login has ended")),
    extensions(
        ("x-action" = json!("auth.logins.end")),
        ("x-problems" = json!(["unavailable", "draining", "outcome-unknown", "timeout"])),
    ),
)]
pub(crate) async fn delete_own_login(
    request: HttpRequest,
    door: Data<Door>,
    gate: Data<Gate>,
    by: By,
    _: WithoutKey,
    id: LoginId,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    if !door.api_keys.end_own_login(&by.caller(), id.0).await.map_err(unknown)? {
        return Err(Code::LoginNotFound.into());
    }
    let reply = HttpResponse::NoContent().finish();
    match &door.sign_in {
        Some(sign_in) if current(&request, &door)? == Some(id.0) => signed_out(reply, &request, sign_in, &gate),
        _ => Ok(reply),
    }
}

/// Lists the logins of the tenant, or of one person, the latest first. The header `Link` has the next page, if there is one.
#[utoipa::path(
    get,
    path = "/v1/admin/logins",
    tag = "sign-in",
    params(
        ("subject" = Option<String>, Query, description = "Only of whoever has this name"),
        ("issuer" = Option<String>, Query, description = "And only if this issuer vouches for them"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "Page size (100)"),
        (
            "cursor" = Option<String>, Query,
            pattern = "^[0-9]{1,17}-[0-9a-f]{32}$",
            description = "Where a page begins; taken from `Link`",
        ),
    ),
    responses((
        status = 200,
        description = "A page of logins",
        body = Vec<LoginReply>,
        headers(("Link" = String, description = "The next page, as `<address>; rel=\"next\"`")),
    )),
    extensions(("x-action" = json!("admin.logins.read")), ("x-problems" = json!(["unavailable", "timeout"]))),
)]
pub(crate) async fn get_logins(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let (page, of) = (Page::of(&query)?, named(&query)?.unwrap_or(LoginsOf::Everybody));
    page.show(&request, &door, &by.caller().tenant, of).await
}

/// Ends the logins of one person of the tenant, or, with `all=true`, of everybody, the admin's own as well: within a few seconds no
/// process takes one of them any more, and what was opened with them has ended. API keys go on; not for API keys.
#[utoipa::path(
    delete,
    path = "/v1/admin/logins",
    tag = "sign-in",
    params(
        ("subject" = Option<String>, Query, description = "Of whoever has this name"),
        ("issuer" = Option<String>, Query, description = "And only if this issuer vouches for them"),
        ("all" = Option<bool>, Query, description = "In place of a name: of everybody of the tenant"),
    ),
    responses((status = 200, description = "None of these logins is left", body = LoginsEndedReply)),
    extensions(
        ("x-action" = json!("admin.logins.end")),
        ("x-problems" = json!(["subject-required", "unavailable", "draining", "outcome-unknown", "timeout"])),
    ),
)]
pub(crate) async fn delete_logins(
    door: Data<Door>,
    by: By,
    _: WithoutKey,
    query: Query,
) -> Result<Json<LoginsEndedReply>, Problem> {
    let all = query.parsed::<bool>("all", "true or false")?.unwrap_or_default();
    let of = match (named(&query)?, all) {
        (Some(of), false) => of,
        (None, true) => LoginsOf::Everybody,
        (Some(_), true) => return Err(bad("all", "must not be given with subject")),
        (None, false) => {
            let place = ["query".into(), "subject".into()];
            return Err(Problem::new(Code::SubjectRequired).at(&place, "is missing, and all is not true"));
        }
    };
    door.accepting()?;
    let ended = door.api_keys.end_logins(&by.caller(), of).await.map_err(unknown)?;
    Ok(Json(LoginsEndedReply { ended }))
}

/// Whose logins a query names.
fn named(query: &Query) -> Result<Option<LoginsOf>, Problem> {
    let [subject, issuer] = ["subject", "issuer"].map(|name| query.text(name).map(|text| text.map(str::to_owned)));
    match (subject?, issuer?) {
        (Some(subject), Some(issuer)) => Ok(Some(LoginsOf::Person { subject, issuer: Some(issuer) })),
        (Some(subject), None) => Ok(Some(LoginsOf::Subject(subject))),
        (None, Some(_)) => Err(bad("issuer", "must be given with subject")),
        (None, None) => Ok(None),
    }
}

/// The login with which a request was made.
fn current(request: &HttpRequest, door: &Door) -> Result<Option<Uuid>, Problem> {
    Ok(shown_login(request, door)?.and_then(|login| login_id(&login)))
}

/// Which part of a list a query asks for.
struct Page<'a> {
    query: &'a Query,
    limit: i64,
    before: Option<ListCursor>,
}

impl<'a> Page<'a> {
    fn of(query: &'a Query) -> Result<Self, Problem> {
        let limit = query.limit(MAX_LIMIT, DEFAULT_LIMIT)?;
        let before = query.parsed::<ListCursor>("cursor", "taken from a Link header")?;
        Ok(Self { query, limit, before })
    }

    /// That part of the logins of `tenant`, with the way to the next one.
    async fn show(
        self,
        request: &HttpRequest,
        door: &Door,
        tenant: &Tenant,
        of: LoginsOf,
    ) -> Result<HttpResponse, Problem> {
        let current = current(request, door)?;
        // One more than asked for tells whether there is a next page.
        let mut found = door.api_keys.logins(tenant, of, self.before, self.limit + 1).await?;
        let more = i64::try_from(found.len()).unwrap_or(i64::MAX) > self.limit;
        found.truncate(usize::try_from(self.limit).unwrap_or_default());
        let mut response = HttpResponse::Ok();
        if let Some(last) = found.last().filter(|_| more) {
            let cursor = ListCursor { at: last.created_at, id: last.login_id };
            response.insert_header((LINK, self.next(request.path(), cursor)?));
        }
        Ok(response.json(found.into_iter().map(|login| LoginReply::new(login, current)).collect::<Vec<_>>()))
    }

    /// The link to what is behind `cursor`.
    fn next(&self, path: &str, cursor: ListCursor) -> Result<String, Problem> {
        let (limit, cursor) = (self.limit.to_string(), cursor.to_string());
        let mut parameters = vec![("limit", limit.as_str()), ("cursor", cursor.as_str())];
        for name in ["subject", "issuer", "tenant"] {
            parameters.extend(self.query.text(name)?.map(|value| (name, value)));
        }
        Ok(link::next(path, &parameters))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use crate::{
        settings::DoorSettings,
        testing::{TestDoor, request},
    };

    #[actix_web::test]
    async fn while_nobody_says_who_they_are_nobody_has_logins_of_their_own() {
        // The database is away, and is not asked.
        let door = TestDoor::new(&DoorSettings::default()).await;
        let ask = async |method: Method, path: &str| door.send(request(method, path)).await;
        let own = "/v1/auth/logins";
        assert_eq!(&*ask(Method::GET, own).await.text, "[]");
        assert_eq!(&*ask(Method::DELETE, own).await.text, r#"{"ended":0}"#);
        for id in ["7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01", "no-login"] {
            let answer = ask(Method::DELETE, &format!("{own}/{id}")).await;
            assert_eq!(answer.problem(), (404, "login-not-found".to_owned()), "{id}");
        }
        assert_eq!(ask(Method::GET, "/v1/admin/logins").await.problem(), (503, "unavailable".to_owned()));
        assert_eq!(ask(Method::DELETE, "/v1/admin/logins").await.problem(), (400, "subject-required".to_owned()));
    }
}
