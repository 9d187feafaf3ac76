//! The link to an attachment that a path names, by its id or by its token.

use actix_web::HttpRequest;
use uuid::Uuid;

use super::FromHead;
use crate::problem::{Code, Problem};

/// The `{link_id}` of the path. What is not a UUID names no link: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkId(pub(crate) Uuid);

impl FromHead for LinkId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = Uuid::try_parse(request.match_info().query("link_id"));
        id.map(Self).map_err(|_| Code::LinkNotFound.into())
    }
}

/// The `{token}` of the path, which is a secret: it is not shown.
pub(crate) struct LinkToken(pub(crate) String);

impl FromHead for LinkToken {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        Ok(Self(request.match_info().query("token").to_owned()))
    }
}
