//! What happens around every request, from the outside in:
//!
//! 1. [`observe`]: correlation id, span, metrics, panics, and the `instance` of problems;
//! 2. [`headers`]: headers of every reply;
//! 3. [`cors`]: which pages of other sites may use the API;
//! 4. [`site`]: who may speak to a door without authentication;
//! 5. [`shed`](crate::limits::shed): whether there is room for one more; from here on around each path, because only the
//!    router knows which one is meant, and not around probes;
//! 6. [`authorise`]: who asks, and whether they may, and how much; whoever relies on a cookie to change something shows a
//!    token as well, if the settings want it ([`csrf`]).

use actix_web::{
    HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
};

use crate::problem::Problem;

pub(crate) mod authorise;
pub(crate) mod cors;
pub(crate) mod csrf;
pub(crate) mod headers;
pub(crate) mod observe;
pub(crate) mod site;

/// The answer to a request that goes no further.
pub(crate) fn refused(request: ServiceRequest, problem: Problem) -> ServiceResponse<BoxBody> {
    let refused = HttpResponse::from_error(problem);
    // Not `into_response`, which would forget which problem it was.
    let (request, _) = request.into_parts();
    ServiceResponse::new(request, refused)
}
