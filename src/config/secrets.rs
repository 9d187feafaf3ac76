//! Secrets that everybody knows: what examples and forgotten settings have in their place. Whoever reaches the process may try
//! them, so only one that nobody else reaches may have them.

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use somaagent_actors::secret::Secret;
use url::Url;

use super::{Config, Deployment, faults::Faults};

/// Words that give such a secret away …
const TELLING: &str = "123456 abc123 admin change changeit changeme default demo dev devel development dummy example foobar guest \
    hunter2 insecure letmein local minioadmin pass passphrase passw0rd passwd password placeholder postgres qwerty replace root \
    sample secret secrets soma test testing todo unsafe xxx";

/// … and those that stand between them.
const FILLING: &str = "a agent an and api app at auth be before bit bits brain by bytes character characters chars database db deploy \
    deploying do encryption enough env for gateway generate here hmac hs in insert internal is it jwt kafka key least llm long \
    master me minimum must my never not of only or own please prod production random real secure server session set shared sign \
    signing sk some string strong super that the this to token use user value very with x your";

const KNOWN: &str = "is a known development secret, which only a process on loopback and outside production may have: `openssl rand -base64 32` makes another";

/// Every secret of a process that others may reach, or that is in production, must be one that nobody can look up.
pub(super) fn check(config: &Config, faults: &mut Faults) {
    if may_be_known(config) {
        return;
    }
    let dsn = config.database.dsn.as_ref().map(|dsn| passwords(dsn.expose_secret())).unwrap_or_default();
    let given = [
        ("auth.jwt_secret", present(config.auth.jwt_secret.as_ref())),
        ("brain.api_key", present(config.brain.api_key.as_ref())),
        ("database.dsn", dsn),
        ("http.internal_token", present(config.http.internal_token.as_ref())),
        ("kafka.sasl_password", plain(config.kafka.sasl_password.as_ref())),
        ("model.api_key", present(config.model.api_key.as_ref())),
        ("oidc.client_secret", plain(config.oidc.client_secret.as_ref())),
        ("vault.token", plain(config.vault.token.as_ref().filter(|_| !config.kept.is_empty()))),
    ];
    for (key, secrets) in given {
        if secrets.iter().any(|secret| is_known(secret)) {
            faults.add(key, KNOWN);
        }
    }
}

/// Whether a new text may take the place of a secret while the process runs.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_new(text: &str, may_be_known: bool) -> Result<(), String> {
    if is_known(text) && !may_be_known { Err(KNOWN.to_owned()) } else { Ok(()) }
}

/// Whether nobody else reaches the process, so that its secrets may be known ones.
pub(super) fn may_be_known(config: &Config) -> bool {
    config.is_alone() && config.deployment != Deployment::Prod
}

fn present(secret: Option<&Secret>) -> Vec<String> {
    secret.map(|secret| secret.present().expose().to_owned()).into_iter().collect()
}

fn plain(secret: Option<&SecretString>) -> Vec<String> {
    secret.map(|secret| secret.expose_secret().to_owned()).into_iter().collect()
}

/// The passwords in an address of a database, as the server is told them.
fn passwords(dsn: &str) -> Vec<String> {
    let Ok(url) = Url::parse(dsn) else { return Vec::new() };
    let query = url.query_pairs().filter(|(name, _)| name == "password").map(|(_, value)| value.into_owned());
    let before_host = url.password().map(|password| percent_decode_str(password).decode_utf8_lossy().into_owned());
    query.chain(before_host).collect()
}

/// Whether a secret is made of such words alone, whatever stands between them and in whatever case.
fn is_known(secret: &str) -> bool {
    if !secret.is_ascii() {
        return false;
    }
    let text: Vec<u8> =
        secret.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase()).collect();
    // For each place whether words lead up to it, and whether a telling one is among them.
    let mut reached: Vec<Option<bool>> = vec![None; text.len() + 1];
    reached[0] = Some(false);
    for place in 0..text.len() {
        let Some(told) = reached[place] else { continue };
        let rest = &text[place..];
        let mut reach = |length: usize, tells: bool| {
            let there = &mut reached[place + length];
            *there = Some(there.unwrap_or_default() || told || tells);
        };
        if rest[0].is_ascii_digit() {
            reach(1, false);
        }
        for (words, tells) in [(TELLING, true), (FILLING, false)] {
            let fitting = words.split_ascii_whitespace().filter(|word| rest.starts_with(word.as_bytes()));
            fitting.for_each(|word| reach(word.len(), tells));
        }
    }
    reached[text.len()] == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_examples_have_is_known_and_what_chance_made_is_not() {
        for known in [
            "changeme",
            "change-me",
            "CHANGE_ME_IN_PRODUCTION",
            "secret",
            "Secret123!",
            "secretsecretsecretsecretsecretsecret",
            "dev-secret",
            "dev-internal-token",
            "soma",
            "somabrain-dev-key",
            "your-256-bit-secret",
            "a-string-secret-at-least-256-bits-long",
            "your_super_secret_jwt_key_change_this_in_production_2024",
            "password",
            "postgres",
            "12345678",
            "sk-test",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "minioadmin",
        ] {
            assert!(is_known(known), "{known}");
        }
        for fine in [
            "",
            "ollama",
            "key",
            "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4",
            "6f1c0a0e9b7d4c2f8e3a5b6d7c8f9a0b",
            "correct horse battery staple",
            "geheimes Wort für mich",
            "sk-proj-T3BlbkFJ",
            "secret-of-ours-7c8f9a0b",
        ] {
            assert!(!is_known(fine), "{fine}");
        }
    }

    #[test]
    fn an_address_has_its_password_in_two_places() {
        assert_eq!(passwords("postgres://me:one@db/soma?password=two&sslmode=disable"), ["two", "one"]);
        assert_eq!(passwords("postgres://me:ch%61nge%2Dme@db/soma?password=s%6Fma"), ["soma", "change-me"]);
        assert!(passwords("postgres://me@db/soma").is_empty() && passwords("rubbish").is_empty());
    }
}
