//! The login that a path names, and who may ask about logins.

use actix_web::HttpRequest;
use uuid::Uuid;

use super::FromHead;
use crate::{
    middleware::authorise::{Authorised, Ends},
    problem::{Code, Problem},
};

/// The `{login_id}` of the path. What is not a UUID names no login: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginId(pub(crate) Uuid);

impl FromHead for LoginId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = Uuid::try_parse(request.match_info().query("login_id"));
        id.map(Self).map_err(|_| Code::LoginNotFound.into())
    }
}

/// Says that no API key asks. A key is a program's: a stolen one is not to keep people out, nor, unless it is an admin's, to tell
/// from where its maker has signed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WithoutKey;

impl FromHead for WithoutKey {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        match Authorised::of(request)?.ends {
            Some(Ends::WithKey(_)) => Err(Code::TokenRequired.into()),
            _ => Ok(Self),
        }
    }
}
