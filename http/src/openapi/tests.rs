//! The description is complete and its committed copy is the one that is served.

use std::collections::BTreeSet;

use actix_web::{http::Method, test::TestRequest};
use somaagent_actors::{
    domain::caller::Reach,
    domain::ids::Tenant,
    identity::{AuthSettings, SettingsError, Verifier},
    policy::{Asker, Context, Policy, PolicyError, PolicySettings, Subject},
};
use somaagent_supervision::Probe;
use somaagent_test_services::tokens::{SECRET, Signer};

use super::*;
use crate::{
    door::Door,
    routes::TABLE,
    settings::DoorSettings,
    testing::{TestDoor, request, with_body},
    tus::PIECE_TYPE,
};

const ID: &str = "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01";

fn described() -> Value {
    let api = describe(&DoorSettings::default().openapi_version, false);
    serde_json::to_value(api).unwrap_or_default()
}

#[test]
fn every_route_is_described_and_names_its_action() {
    let api = described();
    let mut routes = BTreeSet::new();
    for resource in TABLE {
        for (method, ..) in resource.methods {
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

#[actix_web::test]
async fn the_policy_has_a_rule_for_every_action() -> Result<(), PolicyError> {
    let policy = Policy::from_settings(&PolicySettings::default())?;
    let api = described();
    let operations = api["paths"].as_object().into_iter().flatten().filter_map(|(_, item)| item.as_object()).flatten();
    let actions: BTreeSet<&str> = operations.filter_map(|(_, operation)| operation["x-action"].as_str()).collect();
    assert!(actions.contains("public") && actions.contains("memory.receipt"), "{actions:?}");
    let public = Tenant::new("public");
    for (tenant, action) in public.iter().flat_map(|tenant| actions.iter().map(move |action| (tenant, *action))) {
        let decide = async |asker| {
            let subject = Subject { tenant, persona_id: None, asker };
            policy.decide(&subject, action, "something", &Context::default()).await
        };
        if is_internal(action) {
            let worker = decide(Asker::Worker { subject: None }).await;
            assert!(worker.allow, "a worker may not do {action}: {worker:?}");
            let admin = Asker::Member { subject: "u-1", issuer: None, scope: Some("admin") };
            for asker in [admin, Asker::Nobody { auth_required: false }, Asker::Nobody { auth_required: true }] {
                assert!(!decide(asker).await.allow, "{asker:?} does {action}");
            }
            continue;
        }
        let admin = decide(Asker::Member { subject: "u-1", issuer: None, scope: Some("admin") }).await;
        assert!(admin.allow, "an admin may not do {action}: {admin:?}");
        let off = decide(Asker::Nobody { auth_required: false }).await;
        assert!(off.allow && off.reach == Reach::Tenant, "{action} without authentication: {off:?}");
        let nobody = decide(Asker::Nobody { auth_required: true }).await;
        assert_eq!(nobody.allow, action == "public", "nobody does {action}: {nobody:?}");
    }
    assert!(public.is_some());
    Ok(())
}

/// What workers show.
const WORKERS: &str = "6f1c0a0e9b7d4c2f8e3a5b6d";

#[actix_web::test]
async fn every_operation_that_takes_a_body_takes_one_of_limited_size() {
    let api = described();
    let keys = AuthSettings { jwt_secret: Some(SECRET.into()), ..AuthSettings::default() };
    let keep = |_| async { Ok::<_, SettingsError>(Probe::new(1).1) };
    let Ok(verifier) = Verifier::start(&keys, keep).await else { unreachable!("the secret is good") };
    let claims = json!({"tenant": "acme", "sub": "ada", "scope": "admin", "exp": 4_102_444_800_u64});
    let bearer = format!("Bearer {}", Signer::secret(SECRET).sign(&claims));
    let settings = DoorSettings {
        require_auth: true,
        body_limit_bytes: 2_000,
        internal_token: Some(WORKERS.into()),
        ..DoorSettings::default()
    };
    let door = TestDoor::before(&settings, |door| Door { verifier: Some(verifier), ..door }).await;
    let mut seen = 0;
    for resource in TABLE {
        let uri = template(resource.pattern).replace("{topic}", "memory.wal.dlq").replace("{id}", "1");
        let uri = uri.replace("{session_id}", ID).replace("{event_id}", ID);
        for (method, ..) in resource.methods {
            let operation = &api["paths"][template(resource.pattern)][method.as_str().to_ascii_lowercase()];
            if operation["requestBody"].is_object() {
                let body = format!(r#"{{"more": "{}"}}"#, "x".repeat(2_000));
                let asked = with_body(method.clone(), &uri, &body).insert_header(("Authorization", &*bearer));
                let mut asked = asked.insert_header((INTERNAL_HEADER, WORKERS));
                // What a form may have depends on how many files it may have, and its head says how long it is.
                if operation["requestBody"]["content"]["multipart/form-data"].is_object() {
                    asked = asked.insert_header(("Content-Type", "multipart/form-data; boundary=x"));
                    asked = asked.insert_header(("Content-Length", "100000000000"));
                }
                // A piece of a file is no longer than any file.
                if operation["requestBody"]["content"][PIECE_TYPE].is_object() {
                    asked = asked.insert_header(("Content-Length", "100000000000"));
                }
                let answer = door.send(asked).await;
                assert_eq!(answer.problem(), (413, "body-too-large".to_owned()), "{method} {uri}: {}", answer.text);
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen}");
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
    declared.extend(EVERYWHERE.iter().chain(&[Code::MethodNotAllowed]).map(|code| code.as_str()));
    assert_eq!(declared, Code::ALL.iter().map(|code| code.as_str()).collect());
}

/// Requests that are wrong in one way each, for whatever operation they are sent to.
fn wrong(method: &Method, uri: &str) -> Vec<TestRequest> {
    let long = "t".repeat(201);
    let joined = |query: &str| format!("{uri}{}{query}", if uri.contains('?') { '&' } else { '?' });
    let plain = |uri: &str| with_body(method.clone(), uri, "{}");
    let mut requests = vec![
        plain(uri),
        plain(uri).set_payload("{"),
        plain(uri).set_payload("[]"),
        plain(uri).set_payload(" ".repeat(2 << 20)),
        plain(uri).insert_header(("Content-Type", "text/plain")),
        plain(&uri.replace(ID, "no-uuid")),
    ];
    for name in ["X-Tenant-Id", "X-Persona-Id", "X-Agent-Profile", "X-Universe-Id", "Idempotency-Key", "Last-Event-ID"]
    {
        requests.push(plain(uri).insert_header((name, long.as_str())));
        requests.push(plain(uri).insert_header((name, &b"\xc3\xa4"[..])));
        requests.push(plain(uri).insert_header((name, "")));
    }
    for value in ["wait=x", "wait=\"", ""] {
        requests.push(plain(uri).insert_header(("Prefer", value)));
    }
    for name in ["tenant", "limit", "after", "cursor", "q", "mode", "render", "group", "state"] {
        requests.push(plain(&joined(&format!("{name}={long}"))));
        requests.push(plain(&joined(&format!("{name}=%00"))));
        requests.push(plain(&joined(&format!("{name}=1&{name}=2"))));
    }
    requests
}

#[actix_web::test]
async fn every_operation_declares_whatever_it_answers() {
    let api = described();
    let door = TestDoor::new(&DoorSettings { health_timeout_ms: 20, ..DoorSettings::default() }).await;
    let mut undeclared = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for resource in TABLE {
        let uri = resource.pattern.replace("{session_id}", ID).replace("{path:.*}", "index.html");
        for (method, ..) in resource.methods {
            let operation = &api["paths"][template(resource.pattern)][method.as_str().to_ascii_lowercase()];
            for request in wrong(method, &uri) {
                let answer = door.send(request).await;
                let (status, code) = (answer.status.as_u16(), answer.json()["code"].as_str().map(str::to_owned));
                let codes = operation["x-problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let known = code.as_deref().is_none_or(|code| codes.into_iter().any(|known| known == code));
                if !known || !operation["responses"][status.to_string()].is_object() {
                    undeclared.insert(format!("{method} {}: {status} {code:?}", resource.pattern));
                }
                seen.extend(code);
            }
        }
    }
    assert!(undeclared.is_empty(), "{undeclared:#?}");
    for code in ["invalid-header", "invalid-query", "invalid-body", "session-not-found", "body-too-large"] {
        assert!(seen.contains(code), "no request was refused with {code}");
    }
}

#[actix_web::test]
async fn a_page_that_is_still_right_is_declared() {
    let (api, door) = (described(), TestDoor::new(&DoorSettings::default()).await);
    for (path, uri) in [("/", "/"), ("/docs", "/docs"), ("/s/{session_id}", &*format!("/s/{ID}"))] {
        let known = request(Method::GET, uri).insert_header(("If-None-Match", "*"));
        assert_eq!(door.send(known).await.status.as_u16(), 304, "{path}");
        assert!(api["paths"][path]["get"]["responses"]["304"].is_object(), "{path}");
    }
}

#[test]
fn an_operation_that_reads_the_tenant_says_so() {
    let api = described();
    for resource in TABLE {
        for (method, _, declared) in resource.methods {
            let operation = &api["paths"][template(resource.pattern)][method.as_str().to_ascii_lowercase()];
            let named: Vec<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["name"].as_str())
                .collect();
            // For a worker the header is no more than what it expects.
            let tenant =
                if resource.pattern.starts_with("/internal/") { &["tenant"][..] } else { &["X-Tenant-Id", "tenant"] };
            for name in tenant {
                assert_eq!(named.contains(name), declared().names_tenant, "{method} {}: {name}", resource.pattern);
            }
        }
    }
}

#[test]
fn no_operation_describes_a_parameter_twice() {
    let api = described();
    for (path, item) in api["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let mut seen = BTreeSet::new();
            for one in operation["parameters"].as_array().into_iter().flatten() {
                let place = (one["in"].as_str(), one["name"].as_str());
                assert!(seen.insert(place), "{method} {path} describes {place:?} twice");
            }
        }
    }
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
fn nobody_is_let_in_unproved_where_that_is_demanded() {
    let guarded = serde_json::to_value(describe("1", true)).unwrap_or_default();
    let proofs = json!([{"bearer": []}, {"api-key": []}, {"cookie": []}]);
    assert_eq!(guarded["paths"]["/v1/sessions"]["get"]["security"], proofs);
    assert!(guarded["paths"]["/healthz"]["get"]["security"].is_null());
    assert_eq!(described()["paths"]["/v1/sessions"]["get"]["security"][0], json!({}));
}

#[test]
fn parameters_say_what_is_read_of_them() {
    let api = described();
    let parameter = |path: &str, name: &str| {
        let all = api["paths"][path]["get"]["parameters"].as_array();
        all.into_iter().flatten().find(|one| one["name"] == name).cloned().unwrap_or_default()
    };
    let title = parameter("/v1/sessions", "q");
    assert_eq!((&title["allowEmptyValue"], &title["schema"]["pattern"]), (&json!(true), &json!(r"^[^\u0000]*$")));
    let page = parameter("/login", "problem");
    assert!(page["schema"].is_object() && page["schema"]["pattern"].is_null(), "nobody looks at it: {page}");
    let position = parameter("/v1/session/{session_id}/events", "Last-Event-ID");
    assert_eq!(position["schema"]["type"], "string", "a header cannot be null");
}

#[test]
fn streams_describe_their_items() {
    let api = described();
    for path in ["/v1/session/{session_id}/events", "/gateway_stream"] {
        let content = &api["paths"][path]["get"]["responses"]["200"]["content"]["text/event-stream"];
        assert_eq!(content["itemSchema"]["$ref"], "#/components/schemas/StreamBlock", "{path}");
    }
    let data = &api["components"]["schemas"]["StreamBlock"]["properties"]["data"];
    assert_eq!(data["contentMediaType"], "application/json");
    assert_eq!(data["contentSchema"]["$ref"], "#/components/schemas/StreamedEvent");
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
