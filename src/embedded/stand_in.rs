//! Keeps a stand-in that is an HTTP server alive, on the address that its clients know.
//!
//! State: none beyond the server under way. Asks and tells: none.
//! Supervision: child of `embedded`, Permanent. It stops itself when its server has ended, and so has it started again.

use std::{
    any::Any,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use actix_web::{
    App, Error, HttpResponse, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{Extensions, Server, ServiceRequest, ServiceResponse},
    http::header::{HOST, ORIGIN},
    middleware::{Next, from_fn},
    rt::net::TcpStream,
    web::{PayloadConfig, ServiceConfig},
};
use serde_json::json;
use somaagent_supervision::Child;

/// Largest request; whoever calls a stand-in sends far less.
const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// What stands in for an outside system.
pub trait StandIn: Clone + Unpin + Send + 'static {
    /// The actor's name.
    const NAME: &'static str;
    /// Where people look for it: it listens there unless somebody else does. 0 is any port.
    const PORT: u16 = 0;

    /// Its paths and what they work with.
    fn routes(&self, app: &mut ServiceConfig);

    /// Looks at a new connection.
    fn connected(_connection: &dyn Any, _extensions: &mut Extensions) {}
}

/// Starts a stand-in on `address`, which must be of this machine; port 0 takes a free one. Answers where it listens, and
/// what runs it: connections are taken once that is polled. Web pages are refused.
///
/// # Errors
/// The port could not be opened.
pub fn start_at<S: StandIn>(stand_in: &S, address: SocketAddr) -> io::Result<(SocketAddr, Server)> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    let stand_in = stand_in.clone();
    let app = move || {
        App::new()
            .app_data(PayloadConfig::new(MAX_REQUEST_BYTES))
            .wrap(from_fn(no_web_pages))
            .configure(|app| stand_in.routes(app))
    };
    let server = HttpServer::new(app)
        // Words of an answer are far smaller than a packet; each must leave at once.
        .on_connect(|socket, extensions| {
            S::connected(socket, extensions);
            if let Some(socket) = socket.downcast_ref::<TcpStream>() {
                // Without it words come in bursts, which harms nothing.
                let _ = socket.set_nodelay(true);
            }
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
    Ok((address, server))
}

/// Refuses what a web page could send: an `Origin`, or a host name that only pretends to be this machine.
async fn no_web_pages(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if request.headers().contains_key(ORIGIN) || !is_loopback(host) {
        let refusal = HttpResponse::Forbidden().json(json!({"detail": "not for web pages"}));
        return Ok(request.into_response(refusal));
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

/// Whether a `Host` header names this machine, with or without a port.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// See the module.
pub struct StandInKeeper<S> {
    stand_in: S,
    address: Address,
}

/// Where a stand-in listens, once it has started.
#[derive(Clone, Debug, Default)]
pub struct Address(Arc<OnceLock<SocketAddr>>);

impl Address {
    /// The address as the base of a URL.
    #[must_use]
    pub fn base_url(&self) -> Option<String> {
        self.0.get().map(|address| format!("http://{address}"))
    }
}

impl<S: StandIn> StandInKeeper<S> {
    /// Keeps `stand_in`, and notes in `address` where it listens.
    #[must_use]
    pub const fn new(stand_in: S, address: Address) -> Self {
        Self { stand_in, address }
    }
}

impl<S: StandIn> Actor for StandInKeeper<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let begun = match self.address.0.get() {
            Some(known) => start_at(&self.stand_in, *known),
            None => start_at(&self.stand_in, (Ipv4Addr::LOCALHOST, S::PORT).into())
                .or_else(|_| start_at(&self.stand_in, (Ipv4Addr::LOCALHOST, 0).into())),
        };
        match begun {
            Ok((address, server)) => {
                self.address.0.get_or_init(|| address);
                tracing::info!(stand_in = S::NAME, %address, "a stand-in listens");
                ctx.spawn(server.into_actor(self).map(|ended, _, ctx| {
                    let error = ended.as_ref().err().map(|error| error as &(dyn std::error::Error + 'static));
                    tracing::error!(stand_in = S::NAME, error, "a stand-in ended");
                    ctx.stop();
                }));
            }
            Err(error) => {
                tracing::error!(
                    stand_in = S::NAME,
                    error = &error as &dyn std::error::Error,
                    "a stand-in cannot be started"
                );
                ctx.stop();
            }
        }
    }
}

impl<S: StandIn> Supervised for StandInKeeper<S> {}

impl<S: StandIn> Child for StandInKeeper<S> {
    const NAME: &'static str = S::NAME;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["127.0.0.1:80", "127.0.0.1", "[::1]:80", "localhost", "LOCALHOST:80"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "10.0.0.1:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
