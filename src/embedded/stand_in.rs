//! Keeps a stand-in that is an HTTP server alive, on the address that its clients know.
//!
//! State: none beyond the server under way. Asks and tells: none.
//! Supervision: child of `embedded`, Permanent. It stops itself when its server has ended, and so has it started again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use actix_web::dev::Server;
use somaagent_supervision::Child;

/// What can be started as a server, again and again.
pub trait StandIn: Unpin + Send + 'static {
    /// The actor's name.
    const NAME: &'static str;

    /// Starts on `address`; port 0 takes a free one. Answers where it listens, and what runs it.
    ///
    /// # Errors
    /// The port could not be opened.
    fn start_at(&self, address: SocketAddr) -> io::Result<(SocketAddr, Server)>;
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
        let known = self.address.0.get().copied().unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into());
        match self.stand_in.start_at(known) {
            Ok((address, server)) => {
                self.address.0.get_or_init(|| address);
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
