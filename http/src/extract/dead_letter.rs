//! The topic of dead letters, the letter and the order that a path names.

use actix_web::HttpRequest;
use somaagent_actors::domain::dead_letter;
use uuid::Uuid;

use super::FromHead;
use crate::problem::{Code, Problem};

/// The `{topic}` of the path. What can be no such topic has no letters and never will: 404.
#[derive(Clone, Debug)]
pub(crate) struct LetterTopic(pub(crate) String);

impl FromHead for LetterTopic {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let name = request.match_info().query("topic");
        if dead_letter::is_topic(name) { Ok(Self(name.to_owned())) } else { Err(Code::NotFound.into()) }
    }
}

/// The `{id}` of the path. What is no number of a letter names none: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LetterId(pub(crate) i64);

impl FromHead for LetterId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = request.match_info().query("id").parse().ok().filter(|id| *id > 0);
        id.map(Self).ok_or_else(|| Code::DeadLetterNotFound.into())
    }
}

/// The `{job_id}` of the path. What is not a UUID names no order: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobId(pub(crate) Uuid);

impl FromHead for JobId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = Uuid::try_parse(request.match_info().query("job_id"));
        id.map(Self).map_err(|_| Code::JobNotFound.into())
    }
}
