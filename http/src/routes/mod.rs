//! What the door answers: one list, from which routes are registered and the description is checked.

mod action;
mod actors;
mod antivirus;
mod api_keys;
mod attachment_links;
mod attachment_list;
mod attachment_verdicts;
mod attachments;
mod audit;
mod auth;
mod config;
mod control;
mod dead_letters;
mod describe;
mod export_jobs;
mod health;
mod history;
mod llm;
mod logins;
mod memory;
mod memory_batch;
pub(crate) mod memory_deletion;
mod memory_export;
mod memory_filter;
mod memory_receipt;
mod message;
mod page;
mod policy_shadow;
mod reprocessing;
mod session_description;
mod sessions;
mod settings;
mod settings_versions;
mod state;
mod stream;
mod tus;
mod upload_health;
mod upload_quota;
mod uploads;
mod write_through;

use actix_web::{
    HttpRequest, HttpResponse, Route,
    guard::{self, Guard},
    http::{Method, header::ALLOW},
    middleware::{Compress, Condition, from_fn},
    web::{self, ServiceConfig},
};
use somaagent_actors::conversation::ConversationError;

pub(crate) use describe::Description;

use crate::{
    extract::{Declared, declared_by},
    limits::shed,
    middleware::authorise::authorise,
    openapi::shapes::{ProblemReply, StreamBlock},
    problem::{Code, Problem},
    tus::name_version,
};

/// One path.
pub(crate) struct Resource {
    /// Its pattern, as the router reads it.
    pub(crate) pattern: &'static str,
    /// What each method does.
    pub(crate) methods: &'static [Served],
    kind: Kind,
}

/// A method, the maker of its route, and what the arguments of its handler declare.
type Served = (Method, fn() -> Route, fn() -> Declared);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A small reply.
    Plain,
    /// A text that is worth compressing.
    Text,
    /// An endless reply: nothing compresses it, and its head alone is of no use.
    Stream,
    /// A small reply about uploads in pieces, which says which version of tus is spoken.
    Resumable,
    /// Whether the process is well: asked by whatever looks after it, and answered whoever else is refused.
    Probe,
}

macro_rules! table {
    ($($kind:ident $pattern:literal { $($method:ident $handler:path),+ })+) => {
        /// Every path and method of the door.
        pub(crate) const TABLE: &[Resource] = &[$(
            Resource {
                pattern: $pattern,
                methods: &[$((Method::$method, || web::to($handler), || declared_by($handler))),+],
                kind: Kind::$kind,
            }
        ),+];

        /// The description of each handler in [`TABLE`].
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($($($handler),+),+), components(schemas(ProblemReply, StreamBlock)))]
        pub(crate) struct Paths;
    };
}

table! {
    Plain "/v1/session/message" { POST message::post_message }
    Plain "/message_async" { POST message::post_message_async }
    Plain "/v1/session/action" { POST action::post_action }
    Stream "/v1/session/{session_id}/events" { GET stream::get_stream }
    Stream "/gateway_stream" { GET stream::get_gateway_stream }
    Plain "/v1/sessions" { GET sessions::get_sessions }
    Plain "/v1/sessions/{session_id}" { PATCH control::patch_session, DELETE control::delete_session }
    Plain "/v1/sessions/{session_id}/stop" { POST control::post_stop }
    Plain "/v1/sessions/{session_id}/reset" { POST control::post_reset }
    Plain "/v1/sessions/{session_id}/pause" { POST control::post_pause }
    Text "/v1/sessions/{session_id}/events" { GET history::get_events }
    Text "/v1/sessions/{session_id}/history" { GET history::get_history }
    Text "/v1/sessions/{session_id}/context-window" { GET history::get_context_window }
    Plain "/v1/sessions/{session_id}/state" { GET state::get_state }
    Text "/v1/describe/{session_id}" { GET session_description::get_description }
    Plain "/v1/uploads" { POST uploads::post_uploads }
    Plain "/v1/attachments/{attachment_id}/links" {
        POST attachment_links::post_link, GET attachment_links::get_links
    }
    Plain "/v1/attachments/{attachment_id}/links/{link_id}" { DELETE attachment_links::delete_link }
    Plain "/v1/downloads/{token}" { GET attachment_links::get_download }
    Text "/v1/attachments" { GET attachment_list::get_attachments }
    Plain "/v1/attachments/{attachment_id}" {
        GET attachments::get_attachment, DELETE attachment_verdicts::delete_attachment
    }
    Plain "/v1/attachments/{attachment_id}/clear" { POST attachment_verdicts::post_clear }
    Plain "/v1/attachments/{attachment_id}/release" { POST attachment_verdicts::post_release }
    Plain "/v1/attachments/{attachment_id}/scan" { POST attachment_verdicts::post_scan }
    Plain "/v1/attachments/{attachment_id}/thumbnail" { GET attachments::get_thumbnail }
    Plain "/v1/uploads/external" { POST uploads::external::post_external }
    Plain "/v1/uploads/health" { GET upload_health::get_upload_health }
    Plain "/v1/uploads/quota" { GET upload_quota::get_upload_quota }
    Resumable "/v1/uploads/tus" { POST tus::post_upload }
    Resumable "/v1/uploads/tus/{upload_id}" { GET tus::get_upload, PATCH tus::patch_upload, DELETE tus::delete_upload }
    Resumable "/v1/uploads/tus/{upload_id}/finalize" { POST tus::post_finalize }
    Plain "/internal/attachments/{attachment_id}/binary" { GET attachments::get_binary }
    Plain "/v1/keys" { POST api_keys::post_key, GET api_keys::get_keys }
    Plain "/v1/keys/{key_id}" { DELETE api_keys::delete_key }
    Plain "/v1/admin/logins" { GET logins::get_logins, DELETE logins::delete_logins }
    Plain "/v1/admin/actors" { GET actors::get_actors }
    Text "/v1/admin/audit" { GET audit::get_audit }
    Stream "/v1/admin/audit/export" { GET audit::get_audit_export }
    Text "/v1/admin/policy/shadow" { GET policy_shadow::get_shadow }
    Plain "/v1/admin/dlq" { GET dead_letters::get_topics }
    Text "/v1/admin/dlq/{topic}" { GET dead_letters::get_letters, DELETE dead_letters::delete_letters }
    Plain "/v1/admin/dlq/{topic}/reprocess" { POST reprocessing::post_reprocess_all }
    Plain "/v1/admin/dlq/{topic}/reprocess/{job_id}" { GET reprocessing::get_job, DELETE reprocessing::delete_job }
    Text "/v1/admin/dlq/{topic}/{id}" { GET dead_letters::get_letter, DELETE dead_letters::delete_letter }
    Plain "/v1/admin/dlq/{topic}/{id}/reprocess" {
        POST reprocessing::post_reprocess, PUT reprocessing::put_reprocess
    }
    Text "/v1/admin/memory" { GET memory::get_memories }
    Text "/v1/admin/memory/{event_id}" { GET memory::get_memory }
    Plain "/v1/memory/batch" { POST memory_batch::post_batch }
    Stream "/v1/memory/export" { GET memory_export::get_export }
    Plain "/v1/memory/export/jobs" { POST export_jobs::post_export_job, GET export_jobs::get_export_jobs }
    Plain "/v1/memory/export/jobs/{job_id}" { GET export_jobs::get_export_job, DELETE export_jobs::delete_export_job }
    Stream "/v1/memory/export/jobs/{job_id}/download" { GET export_jobs::get_export_download }
    Plain "/v1/memory/{event_id}/receipt" { GET memory_receipt::get_receipt }
    Plain "/v1/memory/{event_id}" { DELETE memory_deletion::delete_memory }
    Plain "/v1/av/test" { GET antivirus::get_test }
    Plain "/v1/llm/test" { POST llm::post_test }
    Plain "/v1/auth/login" { GET auth::get_login }
    Plain "/v1/auth/callback" { GET auth::get_callback }
    Plain "/v1/auth/logout" { POST auth::post_logout }
    Plain "/v1/auth/session" { GET auth::get_session }
    Plain "/v1/auth/logins" { GET logins::get_own_logins, DELETE logins::delete_own_logins }
    Plain "/v1/auth/logins/{login_id}" { DELETE logins::delete_own_login }
    Text "/login" { GET auth::get_login_page }
    Probe "/healthz" { GET health::get_healthz }
    Probe "/readyz" { GET health::get_readyz }
    Probe "/v1/health" { GET health::get_v1_health }
    Probe "/health" { GET health::get_health }
    Plain "/ui/config.json" { GET config::get_ui_config }
    Text "/v1/ui/settings/sections" { GET settings::get_sections, POST settings::post_sections }
    Text "/v1/ui/settings/versions" { GET settings_versions::get_versions }
    Plain "/v1/ui/settings/versions/{number}/restore" { POST settings_versions::post_restore }
    Plain "/v1/ui/settings/diff" { GET settings_versions::get_diff }
    Plain "/v1/runtime-config" { GET config::get_runtime_config }
    Text "/openapi.json" { GET describe::get_openapi }
    Text "/docs" { GET page::get_docs }
    Text "/" { GET page::get_page }
    Text "/s/{session_id}" { GET page::get_session_page }
    Text "/ui/{path:.*}" { GET page::get_file }
}

/// Whether `path`, as it is written, asks whether the process is well.
pub(crate) fn is_probe(path: &str) -> bool {
    TABLE.iter().any(|resource| resource.kind == Kind::Probe && resource.pattern == path)
}

/// Registers every path of [`TABLE`]. A path answers `OPTIONS` and refuses other methods by name; everything else is 404.
pub(crate) fn register(config: &mut ServiceConfig) {
    for resource in TABLE {
        let mut service = web::resource(resource.pattern);
        for (method, route, _) in resource.methods {
            service = service.route(route().guard(accepts(method.clone(), resource.kind)));
        }
        let service =
            service.default_service(web::to(move |request: HttpRequest| async move { refuse(&request, resource) }));
        let service = service.wrap(from_fn(move |request, next| authorise(resource.pattern, request, next)));
        let service = service.wrap(Condition::new(resource.kind != Kind::Probe, from_fn(shed)));
        let service = service.wrap(Condition::new(resource.kind == Kind::Resumable, from_fn(name_version)));
        config.service(service.wrap(Condition::new(resource.kind == Kind::Text, Compress::default())));
    }
    config.default_service(web::to(|| async { HttpResponse::from_error(Problem::new(Code::NotFound)) }));
}

/// `GET` also means `HEAD`, except on a stream.
fn accepts(method: Method, kind: Kind) -> impl Guard {
    let head = method == Method::GET && kind != Kind::Stream;
    guard::fn_guard(move |context| {
        let asked = &context.head().method;
        *asked == method || head && *asked == Method::HEAD
    })
}

fn refuse(request: &HttpRequest, resource: &Resource) -> HttpResponse {
    let allowed = allowed(resource);
    if request.method() == Method::OPTIONS {
        let mut reply = HttpResponse::NoContent();
        if resource.kind == Kind::Resumable {
            tus::introduce(request, &mut reply);
        }
        return reply.insert_header((ALLOW, allowed)).finish();
    }
    HttpResponse::from_error(Problem::new(Code::MethodNotAllowed).allow(allowed))
}

/// The value of `Allow`.
fn allowed(resource: &Resource) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (method, ..) in resource.methods {
        names.push(method.as_str());
        if method == Method::GET && resource.kind != Kind::Stream {
            names.push(Method::HEAD.as_str());
        }
    }
    names.push(Method::OPTIONS.as_str());
    names.join(", ")
}

/// The problem of an ask that changes nothing: when it timed out, its outcome is not "unknown".
fn asked_to_read(error: ConversationError) -> Problem {
    let problem = Problem::from(error);
    if problem.code() == Code::OutcomeUnknown { Code::Timeout.into() } else { problem }
}

#[cfg(test)]
mod tests;
