//! Secrets of the settings that are kept in Vault: `<NAME>_VAULT` names a place there, as `<NAME>_FILE` names a file.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize as _;
use somaagent_actors::identity::AuthSettings;
use somaagent_actors::llm;
use somaagent_actors::secret::Secret;
use somaagent_actors::vault::{Place, Vault, VaultError, VaultSettings, Watched, keeper::field_of};
use tokio::time::{Instant, sleep, timeout_at};
use toml::{Table, Value};

use super::environment::{Environment, SECRETS};
use super::{Config, Deployment, Faults, layers, rooms, secrets};

/// Wait between two attempts at the start.
const WAIT: Duration = Duration::from_secs(1);
/// The secret that shows who asks Vault is not kept there.
const OWN_TOKEN: &str = "vault.token";
/// The setting that has its place in Vault in three parts too.
const JWT_SECRET: &str = "auth.jwt_secret";

/// The fields of one of Vault's secrets, or why it does not give them.
type Answer = Result<HashMap<String, SecretString>, VaultError>;

/// What was read of Vault, by setting: its secret, or what is wrong with it.
pub(super) type Read = BTreeMap<&'static str, Result<SecretString, String>>;

/// A setting whose secret is kept in Vault.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The setting.
    pub key: &'static str,
    /// Where it is.
    pub place: Place,
    /// The variable that says so.
    variable: String,
}

/// Vault did not answer for as long as a start waits for it.
#[derive(Debug)]
pub struct Unanswered {
    last: VaultError,
    waited: Duration,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secrets cannot be read, also after {} s: {}", self.waited.as_secs(), self.last)
    }
}

impl Environment {
    /// The same with every secret that is kept in Vault, read now. A Vault that does not answer is asked again for as long as the
    /// settings say; what it refuses is a fault of the configuration, which tells it with all others.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn with_vault(self) -> Result<Self, Unanswered> {
        let mut faults = Faults::default();
        let merged = layers::before_vault(&self, &mut faults);
        let kept = kept(&self, &merged, &mut faults);
        let settings = merged.get("vault").cloned().map(VaultSettings::deserialize);
        let (false, Some(Ok(settings))) = (kept.is_empty(), settings) else { return Ok(self) };
        // Before the token is shown to anybody.
        rooms::check_vault(&settings, Deployment::read(&self, &mut Faults::default()), &mut faults);
        // Whatever is wrong so far is found again, and told, by whoever reads the configuration.
        if !faults.is_empty() {
            return Ok(self);
        }
        let patience = settings.patience();
        let read = match Vault::new(settings) {
            Err(error) => kept.iter().map(|kept| (kept.key, Err(error.to_string()))).collect(),
            Ok(vault) => read(&vault, &kept, patience).await?,
        };
        Ok(self.holding(read))
    }
}

impl Config {
    /// The secrets that are kept in Vault, for whoever looks after them: a new one is to be as good as one of the settings.
    #[must_use]
    pub fn watched(&self) -> Vec<Watched> {
        self.kept.iter().filter_map(|kept| self.watch(kept)).collect()
    }

    fn watch(&self, Kept { key, place, .. }: &Kept) -> Option<Watched> {
        // What is used for as long as the process lives is only looked at.
        let at_start = |secret: &Option<SecretString>| secret.clone().map(|secret| (Secret::from(secret), false));
        let live = |secret: &Option<Secret>| secret.clone().map(|secret| (secret, true));
        let (secret, is_live) = match *key {
            JWT_SECRET => live(&self.auth.jwt_secret),
            "brain.api_key" => live(&self.brain.api_key),
            "http.internal_token" => live(&self.http.internal_token),
            "model.api_key" => live(&self.model.api_key),
            "audit.checkpoint_key" => at_start(&self.audit.checkpoint_key),
            "database.dsn" => at_start(&self.database.dsn),
            "kafka.sasl_password" => at_start(&self.kafka.sasl_password),
            "oidc.client_secret" => at_start(&self.oidc.client_secret),
            _ => None,
        }?;
        let (key, may_be_known) = (*key, secrets::may_be_known(self));
        let check = Arc::new(move |fresh: &SecretString| {
            let fresh = fresh.expose_secret();
            secrets::check_new(fresh, may_be_known)?;
            match key {
                JWT_SECRET => AuthSettings::check_secret(fresh).map_err(|error| error.to_string()),
                "http.internal_token" => rooms::check_internal_token(fresh).map_err(str::to_owned),
                "model.api_key" => llm::check_key(fresh).map_err(|error| error.to_string()),
                _ if fresh.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
                _ => Err("has characters that a header cannot carry".to_owned()),
            }
        });
        Some(Watched { key, place: place.clone(), secret, is_live, check })
    }
}

/// Every setting whose secret is kept in Vault. `merged` has what the other layers say of it.
pub(super) fn kept(environment: &Environment, merged: &Table, faults: &mut Faults) -> Vec<Kept> {
    let mut all = Vec::new();
    for key in SECRETS.iter().filter(|key| **key != OWN_TOKEN) {
        let Some(found) = environment.vault_of(key) else { continue };
        match found.text.parse() {
            Ok(place) => all.push(Kept { key, place, variable: found.variable }),
            Err(error) => faults.add(key, format!("{}: {error}", found.variable)),
        }
    }
    let text = |name: &str| merged.get("vault")?.get(name)?.as_str();
    if let Some(path) = text("jwt_path") {
        let variable = "GATEWAY_JWT_VAULT_PATH".to_owned();
        let field = text("jwt_secret_key");
        if all.iter().any(|kept| kept.key == JWT_SECRET) {
            faults.add("vault.jwt_path", "and GATEWAY_JWT_SECRET_VAULT are both set; keep one");
        } else if let Some(field) = field {
            match Place::new(text("jwt_mount").unwrap_or("secret"), path, field) {
                Ok(place) => all.push(Kept { key: JWT_SECRET, place, variable }),
                Err(error) => faults.add("vault.jwt_path", error.to_string()),
            }
        } else {
            faults.add("vault.jwt_secret_key", format!("is not set, but {variable} is"));
        }
    }
    all
}

/// Lays what was read on the other layers.
pub(super) fn lay(read: &Read, kept: &[Kept], merged: &mut Table, faults: &mut Faults) {
    for Kept { key, variable, place } in kept {
        let Some((section, name)) = key.split_once('.') else { continue };
        let section = merged.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut();
        let Some(section) = section else { continue };
        if section.contains_key(name) {
            faults.add(key, format!("is set, and {variable} too; keep one"));
            continue;
        }
        match read.get(key) {
            Some(Ok(secret)) => drop(section.insert(name.to_owned(), Value::String(secret.expose_secret().to_owned()))),
            Some(Err(what)) => faults.add(key, format!("{variable} names {place}: {what}")),
            // It was not asked for, because of another fault.
            None => {}
        }
    }
}

/// Reads all of them, each of Vault's own secrets once.
async fn read(vault: &Vault, kept: &[Kept], patience: Duration) -> Result<Read, Unanswered> {
    let until = Instant::now() + patience;
    let mut known: HashMap<(&str, &str), Answer> = HashMap::new();
    let mut read = Read::new();
    for Kept { key, place, .. } in kept {
        let at = (place.mount.as_str(), place.path.as_str());
        let answer = match known.get(&at) {
            Some(answer) => answer.clone(),
            None => patiently(vault, at, until, patience).await?,
        };
        known.insert(at, answer.clone());
        let field = answer.and_then(|fields| field_of(&fields, &place.field));
        read.insert(key, field.map_err(|error| error.to_string()));
    }
    Ok(read)
}

/// Asks until there is an answer, or it is too late.
async fn patiently(
    vault: &Vault,
    (mount, path): (&str, &str),
    until: Instant,
    patience: Duration,
) -> Result<Answer, Unanswered> {
    let mut last = VaultError::Unreachable("it took too long".to_owned());
    loop {
        match timeout_at(until, vault.read(mount, path)).await {
            Ok(Err(error)) if error.is_passing() => last = error,
            Ok(answer) => return Ok(answer),
            Err(_) => return Err(Unanswered { last, waited: patience }),
        }
        if Instant::now() + WAIT >= until {
            return Err(Unanswered { last, waited: patience });
        }
        sleep(WAIT).await;
    }
}
