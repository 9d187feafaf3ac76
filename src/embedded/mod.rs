//! Stand-ins for outside systems that are not configured.

pub mod responder;
