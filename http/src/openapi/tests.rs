//! The description is complete and its committed copy is the one that is served.

use std::collections::BTreeSet;

use super::*;
use crate::{routes::TABLE, settings::DoorSettings};

fn described() -> Value {
    let api = describe(&DoorSettings::default().openapi_version);
    serde_json::to_value(api).unwrap_or_default()
}

/// The router's pattern as OpenAPI writes it.
fn template(pattern: &str) -> String {
    pattern.replace(":.*}", "}")
}

#[test]
fn every_route_is_described_and_names_its_action() {
    let api = described();
    let mut routes = BTreeSet::new();
    for resource in TABLE {
        for (method, _) in resource.methods {
            let (path, method) = (template(resource.pattern), method.as_str().to_ascii_lowercase());
            let operation = &api["paths"][&path][&method];
            assert!(operation.is_object(), "{method} {path} is not described");
            assert!(operation["x-action"].is_string(), "{method} {path} has no x-action");
            assert!(operation["summary"].is_string(), "{method} {path} does not say what it does");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{method} {path}");
            routes.insert((path, method));
        }
    }
    for (path, item) in api["paths"].as_object().into_iter().flatten() {
        for method in item.as_object().into_iter().flatten().map(|(method, _)| method) {
            assert!(routes.contains(&(path.clone(), method.clone())), "{method} {path} is described and not served");
        }
    }
}

#[test]
fn every_problem_code_is_declared_by_some_operation_and_exists() {
    let api = described();
    let mut declared = BTreeSet::new();
    for operation in api["paths"].as_object().into_iter().flatten().filter_map(|(_, item)| item.as_object()).flatten() {
        let listed = operation.1["x-problems"].as_array();
        assert!(listed.is_some(), "{} has no x-problems", operation.1["operationId"]);
        for code in listed.into_iter().flatten().filter_map(Value::as_str) {
            let known = Code::parse(code);
            assert!(known.is_some(), "{code} is not in the catalogue");
            declared.extend(known.map(Code::as_str));
        }
    }
    let general = [Code::BadRequest, Code::MethodNotAllowed];
    declared.extend(EVERYWHERE.iter().chain(&OF_BODIES).chain(&general).map(|code| code.as_str()));
    assert_eq!(declared, Code::ALL.iter().map(|code| code.as_str()).collect());
}

#[test]
fn the_old_name_of_a_message_is_described_like_the_new_one() {
    let api = described();
    let (new, old) = (&api["paths"]["/v1/session/message"]["post"], &api["paths"]["/message_async"]["post"]);
    for part in ["requestBody", "parameters", "responses", "x-action", "x-problems"] {
        assert!(new[part] == old[part] && !new[part].is_null(), "{part}");
    }
}

#[test]
fn streams_describe_their_items() {
    let api = described();
    for path in ["/v1/session/{session_id}/events", "/gateway_stream"] {
        let content = &api["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"];
        assert_eq!(content["itemSchema"]["$ref"], "#/components/schemas/StreamedEvent", "{path}");
    }
    assert_eq!(api["openapi"], "3.2.0");
}

#[test]
fn every_reference_leads_somewhere() {
    let api = described();
    let text = api.to_string();
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(api["components"]["schemas"][name].is_object(), "{name} is not described");
    }
}

/// Run with `SOMAAGENT_WRITE_OPENAPI=1` to bring the committed copy up to date.
#[test]
#[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
fn the_committed_description_is_the_served_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let mut served = serde_json::to_string_pretty(&described()).unwrap_or_default();
    served.push('\n');
    if std::env::var_os("SOMAAGENT_WRITE_OPENAPI").is_some() {
        assert!(std::fs::write(path, &served).is_ok(), "{path} cannot be written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == served, "openapi.json is out of date: run this test with SOMAAGENT_WRITE_OPENAPI=1");
}
