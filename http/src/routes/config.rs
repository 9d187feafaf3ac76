//! What clients may know about this deployment.

use actix_web::{
    HttpRequest,
    web::{Data, Json},
};
use serde::Serialize;
use somaagent_actors::uploads::rules::Rules;
use utoipa::ToSchema;

use crate::{door::Door, middleware::authorise::Gate, settings::DoorSettings};

/// What the page needs to know before anything else.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UiConfigReply {
    /// Where the API begins.
    api_base: &'static str,
    /// `DEV`, `STAGING`, `PROD` or a name of one's own.
    deployment_mode: String,
    /// The version of the program.
    version: String,
    /// What is switched on.
    features: Features,
    /// Whether uploads are accepted.
    uploads_enabled: bool,
    /// What a file is held to.
    uploads: UploadLimits,
    /// The universe of new memories.
    universe_default: Option<String>,
    /// The namespace of new memories.
    namespace_default: String,
    /// `offline` while the built-in responder answers, else `model`.
    responder: &'static str,
    /// The model that answers.
    model: Option<String>,
    /// Whether people can sign in here.
    sign_in: SignInConfig,
    /// The cookie that the page repeats in the header `X-CSRF-Token` to change something; none where that is switched off.
    csrf_cookie: Option<String>,
}

/// What a file is held to, so that nobody sends in vain.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadLimits {
    /// Most bytes of one that is kept.
    max_bytes: u64,
    /// Most of them at once.
    max_files: u32,
    /// Types that are taken, in lower case; empty: all.
    allowed_mime: Vec<String>,
    /// Types that are refused, in lower case, whether they are among the others or not.
    denied_mime: Vec<String>,
}

impl From<&Rules> for UploadLimits {
    fn from(rules: &Rules) -> Self {
        Self {
            max_bytes: rules.max_bytes.min(rules.inline_max_bytes),
            max_files: rules.max_files,
            allowed_mime: rules.allowed_mime.clone(),
            denied_mime: rules.denied_mime.clone(),
        }
    }
}

/// Whether people can sign in, and where.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignInConfig {
    /// Whether they can.
    enabled: bool,
    /// What people call the provider.
    provider: Option<String>,
}

/// What is switched on.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "the contract's shape")]
pub(crate) struct Features {
    /// Messages are written to memory when they are accepted.
    write_through: bool,
    /// … but the reply does not wait for it.
    write_through_async: bool,
    /// Callers must say who they are.
    require_auth: bool,
    /// Event streams are served.
    sse_enabled: bool,
}

/// The page's configuration.
#[utoipa::path(
    get,
    path = "/ui/config.json",
    tag = "configuration",
    responses((status = 200, description = "The configuration", body = UiConfigReply)),
    extensions(("x-action" = json!("public")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_ui_config(
    request: HttpRequest,
    door: Data<Door>,
    gate: Data<Gate>,
    settings: Data<DoorSettings>,
) -> Json<UiConfigReply> {
    let (facts, uploads) = (&*door.facts, door.uploads.rules());
    Json(UiConfigReply {
        api_base: "/v1",
        deployment_mode: facts.deployment_mode.clone(),
        version: facts.version.clone(),
        features: Features {
            write_through: settings.write_through.enabled,
            write_through_async: settings.write_through.enabled && settings.write_through.background,
            require_auth: settings.require_auth,
            sse_enabled: !settings.disable_sse,
        },
        uploads_enabled: uploads.enabled,
        uploads: UploadLimits::from(&*uploads),
        universe_default: facts.universe_default.clone(),
        namespace_default: facts.namespace_default.clone(),
        responder: facts.responder,
        model: facts.model.clone(),
        sign_in: SignInConfig {
            enabled: door.sign_in.is_some(),
            provider: door.sign_in.as_ref().map(|sign_in| sign_in.provider().to_owned()),
        },
        csrf_cookie: gate.csrf(&request).map(|csrf| csrf.name().to_owned()),
    })
}

/// What is in effect.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuntimeConfigReply {
    /// `DEV`, `STAGING`, `PROD` or a name of one's own.
    deployment_mode: String,
    /// Who may call.
    auth: AuthConfig,
    /// Event streams.
    sse: SseConfig,
    /// Uploads.
    uploads: UploadsConfig,
    /// The memory service.
    somabrain: SomabrainConfig,
    /// Tools of the model.
    tools: ToolsConfig,
}

/// Who may call.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuthConfig {
    /// Callers must say who they are.
    require_auth: bool,
    /// A policy service decides.
    opa_configured: bool,
}

/// Event streams.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SseConfig {
    /// They are served.
    enabled: bool,
}

/// Uploads.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "named as on the wire")]
pub(crate) struct UploadsConfig {
    /// They are accepted.
    uploads_enabled: bool,
    /// Largest one, in MiB.
    uploads_max_mb: u64,
    /// Most files at once.
    uploads_max_files: u64,
}

/// The memory service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SomabrainConfig {
    /// Where it is; absent while the embedded one is used.
    base_url: Option<String>,
}

/// Tools of the model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolsConfig {
    /// How many are enabled.
    enabled_count: u64,
}

/// The configuration in effect, without secrets.
#[utoipa::path(
    get,
    path = "/v1/runtime-config",
    tag = "configuration",
    responses((status = 200, description = "The configuration", body = RuntimeConfigReply)),
    extensions(("x-action" = json!("config.read")), ("x-problems" = json!([]))),
)]
pub(crate) async fn get_runtime_config(door: Data<Door>, settings: Data<DoorSettings>) -> Json<RuntimeConfigReply> {
    let (facts, uploads) = (&*door.facts, door.uploads.rules());
    Json(RuntimeConfigReply {
        deployment_mode: facts.deployment_mode.clone(),
        auth: AuthConfig { require_auth: settings.require_auth, opa_configured: facts.opa_configured },
        sse: SseConfig { enabled: !settings.disable_sse },
        uploads: UploadsConfig {
            uploads_enabled: uploads.enabled,
            uploads_max_mb: uploads.max_bytes >> 20,
            uploads_max_files: uploads.max_files.into(),
        },
        somabrain: SomabrainConfig { base_url: facts.somabrain_base_url.clone() },
        tools: ToolsConfig { enabled_count: facts.tools_enabled_count },
    })
}
