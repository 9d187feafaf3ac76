//! The export job that a path names.

use actix_web::HttpRequest;

use super::FromHead;
use crate::problem::{Code, Problem};

/// The `{job_id}` of the path. What is no number of a job names none: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExportJobId(pub(crate) i64);

impl FromHead for ExportJobId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = request.match_info().query("job_id").parse().ok().filter(|id| *id > 0);
        id.map(Self).ok_or_else(|| Code::JobNotFound.into())
    }
}
