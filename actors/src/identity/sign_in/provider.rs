//! What the provider publishes about itself (OpenID Connect Discovery 1.0), and calls to it.

use openidconnect::{
    DiscoveryError, HttpClientError, IssuerUrl, TokenUrl,
    core::CoreProviderMetadata,
    http::{
        self, HeaderMap,
        header::{CONTENT_TYPE, DATE},
    },
};
use parking_lot::Mutex;
use reqwest::{Client, Request, Url};

use super::super::{
    fetching::{self, FetchError},
    keeper::Source,
};
use crate::base_url;

/// A provider.
#[derive(Debug, Clone)]
pub struct Provider {
    http: Client,
    issuer: IssuerUrl,
}

impl Provider {
    pub(super) const fn new(http: Client, issuer: IssuerUrl) -> Self {
        Self { http, issuer }
    }
}

impl Source for Provider {
    /// Its description, with its keys.
    type Document = CoreProviderMetadata;

    const ACTOR: &'static str = "provider-keeper";
    const WHAT: &'static str = "the provider's description and keys";

    fn label(&self) -> String {
        self.issuer.url().host_str().unwrap_or_default().to_owned()
    }

    async fn fetch(&self) -> Result<CoreProviderMetadata, FetchError> {
        Ok(self.discover().await?.0)
    }
}

impl Provider {
    /// Its description, and the headers of its last answer.
    ///
    /// # Errors
    /// There is none that could be used.
    pub(super) async fn discover(&self) -> Result<(CoreProviderMetadata, HeaderMap), FetchError> {
        let last = Mutex::new(HeaderMap::new());
        let call = |request| async {
            let response = call(self.http.clone(), request).await?;
            last.lock().clone_from(response.headers());
            Ok(response)
        };
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &call).await;
        let found = found.map_err(|error| match error {
            DiscoveryError::Request(HttpClientError::Other(what)) => FetchError::Transport(what),
            DiscoveryError::Response(status, ..) => FetchError::Status(status.as_u16()),
            // It names another issuer. The words of both quote the document.
            DiscoveryError::Validation(_) => FetchError::OtherIssuer,
            _ => FetchError::Unreadable,
        })?;
        let urls = [Some(found.authorization_endpoint().url()), found.token_endpoint().map(TokenUrl::url)];
        let headers = std::mem::take(&mut *last.lock());
        let is_usable = urls.into_iter().all(|url| url.is_some_and(is_safe));
        if is_usable { Ok((found, headers)) } else { Err(FetchError::Unreadable) }
    }
}

/// Sends what the library wants sent, within our limits.
pub(super) async fn call(
    http: Client,
    request: openidconnect::HttpRequest,
) -> Result<openidconnect::HttpResponse, HttpClientError<FetchError>> {
    let request = Request::try_from(request).map_err(|_| HttpClientError::Other("no request".to_owned()))?;
    if !is_safe(request.url()) {
        return Err(HttpClientError::Other("the address is not safe from others on the way".to_owned()));
    }
    let answer = fetching::answer(&http, request).await;
    let answer = answer.map_err(|error| HttpClientError::Other(error.to_string()))?;
    let mut response = http::Response::builder().status(answer.status);
    for name in [CONTENT_TYPE, DATE] {
        if let Some(value) = answer.headers.get(&name) {
            response = response.header(name, value);
        }
    }
    response.body(answer.body).map_err(|error| HttpClientError::Other(error.to_string()))
}

/// Whether nobody on the way can read or change what goes there.
fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || url.scheme() == "http" && base_url::is_loopback(url)
}
