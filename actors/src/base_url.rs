//! The address of an outside service, as people write it.

use reqwest::Url;

/// Reads the address that paths are put behind; query and fragment, which people copy along, are cut off.
///
/// # Errors
/// As [`whole`].
pub(crate) fn read(given: &str) -> Result<Url, &'static str> {
    let mut url = whole(given)?;
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

/// Reads the address of one document.
///
/// # Errors
/// What is wrong with it: it is empty, no URL, not http(s), or holds a user name or password, which would end up in logs.
/// The text never holds the address.
pub(crate) fn whole(given: &str) -> Result<Url, &'static str> {
    let given = given.trim();
    if given.is_empty() {
        return Err("is empty");
    }
    let url = Url::parse(given).map_err(|_| "is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must start with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password");
    }
    Ok(url)
}
