//! The policy inside the process and the real judges on the network: OPA decides alike, OpenFGA is heard, and neither opens a door
//! by being away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

mod opa;
mod openfga;
mod parity;
