//! The attachment that a path names.

use actix_web::HttpRequest;
use uuid::Uuid;

use super::FromHead;
use crate::problem::{Code, Problem};

/// The `{attachment_id}` of the path. What is not a UUID cannot be one: 400.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttachmentId(pub(crate) Uuid);

impl FromHead for AttachmentId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = Uuid::try_parse(request.match_info().query("attachment_id"));
        id.map(Self).map_err(|_| Code::AttachmentIdInvalid.into())
    }
}
