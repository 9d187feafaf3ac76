//! The description of the API: OpenAPI 3.2, made from the handlers and completed here.
//!
//! A handler says what it does, its action (`x-action`) and the problems that are its own (`x-problems`); its arguments say
//! what they refuse. What holds for every operation is added here: the problem schema, the replies for all codes, common
//! headers.

mod parameters;
pub(crate) mod shapes;

use std::collections::BTreeMap;

use actix_web::http::Method;
use serde_json::{Value, json};
use utoipa::{
    OpenApi as _, ToSchema as _,
    openapi::{
        Content, InfoBuilder, License, OpenApi, OpenApiVersion, Ref, RefOr, Response, ResponseBuilder,
        extensions::ExtensionsBuilder,
        path::Operation,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use self::parameters::{header, refine, tenant_in_head, tenant_in_query};
use crate::{
    extract::{Declared, INTERNAL_HEADER},
    limits::is_admin,
    middleware::authorise::{Actions, is_internal},
    problem::{Code, MEDIA_TYPE},
    routes::{Paths, TABLE, is_probe},
};

const DESCRIPTION: &str = "Talk to an agent that remembers. Post a message, read the answer on the session's event stream. \
Every failure is `application/problem+json` whose `type` ends in a stable code.";

/// How a program shows its token.
const BEARER: &str = "bearer";
/// How a program shows its API key, if not as its token.
const API_KEY: &str = "api-key";
/// How a worker of this installation does.
const INTERNAL: &str = "internal-token";
/// How a browser does.
const COOKIE: &str = "cookie";

/// Tags in the order of reading.
const TAGS: [(&str, &str); 13] = [
    ("messages", "Say something and read the answer while it is written"),
    ("attachments", "Send files"),
    ("sessions", "Find, read and change conversations"),
    ("memory", "See, export and change what is remembered"),
    ("sign-in", "Let people say who they are"),
    ("api-keys", "Let programs say who they are"),
    ("health", "Whether the service works"),
    ("configuration", "What is in effect"),
    ("admin", "Look inside the process"),
    ("audit", "See who changed what"),
    ("dead-letters", "See, mend and send again what could not be carried on"),
    ("internal", "For workers of the same installation"),
    ("page", "The web page"),
];

/// Problems any operation can answer with.
const EVERYWHERE: [Code; 5] =
    [Code::AddressNotAllowed, Code::HostNotAllowed, Code::OriginNotAllowed, Code::Misdirected, Code::Internal];

/// Problems of any operation that is not everybody's.
const GUARDED: [Code; 14] = [
    Code::AuthorizationMissing,
    Code::AuthorizationInvalid,
    Code::TokenHeaderInvalid,
    Code::TokenInvalid,
    Code::IdentityMissing,
    Code::ApiKeyInvalid,
    Code::PolicyDenied,
    Code::AdminScopeRequired,
    Code::SigningKeyUnresolved,
    Code::JwksUnavailable,
    Code::PolicyUnavailable,
    Code::TenantDenied,
    Code::AuthorizationUnavailable,
    Code::Unavailable,
];

/// Problems of any operation for workers of this installation.
const FOR_WORKERS: [Code; 4] = [Code::InternalDenied, Code::PolicyDenied, Code::PolicyUnavailable, Code::Unavailable];

/// Problems of any operation but probes.
const LIMITED: [Code; 2] = [Code::RateLimited, Code::Overloaded];

/// The operation of a path for a method, borrowed by `as_ref` or `as_mut`.
macro_rules! operation {
    ($item:ident, $method:ident, $borrowed:ident) => {
        match $method.as_str() {
            "GET" => $item.get.$borrowed(),
            "POST" => $item.post.$borrowed(),
            "PUT" => $item.put.$borrowed(),
            "PATCH" => $item.patch.$borrowed(),
            "DELETE" => $item.delete.$borrowed(),
            _ => None,
        }
    };
}

/// The description with the given version of the API. Without `auth`, whoever shows nothing may do what is guarded too.
#[must_use]
pub fn describe(version: &str, auth: bool) -> OpenApi {
    let mut api = Paths::openapi();
    api.openapi = OpenApiVersion::Version32;
    api.info = InfoBuilder::new()
        .title("SomaAgent01")
        .description(Some(DESCRIPTION))
        .version(version)
        .license(Some(License::new("Apache-2.0")))
        .build();
    let components = api.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))));
    components.add_security_scheme(COOKIE, SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("jwt"))));
    components.add_security_scheme(INTERNAL, SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new(INTERNAL_HEADER))));
    api.tags = Some(TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build()).into());
    for resource in TABLE {
        let Some(item) = api.paths.paths.get_mut(&template(resource.pattern)) else { continue };
        for (method, _, declared) in resource.methods {
            if let Some(operation) = operation!(item, method, as_mut) {
                let limits = limits_of(resource.pattern, action_of(operation));
                complete(operation, *method != Method::GET, &declared(), limits, auth);
            }
        }
    }
    api
}

/// The action of each operation, by its pattern and method. One that names none has the empty action, which nobody may do.
pub(crate) fn actions(api: &OpenApi) -> Actions {
    let mut actions = Actions::new();
    for resource in TABLE {
        let item = api.paths.paths.get(&template(resource.pattern));
        for (method, ..) in resource.methods {
            let operation = item.and_then(|item| operation!(item, method, as_ref));
            let action = operation.map(action_of).unwrap_or_default().to_owned();
            actions.entry(resource.pattern).or_default().push((method.clone(), action));
        }
    }
    actions
}

/// The router's pattern as OpenAPI writes it.
fn template(pattern: &str) -> String {
    pattern.replace(":.*}", "}")
}

/// Adds what every operation has in common.
fn complete(operation: &mut Operation, changes: bool, arguments: &Declared, limits: &[Code], auth: bool) {
    let mut codes = own(operation);
    let internal = is_internal(action_of(operation));
    let guarded = match (is_public(operation), internal) {
        (true, _) => &[][..],
        (false, true) => &FOR_WORKERS,
        (false, false) => &GUARDED,
    };
    // Only people have cookies.
    let by_cookie = changes && !internal && !guarded.is_empty();
    let csrf = Some(&Code::CsrfTokenInvalid).filter(|_| by_cookie);
    for code in arguments.problems.iter().chain(guarded).chain(csrf).chain(limits) {
        if !codes.contains(code) {
            codes.push(*code);
        }
    }
    if internal {
        operation.security = Some(vec![SecurityRequirement::new(INTERNAL, Vec::<String>::new())]);
    } else if !guarded.is_empty() {
        // Any of them will do.
        let any = [BEARER, API_KEY, COOKIE].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
        operation.security =
            Some(if auth { any.into() } else { [&[SecurityRequirement::default()], &any[..]].concat() });
    }
    let listed = ExtensionsBuilder::new().add("x-problems", json!(codes)).build();
    operation.extensions.get_or_insert_default().merge(listed);
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes.into_iter().chain(EVERYWHERE) {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| RefOr::T(problems(&codes)));
    }
    let parameters = operation.parameters.get_or_insert_default();
    let reads_query = arguments.problems.contains(&Code::InvalidQuery);
    for parameter in parameters.iter_mut() {
        if let RefOr::T(parameter) = parameter {
            refine(parameter, reads_query);
        }
    }
    parameters.push(header("X-Request-ID", "A UUID that names the request in replies, logs and audit"));
    parameters.push(header(
        "traceparent",
        "Where the request stands in a trace (W3C Trace Context); handed on with what it causes",
    ));
    parameters.push(header("tracestate", "What vendors add to it"));
    if changes && !internal {
        parameters.push(header(
            "X-CSRF-Token",
            "With a cookie in place of a token or a key, if the deployment wants it: what the cookie says that `/ui/config.json` names",
        ));
    }
    if arguments.names_tenant {
        parameters.extend([tenant_in_head(), tenant_in_query()]);
    }
}

/// What an operation is refused with that is asked for too often.
fn limits_of(pattern: &str, action: &str) -> &'static [Code] {
    match (is_probe(pattern), is_admin(action)) {
        (true, _) => &[],
        (false, false) => &LIMITED,
        (false, true) => &[Code::RateLimited, Code::AdminRateLimited, Code::Overloaded],
    }
}

/// The action of an operation; empty if it names none.
fn action_of(operation: &Operation) -> &str {
    let action = operation.extensions.as_ref().and_then(|extensions| extensions.get("x-action"));
    action.and_then(Value::as_str).unwrap_or_default()
}

fn is_public(operation: &Operation) -> bool {
    action_of(operation) == "public"
}

/// The problems that an operation lists itself.
fn own(operation: &Operation) -> Vec<Code> {
    let listed = operation.extensions.as_ref().and_then(|extensions| extensions.get("x-problems"));
    listed.and_then(Value::as_array).into_iter().flatten().filter_map(|code| Code::parse(code.as_str()?)).collect()
}

fn problems(codes: &[Code]) -> Response {
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let schema = Ref::from_schema_name(shapes::ProblemReply::name());
    ResponseBuilder::new().description(lines.join("; ")).content(MEDIA_TYPE, Content::new(Some(schema))).build()
}

#[cfg(test)]
mod tests;
