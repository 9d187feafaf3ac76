//! Whether the models of this installation are there, for its workers.

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    door::Door,
    extract::JsonBody,
    problem::{Code, Problem},
};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ModelRole {
    /// It answers people.
    Dialogue,
    /// It is asked where the first one does not do.
    Escalation,
}

/// Which model is to be looked for.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct ModelTestBody {
    /// What it is for.
    role: ModelRole,
}

/// How it stands with a model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelTestReply {
    /// Always true: the model was looked for. Whether it was found is `reachable`.
    ok: bool,
    /// What it is for.
    role: ModelRole,
    /// Its address, without anything secret.
    base_url: String,
    /// Whose it is: `openai`, …, `other`; `offline` while the built-in responder answers.
    provider: &'static str,
    /// Whether there is a key to be shown to it.
    credentials_present: bool,
    /// Whether it answered in time, whatever it said.
    reachable: bool,
    /// The status of its answer; null if there was none.
    status_code: Option<u16>,
    /// Why there was none; else null.
    detail: Option<String>,
}

/// Looks whether a model's endpoint is there: a `HEAD` to its address, for three seconds at most. Nothing is asked of the model, and
/// no key is shown to it. For workers, who show the internal token.
#[utoipa::path(
    post,
    path = "/v1/llm/test",
    tag = "internal",
    request_body = ModelTestBody,
    responses((status = 200, description = "What was found", body = ModelTestReply)),
    extensions(("x-action" = json!("internal.llm.test")), ("x-problems" = json!(["model-profile-not-found"]))),
)]
pub(crate) async fn post_test(
    door: Data<Door>,
    body: JsonBody<ModelTestBody>,
) -> Result<Json<ModelTestReply>, Problem> {
    let role = body.fields.role;
    let model = match role {
        ModelRole::Dialogue => &door.dialogue_model,
        ModelRole::Escalation => return Err(Code::ModelProfileNotFound.into()),
    };
    let found = model.look().await;
    let is_offline = door.facts.responder == "offline";
    Ok(Json(ModelTestReply {
        ok: true,
        role,
        base_url: model.base_url().to_owned(),
        provider: if is_offline { "offline" } else { model.provider() },
        credentials_present: model.has_credentials(),
        reachable: found.status.is_some(),
        status_code: found.status,
        detail: found.detail,
    }))
}

#[cfg(test)]
mod tests;
