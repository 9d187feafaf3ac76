//! The listeners: sockets, timeouts and workers.

use std::{
    any::Any,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    time::Duration,
};

use actix_web::{
    App, Error, HttpServer,
    body::MessageBody,
    dev::{Extensions, Server, ServerHandle, ServiceFactory, ServiceRequest, ServiceResponse},
    middleware::from_fn,
    rt::net::TcpStream,
    web::Data,
};
use futures_util::future::select;
use prometheus::Registry;
use socket2::SockRef;
use tokio::sync::watch;

use crate::{
    door::Door,
    limits::Limits,
    metrics::Metrics,
    middleware::{
        authorise::Gate,
        cors,
        headers::{self, CommonHeaders},
        observe,
        site::{self, Site},
    },
    openapi,
    routes::{self, Description},
    settings::DoorSettings,
};

/// Whole seconds an open connection gets to end by itself once the server is told to stop gracefully.
const SHUTDOWN_SECONDS: u64 = 5;

/// Bytes the kernel may hold for a client without having sent them.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 << 10;

/// A listener that serves.
pub struct Serving {
    /// Runs the server; to be awaited or spawned by the caller, and done when the server has stopped.
    pub server: Server,
    /// Stops it.
    pub stop: Stop,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Stops a server.
pub struct Stop {
    handle: ServerHandle,
    open: watch::Sender<usize>,
}

impl Stop {
    /// Takes no connection any more, closes those on which nothing is asked, and lets the others finish what they are
    /// at. Done when the last one is closed.
    pub async fn stop(self) {
        let mut open = self.open.subscribe();
        // The library looks only once a second whether its connections are gone.
        select(pin!(self.handle.stop(true)), pin!(open.wait_for(|open| *open == 0))).await;
    }
}

/// Counts a connection while it is open.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// Serves `door` on `listener`. Does not take signals: the process decides when to stop.
///
/// # Errors
/// The metrics' names are taken in `registry`, or the listener cannot be used.
pub fn serve(settings: &DoorSettings, door: Door, registry: &Registry, listener: TcpListener) -> io::Result<Serving> {
    let address = listener.local_addr()?;
    let shared = Shared::new(settings, door, registry).map_err(io::Error::other)?;
    let send_timeout = Duration::from_millis(settings.send_timeout_ms);
    let open = watch::Sender::new(0);
    let counted = open.clone();
    let server = HttpServer::new(move || app(&shared))
        .workers(settings.threads())
        .max_connections(settings.max_connections)
        .keep_alive(Duration::from_millis(settings.keep_alive_ms))
        .client_request_timeout(Duration::from_millis(settings.header_timeout_ms))
        .client_disconnect_timeout(Duration::from_millis(settings.disconnect_timeout_ms))
        // A reader that closes its end is gone: without this a quiet stream would notice at its next heartbeat.
        .h1_allow_half_closed(false)
        .on_connect(move |socket, of_connection: &mut Extensions| {
            tune(socket, send_timeout);
            of_connection.insert(Open::new(&counted));
        })
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(Serving { stop: Stop { handle: server.handle(), open }, server, address })
}

/// What every worker's copy of the application shares.
#[derive(Clone)]
pub(crate) struct Shared {
    settings: Data<DoorSettings>,
    site: Data<Site>,
    gate: Data<Gate>,
    limits: Data<Limits>,
    door: Data<Door>,
    metrics: Data<Metrics>,
    headers: Data<CommonHeaders>,
    description: Data<Description>,
}

impl Shared {
    pub(crate) fn new(settings: &DoorSettings, door: Door, registry: &Registry) -> prometheus::Result<Self> {
        let description = openapi::describe(&settings.openapi_version, door.verifier.is_some());
        let actions = openapi::actions(&description);
        let is_guarded = door.verifier.is_some() || settings.internal_token.is_some();
        let limits = Limits::new(&settings.limits, is_guarded, &actions, registry)?;
        let gate = Gate::new(settings, &door, actions);
        let text = description.to_pretty_json().unwrap_or_default();
        Ok(Self {
            settings: Data::new(settings.clone()),
            site: Data::new(Site::new(settings)),
            gate: Data::new(gate),
            limits: Data::new(limits),
            door: Data::new(door),
            metrics: Data::new(Metrics::register(registry)?),
            headers: Data::new(CommonHeaders::new(settings)),
            description: Data::new(Description(text.into())),
        })
    }
}

/// The application of one worker.
pub(crate) fn app(
    shared: &Shared,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .app_data(shared.settings.clone())
        .app_data(shared.site.clone())
        .app_data(shared.gate.clone())
        .app_data(shared.limits.clone())
        .app_data(shared.door.clone())
        .app_data(shared.metrics.clone())
        .app_data(shared.headers.clone())
        .app_data(shared.description.clone())
        .configure(routes::register)
        .wrap(from_fn(site::check))
        .wrap(cors::layer(&shared.settings.cors))
        .wrap(from_fn(headers::add))
        .wrap(from_fn(observe::observe))
}

/// Frames leave at once, and a peer that takes nothing is given up: the only way a server learns that a reader is gone
/// while it has nothing more to write.
fn tune(socket: &dyn Any, send_timeout: Duration) {
    let Some(stream) = socket.downcast_ref::<TcpStream>() else { return };
    let outcome = stream.set_nodelay(true).and_then(|()| give_up_after(stream, send_timeout));
    let outcome = outcome.and_then(|()| hold_little(stream));
    if let Err(error) = outcome {
        tracing::debug!(%error, "socket option not set");
    }
}

/// The kernel takes few bytes that it cannot send: memory of a reader that does not read is bounded, and it is soon seen.
#[cfg(target_os = "linux")]
fn hold_little(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES)
}

#[cfg(not(target_os = "linux"))]
fn hold_little(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

#[cfg(target_os = "linux")]
fn give_up_after(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(timeout))
}

#[cfg(not(target_os = "linux"))]
fn give_up_after(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(timeout))
}

#[cfg(test)]
mod tests;
