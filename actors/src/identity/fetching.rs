//! Calls to an issuer: to where the settings say, for so long, for so many bytes.

use std::time::Duration;

use reqwest::{
    Client, Request,
    header::{AGE, DATE, HeaderMap, HeaderName},
    redirect::Policy,
};
use time::OffsetDateTime;

use super::keys::KeyError;
use crate::{
    base_url::root_cause,
    bounded::{self, Unread},
    retry,
};

/// Longest document that is read, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// Why a document was not fetched. No text of it holds the address.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nothing came.
    #[error("the issuer was not reached or fell silent: {0}")]
    Transport(String),
    /// Something else came.
    #[error("the issuer answered with status {0}")]
    Status(u16),
    /// It is not read to its end.
    #[error("the answer is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// It holds no keys.
    #[error("the answer {0}")]
    Keys(#[from] KeyError),
    /// It describes somebody else.
    #[error("the answer names another issuer than the settings")]
    OtherIssuer,
    /// It describes no provider that could be used.
    #[error("the answer describes no provider that could be used")]
    Unreadable,
}

/// An answer as it came.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A client whose calls take `timeout` at most.
///
/// # Errors
/// It cannot be made.
pub(super) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    // No redirect: documents come from where the settings say. No proxy: it would be found in the environment, which only the
    // outermost room reads.
    Client::builder().redirect(Policy::none()).no_proxy().timeout(timeout).build()
}

/// Sends `request` and reads what is answered, whatever its status.
///
/// # Errors
/// Nothing came, or too much.
pub(super) async fn answer(http: &Client, request: Request) -> Result<Answer, FetchError> {
    let lost = |error: reqwest::Error| FetchError::Transport(root_cause(&error));
    let mut response = http.execute(request).await.map_err(lost)?;
    let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
    let body = bounded::body(response, MAX_BYTES).await.map_err(|unread| match unread {
        Unread::TooLong(_) => FetchError::TooLong,
        Unread::Lost(error) => lost(error),
    })?;
    Ok(Answer { status, headers, body })
}

/// The time at the issuer, in whole seconds, if it tells.
pub(super) fn date(headers: &HeaderMap) -> Option<OffsetDateTime> {
    retry::http_date(text(headers, &DATE)?)
}

/// How long some cache on the way has kept the answer, if one did (RFC 9111 §5.1).
pub(super) fn age(headers: &HeaderMap) -> Option<Duration> {
    text(headers, &AGE)?.trim().parse().ok().map(Duration::from_secs)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
