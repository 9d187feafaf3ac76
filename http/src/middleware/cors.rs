//! Which pages of other sites may use the API (Cross-Origin Resource Sharing). None, unless origins are configured.
//!
//! It stands before everything that asks who sent a request: a browser asks beforehand, without a token, whether a page may
//! send what it wants to.

use actix_cors::{Cors, CorsError};
use actix_web::{Error, http::header::HeaderName, middleware::Condition};

use crate::{
    problem::{Code, Problem},
    settings::{CorsSettings, Named},
    tus::EXPOSED,
};

/// How long a browser may keep the answer about what a page may send, so that it does not ask before every request. Settings that
/// change are believed after this.
const MAX_AGE_SECONDS: usize = 3_600;

/// What `settings` allow. What of them cannot be read was refused with the configuration, and allows nothing.
pub(crate) fn layer(settings: &CorsSettings) -> Condition<Cors> {
    let (mut cors, enabled) = match settings.origins() {
        Ok(Named::Any) => (Cors::default().allow_any_origin().send_wildcard(), true),
        Ok(Named::These(origins)) => {
            (origins.iter().fold(Cors::default(), |cors, origin| cors.allowed_origin(origin)), !origins.is_empty())
        }
        Err(_) => (Cors::default(), false),
    };
    cors = match settings.methods() {
        Ok(Named::Any) => cors.allow_any_method(),
        Ok(Named::These(methods)) => cors.allowed_methods(methods),
        Err(_) => cors,
    };
    cors = match settings.headers() {
        Ok(Named::Any) => cors.allow_any_header(),
        Ok(Named::These(names)) => cors.allowed_headers(names),
        Err(_) => cors,
    };
    cors = match settings.expose_headers() {
        Ok(Named::Any) => cors.expose_any_header(),
        // Without these nobody goes on with an upload.
        Ok(Named::These(names)) => {
            cors.expose_headers(names.into_iter().chain(EXPOSED.iter().copied().map(HeaderName::from_static)))
        }
        Err(_) => cors,
    };
    if settings.credentials {
        cors = cors.supports_credentials();
    }
    Condition::new(enabled, cors.max_age(MAX_AGE_SECONDS))
}

/// What the library refuses, as a problem.
pub(crate) fn problem_of(error: &Error) -> Option<Problem> {
    let refused: &CorsError = error.as_error()?;
    Some(Problem::new(Code::OriginNotAllowed).because(refused.to_string()))
}

#[cfg(test)]
mod tests;
