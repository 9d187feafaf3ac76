//! The web page and its files, from inside the binary.

use std::fmt::Write as _;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION},
    },
    web::{Data, Path},
};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::{
    extract::SessionId,
    middleware::authorise::{Gate, Visitor},
    problem::{Code, Problem},
};

/// The files of the page. A debug build reads them anew each time, so that the page can be worked on without a build.
#[derive(RustEmbed)]
#[folder = "ui/"]
struct Files;

/// What a page may do: only what comes from here, no inline script or style, no frame around it.
const POLICY: &str = "default-src 'self'; require-trusted-types-for 'script'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";

/// The page.
#[utoipa::path(
    get,
    path = "/",
    tag = "page",
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 303, description = "People must sign in first"),
        (status = 304, description = "The page the client has is still right"),
    ),
    extensions(("x-action" = json!("public")), ("x-problems" = json!(["not-found"]))),
)]
pub(crate) async fn get_page(request: HttpRequest, gate: Data<Gate>) -> Result<HttpResponse, Problem> {
    show(&request, &gate, "/").await
}

/// The page, opened at a session.
#[utoipa::path(
    get,
    path = "/s/{session_id}",
    tag = "page",
    params(("session_id" = uuid::Uuid, Path, description = "The session")),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 303, description = "People must sign in first"),
        (status = 304, description = "The page the client has is still right"),
        (status = 404, description = "The page, which says that no session has such an id", content_type = "text/html", body = String),
    ),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_session_page(request: HttpRequest, gate: Data<Gate>) -> Result<HttpResponse, Problem> {
    if let Ok(session) = SessionId::of(&request) {
        return show(&request, &gate, &format!("/s/{}", session.0)).await;
    }
    // Whoever follows a broken link reads a page, not a problem.
    let mut page = Found::at("index.html")?.whole();
    *page.status_mut() = StatusCode::NOT_FOUND;
    Ok(page)
}

/// The API description, for people.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "page",
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String),
        (status = 304, description = "The page the client has is still right"),
    ),
    extensions(("x-action" = json!("public")), ("x-problems" = json!(["not-found"]))),
)]
pub(crate) async fn get_docs(request: HttpRequest) -> Result<HttpResponse, Problem> {
    file(&request, "docs/index.html")
}

/// A file of the page.
#[utoipa::path(
    get,
    path = "/ui/{path}",
    tag = "page",
    params(("path" = String, Path, description = "The file, slashes included")),
    responses(
        (status = 200, description = "The file, of whatever type", content_type = "*/*"),
        (status = 304, description = "The file the client has is still right"),
    ),
    extensions(("x-action" = json!("public")), ("x-problems" = json!(["not-found"]))),
)]
pub(crate) async fn get_file(request: HttpRequest, path: Path<String>) -> Result<HttpResponse, Problem> {
    file(&request, &path)
}

/// The page at `path`, for whoever may see it.
async fn show(request: &HttpRequest, gate: &Gate, path: &str) -> Result<HttpResponse, Problem> {
    match gate.visitor(request).await {
        Visitor::Stranger => Ok(sign_in_first(path)),
        Visitor::Anybody | Visitor::Known | Visitor::Unsure => gate.arm(request, file(request, "index.html")?),
    }
}

/// The way to the page on which people sign in, and back to `path`.
pub(super) fn sign_in_first(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, format!("/login?next={path}"))).finish()
}

pub(super) fn file(request: &HttpRequest, path: &str) -> Result<HttpResponse, Problem> {
    let found = Found::at(path)?;
    let known = request.headers().get_all(IF_NONE_MATCH).any(|known| {
        known.to_str().is_ok_and(|known| known.split(',').any(|tag| tag.trim() == "*" || tag.trim() == found.etag))
    });
    Ok(if known { found.head(HttpResponse::NotModified()).finish() } else { found.whole() })
}

/// A file that exists.
struct Found {
    file: EmbeddedFile,
    etag: String,
}

impl Found {
    fn at(path: &str) -> Result<Self, Problem> {
        let plain = !path.split('/').any(|part| part.is_empty() || part.starts_with('.'));
        let file = Some(path).filter(|_| plain).and_then(Files::get).ok_or(Code::NotFound)?;
        Ok(Self { etag: etag(&file), file })
    }

    fn whole(self) -> HttpResponse {
        let mut response = self.head(HttpResponse::Ok());
        response.insert_header((CONTENT_TYPE, media_type(self.file.metadata.mimetype()))).body(self.file.data)
    }

    fn head(&self, mut response: HttpResponseBuilder) -> HttpResponseBuilder {
        response.insert_header((ETAG, self.etag.as_str())).insert_header((CACHE_CONTROL, "no-cache"));
        if self.file.metadata.mimetype().starts_with("text/html") {
            response.insert_header((CONTENT_SECURITY_POLICY, POLICY));
        }
        response
    }
}

/// Weak, because the reply may be compressed on its way (RFC 9110 §8.8.1).
fn etag(file: &EmbeddedFile) -> String {
    let mut tag = String::from("W/\"");
    for byte in &file.metadata.sha256_hash()[..16] {
        let _infallible = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

fn media_type(essence: &str) -> String {
    let textual = essence.starts_with("text/") || matches!(essence, "application/json" | "image/svg+xml");
    if textual { format!("{essence}; charset=utf-8") } else { essence.to_owned() }
}
