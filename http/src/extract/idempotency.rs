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
        let Some(key) = header(request, HEADER)? else { return Ok(Self(None)) };
        if Idempotency::is_usable(key) {
            Ok(Self(Some(key.to_owned())))
        } else {
            Err(bad_header(HEADER, "must be 1 to 255 printable ASCII characters"))
        }
    }
}
