//! How the provider describes itself, before anybody signs in: for whoever sets it up. Nothing is kept.

use std::collections::BTreeSet;

use openidconnect::{IssuerUrl, TokenUrl};
use time::OffsetDateTime;

use super::{
    super::fetching::{self, FetchError},
    ALGORITHMS, OidcSettings, Provider,
};

/// A provider at which people sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderLook {
    /// Its keys.
    pub keys: usize,
    /// Whether it signs in a way that is taken here.
    pub signs: bool,
    /// The hosts to which people and calls are sent, each once.
    pub hosts: Vec<String>,
    /// Where it sends people back.
    pub callback: String,
    /// The time at the provider, in whole seconds.
    pub date: Option<OffsetDateTime>,
}

/// Fetches how the provider describes itself, and its keys.
///
/// # Errors
/// It cannot be had, describes another issuer, or sends people or calls where others could listen.
pub async fn look(settings: &OidcSettings) -> Result<ProviderLook, FetchError> {
    let unusable = |_| FetchError::Unreadable;
    let issuer = IssuerUrl::new(settings.issuer.trim().to_owned()).map_err(unusable)?;
    let http = fetching::client(settings.timeout()).map_err(|error| FetchError::Transport(error.to_string()))?;
    let (found, headers) = Provider::new(http, issuer).discover().await?;
    let urls = [Some(found.authorization_endpoint().url()), found.token_endpoint().map(TokenUrl::url)];
    let hosts: BTreeSet<&str> = urls.into_iter().flatten().filter_map(|url| url.host_str()).collect();
    Ok(ProviderLook {
        keys: found.jwks().keys().len(),
        signs: found.id_token_signing_alg_values_supported().iter().any(|algorithm| ALGORITHMS.contains(algorithm)),
        hosts: hosts.into_iter().map(str::to_owned).collect(),
        callback: settings.callback().map(String::from).unwrap_or_default(),
        date: fetching::date(&headers),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::loopback::{Play, Server};

    #[tokio::test]
    async fn a_provider_that_describes_another_issuer_is_told_apart() {
        let server = Server::start(|_| {
            let document = json!({
                "issuer": "https://other.example", "authorization_endpoint": "https://other.example/auth",
                "token_endpoint": "https://other.example/token", "jwks_uri": "https://other.example/keys",
                "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            });
            Play::json(200, &document.to_string())
        })
        .await;
        let settings = OidcSettings { enabled: true, issuer: server.url.clone(), ..OidcSettings::default() };
        assert!(matches!(look(&settings).await, Err(FetchError::OtherIssuer)));
    }
}
