//! What may be told to the runner of export jobs. May be sent by the door's handle, and safe to repeat.

use actix::Message;

/// A job was ordered or ended: a hint, without which the runner finds out when it looks next.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct ExportJobsChanged;
