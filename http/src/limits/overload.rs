//! No more requests at a time than may be under way.

use std::{cell::RefCell, rc::Rc};

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use prometheus::IntGauge;
use tokio::sync::OwnedSemaphorePermit;

use super::Limits;
use crate::{
    middleware::refused,
    problem::{Code, Problem},
};

/// The place of a request among those under way. It leaves it while it waits for its own client, and at its end.
pub(super) struct Place {
    limits: Data<Limits>,
    held: RefCell<Option<Held>>,
}

/// One of the places.
struct Held {
    _permit: OwnedSemaphorePermit,
    in_flight: IntGauge,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.dec();
    }
}

impl Place {
    /// That of `request`, if it has one.
    pub(super) fn of(request: &HttpRequest) -> Option<Rc<Self>> {
        request.extensions().get::<Rc<Self>>().cloned()
    }

    /// Takes a place.
    ///
    /// # Errors
    /// All are taken.
    pub(super) fn enter(&self) -> Result<(), Problem> {
        let Limits { places, metrics, .. } = &**self.limits;
        let Ok(permit) = places.clone().try_acquire_owned() else {
            metrics.shed.inc();
            return Err(Code::Overloaded.into());
        };
        metrics.in_flight.inc();
        self.held.replace(Some(Held { _permit: permit, in_flight: metrics.in_flight.clone() }));
        Ok(())
    }

    /// Gives it to another.
    pub(super) fn leave(&self) {
        self.held.take();
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
    let place = Rc::new(Place { limits, held: RefCell::default() });
    if let Err(problem) = place.enter() {
        return Ok(refused(request, problem));
    }
    request.extensions_mut().insert(Rc::clone(&place));
    let answered = next.call(request).await;
    // The request may live on with its answer.
    place.leave();
    Ok(answered?.map_into_boxed_body())
}
