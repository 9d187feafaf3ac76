//! Settings that operators save: in force at once in every process, for operators only, versioned, and never by halves.

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Answer, Client};
use somaagent_test_services::port;
use somaagent_test_services::process::Running;
use somaagent_test_services::tokens::SECRET;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;

use crate::identity::token;
use crate::stack::{Setup, Stack};

const SECTIONS: &str = "/v1/ui/settings/sections";
const VERSIONS: &str = "/v1/ui/settings/versions";

/// A body that saves one field.
fn one(section: &str, field: &str, value: impl Into<Value>) -> Value {
    json!({"sections": [{"id": section, "fields": [{"id": field, "value": value.into()}]}]})
}

fn max_files(number: u32) -> Value {
    one("uploads", "uploads_max_files", number)
}

async fn save(client: &Client, body: &Value) -> Answer {
    let saved = client.post(SECTIONS, body).await.unwrap();
    assert_eq!(saved.status, 200, "{}", saved.text);
    saved
}

async fn save_over(client: &Client, version: &str, path: &str, body: &Value) -> Answer {
    let request = client.request(Method::POST, path).header("If-Match", version).json(body);
    client.send(request).await.unwrap()
}

/// The value of a field.
fn value(settings: &Value, field: &str) -> Value {
    let sections = settings["settings"]["sections"].as_array().unwrap().iter();
    let mut fields = sections.flat_map(|section| section["fields"].as_array().unwrap());
    fields.find(|known| known["id"] == field).unwrap()["value"].clone()
}

fn problem(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

/// Waits until a metric has this value.
async fn counted(metrics: &Client, name: &str, value: &str) {
    let line = format!("{name} {value}");
    eventually(&line, async || {
        metrics.get("/metrics").await.ok()?.text.lines().any(|known| known == line).then_some(())
    })
    .await;
}

/// Everything that was saved, and who did what.
async fn kept(pool: &PgPool) -> String {
    let sql = "SELECT concat((SELECT string_agg(s::text, ',') FROM ui_settings AS s),
                      (SELECT string_agg(v::text, ',' ORDER BY number) FROM ui_settings_versions AS v),
                      (SELECT count(*) FROM audit_event))";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Another process on the same database, and its metrics.
async fn another(stack: &Stack) -> (Running, Client, Client) {
    let port = port::free();
    let binary = stack.app.binary().elsewhere().unwrap().set("GATEWAY_METRICS_PORT", &port.to_string());
    let app = binary.fixed_port().start().await.unwrap();
    let client = Client::new(app.url()).unwrap();
    (app, client, Client::new(&format!("http://127.0.0.1:{port}")).unwrap())
}

#[tokio::test]
async fn what_is_saved_in_one_process_is_in_force_in_every_other_one() {
    let stack = Stack::start().await;
    let (_second, other, metrics) = another(&stack).await;
    counted(&metrics, "settings_version_in_force", "0").await;
    let first = stack.client.get(SECTIONS).await.unwrap();
    assert_eq!((first.status, first.header("etag"), first.header("cache-control")), (200, "\"0\"", "no-store"));
    assert_eq!(first.json()["in_force"], json!({"version": 0, "fault": null}));

    let body = json!({"sections": [
        {"id": "uploads", "fields": [
            {"id": "uploads_max_mb", "value": 50},
            {"id": "uploads_denied_mime", "value": "Text/HTML, image/svg+xml\n"},
        ]},
        {"id": "antivirus", "fields": [{"id": "av_host", "value": "clamd.example"}]},
    ]});
    let saved = save(&stack.client, &body).await;
    assert_eq!(saved.header("etag"), "\"1\"");
    let saved = saved.json();
    assert_eq!((value(&saved, "uploads_max_mb"), value(&saved, "av_host")), (json!(50), json!("clamd.example")));
    assert_eq!(value(&saved, "uploads_denied_mime"), "text/html\nimage/svg+xml");
    assert_eq!(value(&saved, "uploads_max_files"), value(&first.json(), "uploads_max_files"));
    assert_eq!(saved["in_force"], json!({"version": 1, "fault": null}));

    // It learns of that by itself.
    counted(&metrics, "settings_version_in_force", "1").await;
    assert_eq!(other.get(SECTIONS).await.unwrap().json(), saved);

    // All of it comes back as a page would send it, and changes nothing.
    let again = save(&other, &saved["settings"]).await;
    assert_eq!(again.json(), saved);
    // One field is as configured again; the rest stays.
    let back = save(&other, &one("uploads", "uploads_max_mb", "")).await.json();
    assert_eq!(value(&back, "uploads_max_mb"), value(&first.json(), "uploads_max_mb"));
    assert_eq!((value(&back, "av_host"), &back["version"]), (json!("clamd.example"), &json!(2)));
    assert_eq!(stack.client.get(SECTIONS).await.unwrap().json(), back);
}

#[tokio::test]
async fn of_two_who_have_read_the_same_version_one_saves() {
    let stack = Stack::start().await;
    let (_second, other, _) = another(&stack).await;
    let pool = stack.database.pool().await.unwrap();
    let saved = save_over(&stack.client, "\"0\"", SECTIONS, &max_files(3)).await;
    assert_eq!((saved.status, saved.header("etag")), (200, "\"1\""), "{}", saved.text);
    let before = kept(&pool).await;
    for stale in ["\"0\"", "\"2\"", "\"x\"", "W/\"1\"", "\"0\", \"2\""] {
        let restore = format!("{VERSIONS}/0/restore");
        for (path, body) in [(SECTIONS, max_files(4)), (restore.as_str(), json!({}))] {
            let refused = save_over(&other, stale, path, &body).await;
            assert_eq!(problem(&refused), (412, "settings-moved".to_owned()), "{stale}: {}", refused.text);
            assert_eq!(refused.json()["version"], 1);
        }
    }
    let refused = save_over(&other, "1", SECTIONS, &max_files(4)).await;
    assert_eq!(problem(&refused), (422, "invalid-header".to_owned()), "{}", refused.text);
    assert_eq!(kept(&pool).await, before);
    for (number, fresh) in ["\"1\"", "\"9\", \"2\"", "*"].into_iter().enumerate() {
        let saved = save_over(&other, fresh, SECTIONS, &max_files(50 + u32::try_from(number).unwrap())).await;
        assert_eq!(saved.status, 200, "{fresh}: {}", saved.text);
    }
}

#[tokio::test]
async fn only_operators_save_and_only_admins_read() {
    let setup = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_OPERATOR_TENANTS", "umbrella, acme");
    let stack = setup.start().await;
    let showing = |tenant: &str, scope: &str| stack.client.showing(&token(tenant, "ada", scope)).unwrap();
    let (operator, member) = (showing("acme", "admin"), showing("acme", "chat"));
    let stranger = showing("initech", "admin");
    save(&operator, &max_files(3)).await;
    let pool = stack.database.pool().await.unwrap();
    let before = kept(&pool).await;
    let restore = format!("{VERSIONS}/0/restore");
    for path in [SECTIONS, &restore] {
        for (client, status, code) in [
            (&stack.client, 401, "authorization-missing"),
            (&member, 403, "admin-scope-required"),
            (&stranger, 403, "operator-required"),
        ] {
            let refused = client.post(path, &max_files(4)).await.unwrap();
            assert_eq!(problem(&refused), (status, code.to_owned()), "{path}: {}", refused.text);
        }
    }
    let refused = stranger.post(SECTIONS, &max_files(4)).await.unwrap();
    assert!(refused.text_of("detail").contains("GATEWAY_OPERATOR_TENANTS"), "{}", refused.text);
    assert_eq!(kept(&pool).await, before);
    for path in [SECTIONS, VERSIONS, "/v1/ui/settings/diff?from=0&to=1"] {
        assert_eq!(stack.client.get(path).await.unwrap().status, 401, "{path}");
        assert_eq!(member.get(path).await.unwrap().status, 403, "{path}");
        assert_eq!(stranger.get(path).await.unwrap().status, 200, "{path}");
    }
    // Who somebody of another tenant is, only operators are told.
    let who = async |client: &Client| client.get(VERSIONS).await.unwrap().json()["items"][0]["subject"].clone();
    assert_eq!((who(&operator).await, who(&showing("umbrella", "admin")).await), (json!("ada"), json!("ada")));
    assert_eq!(who(&stranger).await, Value::Null);
}

#[tokio::test]
async fn without_operators_nobody_saves() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).start().await;
    let admin = stack.client.showing(&token("acme", "ada", "admin")).unwrap();
    let refused = admin.post(SECTIONS, &max_files(4)).await.unwrap();
    assert_eq!(problem(&refused), (403, "operator-required".to_owned()), "{}", refused.text);
    assert_eq!(admin.get(SECTIONS).await.unwrap().json()["version"], 0);
}

#[tokio::test]
async fn versions_are_listed_compared_and_restored() {
    let stack = Stack::start().await;
    let client = &stack.client;
    save(client, &max_files(3)).await;
    save(client, &one("antivirus", "av_enabled", true)).await;
    save(client, &max_files(5)).await;
    let page = stack.get(&format!("{VERSIONS}?limit=2")).await;
    let numbers = |page: &Value| -> Vec<i64> {
        page["items"].as_array().unwrap().iter().map(|item| item["number"].as_i64().unwrap()).collect()
    };
    assert_eq!((numbers(&page), &page["next_cursor"]), (vec![3, 2], &json!(2)));
    assert_eq!(page["items"][1]["changed"], json!(["antivirus.av_enabled"]));
    let rest = stack.get(&format!("{VERSIONS}?limit=2&after=2")).await;
    assert_eq!((numbers(&rest), &rest["next_cursor"]), (vec![1], &Value::Null));

    let diff = stack.get("/v1/ui/settings/diff?from=0&to=3").await;
    let expected = json!([
        {"section": "antivirus", "field": "av_enabled", "before": null, "after": true},
        {"section": "uploads", "field": "uploads_max_files", "before": null, "after": 5},
    ]);
    assert_eq!(diff["changes"], expected);
    let restored = client.post(&format!("{VERSIONS}/1/restore"), &json!({})).await.unwrap();
    assert_eq!((restored.status, restored.header("etag")), (200, "\"4\""), "{}", restored.text);
    let restored = restored.json();
    assert_eq!((value(&restored, "uploads_max_files"), value(&restored, "av_enabled")), (json!(3), json!(false)));
    assert_eq!(stack.get("/v1/ui/settings/diff?from=1&to=4").await["changes"], json!([]));
    assert_eq!(stack.get(VERSIONS).await["items"][0]["restored"], 1);

    for path in ["5/restore", "-1/restore", "x/restore", "99999999999999999999/restore"] {
        let refused = client.post(&format!("{VERSIONS}/{path}"), &json!({})).await.unwrap();
        assert_eq!(problem(&refused), (404, "settings-version-not-found".to_owned()), "{path}: {}", refused.text);
    }
    for (query, status, code) in [
        ("from=0&to=5", 404, "settings-version-not-found"),
        ("from=0", 422, "invalid-query"),
        ("from=x&to=1", 422, "invalid-query"),
        ("from=0&to=-1", 422, "invalid-query"),
        ("from=0&from=1&to=1", 422, "invalid-query"),
    ] {
        let refused = client.get(&format!("/v1/ui/settings/diff?{query}")).await.unwrap();
        assert_eq!(problem(&refused), (status, code.to_owned()), "{query}: {}", refused.text);
    }
}

#[tokio::test]
async fn without_its_database_nothing_is_saved_and_what_was_in_force_goes_on() {
    let port = port::free();
    let stack = Setup::default().set("GATEWAY_METRICS_PORT", port).start().await;
    save(&stack.client, &max_files(3)).await;
    stack.proxy.refuse(true);
    stack.proxy.cut();
    for (method, path) in [
        (Method::GET, SECTIONS.to_owned()),
        (Method::POST, SECTIONS.to_owned()),
        (Method::GET, VERSIONS.to_owned()),
        (Method::GET, "/v1/ui/settings/diff?from=0&to=1".to_owned()),
        (Method::POST, format!("{VERSIONS}/0/restore")),
    ] {
        // A connection that was cut while it was idle is noticed once.
        eventually(&format!("{method} {path} to be refused for now"), async || {
            let mut request = stack.client.request(method.clone(), &path);
            if method == Method::POST {
                request = request.json(&max_files(4));
            }
            let answer = stack.client.send(request).await.unwrap();
            assert!([503, 504].contains(&answer.status), "{method} {path}: {}", answer.text);
            (problem(&answer) == (503, "unavailable".to_owned()) && !answer.header("retry-after").is_empty())
                .then_some(())
        })
        .await;
    }
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    counted(&metrics, "settings_version_in_force", "1").await;
    stack.proxy.refuse(false);
    let settings = eventually("the settings", async || {
        let answer = stack.client.get(SECTIONS).await.unwrap();
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!((value(&settings, "uploads_max_files"), &settings["version"]), (json!(3), &json!(1)));
}

#[tokio::test]
async fn a_document_that_cannot_be_read_changes_nothing_and_closes_uploads_at_a_start() {
    let port = port::free();
    let mut stack = Setup::default().set("GATEWAY_METRICS_PORT", port).start().await;
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    save(&stack.client, &max_files(3)).await;
    let pool = stack.database.pool().await.unwrap();
    let newer =
        r#"UPDATE ui_settings SET value = '{"uploads": {"uploads_max_files": 4, "uploads_newer": true}}', version = 2"#;
    sqlx::query(newer).execute(&pool).await.unwrap();
    counted(&metrics, "settings_readable", "0").await;
    let health = stack.get("/v1/health").await;
    assert_eq!(health["components"]["settings"]["status"], "degraded", "{health}");
    let shown = stack.get(SECTIONS).await;
    assert_eq!((value(&shown, "uploads_max_files"), value(&shown, "uploads_enabled")), (json!(3), json!(true)));
    assert_eq!((&shown["version"], &shown["in_force"]["version"]), (&json!(2), &json!(1)));
    assert!(shown["in_force"]["fault"].as_str().unwrap().contains("uploads.uploads_newer is not known"), "{shown}");
    let refused = stack.client.post(SECTIONS, &max_files(5)).await.unwrap();
    assert_eq!(problem(&refused), (409, "settings-unreadable".to_owned()), "{}", refused.text);

    stack.app.kill().await.unwrap();
    stack.restart().await;
    counted(&metrics, "settings_version_in_force", "-1").await;
    let shown = stack.get(SECTIONS).await;
    assert_eq!((value(&shown, "uploads_enabled"), &shown["in_force"]["version"]), (json!(false), &Value::Null));
    let health = stack.get("/v1/health").await["components"]["settings"].clone();
    assert!(health["detail"].as_str().unwrap().contains("no uploads are taken"), "{health}");

    let mended = stack.client.post(&format!("{VERSIONS}/1/restore"), &json!({})).await.unwrap();
    assert_eq!(mended.status, 200, "{}", mended.text);
    assert_eq!(
        (value(&mended.json(), "uploads_enabled"), value(&mended.json(), "uploads_max_files")),
        (json!(true), json!(3))
    );
    counted(&metrics, "settings_readable", "1").await;
    assert_eq!(stack.get("/v1/health").await["components"]["settings"], json!({"status": "ok"}));
}

/// Values that no field of the kind takes.
fn bad_values() -> Vec<(&'static str, &'static str, Value)> {
    let uploads = |field, value| ("uploads", field, value);
    let antivirus = |field, value| ("antivirus", field, value);
    vec![
        uploads("uploads_enabled", json!("true")),
        uploads("uploads_enabled", json!(1)),
        uploads("uploads_enabled", json!([])),
        uploads("uploads_max_mb", json!(0)),
        uploads("uploads_max_mb", json!(-1)),
        uploads("uploads_max_mb", json!(16_385)),
        uploads("uploads_max_mb", json!(1.5)),
        uploads("uploads_max_mb", json!("25")),
        uploads("uploads_max_mb", json!(true)),
        uploads("uploads_max_mb", json!({"mb": 1})),
        uploads("uploads_max_files", json!(0)),
        uploads("uploads_max_files", json!(101)),
        uploads("uploads_ttl_days", json!(0)),
        uploads("uploads_ttl_days", json!(u64::MAX)),
        uploads("uploads_janitor_interval_seconds", json!(9)),
        uploads("uploads_janitor_interval_seconds", json!(86_401)),
        uploads("uploads_inline_max_mb", json!(0)),
        uploads("uploads_quota_tenant_mb", json!(-1)),
        uploads("uploads_quota_session_mb", json!("5")),
        uploads("uploads_download_token_ttl_seconds", json!(-1)),
        uploads("uploads_download_token_ttl_seconds", json!(31_536_001)),
        uploads("uploads_allowed_mime", json!("png")),
        uploads("uploads_allowed_mime", json!("image/*")),
        uploads("uploads_allowed_mime", json!("image/png; q=1")),
        uploads("uploads_allowed_mime", json!("image/png\n../etc/passwd")),
        uploads("uploads_allowed_mime", json!("image/p\u{7}ng")),
        uploads("uploads_allowed_mime", json!(["image/png"])),
        uploads("uploads_denied_mime", json!("a/b,".repeat(201))),
        uploads("uploads_denied_mime", json!(format!("image/{}", "x".repeat(128)))),
        uploads("uploads_external_ref_allowlist", json!("https://example.com/")),
        uploads("uploads_external_ref_allowlist", json!("example.com:80")),
        uploads("uploads_external_ref_allowlist", json!("exämple.com")),
        uploads("uploads_allow_external_ref", json!("on")),
        uploads("uploads_dedup_sha256", json!(0)),
        uploads("uploads_quarantine_policy", json!("burn")),
        uploads("uploads_quarantine_policy", json!("STORE_AND_BLOCK")),
        uploads("uploads_quarantine_policy", json!(1)),
        uploads("uploads_dir", json!("/tmp")),
        uploads("uploads_storage_backend", json!("disk")),
        antivirus("av_enabled", json!("yes")),
        antivirus("av_strict", json!(2)),
        antivirus("av_host", json!("clam av")),
        antivirus("av_host", json!("clamav:3310")),
        antivirus("av_host", json!("clam\u{202e}av")),
        antivirus("av_host", json!("a".repeat(300))),
        antivirus("av_host", json!(7)),
        antivirus("av_port", json!(0)),
        antivirus("av_port", json!(65_536)),
        antivirus("av_port", json!("3310")),
        antivirus("av_test", json!("now")),
    ]
}

/// Bodies that are wrong as a whole.
fn bad_bodies() -> Vec<(Vec<u8>, u16, &'static str)> {
    let invalid = |body: Value| (body.to_string().into_bytes(), 422, "invalid-body");
    vec![
        (b"".to_vec(), 400, "bad-json"),
        (b"{".to_vec(), 400, "bad-json"),
        (b"{\"sections\":[]}x".to_vec(), 400, "bad-json"),
        (b"{\"sections\":\"\xff\"}".to_vec(), 400, "bad-json"),
        (b"{\"sections\":[],\"sections\":[]}".to_vec(), 422, "invalid-body"),
        ([b"{\"sections\":".to_vec(), b"[".repeat(100_000)].concat(), 400, "bad-json"),
        (vec![b' '; 1_100_000], 413, "body-too-large"),
        invalid(json!([])),
        invalid(json!(null)),
        invalid(json!({})),
        invalid(json!({"sections": {}})),
        invalid(json!({"sections": [7]})),
        invalid(json!({"sections": [{"id": "uploads"}]})),
        invalid(json!({"sections": [{"fields": []}]})),
        invalid(json!({"sections": [{"id": "uploads", "fields": {}}]})),
        invalid(json!({"sections": [{"id": "uploads", "fields": [{"id": "uploads_enabled"}]}]})),
        invalid(json!({"sections": [{"id": "uploads", "fields": [{"value": true}]}]})),
        invalid(json!({"sections": [{"id": "uploads", "fields": [{"id": 7, "value": true}]}]})),
        invalid(json!({"sections": [{"id": "uploads", "fields": []}, {"id": "uploads", "fields": []}]})),
        invalid(json!({"sections": [{"id": "Uploads", "fields": []}]})),
        invalid(json!({"sections": [{"id": "", "fields": []}]})),
        invalid(one("uploads", "__proto__", 1)),
        invalid(one("uploads", "av_port", 1)),
        invalid(one("uploads", "", 1)),
        invalid(one("antivirus", "av_host", "a\0b")),
    ]
}

#[tokio::test]
async fn rubbish_is_refused_exactly_and_changes_nothing() {
    let stack = Stack::start().await;
    save(&stack.client, &max_files(3)).await;
    let pool = stack.database.pool().await.unwrap();
    let before = kept(&pool).await;
    let mut bodies = bad_bodies();
    // Beside each wrong field there is a good one.
    bodies.extend(bad_values().into_iter().map(|(section, field, value)| {
        let good = json!({"id": "uploads", "fields": [{"id": "uploads_max_files", "value": 9}]});
        let mut body = one(section, field, value);
        if section == "uploads" && field != "uploads_max_files" {
            let fields = body["sections"][0]["fields"].as_array_mut().unwrap();
            fields.push(good["fields"][0].clone());
        } else if section != "uploads" {
            body["sections"].as_array_mut().unwrap().push(good);
        }
        (body.to_string().into_bytes(), 422, "invalid-body")
    }));
    assert!(bodies.len() >= 60, "only {}", bodies.len());
    for (body, status, code) in bodies {
        let shown: String = String::from_utf8_lossy(&body).chars().take(120).collect();
        let request =
            stack.client.request(Method::POST, SECTIONS).header("Content-Type", "application/json").body(body);
        let refused = stack.client.send(request).await.unwrap();
        assert_eq!(problem(&refused), (status, code.to_owned()), "{shown}: {}", refused.text);
        assert_eq!(refused.header("content-type"), "application/problem+json", "{shown}");
    }
    // One answer names everything that is wrong.
    let body = json!({"sections": [
        {"id": "uploads", "fields": [{"id": "uploads_max_mb", "value": 0}, {"id": "nothing", "value": 1}]},
        {"id": "voices", "fields": []},
    ]});
    let refused = stack.client.post(SECTIONS, &body).await.unwrap().json();
    let places: Vec<&Value> = refused["errors"].as_array().unwrap().iter().map(|error| &error["loc"]).collect();
    let expected = [
        json!(["body", "sections", 0, "fields", 0, "value"]),
        json!(["body", "sections", 0, "fields", 1, "id"]),
        json!(["body", "sections", 1, "id"]),
    ];
    assert_eq!(places, expected.iter().collect::<Vec<_>>(), "{refused}");
    assert_eq!(kept(&pool).await, before);
    assert_eq!(value(&stack.get(SECTIONS).await, "uploads_max_files"), 3);
}
