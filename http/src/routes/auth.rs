//! People sign in at an OpenID provider, and out again.

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::Cookie,
    http::header::{ACCEPT, LOCATION},
    web::{Data, Json},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use somaagent_actors::{
    domain::caller::Caller,
    identity::{
        api_keys::logins::{LoginError, LogoutError},
        sign_in::{Attempt, Callback, SignIn, attempt::LASTS_SECONDS},
    },
};
use utoipa::ToSchema;

use super::page::{file, sign_in_first};
use crate::{
    door::Door,
    extract::{
        By, Query,
        cookies::{Purpose, Twice, with_cookies},
    },
    middleware::{
        authorise::{Authorised, Ends, Gate, Visitor},
        csrf::Csrf,
        site,
    },
    problem::{Code, Problem},
};

/// How long it is remembered that the provider is to ask who signs in, in seconds.
const ASKED_FOR_SECONDS: u64 = 30 * 24 * 3600;

/// Sends the browser to the provider, or, if a page of another site made it come, to the page on which people sign in.
#[utoipa::path(
    get,
    path = "/v1/auth/login",
    tag = "sign-in",
    params(
        ("next" = Option<String>, Query, description = "The page to show afterwards: `/` or `/s/` and a session"),
        ("provider" = Option<String>, Query, description = "Ignored: there is one"),
    ),
    responses((
        status = 303,
        description = "The provider's page, and a cookie that lasts five minutes; or the page on which people sign in",
        headers(("Location" = String, description = "That page")),
    )),
    extensions(("x-action" = json!("public")), ("x-problems" = json!(["oidc-disabled", "oidc-unavailable"]))),
)]
pub(crate) async fn get_login(request: HttpRequest, door: Data<Door>, query: Query) -> Result<HttpResponse, Problem> {
    let next = query.text("next")?;
    let Some(sign_in) = &door.sign_in else { return Ok(failed(&request, Code::OidcDisabled.into(), None)) };
    let attempt = sign_in.attempt(next);
    // Nobody is signed in because a page of another site wants it: they say so themselves, on the page for that.
    if site::is_of_another_page(request.headers()) {
        return Ok(sign_in_first(attempt.path()));
    }
    let ask_who = !matches!(Purpose::AskWho.of(sign_in.is_secure(), request.headers()), Ok(None));
    match sign_in.begin(&attempt, ask_who).await {
        Ok(url) => {
            let cookie = Purpose::Attempt.set(sign_in.is_secure(), &attempt.cookie(), LASTS_SECONDS);
            Ok(HttpResponse::SeeOther().cookie(cookie).insert_header((LOCATION, url.as_str())).finish())
        }
        Err(error) => Ok(failed(&request, error.into(), Some(attempt.path()))),
    }
}

/// Takes whoever comes back from the provider.
#[utoipa::path(
    get,
    path = "/v1/auth/callback",
    tag = "sign-in",
    params(
        ("code" = Option<String>, Query, description = "What the provider gives for a token"),
        ("state" = Option<String>, Query, description = "What the attempt told the provider"),
        ("iss" = Option<String>, Query, description = "The provider, if it names itself (RFC 9207)"),
        ("error" = Option<String>, Query, description = "Why there is no code"),
    ),
    responses((
        status = 303,
        description = "Somebody has signed in: a cookie keeps their login. A browser also is sent on, to the page on which people sign in, when nobody has",
        headers(("Location" = String, description = "The page from which the attempt began")),
    )),
    extensions(
        ("x-action" = json!("public")),
        ("x-problems" = json!([
            "oidc-disabled", "oidc-code-missing", "oidc-state-invalid", "oidc-unavailable", "oidc-exchange-failed",
            "id-token-missing", "id-token-invalid", "nonce-mismatch", "identity-missing", "sign-in-denied",
            "sign-in-not-allowed", "bad-request", "unavailable",
        ])),
    ),
)]
pub(crate) async fn get_callback(
    request: HttpRequest,
    door: Data<Door>,
    gate: Data<Gate>,
    by: By,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let Some(sign_in) = &door.sign_in else { return Ok(failed(&request, Code::OidcDisabled.into(), None)) };
    let is_secure = sign_in.is_secure();
    let attempt = attempt(sign_in, &request);
    let path = attempt.as_ref().ok().map(|attempt| attempt.path().to_owned());
    let landed = async {
        // The browser is about to forget them, so nobody else is to find them.
        let before = Purpose::Login.all(is_secure, request.headers())?;
        land(&door, sign_in, &attempt?, &by.caller(), &query, before).await
    };
    let reply = match landed.await {
        Ok(secret) => {
            let secret = secret.expose_secret();
            let login = Purpose::Login.set(is_secure, secret, sign_in.login_lasts().as_secs());
            let reply = HttpResponse::SeeOther().insert_header((LOCATION, path.unwrap_or_default())).finish();
            let csrf = gate.csrf(&request).map(|csrf| csrf.make(secret)).transpose()?;
            with_cookies(reply, [login, Purpose::AskWho.clear(is_secure)].into_iter().chain(csrf))?
        }
        Err(problem) => {
            let may_not = matches!(problem.code(), Code::SignInNotAllowed | Code::IdentityMissing);
            with_cookies(failed(&request, problem, path.as_deref()), may_not.then(|| ask_who(is_secure)))?
        }
    };
    // An attempt is good for one return.
    with_cookies(reply, [Purpose::Attempt.clear(is_secure)])
}

/// Else the provider would say the same person again, whoever sits there.
fn ask_who(is_secure: bool) -> Cookie<'static> {
    Purpose::AskWho.set(is_secure, "1", ASKED_FOR_SECONDS)
}

/// Signs whoever came back in.
async fn land(
    door: &Door,
    sign_in: &SignIn,
    attempt: &Attempt,
    by: &Caller,
    query: &Query,
    before: Vec<String>,
) -> Result<SecretString, Problem> {
    if query.text("error")?.is_some() {
        let is_own = query.text("state")? == Some(&attempt.state());
        return Err(if is_own { Code::SignInDenied } else { Code::OidcStateInvalid }.into());
    }
    let (Some(code), Some(state)) = (query.text("code")?, query.text("state")?) else {
        return Err(Code::OidcCodeMissing.into());
    };
    let person = sign_in.finish(attempt, Callback { code, state, issuer: query.text("iss")? }).await?;
    for login in before {
        end(door, by, login).await?;
    }
    let login = door.api_keys.log_in(by, person, sign_in.login_lasts()).await;
    login.map_err(|error| match error {
        LoginError::Store(error) => error.into(),
        LoginError::NoChance => Problem::new(Code::Unavailable).caused_by(error),
    })
}

fn attempt(sign_in: &SignIn, request: &HttpRequest) -> Result<Attempt, Problem> {
    let cookie = Purpose::Attempt.of(sign_in.is_secure(), request.headers());
    let cookie = cookie.map_err(|Twice| Code::OidcStateInvalid)?;
    cookie.and_then(|cookie| sign_in.resume(&cookie)).ok_or_else(|| Code::OidcStateInvalid.into())
}

/// The answer when nobody was signed in: people read the page, programs a problem.
fn failed(request: &HttpRequest, problem: Problem, path: Option<&str>) -> HttpResponse {
    let reads_pages = request.headers().get_all(ACCEPT).any(|accept| {
        accept.to_str().is_ok_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with("text/html")))
    });
    let cause = problem.cause().map(|cause| cause as &(dyn std::error::Error + 'static));
    tracing::info!(code = problem.code().as_str(), cause, "nobody was signed in");
    if !reads_pages {
        return HttpResponse::from_error(problem);
    }
    let next = path.filter(|path| *path != "/").map(|path| format!("&next={path}")).unwrap_or_default();
    let page = format!("/login?problem={}{next}", problem.code().as_str());
    HttpResponse::SeeOther().insert_header((LOCATION, page)).finish()
}

/// Somebody is logged out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LoggedOutReply {
    /// `ok`.
    status: &'static str,
}

/// Logs out: the login counts nowhere any more, and what it began ends. Whoever is logged in nowhere is told the same. Of several
/// logins that a browser shows, as it does when another site of the domain has planted one, each ends.
#[utoipa::path(
    post,
    path = "/v1/auth/logout",
    tag = "sign-in",
    responses((status = 200, description = "Nobody is logged in with this browser", body = LoggedOutReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!(["bad-request", "csrf-token-invalid", "overloaded", "unavailable", "outcome-unknown"]))),
)]
pub(crate) async fn post_logout(
    request: HttpRequest,
    door: Data<Door>,
    gate: Data<Gate>,
    by: By,
) -> Result<HttpResponse, Problem> {
    // A page of another site is not to log people out.
    if site::is_foreign(&request) {
        return Err(Code::OriginNotAllowed.into());
    }
    let reply = LoggedOutReply { status: "ok" };
    let Some(sign_in) = &door.sign_in else { return Ok(HttpResponse::Ok().json(reply)) };
    let logins = Purpose::Login.all(sign_in.is_secure(), request.headers())?;
    if let Some(csrf) = gate.csrf(&request) {
        // The token of one of them is shown by a page of this door.
        let mut checks = logins.iter().map(|login| csrf.check(request.method(), request.headers(), login));
        if let Some(first) = checks.next() {
            checks.fold(first, Result::or)?;
        }
    }
    let by = by.caller();
    for login in logins {
        end(&door, &by, login).await?;
    }
    signed_out(HttpResponse::Ok().json(reply), &request, sign_in, &gate)
}

/// The reply to a browser that is to forget its login, and to have the provider ask who comes next.
pub(super) fn signed_out(
    reply: HttpResponse,
    request: &HttpRequest,
    sign_in: &SignIn,
    gate: &Gate,
) -> Result<HttpResponse, Problem> {
    let is_secure = sign_in.is_secure();
    let cleared = [Purpose::Login.clear(is_secure), ask_who(is_secure)];
    let csrf = gate.csrf(request).as_ref().map(Csrf::clear);
    with_cookies(reply, cleared.into_iter().chain(csrf))
}

/// The login that the caller has shown; none if they proved otherwise who they are.
pub(super) fn shown_login(request: &HttpRequest, door: &Door) -> Result<Option<String>, Problem> {
    let is_by_login = matches!(Authorised::of(request)?.ends, Some(Ends::WithLogin(_)));
    let Some(sign_in) = door.sign_in.as_ref().filter(|_| is_by_login) else { return Ok(None) };
    // One that is there twice has proved nothing.
    Ok(Purpose::Login.of(sign_in.is_secure(), request.headers()).ok().flatten())
}

async fn end(door: &Door, by: &Caller, login: String) -> Result<(), Problem> {
    let ended = door.api_keys.log_out(by, &login.into()).await;
    ended.map_err(|error| match error {
        LogoutError::Unproved(error) => error.into(),
        LogoutError::Store(error) => error.into(),
    })
}

/// Who the caller is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WhoReply {
    /// Their tenant; nothing while nobody has to say who they are, as all that follows.
    tenant: Option<String>,
    /// Their name there.
    subject: Option<String>,
    /// What they are called, if they signed in and the provider said it.
    name: Option<String>,
    /// What they were granted.
    scopes: Vec<String>,
    /// Whether they signed in here, and so can sign out.
    provider_login: bool,
}

/// Who the caller is.
#[utoipa::path(
    get,
    path = "/v1/auth/session",
    tag = "sign-in",
    responses((status = 200, description = "Who the caller is", body = WhoReply)),
    extensions(("x-action" = json!("auth.session")), ("x-problems" = json!(["unavailable", "timeout"]))),
)]
pub(crate) async fn get_session(request: HttpRequest, door: Data<Door>, by: By) -> Result<Json<WhoReply>, Problem> {
    let Authorised { identity, ends, .. } = Authorised::of(&request)?;
    let provider_login = matches!(ends, Some(Ends::WithLogin(_)));
    let name = match shown_login(&request, &door)? {
        Some(login) => door.api_keys.login_name(&by.caller(), &login).await?,
        None => None,
    };
    let (tenant, subject, scope) =
        identity.map(|who| (Some(who.tenant.as_str().to_owned()), Some(who.subject), who.scope)).unwrap_or_default();
    let scopes = scope.iter().flat_map(|scope| scope.split_whitespace()).map(str::to_owned).collect();
    Ok(Json(WhoReply { tenant, subject, name, scopes, provider_login }))
}

/// The page on which people sign in; whoever has signed in is sent on.
#[utoipa::path(
    get,
    path = "/login",
    tag = "sign-in",
    params(
        ("next" = Option<String>, Query, description = "The page to show afterwards"),
        ("problem" = Option<String>, Query, description = "Why nobody was signed in"),
    ),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 303, description = "The chat: somebody has signed in"),
        (status = 304, description = "The page the client has is still right"),
    ),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_login_page(request: HttpRequest, gate: Data<Gate>) -> Result<HttpResponse, Problem> {
    if gate.visitor(&request).await == Visitor::Known {
        return Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/")).finish());
    }
    file(&request, "login.html")
}

#[cfg(test)]
mod tests;
