//! The API description.

use actix_web::{HttpResponse, http::header::CACHE_CONTROL, web::Data};
use bytes::Bytes;

/// The API description as JSON text, made once.
#[derive(Clone)]
pub(crate) struct Description(pub(crate) Bytes);

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "configuration",
    responses((status = 200, description = "OpenAPI 3.2", content_type = "application/json", body = Object)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_openapi(description: Data<Description>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body(description.0.clone())
}
