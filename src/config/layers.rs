//! The layers of the configuration, from the general to the particular: `config/default.toml`, the overlay of the
//! environment, the file named by `SA01_CONFIG`, the variables of the process, secrets that one of these says are in Vault.

use toml::{Table, Value};

use super::environment::{Environment, SECRETS};
use super::faults::Faults;

const DEFAULT: &str = include_str!("../../config/default.toml");

/// In which surroundings the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// A developer's machine.
    Dev,
    /// The last test before production.
    Staging,
    /// Production: no embedded part.
    Prod,
}

impl Deployment {
    /// Reads `SA01_ENV`, formerly `SOMA_AGENT_ENV`; `DEV` without either. Anything unknown is a fault.
    pub(super) fn read(environment: &Environment, faults: &mut Faults) -> Self {
        let Some(found) = environment.first(&["SA01_ENV", "SOMA_AGENT_ENV"]) else { return Self::Dev };
        match found.text.to_uppercase().as_str() {
            "DEV" => Self::Dev,
            "STAGING" => Self::Staging,
            "PROD" => Self::Prod,
            _ => {
                faults.add(&found.variable, format!("{} is not DEV, STAGING or PROD", found.text));
                Self::Dev
            }
        }
    }

    /// The name used in variables and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dev => "DEV",
            Self::Staging => "STAGING",
            Self::Prod => "PROD",
        }
    }

    const fn overlay(self) -> &'static str {
        match self {
            Self::Dev => include_str!("../../config/dev.toml"),
            Self::Staging => include_str!("../../config/staging.toml"),
            Self::Prod => include_str!("../../config/prod.toml"),
        }
    }
}

/// The defaults alone.
pub(super) fn defaults(faults: &mut Faults) -> Table {
    parse("the defaults", "config/default.toml", DEFAULT, faults)
}

/// All layers merged but Vault's, for which they say where it is.
pub(super) fn before_vault(environment: &Environment, faults: &mut Faults) -> Table {
    let deployment = Deployment::read(environment, faults);
    merged(deployment, environment, faults)
}

/// All layers merged but Vault's.
pub(super) fn merged(deployment: Deployment, environment: &Environment, faults: &mut Faults) -> Table {
    let mut table = defaults(faults);
    merge(&mut table, parse("SA01_ENV", "the overlay", deployment.overlay(), faults));
    if let Some(named) = environment.first(&["SA01_CONFIG"]) {
        merge(&mut table, file(&named.text, faults));
    }
    environment.overlay(&mut table, faults);
    table
}

fn file(path: &str, faults: &mut Faults) -> Table {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            faults.add("SA01_CONFIG", format!("{path} cannot be read: {error}"));
            return Table::new();
        }
    };
    let mut table = parse("SA01_CONFIG", path, &text, faults);
    for secret in SECRETS {
        let Some((section, name)) = secret.split_once('.') else { continue };
        let removed = table.get_mut(section).and_then(Value::as_table_mut).and_then(|section| section.remove(name));
        if removed.is_some() {
            faults.add(
                secret,
                format!("is a secret and stands in {path}; give it in the environment or in a file named there"),
            );
        }
    }
    table
}

/// Reads a layer; a fault is `key`'s and names the `place`.
fn parse(key: &str, place: &str, text: &str, faults: &mut Faults) -> Table {
    text.parse().unwrap_or_else(|error: toml::de::Error| {
        // The first line of the message names the fault; the rest would repeat the text, which may hold anything.
        let what = error.message().lines().next().unwrap_or_default();
        faults.add(key, format!("{place} is not TOML: {what}"));
        Table::new()
    })
}

/// Lays `over` on `base`, section by section and key by key.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}
