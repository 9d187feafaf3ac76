//! Supervision of actix actors: guards that contain panics, supervisors that restart by OTP's rules,
//! and ports that bound mailboxes.
//!
//! actix drops an actor and its whole queue at the first panic, its own `Supervisor` with it, and
//! its mailbox capacity bounds neither `send` nor cloned addresses. Here every child runs under a
//! guard that catches the panic and asks its supervisor what to do; a restart keeps address and
//! queue, loses the message in hand (its asker hears [`AskError::Down`]) and all state; and every
//! mailbox is entered through a [`Port`] of stated capacity.
//!
//! ```
//! use std::time::Duration;
//! use actix::{Actor, Context, Handler, Message, Supervised};
//! use somaagent_supervision::{Admitted, Child, Restart, Strategy, SupervisorSpec, Tree};
//!
//! struct Add(u32);
//! impl Message for Add {
//!     type Result = u32;
//! }
//!
//! #[derive(Default)]
//! struct Counter {
//!     total: u32,
//! }
//!
//! impl Actor for Counter {
//!     type Context = Context<Self>;
//! }
//!
//! impl Supervised for Counter {
//!     fn restarting(&mut self, _: &mut Context<Self>) {
//!         *self = Self::default();
//!     }
//! }
//!
//! impl Child for Counter {
//!     const NAME: &'static str = "counter";
//! }
//!
//! impl Handler<Admitted<Add>> for Counter {
//!     type Result = u32;
//!
//!     fn handle(&mut self, message: Admitted<Add>, _: &mut Context<Self>) -> u32 {
//!         let (Add(n), _in_flight) = message.open();
//!         self.total += n;
//!         self.total
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! actix_rt::System::new().block_on(async {
//!     let tree = Tree::new(&prometheus::Registry::new())?;
//!     let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
//!     let counting = SupervisorSpec::new("counting", Strategy::OneForOne).arbiters(1);
//!     let counting = root.supervisor(counting).await?;
//!
//!     let seat = counting.seat::<Counter>(Restart::Permanent);
//!     let add = seat.port::<Add>("add", 16);
//!     seat.start(Counter::default).await?;
//!
//!     assert_eq!(add.ask(Add(2), Duration::from_secs(1)).await?, 2);
//!     assert_eq!(add.ask(Add(3), Duration::from_secs(1)).await?, 5);
//!     assert_eq!(tree.snapshot().actors[2].path, "root/counting/counter");
//!     root.stop(Duration::from_secs(1)).await;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Map: `spec` says what is wanted, `verdict`, `window` and `wave` are OTP's rules as plain values,
//! `supervisor` carries them out, `guard` runs one child, `cell` is what the two share; `port`,
//! `slots`, `message` and `intake` are a message's way in; `snapshot`, `metrics` and `frame` (the
//! panic hook) are for watching; [`Probe`] is for tests, [`Directory`] for dynamic children.
//!
//! The crate knows nothing of what the actors are for.

mod cell;
mod deadline;
mod directory;
mod error;
mod farewell;
mod frame;
mod guard;
mod intake;
mod link;
mod message;
mod metrics;
mod port;
mod probe;
mod seat;
mod slots;
mod snapshot;
mod spec;
mod supervisor;
mod tree;
mod verdict;
mod wave;
mod window;

pub use directory::Directory;
pub use error::{AskError, ExitReason, Refused, StartError};
pub use message::{Admitted, InFlight, Reply};
pub use port::{Gate, Port, close_if_idle};
pub use probe::{Probe, ProbeReply};
pub use seat::Seat;
pub use snapshot::{ActorSnapshot, GroupSnapshot, InstancePage, InstanceQuery, PortSnapshot, TreeSnapshot};
pub use spec::{Child, Restart, Strategy, SupervisorSpec};
pub use tree::{SupervisorRef, Tree};
