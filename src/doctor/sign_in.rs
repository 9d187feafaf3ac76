//! The OpenID provider at which people sign in.

use somaagent_actors::identity::FetchError;
use somaagent_actors::identity::sign_in::looking;

use super::{
    Look,
    clock::{self, Asked},
    finding::{Notes, counted},
    keys::HTTP_STEPS,
};
use crate::rooms::now;

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let oidc = &look.config.oidc;
    if !oidc.enabled {
        return notes.skipped("provider", "nobody signs in here (OIDC_ENABLED)");
    }
    let before = now();
    let provider = looking::look(oidc).await;
    let after = now();
    let provider = match provider {
        Ok(provider) => provider,
        Err(error) => return notes.fault("provider", format!("{}: {error}", oidc.issuer), advice(&error)),
    };
    let seen = format!(
        "{} describes itself, with {}; people go to {}",
        oidc.issuer,
        counted(provider.keys, "key"),
        provider.hosts.join(" and ")
    );
    if provider.keys == 0 {
        notes.fault("provider", seen, "the provider must publish the keys that it signs with");
    } else {
        notes.ok("provider", seen);
    }
    if !provider.signs {
        let advice = "have the provider sign ID tokens for this client with RS256, PS256, ES256, ES384 or EdDSA";
        notes.fault("signatures", "the provider does not sign in any way that is taken here", advice);
    }
    let callback = &provider.callback;
    if callback.starts_with("https://") {
        notes.ok("redirect", format!("people come back to {callback}"));
    } else {
        let advice = "set GATEWAY_BASE_URL to the https:// address of the page, and register that at the provider";
        notes.warning_if(
            look.is_serious(),
            "redirect",
            format!("people come back to {callback}, which is not https://"),
            advice,
        );
    }
    if oidc.tenants.trim().is_empty() {
        let advice = "SA01_OIDC__TENANTS names the tenants whose people may";
        notes.warning_if(look.is_serious(), "tenants", "everybody may sign in for whom the provider vouches", advice);
    }
    if let Some(shown) = provider.date {
        let asked = Asked { whose: &oidc.provider, before, after, shown, steps: HTTP_STEPS };
        clock::compare(notes, asked, look.config.auth.jwt_leeway_seconds);
    }
}

const fn advice(error: &FetchError) -> &'static str {
    match error {
        FetchError::OtherIssuer => "set OIDC_ISSUER exactly as the provider calls itself, to the last slash",
        FetchError::Status(404) => {
            "OIDC_ISSUER must be the address below which there is .well-known/openid-configuration"
        }
        FetchError::Unreadable => "the description must name endpoints for authorization and tokens, by https://",
        _ => "see whether OIDC_ISSUER is right and reached from here; until then nobody signs in",
    }
}
