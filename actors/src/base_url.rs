//! The address of an outside service, as people write it, and what is told of a call to it that failed.

use std::{error::Error, net::IpAddr};

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

/// Whether it points at this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost cause, which names what the system said. The outer layers only repeat the address, which does not belong in
/// logs.
pub(crate) fn root_cause(fault: &reqwest::Error) -> String {
    let mut cause = fault.source();
    while let Some(inner) = cause.and_then(Error::source) {
        cause = Some(inner);
    }
    cause.map_or_else(|| "the call failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn loopback_is_recognised_in_each_form() {
        for (url, expected) in [
            ("http://127.0.0.1:9", true),
            ("http://[::1]:9", true),
            ("http://LOCALHOST/", true),
            ("http://10.0.0.1/", false),
            ("https://localhost.example.com/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
