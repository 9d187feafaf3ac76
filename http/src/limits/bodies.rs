//! Bodies that take their time. Whoever sends one slowly, or never, keeps nobody else out: its request has no place among those
//! under way meanwhile, and no caller has more than a share of what is waited for.

use std::{future::Future, pin::pin};

use actix_web::{HttpRequest, web::Data};
use futures_util::future::poll_immediate;
use tokio::task::yield_now;

use super::{Full, Limits, Slot, Whose, overload::Place};
use crate::{
    client::Client,
    middleware::authorise::Authorised,
    problem::{Code, Problem},
};

/// Does what `reading` does, which waits for the body of `request`: at once if that is here already.
///
/// # Errors
/// That of `reading`; or too many bodies are waited for, or so much is going on when it has come that the request is too much.
pub(crate) async fn unhurried<T>(
    request: HttpRequest,
    reading: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let mut reading = pin!(reading);
    // What came with the head is handed on a moment after it.
    for _ in 0..2 {
        if let Some(read) = poll_immediate(reading.as_mut()).await {
            return read;
        }
        yield_now().await;
    }
    let limits = request.app_data::<Data<Limits>>();
    let (Some(limits), Some(place)) = (limits, Place::of(&request)) else { return reading.await };
    let waiting = limits.await_body(&request)?;
    place.leave();
    let read = reading.await?;
    drop(waiting);
    place.enter()?;
    Ok(read)
}

impl Limits {
    /// A slot among the requests whose bodies have not come yet. Each may take as much memory as a body may have.
    fn await_body(&self, request: &HttpRequest) -> Result<Slot, Problem> {
        let identity = Authorised::of(request)?.identity;
        let whose = self.hash(&Whose::of(identity.as_ref(), Client::of(request).address));
        self.bodies.take(Some(whose)).map_err(|full| {
            let (code, reason) = match full {
                Full::Caller => (Code::TooManyBodies, "caller"),
                Full::All => (Code::Overloaded, "all"),
            };
            self.metrics.bodies_refused.with_label_values(&[reason]).inc();
            code.into()
        })
    }
}
