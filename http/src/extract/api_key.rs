//! The API key that a path names, and who may make one.

use actix_web::HttpRequest;
use somaagent_actors::domain::identity::Identity;
use uuid::Uuid;

use super::FromHead;
use crate::{
    middleware::authorise::{Authorised, Ends},
    problem::{Code, Problem},
};

/// The `{key_id}` of the path. What is not a UUID names no key: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiKeyId(pub(crate) Uuid);

impl FromHead for ApiKeyId {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        let id = Uuid::try_parse(request.match_info().query("key_id"));
        id.map(Self).map_err(|_| Code::ApiKeyNotFound.into())
    }
}

/// Who makes a key, and for whom it will speak. While authentication is off that is nobody, and a key that was made then would
/// open the door once it is on. A key makes no keys: else a stolen one would outlive its revocation.
#[derive(Clone, Debug)]
pub(crate) struct KeyMaker(pub(crate) Identity);

impl FromHead for KeyMaker {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        match Authorised::of(request)? {
            Authorised { ends: Some(Ends::WithKey(_)), .. } => Err(Code::TokenRequired.into()),
            Authorised { identity: Some(identity), .. } => Ok(Self(identity)),
            Authorised { identity: None, .. } => Err(Code::AuthenticationOff.into()),
        }
    }
}
