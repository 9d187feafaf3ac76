//! The keys by which tokens are proved: those of the settings and those that issuers publish.

use std::time::Duration;

use futures_util::future::join_all;
use somaagent_actors::identity::FetchError;
use somaagent_actors::identity::looking::{IssuerLook, KeysLook, issuers};
use time::OffsetDateTime;

use super::{
    Look,
    clock::{self, Asked},
    finding::{Notes, counted},
};
use crate::rooms::now;

/// HTTP tells the time in whole seconds.
pub(super) const HTTP_STEPS: Duration = Duration::from_secs(1);

/// What came of the fetch, and when it began and ended.
type Fetched = (Result<Option<KeysLook>, FetchError>, OffsetDateTime, OffsetDateTime);

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let (config, auth) = (look.config, &look.config.auth);
    if !config.require_auth() {
        let advice = "docs/access.md tells how to let in only whom you know";
        return notes.note(
            "proofs",
            "nobody has to prove who they are, so the door listens on loopback only",
            Some(advice),
        );
    }
    let issuers = match issuers(auth) {
        Ok(issuers) => issuers,
        Err(faults) => {
            for fault in faults {
                notes.fault("settings", fault.to_string(), "mend the section auth: docs/access.md");
            }
            return;
        }
    };
    if issuers.is_empty() {
        return notes.skipped("keys", "no tokens are taken: people sign in, programs show API keys");
    }
    let fetched = issuers.iter().map(|issuer| async move {
        let before = now();
        (issuer.published(auth).await, before, now())
    });
    for (issuer, fetched) in issuers.iter().zip(join_all(fetched).await) {
        settings(issuer, notes);
        published(look, issuer, fetched, notes);
    }
}

fn whose(issuer: &IssuerLook) -> &str {
    issuer.name.as_deref().unwrap_or("any issuer")
}

fn settings(issuer: &IssuerLook, notes: &Notes) {
    if !issuer.proved.is_empty() {
        notes.ok("settings", format!("{}: the keys of the settings prove {}", whose(issuer), issuer.proved.join(", ")));
    }
    for (algorithm, bytes) in &issuer.weak {
        let seen = format!("{}: the secret is shorter than a sum of {algorithm}", whose(issuer));
        let advice = format!(
            "`openssl rand -base64 {bytes}` makes one that is long enough; or take {algorithm} out of GATEWAY_JWT_ALGORITHMS"
        );
        notes.warning("strength", seen, advice);
    }
    if issuer.publishes_at.is_some() && !issuer.checks_audience {
        let seen = format!("{}: tokens that it made for somebody else are taken here", whose(issuer));
        notes.warning(
            "audience",
            seen,
            "set GATEWAY_JWT_AUDIENCE (or audience in auth.issuers) to what the issuer calls this service",
        );
    }
    if issuer.publishes_at.is_some() && issuer.name.is_none() {
        let advice = "set GATEWAY_JWT_ISSUER to what the issuer calls itself";
        notes.note("issuer", "it is not checked who made a token, only whose key signed it", Some(advice));
    }
}

fn published(look: Look<'_>, issuer: &IssuerLook, (keys, before, after): Fetched, notes: &Notes) {
    let host = issuer.publishes_at.as_deref().unwrap_or_default();
    let keys = match keys {
        Ok(Some(keys)) => keys,
        Ok(None) => return,
        Err(error) => {
            let advice =
                "see whether GATEWAY_JWKS_URL is right and reached from here; until then no new token is proved";
            return notes.fault("published", format!("{host}: {error}"), advice);
        }
    };
    let seen = format!("{host} publishes {}, of which {} can be used", counted(keys.given, "key"), keys.usable);
    if keys.proved.is_empty() {
        let advice = if keys.forbidden.is_empty() {
            "the issuer must publish a key of RSA (2048 bits or more), of P-256 or P-384, or of Ed25519".to_owned()
        } else {
            format!("add {} to GATEWAY_JWT_ALGORITHMS (or to algorithms in auth.issuers)", keys.forbidden.join(" or "))
        };
        notes.fault("published", format!("{seen}, and none for an algorithm that is allowed"), advice);
    } else {
        notes.ok("published", format!("{seen}; they prove {}", keys.proved.join(", ")));
        if !keys.forbidden.is_empty() {
            let seen = format!("{host} has keys for {} too, which is not allowed", keys.forbidden.join(", "));
            notes.note("published", seen, Some("add it to GATEWAY_JWT_ALGORITHMS if such tokens are to be taken"));
        }
    }
    let fresh = Duration::from_secs(look.config.auth.jwks_cache_seconds);
    if let Some(age) = keys.age.filter(|age| *age > fresh) {
        let seen = format!("a cache on the way hands out keys that are {} s old", age.as_secs());
        notes.warning(
            "age",
            seen,
            "shorten what the issuer allows caches (Cache-Control), or a new key is not known in time",
        );
    }
    if let Some(shown) = keys.date {
        let asked = Asked { whose: host, before, after, shown, steps: HTTP_STEPS };
        clock::compare(notes, asked, look.config.auth.jwt_leeway_seconds);
    }
}
