//! Correlation id, span, metrics and panics of every request.

use std::{error::Error as StdError, fmt, panic::AssertUnwindSafe};

use actix_web::{
    Error, HttpMessage, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{CONTENT_ENCODING, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use futures_util::FutureExt as _;
use tokio::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{cors, headers::CommonHeaders};
use crate::{
    extract::CorrelationId,
    metrics::Metrics,
    problem::{Code, Problem},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The label of requests that no route took.
const UNMATCHED: &str = "unmatched";

/// Watches over one request.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let id = correlation_id(&request);
    request.extensions_mut().insert(CorrelationId(id));
    let metrics = request.app_data::<Data<Metrics>>().cloned();
    let common = request.app_data::<Data<CommonHeaders>>().cloned();
    let method = method_label(request.method());
    let route = request.match_pattern().unwrap_or_else(|| UNMATCHED.to_owned());
    let span = tracing::info_span!("http.request", otel.name = %format_args!("http.{route}"), route, method, correlation_id = %id);
    // Handlers run inside the future, so that a panic before their first await is caught as well.
    let handled =
        AssertUnwindSafe(async move { next.call(request).await }).catch_unwind().instrument(span.clone()).await;
    let (status, outcome) = match handled {
        Ok(Ok(response)) => {
            let response = span.in_scope(|| finish(response.map_into_boxed_body(), id));
            (response.status(), Ok(response))
        }
        Ok(Err(error)) => (error.as_response_error().status_code(), Err(error)),
        Err(_) => {
            span.in_scope(|| tracing::error!("handler panicked"));
            let failed = Panicked { id, common };
            (failed.status_code(), Err(failed.into()))
        }
    };
    if let Some(metrics) = metrics {
        metrics.answered(&route, method, status.as_u16(), started.elapsed());
    }
    outcome
}

fn correlation_id(request: &ServiceRequest) -> Uuid {
    let mut given = request.headers().get_all(REQUEST_ID);
    // Given twice it names no request.
    let only = given.next().filter(|_| given.next().is_none());
    only.and_then(|value| Uuid::try_parse(value.to_str().ok()?.trim()).ok()).unwrap_or_else(Uuid::new_v4)
}

/// Methods are free text on the wire; a label has few values.
fn method_label(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Names the request in the reply; gives a problem its `instance`, and the log its cause.
fn finish(mut response: ServiceResponse, id: Uuid) -> ServiceResponse {
    let problem = response.response().error().and_then(|error| {
        let foreign = cors::problem_of(error);
        let problem = error.as_error::<Problem>().or(foreign.as_ref())?;
        note(problem);
        Some(problem.response(Some(id)))
    });
    let mut response = match problem {
        Some(mut problem) => {
            // The body that was compressed on its way here is not the one that goes out.
            response.headers_mut().remove(CONTENT_ENCODING);
            for (name, value) in response.headers() {
                if !problem.headers().contains_key(name) {
                    problem.headers_mut().insert(name.clone(), value.clone());
                }
            }
            response.into_response(problem)
        }
        None => response,
    };
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn note(problem: &Problem) {
    let code = problem.code().as_str();
    let cause = problem.cause().map(|cause| cause as &(dyn StdError + 'static));
    match problem.status_code().as_u16() {
        500 => tracing::error!(code, cause, "request failed"),
        501.. => tracing::warn!(code, cause, "request could not be served"),
        _ => tracing::debug!(code, cause, "request refused"),
    }
}

/// The reply to a request whose handler panicked. It has passed no other middleware, so it brings every header itself.
struct Panicked {
    id: Uuid,
    common: Option<Data<CommonHeaders>>,
}

impl fmt::Debug for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "handler panicked in request {}", self.id)
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("handler panicked")
    }
}

impl ResponseError for Panicked {
    fn status_code(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = Problem::new(Code::Internal).response(Some(self.id));
        if let Some(common) = &self.common {
            common.apply(response.headers_mut());
        }
        if let Ok(value) = HeaderValue::from_str(&self.id.to_string()) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{
        App,
        body::to_bytes,
        middleware::from_fn,
        test::{TestRequest, init_service, try_call_service},
        web,
    };
    use prometheus::Registry;
    use serde_json::Value;

    use super::*;
    use crate::settings::DoorSettings;

    fn broken() -> std::future::Ready<HttpResponse> {
        unreachable!("a broken invariant")
    }

    #[actix_web::test]
    async fn a_handler_that_panics_is_an_internal_problem_and_is_counted() {
        let registry = Registry::new();
        let metrics = Data::new(Metrics::register(&registry).unwrap_or_else(|_| unreachable!()));
        let app = App::new()
            .app_data(metrics)
            .app_data(Data::new(CommonHeaders::new(&DoorSettings::default())))
            .route("/broken/{id}", web::get().to(broken))
            .wrap(from_fn(observe));
        let app = init_service(app).await;
        let id = Uuid::from_u128(9);
        let request = TestRequest::get().uri("/broken/7").insert_header(("X-Request-ID", id.to_string()));
        let response = match try_call_service(&app, request.to_request()).await {
            Ok(response) => response.into_parts().1.map_into_boxed_body(),
            Err(error) => error.error_response(),
        };
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers();
        for (name, value) in [("x-request-id", id.to_string().as_str()), ("x-content-type-options", "nosniff")] {
            assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value));
        }
        let body = to_bytes(response.into_body()).await.unwrap_or_default();
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!((&problem["code"], &problem["detail"]), (&"internal".into(), &"Internal error".into()));
        assert_eq!(problem["instance"], id.urn().to_string());
        let counted = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default();
        let line = r#"http_requests_total{method="GET",route="/broken/{id}",status="500"} 1"#;
        assert!(counted.contains(line), "{counted}");
    }
}
