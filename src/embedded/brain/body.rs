//! Reading requests, and refusing them the way the real server does.

use std::{collections::HashMap, fmt};

use actix_web::{HttpRequest, HttpResponse, ResponseError, http::StatusCode};
use serde_json::{Map, Value, json};
use somaagent_actors::store::StoreError;
use uuid::Uuid;

/// Longest name of a tenant, namespace, universe or key in bytes: three of them share one index entry.
const MAX_NAME_BYTES: usize = 512;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The body is no JSON.
    Unreadable,
    /// The body's fields are wrong, each as the real server describes it.
    Invalid(Vec<Value>),
    /// Nothing is there.
    NotFound,
    /// The document is not the one the caller knows.
    Changed,
    /// The database did not do its part.
    Database(#[source] StoreError),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "Cannot parse request body",
            Self::Invalid(_) => "Unprocessable Entity",
            Self::NotFound => "Not Found",
            Self::Changed => "ETag mismatch",
            Self::Database(_) => "Memory services not available",
        })
    }
}

impl Trouble {
    /// The answer to the request.
    pub fn to_response(&self) -> HttpResponse {
        let detail = match self {
            Self::Invalid(faults) => Value::from(faults.clone()),
            other => Value::from(other.to_string()),
        };
        if let Self::Database(error) = self {
            tracing::warn!(error = error as &dyn std::error::Error, "the SomaBrain stand-in cannot use the database");
        }
        HttpResponse::build(self.status_code()).json(json!({"detail": detail}))
    }
}

impl ResponseError for Trouble {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Changed => StatusCode::PRECONDITION_FAILED,
            Self::Database(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        self.to_response()
    }
}

/// What is wrong with a body, all of it.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Value>);

impl Faults {
    fn add(&mut self, kind: &str, place: &[Value], message: &str) {
        self.0.push(json!({"type": kind, "loc": place, "msg": message}));
    }

    /// Ends the reading of a body.
    pub fn check(self) -> Result<(), Trouble> {
        if self.0.is_empty() { Ok(()) } else { Err(Trouble::Invalid(self.0)) }
    }
}

/// The fields of a JSON object, and where the object is in the request.
#[derive(Debug)]
pub(super) struct Fields {
    fields: Map<String, Value>,
    place: Vec<Value>,
}

impl Fields {
    /// Reads a request's body.
    pub fn of_body(bytes: &[u8]) -> Result<Self, Trouble> {
        let value: Value = serde_json::from_slice(bytes).map_err(|_| Trouble::Unreadable)?;
        let mut faults = Faults::default();
        let fields = Self::of_value(value, vec!["body".into()], &mut faults);
        faults.check()?;
        Ok(fields)
    }

    fn of_value(value: Value, place: Vec<Value>, faults: &mut Faults) -> Self {
        if holds_nul(&value) {
            faults.add("value_error", &place, "Value error, U+0000 cannot be stored");
        }
        let fields = if let Value::Object(fields) = value {
            fields
        } else {
            faults.add("dict_type", &place, "Input should be a valid dictionary");
            Map::new()
        };
        Self { fields, place }
    }

    fn place(&self, name: &str) -> Vec<Value> {
        self.place.iter().cloned().chain([name.into()]).collect()
    }

    /// Takes a field; JSON's null counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    fn required(&mut self, name: &str, faults: &mut Faults) -> Option<Value> {
        let value = self.take(name);
        if value.is_none() {
            faults.add("missing", &self.place(name), "Field required");
        }
        value
    }

    /// A text; `None` if it is absent or wrong.
    pub fn text(&mut self, name: &str, faults: &mut Faults) -> Option<String> {
        let Value::String(text) = self.take(name)? else {
            faults.add("string_type", &self.place(name), "Input should be a valid string");
            return None;
        };
        Some(text)
    }

    /// A text that must be there and may be anything.
    pub fn required_text(&mut self, name: &str, faults: &mut Faults) -> String {
        match self.required(name, faults) {
            Some(Value::String(text)) => return text,
            Some(_) => faults.add("string_type", &self.place(name), "Input should be a valid string"),
            None => {}
        }
        String::new()
    }

    /// A text of 1 to [`MAX_NAME_BYTES`] bytes that must be there.
    pub fn required_name(&mut self, name: &str, faults: &mut Faults) -> String {
        let known = faults.0.len();
        let text = self.required_text(name, faults);
        if text.is_empty() && faults.0.len() == known {
            faults.add("string_too_short", &self.place(name), "String should have at least 1 character");
        }
        self.short(name, text, faults)
    }

    /// A text of 1 to [`MAX_NAME_BYTES`] bytes; absent and empty are the same.
    pub fn name(&mut self, name: &str, faults: &mut Faults) -> Option<String> {
        let text = self.text(name, faults).filter(|text| !text.is_empty())?;
        Some(self.short(name, text, faults))
    }

    fn short(&self, name: &str, text: String, faults: &mut Faults) -> String {
        if text.len() > MAX_NAME_BYTES {
            faults.add("string_too_long", &self.place(name), "String should have at most 512 characters");
        }
        text
    }

    /// An object that must be there.
    pub fn required_object(&mut self, name: &str, faults: &mut Faults) -> Value {
        match self.required(name, faults) {
            Some(value @ Value::Object(_)) => return value,
            Some(_) => faults.add("dict_type", &self.place(name), "Input should be a valid dictionary"),
            None => {}
        }
        Value::Null
    }

    /// A number that is not negative.
    pub fn amount(&mut self, name: &str, faults: &mut Faults) -> Option<f64> {
        let Some(amount) = self.take(name)?.as_f64() else {
            faults.add("float_type", &self.place(name), "Input should be a valid number");
            return None;
        };
        if amount < 0.0 {
            faults.add("greater_than_equal", &self.place(name), "Input should be greater than or equal to 0");
        }
        Some(amount)
    }

    /// How many results are wanted: 1 to 50.
    pub fn top_k(&mut self, default: u32, faults: &mut Faults) -> u32 {
        let Some(value) = self.take("top_k") else { return default };
        let wanted =
            value.as_u64().and_then(|wanted| u32::try_from(wanted).ok()).filter(|wanted| (1..=50).contains(wanted));
        if wanted.is_none() {
            faults.add("int_range", &self.place("top_k"), "Input should be a valid integer from 1 to 50");
        }
        wanted.unwrap_or(default)
    }

    /// A list of objects that must be there.
    pub fn required_items(&mut self, name: &str, faults: &mut Faults) -> Vec<Self> {
        match self.required(name, faults) {
            Some(Value::Array(items)) => {
                let place = |n: usize| self.place(name).into_iter().chain([n.into()]).collect();
                items.into_iter().enumerate().map(|(n, item)| Self::of_value(item, place(n), faults)).collect()
            }
            Some(_) => {
                faults.add("list_type", &self.place(name), "Input should be a valid list");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// A list of numbers that must be there.
    pub fn required_numbers(&mut self, name: &str, faults: &mut Faults) -> Vec<f64> {
        let list = self.required(name, faults);
        let numbers = list.as_ref().and_then(|list| list.as_array()?.iter().map(Value::as_f64).collect());
        if list.is_some() && numbers.is_none() {
            faults.add("list_type", &self.place(name), "Input should be a valid list of numbers");
        }
        numbers.unwrap_or_default()
    }

    /// Whatever a field holds.
    pub fn any(&mut self, name: &str) -> Value {
        self.take(name).unwrap_or(Value::Null)
    }

    /// The fields not taken yet.
    pub fn rest(self) -> Value {
        Value::Object(self.fields)
    }
}

/// `jsonb` and `text` cannot hold U+0000.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// A header's text, if it is there, not empty and readable.
pub(super) fn header(request: &HttpRequest, name: &str) -> Option<String> {
    let text = request.headers().get(name)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= MAX_NAME_BYTES).then(|| text.to_owned())
}

/// The tenant of a read: the header decides, then what the request says, then `default`.
pub(super) fn tenant(request: &HttpRequest, said: Option<String>) -> String {
    header(request, "X-Tenant-ID").or(said).unwrap_or_else(|| "default".into())
}

/// The id of this request: the caller's, else a new one.
pub(super) fn request_id(request: &HttpRequest) -> String {
    header(request, "X-Request-ID").unwrap_or_else(|| Uuid::new_v4().to_string())
}

/// The parameters in the request's path, decoded.
pub(super) type Parameters = actix_web::web::Query<HashMap<String, String>>;
