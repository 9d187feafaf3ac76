//! Decides who may do what: one function for the door and for every actor that acts for somebody.
//!
//! | file | holds |
//! | --- | --- |
//! | [`settings`] | the section `policy` of the configuration |
//! | [`files`] | the policy's text: the shipped one, or that of a folder |
//! | [`request`] | who asks for what, and the input that the policy is given |
//! | `masked` | arguments of tools as the policy may see them |
//! | [`decision`] | what was decided, read strictly from what the policy answers |
//! | [`deciding`] | decides, inside the process or by an OPA: [`Policy`] |
//! | [`acting`] | what actors ask before they act for a session |
//! | [`rego`] | compiles the policy and runs it |
//! | `opa` | asks an OPA on the network, which has the same files |
//! | [`openfga`] | asks an OpenFGA whether somebody belongs to a tenant: [`Membership`] |
//! | `remote`, `kept` | one question to a judge on the network; its answers, for a moment |
//! | [`shadow`] | a candidate beside the policy that decides |
//! | [`parity`] | questions about everything that may be asked, and two policies compared by them |
//! | `fault` | why there is no decision |
//! | [`metrics`] | Prometheus |
//!
//! The policy is Rego, in `config/policy`, with the same input and answer here and in an OPA. It sees nothing but its input: no
//! file, no network, no clock. It closes on every fault: a policy that fails, cannot be reached, or answers something else than a
//! decision, has denied. Inside the process it is read at start and stays the same until the process ends; its decisions are not
//! kept, because one takes a few microseconds. Those of an OPA hold for two seconds, so that is how late a changed policy counts.

pub mod acting;
pub mod deciding;
pub mod decision;
mod fault;
pub mod files;
mod kept;
mod masked;
pub mod metrics;
mod opa;
pub mod openfga;
pub mod parity;
pub mod rego;
mod remote;
pub mod request;
pub mod settings;
pub mod shadow;

pub use acting::{Act, Leave};
pub use deciding::Policy;
pub use decision::Decision;
pub use files::PolicyFiles;
pub use metrics::PolicyMetrics;
pub use openfga::{FgaSettings, Membership};
pub use rego::PolicyError;
pub use request::{Asker, Context, Subject};
pub use settings::PolicySettings;
