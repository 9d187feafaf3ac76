//! The endpoint of the model. Nothing is asked that costs something.

use somaagent_actors::llm::{LookError, ModelProbe};

use super::{
    Look,
    finding::{Notes, counted},
};
use crate::roles::Role;

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let settings = &look.config.model;
    if !look.config.server.role.has(Role::Gateway) {
        return notes.skipped("endpoint", "a process of these roles asks no model");
    }
    if settings.base_url.is_empty() {
        return notes.skipped("endpoint", "none is configured: the offline responder is used (SA01_LLM_BASE_URL)");
    }
    let probe = match ModelProbe::new(settings) {
        Ok(probe) => probe,
        Err(error) => return notes.fault("endpoint", error.to_string(), "mend the section model"),
    };
    let within = look.within / 2;
    let key = if settings.api_key.is_some() { "the key" } else { "that there is no key" };
    match probe.catalogue(&settings.model, within).await {
        Ok(list) if list.has_ours => {
            notes.ok(
                "endpoint",
                format!("it takes {key}, and `{}` is among {}", settings.model, counted(list.models, "model")),
            );
        }
        Ok(list) => {
            let seen =
                format!("it takes {key}, and `{}` is not among {}", settings.model, counted(list.models, "model"));
            notes.warning(
                "endpoint",
                seen,
                "set SA01_LLM_MODEL to a name that GET /v1/models lists; a few endpoints know more than they list",
            );
        }
        Err(LookError::NoList) => {
            let seen = "it answers, and has no list of models: whether it takes the key shows with the first message";
            notes.note("endpoint", seen, None);
        }
        Err(error @ LookError::Refused(_)) => {
            notes.fault("endpoint", error.to_string(), "set SA01_LLM_API_KEY (or its file) to a key of this endpoint");
        }
        Err(error @ LookError::Status(_)) => {
            notes.warning("endpoint", error.to_string(), "look at the endpoint's own state");
        }
        Err(error) => {
            let advice =
                "see whether SA01_LLM_BASE_URL is right and reached from here; until then no message is answered";
            notes.fault("endpoint", error.to_string(), advice);
        }
    }
}
