//! Secrets that are kept in Vault.

use super::*;

/// The environment with what Vault would have: settings and their secrets.
fn vaulted<const N: usize>(variables: [(&str, &str); N], read: &[(&'static str, Result<&str, &str>)]) -> Environment {
    let read = read.iter().map(|(key, secret)| (*key, secret.map(Into::into).map_err(str::to_owned))).collect();
    Environment::of(variables).holding(read)
}

const VAULT: (&str, &str) = ("VAULT_ADDR", "http://127.0.0.1:8200");
const VAULT_TOKEN: (&str, &str) = ("VAULT_TOKEN", "hvs.canary");

#[test]
fn any_secret_may_be_kept_in_vault() {
    let environment = vaulted(
        [
            VAULT,
            VAULT_TOKEN,
            ("GATEWAY_JWT_SECRET_VAULT", "secret/gateway#jwt"),
            ("POSTGRES_DSN_VAULT", "team/kv//db#dsn"),
            ("SA01_HTTP__INTERNAL_TOKEN_VAULT", "secret/gateway#internal"),
        ],
        &[
            ("auth.jwt_secret", Ok(KEPT_SECRET)),
            ("database.dsn", Ok("postgres://me:canary@127.0.0.1/d")),
            ("http.internal_token", Ok("canary-0123456789")),
        ],
    );
    let config = Config::load(&environment).unwrap();
    assert!(config.require_auth() && config.database.dsn.is_some());
    assert!(!config.shown().contains("canary") && !format!("{config:?}").contains("canary"), "{}", config.shown());
    let live: Vec<_> = config.watched().iter().map(|watched| (watched.key, watched.is_live)).collect();
    assert_eq!(live, [("auth.jwt_secret", true), ("database.dsn", false), ("http.internal_token", true)]);
    let watched = config.watched();
    let check = |index: usize, fresh: &str| (watched[index].check)(&fresh.into());
    assert!(check(0, KEPT_SECRET).is_ok() && check(2, "0123456789abcdef").is_ok());
    assert_eq!(check(0, "short"), Err("is shorter than 32 bytes".to_owned()));
    assert!(check(2, "0123456789 bcdef").is_err() && check(2, "short").is_err());
}

#[test]
fn the_secret_of_tokens_has_its_old_names_in_vault_too() {
    let path = ("GATEWAY_JWT_VAULT_PATH", "soma/gateway");
    let read = [("auth.jwt_secret", Ok(KEPT_SECRET))];
    let field = ("GATEWAY_JWT_VAULT_SECRET_KEY", "jwt");
    let config = Config::load(&vaulted([VAULT, VAULT_TOKEN, path, field], &read)).unwrap();
    assert_eq!(config.kept[0].place.to_string(), "secret/soma/gateway#jwt");
    let mount = ("GATEWAY_JWT_VAULT_MOUNT", "team/kv");
    let config = Config::load(&vaulted([VAULT, VAULT_TOKEN, path, field, mount], &read)).unwrap();
    assert_eq!(config.kept[0].place.to_string(), "team/kv//soma/gateway#jwt");
    let text = faults([VAULT, VAULT_TOKEN, path]);
    assert!(
        text.contains("vault.jwt_secret_key (GATEWAY_JWT_VAULT_SECRET_KEY): is not set, but GATEWAY_JWT_VAULT_PATH is"),
        "{text}"
    );
    let twice = ("GATEWAY_JWT_SECRET_VAULT", "secret/g#k");
    assert!(faults([VAULT, VAULT_TOKEN, path, field, twice]).contains("vault.jwt_path"), "both are set");
}

#[test]
fn what_vault_refuses_is_told_with_all_other_faults() {
    let environment = vaulted(
        [
            VAULT,
            VAULT_TOKEN,
            ("GATEWAY_JWT_SECRET_VAULT", "secret/gateway#jwt"),
            ("SOMA_API_KEY_VAULT", "secret/gateway#canary"),
            ("SOMA_API_KEY", "canary"),
            ("KAFKA_SASL_PASSWORD_VAULT", "canary"),
            ("GATEWAY_PORT", "eighty"),
        ],
        &[("auth.jwt_secret", Err("Vault refuses it")), ("brain.api_key", Ok("canary"))],
    );
    let text = Config::load(&environment).unwrap_err().to_string();
    for named in [
        "auth.jwt_secret (GATEWAY_JWT_SECRET): GATEWAY_JWT_SECRET_VAULT names secret/gateway#jwt: Vault refuses it",
        "brain.api_key (SOMA_API_KEY): is set, and SOMA_API_KEY_VAULT too; keep one",
        "kafka.sasl_password (KAFKA_SASL_PASSWORD): KAFKA_SASL_PASSWORD_VAULT: is no place in Vault",
        "server.port (GATEWAY_PORT)",
    ] {
        assert!(text.contains(named) && !text.contains("canary"), "{named} is missing in {text}");
    }
}

#[test]
fn a_vault_is_looked_at_only_if_something_is_kept_there() {
    let kept = ("SOMA_API_KEY_VAULT", "secret/gateway#key");
    let odd = [("VAULT_ADDR", "http://vault.example:8200"), ("VAULT_TOKEN", "root"), ("VAULT_SKIP_VERIFY", "yes")];
    let [addr, token, skip] = odd;
    assert!(Config::load(&Environment::of([addr, token, skip, ("GATEWAY_JWT_SECRET", KEPT_SECRET)])).is_ok());
    let text = faults([addr, token, skip, kept, ("SA01_ENV", "PROD"), ("SA01_VAULT__REFRESH_SECONDS", "0")]);
    for named in [
        "vault.addr (VAULT_ADDR): must start with https://",
        "vault.token (VAULT_TOKEN): is a known development secret",
        "vault.skip_verify (VAULT_SKIP_VERIFY): is set, and SA01_ENV=PROD",
        "vault.refresh_seconds",
    ] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
    let text = faults([kept]);
    assert!(
        text.contains("vault.addr (VAULT_ADDR): is not set") && text.contains("vault.token (VAULT_TOKEN)"),
        "{text}"
    );
}
