//! Bodies that are taken as they come, whatever is in them. Nothing of them is kept here.

use std::{
    cell::RefCell,
    future::{Future, Ready, ready},
    rc::Rc,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{CONTENT_ENCODING, CONTENT_LENGTH},
    web::{Bytes, Data},
};
use tokio::time::timeout;

use super::parts::{Shared, linger, next};
use crate::{
    limits::unhurried,
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// The body of a request. It is looked at only when the handler [opens](Self::open) it.
pub(crate) struct RawBody {
    request: HttpRequest,
    payload: Payload,
}

/// Its bytes, as they come.
pub(crate) struct Incoming {
    payload: Shared,
    idle: Duration,
}

impl FromRequest for RawBody {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self { request: request.clone(), payload: payload.take() }))
    }
}

impl RawBody {
    /// How many bytes the head announces, if it does.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Does `reading` with the bytes. While it waits for them the request is not among those under way; a client that sends nothing for
    /// too long is given up.
    ///
    /// # Errors
    /// That of `reading`; the body is compressed; too many bodies are waited for; or too much is going on.
    pub(crate) async fn open<T, F: Future<Output = Result<T, Problem>>>(
        self,
        reading: impl FnOnce(Incoming) -> F,
    ) -> Result<T, Problem> {
        let Self { request, payload } = self;
        let settings = request.app_data::<Data<DoorSettings>>();
        let idle = settings.map_or_else(|| DoorSettings::default().body_timeout(), |settings| settings.body_timeout());
        let (is_plain, payload) = (is_plain(&request), Rc::new(RefCell::new(payload)));
        let reading = async move {
            let read = if is_plain {
                reading(Incoming { payload: Rc::clone(&payload), idle }).await
            } else {
                Err(Problem::new(Code::UnsupportedMediaType).because("the body must not be compressed"))
            };
            linger(&payload).await;
            read
        };
        unhurried(request, reading).await
    }
}

/// Whether the body is as it is, and not compressed.
fn is_plain(request: &HttpRequest) -> bool {
    let coding = request.headers().get(CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
    coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
}

impl Incoming {
    /// The next bytes.
    ///
    /// # Errors
    /// The body broke off, or does not come.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        match timeout(self.idle, next(&self.payload)).await {
            Ok(read) => read.transpose().map_err(|error| {
                Problem::new(Code::BadRequest)
                    .because("the body broke off or is badly framed")
                    .caused_by(error.to_string())
            }),
            Err(_) => Err(Code::RequestTimeout.into()),
        }
    }
}
