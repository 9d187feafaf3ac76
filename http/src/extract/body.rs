//! JSON bodies, with errors that say exactly what is wrong and where.

use std::{future::Future, pin::Pin};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    error::PayloadError,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    web::{BytesMut, Data},
};
use futures_util::{FutureExt as _, StreamExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};
use serde_path_to_error::Segment;
use tokio::time::timeout;

use crate::{
    limits::unhurried,
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// A request body read as a `T`. Unknown fields are ignored; U+0000 is refused anywhere, because the store cannot hold
/// it.
#[derive(Debug)]
pub(crate) struct JsonBody<T> {
    /// What the handler works with.
    pub(crate) fields: T,
    /// The whole body, for its fingerprint.
    pub(crate) whole: Value,
}

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let settings = request.app_data::<Data<DoorSettings>>().cloned();
        let settings = settings.unwrap_or_else(|| Data::new(DoorSettings::default()));
        let announced = announced(request, settings.body_limit_bytes);
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            announced?;
            let reading = timeout(settings.body_timeout(), read(payload, settings.body_limit_bytes));
            let reading = reading.map(|read| read.unwrap_or_else(|_| Err(Code::RequestTimeout.into())));
            parse(&unhurried(request, reading).await?)
        })
    }
}

/// What the head says about the body: its type, its coding, its length.
fn announced(request: &HttpRequest, limit: usize) -> Result<(), Problem> {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text(CONTENT_TYPE).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" && !(essence.starts_with("application/") && essence.ends_with("+json")) {
        return Err(Code::UnsupportedMediaType.into());
    }
    let coding = text(CONTENT_ENCODING).trim();
    if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
        return Err(Problem::new(Code::UnsupportedMediaType).because("the body must not be compressed"));
    }
    match text(CONTENT_LENGTH).parse::<usize>() {
        Ok(length) if length > limit => Err(too_large(limit)),
        _ => Ok(()),
    }
}

async fn read(mut payload: Payload, limit: usize) -> Result<BytesMut, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::BodyTooLarge).because(format!("the body is larger than {limit} bytes"))
}

fn broken(error: &PayloadError) -> Problem {
    Problem::new(Code::BadRequest).because("the body broke off or is badly framed").caused_by(error.to_string())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<JsonBody<T>, Problem> {
    let whole: Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(Code::BadJson).because(format!("the body is not valid JSON: {error}")))?;
    if !whole.is_object() {
        return Err(wrong(Vec::new(), "must be a JSON object"));
    }
    if let Some(path) = nul(&whole) {
        return Err(wrong(path, "must not contain U+0000"));
    }
    // Read from the text and not from the value above: only here a field that is given twice is noticed.
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let fields = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let path = error.path().iter().filter_map(part).collect();
        wrong(path, &reason(error.inner()))
    })?;
    Ok(JsonBody { fields, whole })
}

/// A wrong field of the body.
pub(crate) fn wrong(mut path: Vec<Value>, msg: &str) -> Problem {
    path.insert(0, "body".into());
    Problem::new(Code::InvalidBody).at(&path, msg)
}

fn part(segment: &Segment) -> Option<Value> {
    match segment {
        Segment::Seq { index } => Some((*index).into()),
        Segment::Map { key } => Some(key.as_str().into()),
        Segment::Enum { variant } => Some(variant.as_str().into()),
        Segment::Unknown => None,
    }
}

/// The reason without the position, which the path says better.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match error.classify() {
        Category::Data => text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned()),
        _ => text,
    }
}

/// The path to the first text or name with U+0000.
fn nul(value: &Value) -> Option<Vec<Value>> {
    let below = |part: Value, inner: &Value| {
        nul(inner).map(|mut path| {
            path.insert(0, part);
            path
        })
    };
    match value {
        Value::String(text) => text.contains('\0').then(Vec::new),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, inner)| below(index.into(), inner)),
        Value::Object(map) => {
            map.iter().find_map(
                |(name, inner)| {
                    if name.contains('\0') { Some(Vec::new()) } else { below(name.as_str().into(), inner) }
                },
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only the reading is looked at")]
    struct Sample {
        message: String,
        #[serde(default)]
        attachments: Vec<String>,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
        head: Option<i64>,
    }

    fn fault(body: &str) -> String {
        parse::<Sample>(body.as_bytes()).map_or_else(|problem| format!("{problem:?}"), |_| "taken".to_owned())
    }

    #[test]
    fn a_wrong_field_is_named_with_its_path() {
        for (body, expected) in [
            (r#"{"message":"hi","unknown":{"a":1}}"#, "taken"),
            ("{}", "invalid-body (body: missing field `message`)"),
            (r#"{"message":1}"#, "invalid-body (body.message: invalid type: integer `1`, expected a string)"),
            (r#"{"message":null}"#, "invalid-body (body.message: invalid type: null, expected a string)"),
            (
                r#"{"message":"","attachments":["a",2]}"#,
                "invalid-body (body.attachments.1: invalid type: integer `2`, expected a string)",
            ),
            (
                r#"{"message":"","metadata":{"a":{}}}"#,
                "invalid-body (body.metadata.a: invalid type: map, expected a string)",
            ),
            (r#"{"message":"","head":"1"}"#, r#"invalid-body (body.head: invalid type: string "1", expected i64)"#),
            (r#"{"message":"a","message":"b"}"#, "invalid-body (body: duplicate field `message`)"),
            (r#"["hi"]"#, "invalid-body (body: must be a JSON object)"),
            (r#""hi""#, "invalid-body (body: must be a JSON object)"),
            (r#"{"message":"a\u0000b"}"#, "invalid-body (body.message: must not contain U+0000)"),
            (r#"{"message":"","x":[{"y":"\u0000"}]}"#, "invalid-body (body.x.0.y: must not contain U+0000)"),
            (r#"{"message":"","metadata":{"\u0000":""}}"#, "invalid-body (body.metadata: must not contain U+0000)"),
            (r#"{"message":"a\\u0000b"}"#, "taken"),
        ] {
            assert_eq!(fault(body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_is_said_to_be_not_json() {
        let deep = format!(r#"{{"message":"","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for body in [
            "",
            "{",
            "{'message':1}",
            r#"{"message":"\ud800"}"#,
            "{\"message\":\"a\nb\"}",
            r#"{"a":1}x"#,
            r#"{"a":1e999}"#,
            &deep,
        ] {
            assert!(fault(body).starts_with("bad-json"), "{body}: {}", fault(body));
        }
        assert!(parse::<Sample>(b"{\"message\":\"\xff\"}").is_err_and(|problem| problem.code() == Code::BadJson));
    }
}
