//! Headers of every reply.

use actix_web::{
    Error,
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, Version,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
            STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    middleware::Next,
    web::Data,
};

use crate::settings::{DoorSettings, HeaderSettings};

const API_VERSION: HeaderName = HeaderName::from_static("x-api-version");
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// What a reply that is no page may do if a browser shows it as one: nothing.
const NOTHING: &str =
    "default-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers every reply gets unless its handler set them.
#[derive(Clone, Debug)]
pub(crate) struct CommonHeaders(Vec<(HeaderName, HeaderValue)>);

impl CommonHeaders {
    /// Prepares the headers that `settings` ask for. A text that cannot be a header value was refused with the configuration.
    pub(crate) fn new(settings: &DoorSettings) -> Self {
        let HeaderSettings { frame_options, referrer_policy, permissions_policy, csp, .. } = &settings.headers;
        let frames = frame_options.to_ascii_uppercase();
        let wanted = [
            (API_VERSION, Some(settings.api_version.clone())),
            (X_CONTENT_TYPE_OPTIONS, Some("nosniff".to_owned())),
            (X_FRAME_OPTIONS, Some(frames).filter(|text| text == "DENY" || text == "SAMEORIGIN")),
            (REFERRER_POLICY, Some(referrer_policy.clone())),
            (PERMISSIONS_POLICY, permissions_policy.clone()),
            (CONTENT_SECURITY_POLICY, Some(csp.clone().unwrap_or_else(|| NOTHING.to_owned()))),
            (STRICT_TRANSPORT_SECURITY, hsts(&settings.headers)),
            (CACHE_CONTROL, Some("no-store".to_owned())),
        ];
        let set = wanted.into_iter().filter_map(|(name, text)| {
            let text = text.filter(|text| !text.is_empty())?;
            Some((name, HeaderValue::from_str(&text).ok()?))
        });
        Self(set.collect())
    }

    /// Adds what is missing.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
}

fn hsts(settings: &HeaderSettings) -> Option<String> {
    let mut text = format!("max-age={}", settings.hsts_max_age_seconds);
    for (on, part) in [(settings.hsts_include_subdomains, "; includeSubDomains"), (settings.hsts_preload, "; preload")]
    {
        if on {
            text.push_str(part);
        }
    }
    settings.hsts.then_some(text)
}

/// Adds the common headers to a reply.
pub(crate) async fn add(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let common = request.app_data::<Data<CommonHeaders>>().cloned();
    let mut response = next.call(request).await?;
    if let Some(common) = common {
        common.apply(response.headers_mut());
    }
    if response.request().version() == Version::HTTP_10 && response.response().body().size() == BodySize::Stream {
        end_by_closing(&mut response);
    }
    Ok(response)
}

/// The older protocol knows no chunks: the end of its connection is the end of its reply (RFC 9112 §6.1, §6.3).
fn end_by_closing(response: &mut ServiceResponse<impl MessageBody>) {
    let head = response.response_mut().head_mut();
    head.no_chunking(true);
    head.set_connection_type(ConnectionType::Close);
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use super::*;
    use crate::{
        routes::TABLE,
        testing::{TestDoor, with_body},
    };

    fn sent(settings: &DoorSettings) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        CommonHeaders::new(settings).apply(&mut headers);
        headers
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).and_then(|value| value.to_str().ok())
    }

    #[test]
    fn a_reply_has_the_contracts_headers_and_keeps_its_own() {
        let headers = sent(&DoorSettings::default());
        for (name, value) in [
            ("x-api-version", Some("v1")),
            ("x-content-type-options", Some("nosniff")),
            ("x-frame-options", Some("DENY")),
            ("referrer-policy", Some("same-origin")),
            ("cache-control", Some("no-store")),
            ("permissions-policy", None),
            ("content-security-policy", Some(NOTHING)),
            ("strict-transport-security", None),
        ] {
            assert_eq!(text(&headers, name), value, "{name}");
        }
    }

    #[test]
    fn optional_headers_are_sent_as_configured() {
        let mut settings = DoorSettings::default();
        settings.headers.frame_options = "NONE".to_owned();
        settings.headers.permissions_policy = Some("camera=()".to_owned());
        settings.headers.csp = Some("default-src 'none'".to_owned());
        settings.headers.hsts = true;
        let headers = sent(&settings);
        assert_eq!(text(&headers, "x-frame-options"), None);
        assert_eq!(text(&headers, "permissions-policy"), Some("camera=()"));
        assert_eq!(text(&headers, "content-security-policy"), Some("default-src 'none'"));
        assert_eq!(text(&headers, "strict-transport-security"), Some("max-age=31536000; includeSubDomains"));
        settings.headers.csp = Some(String::new());
        assert_eq!(text(&sent(&settings), "content-security-policy"), None);
    }

    #[actix_web::test]
    async fn every_operation_answers_with_the_headers_that_protect_and_what_is_personal_is_not_kept() {
        let door = TestDoor::new(&DoorSettings { health_timeout_ms: 20, ..DoorSettings::default() }).await;
        // Files of the program itself, the same for everybody.
        let files = ["/openapi.json", "/docs", "/login", "/", "/s/{session_id}", "/ui/{path:.*}"];
        let id = "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01";
        for resource in TABLE {
            let uri = resource.pattern.replace("{session_id}", id).replace("{path:.*}", "index.html");
            let methods = resource.methods.iter().map(|(method, ..)| method.clone());
            for method in methods.chain([Method::OPTIONS, Method::TRACE]) {
                let answer = door.send(with_body(method.clone(), &uri, "{}")).await;
                for (name, value) in [
                    ("x-content-type-options", "nosniff"),
                    ("x-frame-options", "DENY"),
                    ("referrer-policy", "no-referrer"),
                    ("x-api-version", "v1"),
                    ("access-control-allow-origin", ""),
                ] {
                    assert_eq!(answer.header(name), value, "{method} {uri}: {name}");
                }
                let is_file = files.contains(&resource.pattern) && answer.status.is_success() && method == Method::GET;
                let kept = if is_file { "no-cache" } else { "no-store" };
                assert_eq!(answer.header("cache-control"), kept, "{method} {uri}: {}", answer.status);
                let policy = answer.header("content-security-policy");
                for part in ["object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
                    assert!(policy.contains(part), "{method} {uri}: {policy}");
                }
            }
        }
    }
}
