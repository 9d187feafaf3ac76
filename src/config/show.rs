//! The effective configuration as text, for `--check-config`: secrets masked.

use toml::{Table, Value};
use url::Url;

use super::environment::SECRETS;

const MASK: &str = "********";
/// The one secret of which most is none.
const DSN: &str = "database.dsn";

/// The table with every secret masked, as TOML.
pub(super) fn masked(mut table: Table) -> String {
    for secret in SECRETS {
        let Some((section, name)) = secret.split_once('.') else { continue };
        if let Some(Value::String(text)) = table.get_mut(section).and_then(|section| section.get_mut(name)) {
            *text = if *secret == DSN { mask_password(text) } else { MASK.to_owned() };
        }
    }
    toml::to_string(&table).unwrap_or_else(|error| format!("# cannot be shown: {error}"))
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
}
