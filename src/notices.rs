//! What is said of the environment once, at the start. `somaagent doctor` says it too, with what to do.

use crate::config::{Environment, Stranger, mode_of, open_to_others};

const NO_EFFECT: &str = "a variable is set, is no setting, and has no effect";

/// Says which variables look like settings and have no effect, and which secrets are in files that are open to others.
pub(crate) fn tell(environment: &Environment) {
    for Stranger { name, meant } in environment.strangers() {
        if let Some(meant) = meant {
            tracing::warn!(variable = name, meant, "{NO_EFFECT}");
        } else {
            tracing::info!(variable = name, "{NO_EFFECT}");
        }
    }
    for (variable, file) in environment.secret_files() {
        // One that cannot be read has ended the start.
        if let Some(what) = mode_of(&file).ok().and_then(open_to_others) {
            tracing::warn!(variable, file = %file.display(), "a secret is in a file that is open to others: {what}");
        }
    }
}
