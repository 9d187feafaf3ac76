//! The effective configuration as text, for `--check-config`: secrets masked.

use toml::{Table, Value};
use url::Url;

use super::environment::SECRETS;

const MASK: &str = "********";
/// The one secret of which most is none.
const DSN: &str = "database.dsn";

/// The table with every secret masked, as TOML. Whether callers must prove who they are follows from more than one setting, so
/// it is shown as it is.
pub(super) fn masked(mut table: Table, require_auth: bool) -> String {
    if let Some(Value::Table(http)) = table.get_mut("http") {
        http.insert("require_auth".to_owned(), Value::Boolean(require_auth));
    }
    for (_, value) in &mut table {
        mask_queries(value);
    }
    for secret in SECRETS {
        let Some((section, name)) = secret.split_once('.') else { continue };
        if let Some(Value::String(text)) = table.get_mut(section).and_then(|section| section.get_mut(name)) {
            *text = if *secret == DSN { mask_password(text) } else { MASK.to_owned() };
        }
    }
    toml::to_string(&table).unwrap_or_else(|error| format!("# cannot be shown: {error}"))
}

/// Hides what stands behind the `?` of an address: some services take a key there.
fn mask_queries(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with("http://") || text.starts_with("https://") => {
            if let Some((address, _)) = text.split_once('?') {
                *text = format!("{address}?{MASK}");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask_queries),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| mask_queries(value)),
        _ => {}
    }
}

/// Of a URL everything but its password and its query is shown, of anything else nothing.
fn mask_password(secret: &str) -> String {
    let Ok(mut url) = Url::parse(secret) else { return MASK.to_owned() };
    let masked = url.password().is_none() || url.set_password(Some(MASK)).is_ok();
    if url.query().is_some() {
        url.set_query(Some(MASK));
    }
    if masked && url.has_host() { url.into() } else { MASK.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_url_only_the_password_and_the_query_are_hidden() {
        assert_eq!(mask_password("postgres://me:hidden@db:5432/soma"), "postgres://me:********@db:5432/soma");
        assert_eq!(mask_password("postgres://db/soma?password=hidden"), "postgres://db/soma?********");
        assert_eq!(mask_password("sk-hidden"), MASK);
        assert_eq!(mask_password("mailto:hidden"), MASK);
    }

    #[test]
    fn the_query_of_an_address_is_hidden_wherever_it_stands() {
        let table = "[auth]\njwks_url = 'https://id/keys?code=hidden'\nissuers = [{jwks_url = 'http://id/k?hidden'}]\n[log]\nlevel = 'why?'";
        let shown = masked(table.parse().unwrap_or_default(), false);
        assert!(!shown.contains("hidden") && shown.contains("https://id/keys?********"), "{shown}");
        assert!(shown.contains("why?"), "{shown}");
    }
}
