//! The upload that a path names.

use actix_web::HttpRequest;
use uuid::Uuid;

use super::FromHead;
use crate::problem::Problem;

/// The `{upload_id}` of the path. What is not a UUID names an upload that there is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadId(pub(crate) Uuid);

impl FromHead for UploadId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        Ok(Self(Uuid::try_parse(request.match_info().query("upload_id")).unwrap_or_default()))
    }
}
