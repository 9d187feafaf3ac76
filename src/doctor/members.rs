//! The OpenFGA that knows who belongs to which tenant.

use somaagent_actors::domain::ids::Tenant;
use somaagent_actors::policy::Membership;
use somaagent_actors::policy::openfga::looking::{self, LookError};
use tokio::time::Instant;

use super::{Look, finding::Notes};

/// Somebody who is asked about and is nobody.
const NOBODY: &str = "somaagent-doctor";

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let settings = &look.config.openfga;
    if settings.api_url.is_none() {
        return notes.skipped("store", "no OpenFGA is configured: the tenant that a token names is believed");
    }
    match looking::look(settings).await {
        Ok(store) => model(&store, notes),
        Err(error) => return notes.fault("store", error.to_string(), advice(&error)),
    }
    answers(look, notes).await;
}

fn model(store: &looking::StoreLook, notes: &Notes) {
    notes.ok("store", format!("the store `{}` is there", store.name));
    match &store.model {
        None => {
            notes.fault("model", "the store has no model", "write config/openfga/model.json into it: docs/access.md");
        }
        Some(model) if !store.has_members => {
            let seen = format!("the model {model} has no relation `member` of the type `tenant`");
            notes.fault(
                "model",
                seen,
                "write config/openfga/model.json into the store, or name another model in OPENFGA_MODEL_ID",
            );
        }
        Some(model) => notes.ok("model", format!("the model {model} tells who is a `member` of a `tenant`")),
    }
}

/// Asks as requests do.
async fn answers(look: Look<'_>, notes: &Notes) {
    let membership = Membership::from_settings(&look.config.openfga).ok().flatten();
    let (Some(membership), Some(tenant)) = (membership, Tenant::new("public")) else { return };
    let begun = Instant::now();
    match membership.is_member(&tenant, NOBODY).await {
        Ok(is_member) => {
            notes.ok("questions", format!("a question is answered within {} ms", begun.elapsed().as_millis()));
            if is_member {
                let seen = format!("`{NOBODY}`, who is nobody, is a member of the tenant `public`");
                notes.warning("questions", seen, "see whether the store says so of everybody (user:*)");
            }
        }
        Err(error) => {
            notes.fault(
                "questions",
                error.to_string(),
                "until it answers, everybody is refused with 502: look at its log",
            );
        }
    }
}

const fn advice(error: &LookError) -> &'static str {
    match error {
        LookError::NoStore => {
            "set OPENFGA_STORE_ID to the id of a store that is there (fga store list), not to its name"
        }
        LookError::NoModel => "set OPENFGA_MODEL_ID to a model of this store (fga model list), or unset it",
        LookError::Absent => "set OPENFGA_API_URL and OPENFGA_STORE_ID",
        LookError::Unknown(_) => {
            "see whether OPENFGA_API_URL is right and reached from here; until then everybody is refused with 502"
        }
    }
}
