//! What a request prefers (RFC 7240).

use std::time::Duration;

use actix_web::{HttpRequest, http::header::HeaderName};

use super::FromHead;
use crate::problem::Problem;

/// Names the preference that a reply has honoured.
pub(crate) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Longest wait in seconds; more is cut.
const MAX_WAIT: u64 = 30;

/// The header `Prefer`, as far as it says how long the reply may be waited for. What cannot be read is ignored, as the
/// standard demands: nobody is refused for a wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefer {
    wait_seconds: Option<u64>,
}

impl Prefer {
    /// How long to wait.
    pub(crate) fn wait(self) -> Duration {
        Duration::from_secs(self.wait_seconds.unwrap_or_default())
    }

    /// The header that says so, if a wait was asked for.
    pub(crate) fn applied(self) -> Option<(HeaderName, String)> {
        self.wait_seconds.map(|seconds| (PREFERENCE_APPLIED, format!("wait={seconds}")))
    }

    fn read<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        // Of a preference that comes more than once the first counts (section 2), whatever it says.
        let wait = values.flat_map(preferences).find(|(name, _)| name.eq_ignore_ascii_case("wait"));
        Self { wait_seconds: wait.and_then(|(_, value)| seconds(value)) }
    }
}

impl FromHead for Prefer {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        Ok(Self::read(request.headers().get_all("Prefer").filter_map(|value| value.to_str().ok())))
    }
}

/// Names and values in a header, without parameters.
fn preferences(header: &str) -> impl Iterator<Item = (&str, &str)> {
    let members = outside_quotes(header, ',').map(|member| outside_quotes(member, ';').next().unwrap_or_default());
    members.map(|preference| {
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        (name.trim(), value.trim())
    })
}

/// The parts of `text` between separators that stand in no quoted string (RFC 9110 §5.6.4).
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |character: char| {
        let literal = escaped;
        escaped = quoted && !literal && character == '\\';
        if character == '"' && !literal {
            quoted = !quoted;
        }
        character == separator && !quoted
    })
}

/// A number of seconds, quoted or not; a huge one is as good as the longest.
fn seconds(value: &str) -> Option<u64> {
    let digits = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| digits.parse().unwrap_or(MAX_WAIT).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[&str]) -> Option<u64> {
        Prefer::read(headers.iter().copied()).wait_seconds
    }

    #[test]
    fn a_wait_is_read_wherever_the_standard_lets_it_stand() {
        for header in [
            "wait=7",
            "Wait = 7",
            "wait=\"7\"",
            "respond-async, wait=7",
            "wait=7; a=b, wait=9",
            "return=minimal; wait=3, wait=7",
            "foo=\"a, wait=3\", wait=7",
            "foo=\"\\\", wait=3\", wait=7",
            ",, wait=007",
        ] {
            assert_eq!(wait(&[header]), Some(7), "{header}");
        }
        assert_eq!(wait(&["respond-async", "wait=7", "wait=9"]), Some(7));
        assert_eq!(wait(&["wait=0"]), Some(0));
    }

    #[test]
    fn a_longer_wait_than_may_be_is_cut() {
        for header in ["wait=30", "wait=31", "wait=99999999999999999999999"] {
            assert_eq!(wait(&[header]), Some(30), "{header}");
        }
    }

    #[test]
    fn rubbish_is_no_wish() {
        for header in
            ["", "wait", "wait=", "wait=-1", "wait=+1", "wait=1.5", "wait=x", "wait=x, wait=5", "waiting=5", "="]
        {
            assert_eq!(wait(&[header]), None, "{header}");
        }
        assert_eq!(wait(&["foo=\"wait=3, wait=4"]), None, "a string that never ends");
        assert_eq!(Prefer::default().applied(), None);
    }
}
