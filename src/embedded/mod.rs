//! The stand-ins: what takes the place of an outside system that is not configured.
//!
//! Each is a server with an address that speaks the protocol of what it stands in for, so that the rest of the program
//! has one path. The boot sequence starts those that are needed; production refuses them all.

pub mod brain;
pub mod postgres;
pub mod responder;
pub mod stand_in;
