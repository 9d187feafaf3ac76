//! What is judged of a URL before its name is looked up.
//!
//! It is read once, by the rules of browsers, and what is judged is what was read: numbers in any notation have become addresses and
//! names have become ASCII by then, and the same value is asked afterwards.

use std::net::IpAddr;

use reqwest::Url;

use super::{
    ExternalError,
    addresses::{Networks, Reach},
};

/// Longest URL that is read, in bytes.
const MAX_URL_BYTES: usize = 4096;

const NOT_LISTED: &str = "files are not fetched from this host";
const NOT_HERE: &str = "files are fetched by https, from names and at the usual port only";
/// Of a host whose addresses are none to be asked. Which they are is nobody's business.
pub(super) const CLOSED: &str = "files are not fetched from where this host is";

/// Where a file may be asked for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The URL, without its fragment.
    pub(super) url: Url,
    /// The host alone, in lower case and ASCII, without a dot at its end.
    pub(super) host: String,
    /// Which addresses the host may have.
    pub(super) reach: Reach,
}

impl Place {
    /// Reads a URL whose host must be on `list`.
    ///
    /// # Errors
    /// [`ExternalError::BadUrl`] or [`ExternalError::NotAllowed`].
    pub(super) fn read(given: &str, list: &[String], networks: &Networks) -> Result<Self, ExternalError> {
        let mut url = parsed(given).map_err(ExternalError::BadUrl)?;
        url.set_fragment(None);
        let host = url.host_str().unwrap_or_default();
        let host = host.strip_suffix('.').unwrap_or(host).to_owned();
        if host.is_empty() || host.ends_with('.') || url.set_host(Some(&host)).is_err() {
            return Err(ExternalError::BadUrl("has no host"));
        }
        if !is_listed(&host, list) {
            return Err(ExternalError::NotAllowed(NOT_LISTED));
        }
        let literal = address(&host);
        let reach = if url.scheme() == "https" && url.port().is_none() && literal.is_none() {
            Reach::Open
        } else {
            Reach::Networks
        };
        let is_let_in = match literal {
            Some(address) => networks.allow(reach, address),
            None => reach == Reach::Open || !networks.is_empty(),
        };
        if is_let_in { Ok(Self { url, host, reach }) } else { Err(ExternalError::NotAllowed(NOT_HERE)) }
    }

    /// The last part of the path, as people read it, if it looks like the name of a file: it may as well be what opens the place, and
    /// a name is told to more people.
    pub(super) fn name(&self) -> Option<String> {
        let last = percent_encoding::percent_decode_str(self.url.path_segments()?.next_back()?).decode_utf8_lossy();
        let (stem, ending) = last.rsplit_once('.')?;
        let is_ending = (1..=8).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (is_ending && !stem.is_empty()).then(|| last.clone().into_owned())
    }
}

/// The host of a URL that was read before.
#[must_use]
pub fn host_of(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn parsed(given: &str) -> Result<Url, &'static str> {
    if given.len() > MAX_URL_BYTES {
        return Err("is too long");
    }
    // Browsers leave some of these out and take others for slashes, and others than browsers do not.
    if given.chars().any(|char| char.is_control() || char.is_whitespace() || char == '\\') {
        return Err("must not hold spaces, control characters or backslashes");
    }
    let url = Url::parse(given).map_err(|_| "is none")?;
    let rest = given.split_once("://").map(|(_, rest)| rest);
    if !matches!(url.scheme(), "http" | "https") || rest.is_none_or(|rest| rest.starts_with('/')) {
        return Err("must start with https:// and a host");
    }
    let authority = rest.unwrap_or_default().split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must not hold a user name or password");
    }
    Ok(url)
}

/// Whether a host is on a list of hosts; one that begins with a dot stands for all names that end with it.
fn is_listed(host: &str, list: &[String]) -> bool {
    list.iter().map(|entry| entry.strip_suffix('.').unwrap_or(entry)).any(|entry| match entry.strip_prefix('.') {
        Some("") => false,
        Some(_) => host.len() > entry.len() && host.ends_with(entry) && address(host).is_none(),
        None => !entry.is_empty() && (entry == host || address(entry).is_some_and(|same| Some(same) == address(host))),
    })
}

/// The address that a host is, if it is no name.
fn address(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}
