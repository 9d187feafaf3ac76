//! The end of the two actors in good order: what they hold is done with, so that the next process need not wait for the end of a
//! lease.

use actix::Message;
use somaagent_supervision::{Admitted, InFlight, Reply};

/// Asks to begin nothing more and to answer once nothing is under way. May be sent when the process ends. Safe to repeat.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Finish {
    /// Answered when nothing is under way.
    pub reply: Reply<()>,
}

/// Who has asked.
#[derive(Default)]
pub(super) struct Finishing {
    is_asked: bool,
    askers: Vec<(Reply<()>, InFlight)>,
}

impl Finishing {
    pub(super) fn ask(&mut self, asked: Admitted<Finish>) {
        let (Finish { reply }, in_flight) = asked.open();
        self.is_asked = true;
        self.askers.push((reply, in_flight));
    }

    /// Whether nothing more may begin.
    pub(super) const fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Nothing is under way.
    pub(super) fn tell(&mut self) {
        for (reply, in_flight) in self.askers.drain(..) {
            drop(in_flight);
            reply.send(());
        }
    }
}
