//! Failures as RFC 9457 problem details.
//!
//! Handlers return [`Problem`]; the middleware adds the `instance` and logs what is our own fault once. A problem of
//! status 5xx says nothing about what broke: its cause goes to the log only.

mod catalogue;
mod mapping;

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, CACHE_CONTROL, CONTENT_RANGE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub use catalogue::Code;

/// The media type of problem details (RFC 9457 §3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One failed request.
pub struct Problem(Box<Inner>);

struct Inner {
    code: Code,
    detail: Cow<'static, str>,
    retry_after: Option<Duration>,
    allow: Option<String>,
    content_range: Option<String>,
    fields: Map<String, Value>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem whose detail is its title.
    #[must_use]
    pub fn new(code: Code) -> Self {
        let detail = Cow::Borrowed(code.title());
        let retry_after = code.retry_after();
        Self(Box::new(Inner {
            code,
            detail,
            retry_after,
            allow: None,
            content_range: None,
            fields: Map::new(),
            cause: None,
        }))
    }

    /// Says what exactly is wrong. Ignored for status 5xx, whose details are nobody's business.
    #[must_use]
    pub fn because(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        if self.0.code.status() < 500 {
            self.0.detail = detail.into();
        }
        self
    }

    /// Adds a member to the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Names the place that is wrong: `loc` is where (`body`, `query` or `header`) and then the path inside.
    #[must_use]
    pub fn at(self, loc: &[Value], msg: &str) -> Self {
        self.at_all(&[(loc.to_vec(), msg.to_owned())])
    }

    /// Names all places that are wrong, as [`at`](Self::at) does; `detail` tells the first.
    #[must_use]
    pub fn at_all(self, places: &[(Vec<Value>, String)]) -> Self {
        let Some((loc, msg)) = places.first() else { return self };
        let path = loc.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned));
        let more = match places.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let detail = format!("{}: {msg}{more}", path.collect::<Vec<_>>().join("."));
        let errors: Vec<Value> = places.iter().map(|(loc, msg)| json!({"loc": loc, "msg": msg})).collect();
        self.because(detail).with("errors", errors)
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Sets when the client may try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Names the methods the path does have.
    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.0.allow = Some(methods);
        self
    }

    /// Says how much there is of what parts were wished of (RFC 9110 §14.4).
    #[must_use]
    pub fn content_range(mut self, range: String) -> Self {
        self.0.content_range = Some(range);
        self
    }

    /// Its code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.0.code
    }

    /// What broke, for the log.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }

    /// The reply, with the correlation id of the request as `instance` when it is known.
    #[must_use]
    pub fn response(&self, instance: Option<Uuid>) -> HttpResponse {
        let mut builder = HttpResponseBuilder::new(self.status_code());
        builder.insert_header((CACHE_CONTROL, "no-store"));
        if let Some(delay) = self.0.retry_after {
            builder.insert_header((RETRY_AFTER, delay.as_millis().div_ceil(1_000).max(1).to_string()));
        }
        if let Some(methods) = &self.0.allow {
            builder.insert_header((ALLOW, methods.as_str()));
        }
        if let Some(range) = &self.0.content_range {
            builder.insert_header((CONTENT_RANGE, range.as_str()));
        }
        if let Some(challenge) = challenge(self.0.code) {
            builder.insert_header((WWW_AUTHENTICATE, challenge));
        }
        builder.content_type(MEDIA_TYPE).body(self.body(instance).to_string())
    }

    /// The document.
    pub(crate) fn body(&self, instance: Option<Uuid>) -> Value {
        let code = self.0.code;
        let mut body = self.0.fields.clone();
        body.insert("type".into(), code.type_uri().into());
        body.insert("code".into(), code.as_str().into());
        body.insert("title".into(), code.title().into());
        body.insert("status".into(), code.status().into());
        body.insert("detail".into(), self.0.detail.as_ref().into());
        if let Some(id) = instance {
            body.insert("instance".into(), id.urn().to_string().into());
        }
        Value::Object(body)
    }
}

/// What a caller must show (RFC 6750 §3). Who showed nothing learns no more than that.
fn challenge(code: Code) -> Option<&'static str> {
    match code {
        Code::AuthorizationMissing => Some(r#"Bearer realm="somaagent01""#),
        Code::AuthorizationInvalid => Some(r#"Bearer realm="somaagent01", error="invalid_request""#),
        Code::AdminScopeRequired => Some(r#"Bearer realm="somaagent01", error="insufficient_scope", scope="admin""#),
        _ if code.status() == 401 => Some(r#"Bearer realm="somaagent01", error="invalid_token""#),
        _ => None,
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.code.as_str(), self.0.detail)?;
        self.0.cause.as_ref().map_or(Ok(()), |cause| write!(f, ": {cause}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response(None)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn a_problem_says_where_it_is_and_where_to_read_on() {
        let problem = Problem::new(Code::InvalidBody).at(&["body".into(), "attachments".into(), 2.into()], "not text");
        let id = Uuid::from_u128(7);
        assert_eq!(
            problem.body(Some(id)),
            json!({
                "type": "urn:somaagent01:problem:invalid-body",
                "code": "invalid-body",
                "title": "The body has wrong fields",
                "status": 422,
                "detail": "body.attachments.2: not text",
                "instance": "urn:uuid:00000000-0000-0000-0000-000000000007",
                "errors": [{"loc": ["body", "attachments", 2], "msg": "not text"}],
            })
        );
    }

    #[test]
    fn whoever_must_prove_who_they_are_is_told_how() {
        for code in Code::ALL {
            let response = Problem::new(*code).response(None);
            let told = response.headers().get(WWW_AUTHENTICATE).is_some();
            assert_eq!(told, code.status() == 401 || *code == Code::AdminScopeRequired, "{code:?}");
        }
    }

    #[test]
    fn what_broke_inside_stays_inside() {
        let problem = Problem::new(Code::Unavailable).because("password of db is x").caused_by("connection refused");
        let text = problem.body(None).to_string();
        assert!(!text.contains("password") && !text.contains("refused"), "{text}");
        assert_eq!(problem.cause().map(ToString::to_string).as_deref(), Some("connection refused"));
        assert_eq!(problem.response(None).headers().get(RETRY_AFTER).map(HeaderValue::as_bytes), Some(&b"1"[..]));
    }
}
