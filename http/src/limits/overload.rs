//! No more requests at a time than may be under way.

use actix_web::{
    Error,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use prometheus::IntGauge;
use tokio::sync::SemaphorePermit;

use super::Limits;
use crate::{
    middleware::refused,
    problem::{Code, Problem},
};

impl Limits {
    /// A place among the requests under way, held until it is dropped; none if all are taken.
    fn enter(&self) -> Option<Place<'_>> {
        let permit = self.places.try_acquire().ok()?;
        self.metrics.in_flight.inc();
        Some(Place { _permit: permit, in_flight: &self.metrics.in_flight })
    }
}

/// A request under way.
struct Place<'a> {
    _permit: SemaphorePermit<'a>,
    in_flight: &'a IntGauge,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

/// Refuses a request where as many are under way as may be, before anything is done for it. A stream has its place until it
/// begins.
pub(crate) async fn shed<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(limits) = request.app_data::<Data<Limits>>().cloned() else {
        return Ok(refused(request, Problem::new(Code::Internal).caused_by("the door has no limits")));
    };
    let Some(_place) = limits.enter() else {
        limits.metrics.shed.inc();
        return Ok(refused(request, Code::Overloaded.into()));
    };
    Ok(next.call(request).await?.map_into_boxed_body())
}
