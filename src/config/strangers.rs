//! Variables of the environment that look like settings and are none, and the files of those that are.

use std::collections::BTreeSet;
use std::path::PathBuf;

use strsim::osa_distance;

use super::environment::{Environment, LONG, NAMES, PREFIX, SECRETS, is_in_files, key_of, names_of};

/// Beginnings of names that nobody else has: whoever sets such a variable means this program.
const OURS: &[&str] = &[
    PREFIX,
    "AUDIT_CHECKPOINT_",
    "EXPORT_JOBS_",
    "GATEWAY_",
    "MEMORY_REPLICATOR_",
    "MEMORY_SYNC_",
    "OIDC_",
    "OPENFGA_",
    "OUTBOX_SYNC_",
    "SOMA_",
];

/// Variables that are no settings, and that are read.
const READ: &[&str] = &["SA01_CONFIG", "SA01_ENV", "SOMA_AGENT_ENV"];

/// Variables of the original that ask for what is so anyway: nothing is saved in files.
const GRANTED: &[&str] = &["GATEWAY_DISABLE_FILE_SAVING"];

/// Mistakes within which one of our names is taken for another one …
const MISTAKES: usize = 3;
/// … and within which anything else is: others have names too.
const MISTAKES_OF_OTHERS: usize = 1;
/// The shortest name that something else can be mistaken for.
const SHORTEST: usize = 7;

/// A variable that is set and has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its name.
    pub name: String,
    /// What may be meant by it.
    pub meant: Option<String>,
}

impl Environment {
    /// Variables that look as if they were meant for this program and have no effect. Those that name a setting that there is
    /// not (`SA01_SECTION__KEY`) are faults of the configuration and not among them.
    #[must_use]
    pub fn strangers(&self) -> Vec<Stranger> {
        let known = known();
        let unknown = self.names().filter(|name| !known.contains(*name) && key_of(name).is_none());
        let strangers = unknown.filter_map(|name| {
            let is_ours = OURS.iter().any(|beginning| name.starts_with(beginning));
            let mistakes = if is_ours { MISTAKES } else { MISTAKES_OF_OTHERS };
            let candidates = known.iter().filter(|known| is_ours || known.len() >= SHORTEST);
            let nearest = candidates.map(|known| (osa_distance(name, known), known)).min();
            let meant = nearest.filter(|(distance, _)| *distance <= mistakes).map(|(_, known)| known.clone());
            (is_ours || meant.is_some()).then(|| Stranger { name: name.to_owned(), meant })
        });
        strangers.collect()
    }

    /// The files that secrets are read from, each with the variable that names it.
    #[must_use]
    pub fn secret_files(&self) -> Vec<(String, PathBuf)> {
        self.files_of(SECRETS)
    }

    /// The files that public keys are read from which others are believed by, each with the variable that names it.
    #[must_use]
    pub fn public_key_files(&self) -> Vec<(String, PathBuf)> {
        self.files_of(LONG)
    }

    fn files_of(&self, keys: &[&str]) -> Vec<(String, PathBuf)> {
        let names = keys.iter().flat_map(|key| names_of(key)).map(|name| format!("{name}_FILE"));
        let files = names.filter_map(|name| self.first(&[&name]).map(|found| (name, PathBuf::from(found.text))));
        files.collect()
    }

    /// Whether a setting is set here, by any of its names, by a file or by a place in Vault.
    #[must_use]
    pub fn sets(&self, key: &str) -> bool {
        names_of(key)
            .iter()
            .any(|name| self.first(&[name, &format!("{name}_FILE"), &format!("{name}_VAULT")]).is_some())
    }
}

/// Every name that is read, but for those of the form `SA01_SECTION__KEY`.
fn known() -> BTreeSet<String> {
    let mut known: BTreeSet<String> = READ.iter().chain(GRANTED).map(ToString::to_string).collect();
    for (key, _) in NAMES {
        let names = names_of(key);
        if is_in_files(key) {
            known.extend(names.iter().flat_map(|name| [format!("{name}_FILE"), format!("{name}_VAULT")]));
        }
        known.extend(names);
    }
    known
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    fn strangers<const N: usize>(names: [&str; N]) -> Vec<(String, Option<String>)> {
        let found = Environment::of(names.map(|name| (name, "x"))).strangers();
        found.into_iter().map(|stranger| (stranger.name, stranger.meant)).collect()
    }

    #[test]
    fn a_name_with_a_mistake_is_told_with_the_one_that_is_meant() {
        for (wrong, meant) in [
            ("GATEWAY_JWT_SECERT", "GATEWAY_JWT_SECRET"),
            ("SA01_DB_DNS", "SA01_DB_DSN"),
            ("GATEWAY_JWKS_URI", "GATEWAY_JWKS_URL"),
            ("SA01_LLM_API_KEY_FIL", "SA01_LLM_API_KEY_FILE"),
            ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
            ("OPA_URI", "OPA_URL"),
            ("SA01_EVN", "SA01_ENV"),
        ] {
            assert_eq!(strangers([wrong]), [(wrong.to_owned(), Some(meant.to_owned()))]);
        }
        // Nothing is encrypted with a key of that name, whatever was expected of it.
        for strange in ["GATEWAY_FLUX_CAPACITOR", "GATEWAY_ENC_KEY", "SA01_CRYPTO_FERNET_KEY"] {
            assert_eq!(strangers([strange]), [(strange.to_owned(), None)]);
        }
    }

    #[test]
    fn what_is_read_and_what_others_mean_is_no_stranger() {
        let fine = [
            "PATH",
            "HOME",
            "PORTS",
            "POSTGRES_DB",
            "KAFKA_HEAP_OPTS",
            "GATEWAY_DISABLE_FILE_SAVING",
            "GATEWAY_PORT",
            "SA01_GATEWAY_PORT",
            "SA01_CONFIG",
            "SA01_TURNS__MAX_ATTEMPTS",
            "OIDC_CLIENT_SECRET_FILE",
            "GATEWAY_JWT_PUBLIC_KEY_FILE",
        ];
        assert_eq!(strangers(fine), []);
    }

    #[test]
    fn files_of_secrets_are_told_with_their_variable() {
        let environment = Environment::of([("SOMA_API_KEY_FILE", "/k"), ("GATEWAY_JWT_PUBLIC_KEY_FILE", "/p")]);
        assert_eq!(environment.secret_files(), [("SOMA_API_KEY_FILE".to_owned(), PathBuf::from("/k"))]);
        assert!(environment.sets("brain.api_key") && !environment.sets("model.api_key"));
    }
}
