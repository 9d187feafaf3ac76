//! What operators save while the process runs, and what of it is in force.
//!
//! | file | holds |
//! | --- | --- |
//! | `desk` | [`Settings`], the door's handle: shows, saves, restores and compares |
//! | `operators` | [`OperatorSettings`]: who may save |
//! | `in_force` | by what the process works, and why, if that is not what is saved |
//! | `uploads` | the values of fields as the rules of uploads, and back |
//! | [`watcher`] | the actor `settings-watcher`: learns what others have saved |
//! | [`metrics`] | Prometheus |
//!
//! What is saved lies over what the process was configured with, and is in force at once in the process that saved it, and
//! within about a second in every other one: each reads the row every second. A document that cannot be read, such as one of a
//! newer version of the program, changes nothing: what was in force goes on. A process that finds one at its start has
//! nothing that was in force, and goes by what it was configured with, but takes no uploads: what was saved may forbid them.

mod desk;
mod in_force;
pub mod metrics;
mod operators;
mod uploads;
pub mod watcher;

pub use desk::{ChangeError, Expected, Settings, VersionPage};
pub use in_force::{Condition, View};
pub use metrics::SettingsMetrics;
pub use operators::{OperatorSettings, Operators};
pub use watcher::SettingsWatcher;

pub use crate::store::{StoreError, ui_settings_versions::SettingsVersion};

#[cfg(test)]
mod tests;
