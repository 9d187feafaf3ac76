//! The fault switch: makes the stand-in ill on purpose, so that an outage can be watched on any machine.
//!
//! `PUT /stand-in/fault` with `{"mode": "…"}` sets it, `GET` tells it. The path exists only here: no SomaBrain has it.
//!
//! | mode | what happens to every other request |
//! | --- | --- |
//! | `none` | it is served |
//! | `off` | its connection is closed without an answer |
//! | `503` | it is refused; `retry_after_seconds` becomes the `Retry-After` |
//! | `refuse` | writes are refused for what they say, with 422; the rest is served |
//! | `slow` | it is served after `delay_ms` (2000 if not said) |
//! | `degraded` | it is served, and the health says that something is amiss |
//!
//! A restart of the stand-in switches it to `none`.

use std::{
    any::Any,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::Mutex,
    time::Duration,
};

use actix_web::{
    Error, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Extensions, ServiceRequest, ServiceResponse},
    http::header::RETRY_AFTER,
    middleware::Next,
    web::{Bytes, Data},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Where the switch is.
pub(super) const PATH: &str = "/stand-in/fault";

/// How the paths of writes begin.
const WRITES: &str = "/memory/remember";

/// How ill the stand-in is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Fault {
    #[default]
    None,
    Off,
    #[serde(rename = "503")]
    Unavailable {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    Refuse,
    Slow {
        #[serde(default = "two_seconds")]
        delay_ms: u32,
    },
    Degraded,
}

const fn two_seconds() -> u32 {
    2_000
}

/// The switch, shared by all threads of the server.
#[derive(Debug, Default)]
pub(super) struct Switch(Mutex<Fault>);

impl Switch {
    pub fn get(&self) -> Fault {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, fault: Fault) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fault;
    }
}

/// `PUT /stand-in/fault`.
pub(super) async fn put(switch: Data<Switch>, body: Bytes) -> HttpResponse {
    match serde_json::from_slice::<Fault>(&body) {
        Ok(fault) => {
            switch.set(fault);
            tracing::warn!(?fault, "the fault switch of the SomaBrain stand-in was set");
            HttpResponse::Ok().json(fault)
        }
        Err(error) => HttpResponse::UnprocessableEntity().json(json!({"detail": error.to_string()})),
    }
}

/// `GET /stand-in/fault`.
pub(super) async fn get(switch: Data<Switch>) -> HttpResponse {
    HttpResponse::Ok().json(switch.get())
}

/// The socket of a connection, by which it can be cut.
struct Socket(TcpStream);

/// Keeps a second handle of each connection's socket.
pub(super) fn keep_socket(connection: &dyn Any, extensions: &mut Extensions) {
    let stream = connection.downcast_ref::<actix_web::rt::net::TcpStream>();
    if let Some(Ok(socket)) = stream.map(|stream| stream.as_fd().try_clone_to_owned()) {
        extensions.insert(Socket(socket.into()));
    }
}

/// Lets the switch do its work on every request but its own.
pub(super) async fn apply(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let fault = request.app_data::<Data<Switch>>().map(|switch| switch.get()).unwrap_or_default();
    match fault {
        _ if request.path() == PATH => {}
        Fault::Off => {
            if let Some(Socket(socket)) = request.conn_data() {
                // A socket that is closed already is as good.
                let _ = socket.shutdown(Shutdown::Both);
            }
            return Ok(request.into_response(HttpResponse::ServiceUnavailable().finish()));
        }
        Fault::Unavailable { retry_after_seconds } => {
            let mut refusal = HttpResponse::ServiceUnavailable();
            if let Some(seconds) = retry_after_seconds {
                refusal.insert_header((RETRY_AFTER, seconds.to_string()));
            }
            return Ok(request.into_response(refusal.json(json!({"detail": "switched off for a test"}))));
        }
        Fault::Refuse if request.path().starts_with(WRITES) => {
            let detail = json!({"detail": "refused for a test"});
            return Ok(request.into_response(HttpResponse::UnprocessableEntity().json(detail)));
        }
        Fault::None | Fault::Degraded | Fault::Refuse => {}
        Fault::Slow { delay_ms } => tokio::time::sleep(Duration::from_millis(delay_ms.into())).await,
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}
