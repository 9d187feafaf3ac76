//! What handlers may ask of a request. Every extractor fails with a [`Problem`].

mod api_key;
mod attachment_id;
mod attachment_link;
mod body;
mod caller;
pub(crate) mod cookies;
mod credential;
mod dead_letter;
mod declares;
mod export_job;
mod hints;
mod idempotency;
mod if_match;
mod login;
mod memory_id;
mod parts;
mod prefer;
mod query;
mod raw_body;
mod session_id;
mod settings_version;
mod upload_id;

pub(crate) use api_key::{ApiKeyId, KeyMaker};
pub(crate) use attachment_id::AttachmentId;
pub(crate) use attachment_link::{LinkId, LinkToken};
pub(crate) use body::{JsonBody, wrong};
pub(crate) use caller::{By, CorrelationId, TENANT_HEADER, TENANT_RULE};
pub(crate) use credential::{CookieNames, Credential, INTERNAL_HEADER, internal_token};
pub(crate) use dead_letter::{JobId, LetterId, LetterTopic};
pub(crate) use declares::{Declared, Declares, declared_by};
pub(crate) use export_job::ExportJobId;
pub(crate) use hints::Hints;
pub(crate) use idempotency::IdempotencyKey;
pub(crate) use if_match::{IfMatch, of as tag_of};
pub(crate) use login::{LoginId, WithoutKey};
pub(crate) use memory_id::MemoryId;
pub(crate) use parts::{Opened, Parts, called, piece, said_of, text};
pub(crate) use prefer::Prefer;
pub(crate) use query::{Query, bad};
pub(crate) use raw_body::{Incoming, RawBody};
pub(crate) use session_id::SessionId;
pub(crate) use settings_version::SettingsVersionNumber;
pub(crate) use upload_id::UploadId;

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use crate::problem::Problem;

/// Reads something from the head of a request.
trait FromHead: Sized {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem>;
}

macro_rules! from_head {
    ($($name:ty),+) => { $(
        impl FromRequest for $name {
            type Error = Problem;
            type Future = Ready<Result<Self, Problem>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                ready(<$name as FromHead>::from_head(request))
            }
        }
    )+ };
}

from_head!(
    ApiKeyId,
    AttachmentId,
    By,
    ExportJobId,
    Hints,
    IdempotencyKey,
    IfMatch,
    JobId,
    KeyMaker,
    LinkId,
    LinkToken,
    LetterId,
    LetterTopic,
    LoginId,
    MemoryId,
    Prefer,
    Query,
    SessionId,
    SettingsVersionNumber,
    UploadId,
    WithoutKey
);

/// The value of a header as text. A value that is not visible ASCII is refused, and so is a second one, for nobody could say
/// which is meant; an empty one is as good as none.
pub(crate) fn header<'a>(request: &'a HttpRequest, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_header(name, "must be given once"));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Err(_) => Err(bad_header(name, "must be visible ASCII")),
    }
}

pub(crate) fn bad_header(name: &'static str, msg: &str) -> Problem {
    Problem::new(crate::problem::Code::InvalidHeader).at(&["header".into(), name.into()], msg)
}
