//! Which version a client expects to change.

use actix_web::{HttpRequest, http::header::EntityTag};
use somaagent_actors::settings::Expected;

use super::{FromHead, bad_header, header};
use crate::problem::Problem;

const HEADER: &str = "If-Match";

/// The header `If-Match` (RFC 9110 §13.1.1), where the tag of a version is its number. Without it any version will do. Other tags,
/// and weak ones, are of no version.
#[derive(Clone, Debug)]
pub(crate) struct IfMatch(pub(crate) Expected);

impl FromHead for IfMatch {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let Some(text) = header(request, HEADER)?.filter(|text| *text != "*") else { return Ok(Self(Expected::Any)) };
        let tag =
            |text: &str| text.trim().parse::<EntityTag>().map_err(|_| bad_header(HEADER, "must be * or entity tags"));
        let tags = listed(text).map(tag).collect::<Result<Vec<_>, _>>()?;
        let version = |tag: &EntityTag| tag.tag().parse().ok().filter(|version: &i64| tag.strong_eq(&of(*version)));
        Ok(Self(Expected::OneOf(tags.iter().filter_map(version).collect())))
    }
}

/// The members of a list of tags; a comma inside of one is its own.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    text.split(move |letter| {
        is_inside ^= letter == '"';
        letter == ',' && !is_inside
    })
}

/// The tag of a version.
pub(crate) fn of(version: i64) -> EntityTag {
    EntityTag::new_strong(version.to_string())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;
    use crate::problem::Code;

    fn read(text: &str) -> Result<Expected, Code> {
        let request = TestRequest::default().insert_header((HEADER, text)).to_http_request();
        IfMatch::from_head(&request).map(|found| found.0).map_err(|problem| problem.code())
    }

    #[test]
    fn only_strong_tags_of_versions_are_versions() {
        for (text, versions) in [
            ("\"7\"", vec![7]),
            ("\"7\", \"0\"", vec![7, 0]),
            ("W/\"7\"", vec![]),
            ("\"x\"", vec![]),
            ("\"7,7\",\"7\"", vec![7]),
            ("\"07\"", vec![]),
            ("\"+7\"", vec![]),
            ("\"\"", vec![]),
            ("\"99999999999999999999\"", vec![]),
        ] {
            assert_eq!(read(text), Ok(Expected::OneOf(versions)), "{text}");
        }
        assert_eq!(read("*"), Ok(Expected::Any));
        assert_eq!(read(""), Ok(Expected::Any));
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for text in ["7", "\"7", "7\"", "*, \"7\"", "\"7\",", "w/\"7\""] {
            assert_eq!(read(text), Err(Code::InvalidHeader), "{text}");
        }
    }
}
