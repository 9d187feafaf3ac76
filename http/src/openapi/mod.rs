//! The description of the API: OpenAPI 3.2, made from the handlers and completed here.
//!
//! A handler says what it does, its action (`x-action`) and the problems that are its own (`x-problems`); what holds for
//! every operation is added here: the problem schema, the replies for all codes, also those of bodies, common headers.

pub(crate) mod shapes;

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{
    OpenApi as _, PartialSchema as _, ToSchema as _,
    openapi::{
        Content, InfoBuilder, License, OpenApi, OpenApiVersion, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
        tag::TagBuilder,
    },
};

use crate::{
    problem::{Code, MEDIA_TYPE},
    routes::Paths,
};

const DESCRIPTION: &str = "Talk to an agent that remembers. Post a message, read the answer on the session's event stream. \
Every failure is `application/problem+json` whose `type` ends in a stable code.";

/// Tags in the order of reading.
const TAGS: [(&str, &str); 7] = [
    ("messages", "Say something and read the answer while it is written"),
    ("sessions", "Find, read and change conversations"),
    ("health", "Whether the service works"),
    ("configuration", "What is in effect"),
    ("admin", "Look inside the process"),
    ("dead-letters", "See, mend and send again what could not be carried on"),
    ("page", "The web page"),
];

/// Tags whose operations see one tenant only.
const OF_TENANTS: [&str; 3] = ["messages", "sessions", "dead-letters"];

/// Problems any operation can answer with.
const EVERYWHERE: [Code; 3] = [Code::HostNotAllowed, Code::OriginNotAllowed, Code::Internal];

/// Problems of any operation that takes a body.
const OF_BODIES: [Code; 5] =
    [Code::BadJson, Code::BodyTooLarge, Code::UnsupportedMediaType, Code::InvalidBody, Code::RequestTimeout];

/// The description with the given version of the API.
#[must_use]
pub fn describe(version: &str) -> OpenApi {
    let mut api = Paths::openapi();
    api.openapi = OpenApiVersion::Version32;
    api.info = InfoBuilder::new()
        .title("SomaAgent01")
        .description(Some(DESCRIPTION))
        .version(version)
        .license(Some(License::new("Apache-2.0")))
        .build();
    api.tags = Some(TAGS.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build()).into());
    for item in api.paths.paths.values_mut() {
        let methods = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        methods.into_iter().flatten().for_each(complete);
    }
    api
}

/// Adds what every operation has in common.
fn complete(operation: &mut Operation) {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    let of_body = operation.request_body.iter().flat_map(|_| OF_BODIES);
    for code in declared(operation).into_iter().chain(of_body).chain(EVERYWHERE) {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        operation.responses.responses.insert(status.to_string(), RefOr::T(problems(&codes)));
    }
    let of_tenant = operation.tags.iter().flatten().any(|tag| OF_TENANTS.contains(&tag.as_str()));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(header("X-Request-ID", "A UUID that names the request in replies, logs and audit"));
    if of_tenant {
        parameters.push(header("X-Tenant-Id", "The tenant; also as query parameter `tenant`"));
    }
}

fn declared(operation: &Operation) -> Vec<Code> {
    let listed = operation.extensions.as_ref().and_then(|extensions| extensions.get("x-problems"));
    listed.and_then(Value::as_array).into_iter().flatten().filter_map(|code| Code::parse(code.as_str()?)).collect()
}

fn problems(codes: &[Code]) -> Response {
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
    let schema = Ref::from_schema_name(shapes::ProblemReply::name());
    ResponseBuilder::new().description(lines.join("; ")).content(MEDIA_TYPE, Content::new(Some(schema))).build()
}

fn header(name: &str, description: &str) -> RefOr<Parameter> {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .description(Some(description))
        .schema(Some(String::schema()))
        .build();
    RefOr::T(parameter)
}

#[cfg(test)]
mod tests;
