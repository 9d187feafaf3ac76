//! The key that makes a request safe to send twice.

use actix_web::HttpRequest;
use somaagent_actors::domain::idempotency::Idempotency;

use super::{FromHead, bad_header, header};
use crate::problem::Problem;

const HEADER: &str = "Idempotency-Key";

/// The header `Idempotency-Key`, if the request has one.
#[derive(Clone, Debug)]
pub(crate) struct IdempotencyKey(pub(crate) Option<String>);

impl FromHead for IdempotencyKey {
    fn from_head(request: &HttpRequest) -> Result<Self, Problem> {
        if !request.headers().contains_key(HEADER) {
            return Ok(Self(None));
        }
        // An empty one was meant to be a key: without it the request would be done twice.
        let key = header(request, HEADER)?.unwrap_or_default();
        if Idempotency::is_usable(key) {
            Ok(Self(Some(key.to_owned())))
        } else {
            Err(bad_header(HEADER, "must be 1 to 255 printable ASCII characters"))
        }
    }
}
