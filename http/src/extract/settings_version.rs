//! The version of the settings that a path names.

use actix_web::HttpRequest;

use super::FromHead;
use crate::problem::{Code, Problem};

/// The `{number}` of the path. What is no number of a version names none: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SettingsVersionNumber(pub(crate) i64);

impl FromHead for SettingsVersionNumber {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let number = request.match_info().query("number").parse().ok().filter(|number| *number >= 0);
        number.map(Self).ok_or_else(|| Code::SettingsVersionNotFound.into())
    }
}
