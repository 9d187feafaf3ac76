//! One request at the limits, and what its sender is told of them.

use std::{fmt::Write as _, net::IpAddr};

use actix_web::{
    HttpMessage, HttpRequest,
    dev::ServiceResponse,
    http::header::{HeaderName, HeaderValue},
};
use somaagent_actors::domain::identity::Identity;

use super::{Limits, Standing, Whose, is_admin, too_many};
use crate::{
    client::Client,
    problem::{Code, Problem},
};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// How the sender of a request stands with each limit that counted it; kept with the request.
#[derive(Default)]
struct Standings(Vec<Standing>);

/// Where a request is counted on its way in.
pub(crate) struct Turnstile<'a> {
    limits: &'a Limits,
    request: &'a HttpRequest,
    address: Option<IpAddr>,
}

impl<'a> Turnstile<'a> {
    /// The way in of `request`.
    pub(crate) fn new(limits: &'a Limits, request: &'a HttpRequest) -> Self {
        Self { limits, request, address: Client::of(request).address }
    }

    /// Whether the sender may try to prove who they are: too many have failed from their address.
    ///
    /// # Errors
    /// They may not, for now.
    pub(crate) fn may_prove(&self) -> Result<(), Problem> {
        let Some(failures) = &self.limits.failures else { return Ok(()) };
        match failures.look(self.limits.hash(&Whose::of(None, self.address))) {
            Ok(_) => Ok(()),
            Err(standing) => {
                self.limits.metrics.count("auth_limited");
                self.note(standing);
                Err(too_many(Code::RateLimited, &standing))
            }
        }
    }

    /// The sender could not prove who they are. Nobody knows whether one that could not be checked now was right, so it counts
    /// too: else guesses would be free for as long as they keep the database from answering. Whoever shows nothing guesses
    /// nothing, and a page of another site can make a browser send that, or what is refused for where it comes from.
    pub(crate) fn failed(&self, problem: &Problem) {
        let code = problem.code();
        let counts = code != Code::AuthorizationMissing && (code.status() != 403 || code == Code::InternalDenied);
        if let Some(failures) = self.limits.failures.as_ref().filter(|_| counts) {
            // Who is refused from now on is told by the next request.
            let _counted = failures.take(self.limits.hash(&Whose::of(None, self.address)));
        }
    }

    /// Counts the request of somebody who is known now, or of an address.
    ///
    /// # Errors
    /// They have none left.
    pub(crate) fn count(&self, identity: Option<&Identity>) -> Result<(), Problem> {
        let Some(callers) = &self.limits.callers else { return Ok(()) };
        let taken = callers.take(self.limits.hash(&Whose::of(identity, self.address)));
        self.note(taken.unwrap_or_else(|standing| standing));
        self.limits.metrics.count(if taken.is_ok() { "allowed" } else { "limited" });
        taken.map(drop).map_err(|standing| too_many(Code::RateLimited, &standing))
    }

    /// Counts a request that its sender may make.
    ///
    /// # Errors
    /// It is for an operation of those who look after the system, of which there were too many.
    pub(crate) fn count_admin(&self, path: &str, action: &str) -> Result<(), Problem> {
        let Some(bucket) = self.limits.admin.get(path).filter(|_| is_admin(action)) else { return Ok(()) };
        let taken = bucket.take();
        self.note(taken.unwrap_or_else(|standing| standing));
        taken.map(drop).map_err(|standing| {
            self.limits.metrics.count("admin_limited");
            too_many(Code::AdminRateLimited, &standing)
        })
    }

    fn note(&self, standing: Standing) {
        let mut extensions = self.request.extensions_mut();
        match extensions.get_mut::<Standings>() {
            Some(known) => known.0.push(standing),
            None => drop(extensions.insert(Standings(vec![standing]))),
        }
    }
}

/// Tells the sender how they stand (the fields `RateLimit` and `RateLimit-Policy` of the IETF's HTTPAPI group: lists of
/// structured fields, RFC 9651).
pub(crate) fn tell<B>(mut response: ServiceResponse<B>) -> ServiceResponse<B> {
    let Some(Standings(all)) = response.request().extensions_mut().remove::<Standings>() else { return response };
    let (mut policies, mut limits) = (String::new(), String::new());
    for Standing { policy, quota, window_seconds, remaining, reset_seconds } in all {
        let comma = if policies.is_empty() { "" } else { ", " };
        let _infallible = write!(policies, "{comma}\"{policy}\";q={quota};w={window_seconds}");
        let _infallible = write!(limits, "{comma}\"{policy}\";r={remaining};t={reset_seconds}");
    }
    for (name, text) in [(POLICY, policies), (LIMIT, limits)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
