//! The session a path names.

use actix_web::HttpRequest;
use uuid::Uuid;

use super::FromHead;
use crate::problem::{Code, Problem};

/// The `{session_id}` of the path. What is not a UUID names no session: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionId(pub(crate) Uuid);

impl SessionId {
    /// The one in the path of `request`.
    pub(crate) fn of(request: &HttpRequest) -> Result<Self, Problem> {
        Self::parse(request.match_info().query("session_id"))
    }

    /// Reads an id from text.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        Uuid::try_parse(text).map(Self).map_err(|_| Code::SessionNotFound.into())
    }
}

impl FromHead for SessionId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        Self::of(request)
    }
}
