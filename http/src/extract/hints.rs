//! What headers say about a message when its body does not.

use actix_web::HttpRequest;

use super::{FromHead, header};
use crate::problem::Problem;

/// The headers `X-Persona-Id`, `X-Agent-Profile` and `X-Universe-Id`.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "named as on the wire")]
pub(crate) struct Hints {
    /// The persona that answers.
    pub(crate) persona_id: Option<String>,
    /// Becomes `metadata.agent_profile_id`.
    pub(crate) agent_profile_id: Option<String>,
    /// Becomes `metadata.universe_id`.
    pub(crate) universe_id: Option<String>,
}

impl FromHead for Hints {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let text = |name| header(request, name).map(|value| value.map(str::to_owned));
        Ok(Self {
            persona_id: text("X-Persona-Id")?,
            agent_profile_id: text("X-Agent-Profile")?,
            universe_id: text("X-Universe-Id")?,
        })
    }
}
