//! What headers say about a message when its body does not.

use actix_web::HttpRequest;

use super::{FromHead, bad_header, header};
use crate::problem::Problem;

/// Longest name of a persona, a profile or a universe, in characters: it travels with every frame of the answer.
const MAX_CHARS: usize = 128;

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
        let short = |name| match header(request, name)? {
            Some(value) if value.chars().count() > MAX_CHARS => {
                Err(bad_header(name, &format!("must be at most {MAX_CHARS} characters")))
            }
            value => Ok(value.map(str::to_owned)),
        };
        Ok(Self {
            persona_id: short("X-Persona-Id")?,
            agent_profile_id: short("X-Agent-Profile")?,
            universe_id: short("X-Universe-Id")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::problem::Code;

    #[test]
    fn a_header_that_is_given_twice_says_nothing_for_sure() {
        let both = [("X-Persona-Id", "one"), ("X-Persona-Id", "two")];
        let request = both.into_iter().fold(TestRequest::default(), TestRequest::append_header).to_http_request();
        assert_eq!(Hints::from_head(&request).map(drop).map_err(|problem| problem.code()), Err(Code::InvalidHeader));
    }

    #[test]
    fn what_travels_with_every_frame_is_short() {
        for name in ["X-Persona-Id", "X-Agent-Profile", "X-Universe-Id"] {
            let given = |chars: usize| {
                let request = TestRequest::default().insert_header((name, "x".repeat(chars))).to_http_request();
                Hints::from_head(&request).map(drop).map_err(|problem| problem.code())
            };
            assert_eq!(given(MAX_CHARS), Ok(()), "{name}");
            assert_eq!(given(MAX_CHARS + 1), Err(Code::InvalidHeader), "{name}");
        }
    }
}
