//! Decides who may do what: one function for the door and for every actor that acts for somebody.
//!
//! | file | holds |
//! | --- | --- |
//! | [`settings`] | the section `policy` of the configuration |
//! | [`files`] | the policy's text: the shipped one, or that of a folder |
//! | [`request`] | who asks for what, and the input that the policy is given |
//! | `masked` | arguments of tools as the policy may see them |
//! | [`decision`] | what was decided, read strictly from what the policy answers |
//! | [`rego`] | compiles the policy and decides by it: [`Policy`] |
//!
//! The policy is Rego, in `config/policy`, with the input and the answer that an OPA would have. It sees nothing but its input: no
//! file, no network, no clock. It closes on every fault: a policy that fails, or answers something else than a decision, has denied.
//! It is read at start and stays the same until the process ends. Decisions are not cached: one takes a few microseconds.

pub mod decision;
pub mod files;
mod masked;
pub mod rego;
pub mod request;
pub mod settings;

pub use decision::Decision;
pub use files::PolicyFiles;
pub use rego::{Policy, PolicyError};
pub use request::{Asker, Context, Subject};
pub use settings::PolicySettings;
