//! Starting, refusing to start, and ending.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::model::{Gate, Script};
use somaagent_test_services::port;
use somaagent_test_services::postgres::Postgres;
use somaagent_test_services::process::{Binary, ProcessSignal};
use somaagent_test_services::proxy::Proxy;
use somaagent_test_services::wait::eventually;

use crate::stack::{Setup, Stack, binary, new_session};

/// The exit code for a configuration that cannot work here.
const CONFIG: i32 = 78;

/// Whether an exit code is one that the process chose: neither success nor a panic.
fn told(code: i32) -> bool {
    code != 0 && code != 101
}

/// A binary with a database of its own, which it may never reach.
async fn with_database() -> Binary {
    let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
    binary().set("SA01_DB_DSN", &database.dsn())
}

#[tokio::test]
async fn it_tells_what_it_is_and_how_to_use_it() {
    let help = binary().argument("--help").run().await.unwrap();
    assert_eq!(help.code, Some(0));
    assert!(help.output.contains("--check-config") && help.output.contains("--version"), "{}", help.output);
    let version = binary().argument("--version").run().await.unwrap();
    assert_eq!(version.code, Some(0));
    assert!(version.output.contains(env!("CARGO_PKG_VERSION")), "{}", version.output);
    let unknown = binary().argument("--no-such-thing").run().await.unwrap();
    assert!(unknown.code.is_some_and(|code| code != 0), "an unknown argument was ignored");
}

#[tokio::test]
async fn a_configuration_without_faults_is_said_to_be_good() {
    let checked = binary().argument("--check-config").run().await.unwrap();
    assert_eq!(checked.code, Some(0), "{}", checked.output);
    // Checking starts nothing and leaves nothing behind.
    let binary = binary().argument("--check-config");
    binary.run().await.unwrap();
    assert!(!binary.data().exists(), "a check made the data folder");
}

#[tokio::test]
async fn all_faults_of_a_configuration_are_told_at_once() {
    let faulty = binary()
        .set("GATEWAY_PORT", "eighty")
        .set("SA01_DB_DSN", "localhost")
        .set("SA01_TURNS__MAX_ATTEMPTS", "often")
        .set("SA01_TURNS__NO_SUCH_KEY", "1")
        .set("SA01_LLM_BASE_URL", "not a url")
        .set("SOMA_BASE_URL", "neither")
        .set("LOG_LEVEL", "loud=very");
    for arguments in [&["--check-config"][..], &[]] {
        let faulty = arguments.iter().fold(faulty.clone(), |binary, argument| binary.argument(argument));
        let ended = faulty.run().await.unwrap();
        assert_eq!(ended.code, Some(CONFIG), "{}", ended.output);
        for name in [
            "GATEWAY_PORT",
            "SA01_DB_DSN",
            "max_attempts",
            "no_such_key",
            "SA01_LLM_BASE_URL",
            "SOMA_BASE_URL",
            "LOG_LEVEL",
        ] {
            let told = ended.output.to_lowercase().contains(&name.to_lowercase());
            assert!(told, "{name} is missing in: {}", ended.output);
        }
    }
}

#[tokio::test]
async fn a_time_that_the_clock_of_connections_cannot_measure_is_refused() {
    for name in ["HEADER_TIMEOUT_MS", "KEEP_ALIVE_MS", "DISCONNECT_TIMEOUT_MS"] {
        let name = &format!("SA01_HTTP__{name}");
        let ended = binary().set(name, "999").run().await.unwrap();
        assert_eq!(ended.code, Some(CONFIG), "{}", ended.output);
        assert!(ended.output.contains(name) && ended.output.contains("999 is not between 1000"), "{}", ended.output);
        let good = binary().set(name, "1000").argument("--check-config").run().await.unwrap();
        assert_eq!(good.code, Some(0), "{}", good.output);
    }
}

#[tokio::test]
async fn listening_beyond_this_machine_without_authentication_is_refused() {
    for host in ["0.0.0.0", "::", "192.0.2.1"] {
        let ended = binary().set("GATEWAY_HOST", host).run().await.unwrap();
        assert_eq!(ended.code, Some(CONFIG), "{host}: {}", ended.output);
        assert!(ended.output.contains("GATEWAY_HOST"), "the reason is missing: {}", ended.output);
        assert!(ended.output.contains(host), "the address is missing: {}", ended.output);
    }
}

#[tokio::test]
async fn production_refuses_every_embedded_part_by_name() {
    let ended = binary().set("SA01_ENV", "PROD").run().await.unwrap();
    assert_eq!(ended.code, Some(CONFIG), "{}", ended.output);
    for name in ["SA01_DB_DSN", "SOMA_BASE_URL", "SA01_LLM_BASE_URL"] {
        assert!(ended.output.contains(name), "{name} is missing in: {}", ended.output);
    }
}

#[tokio::test]
async fn a_secret_is_never_written() {
    let canary = "canary-3f9d1c";
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), format!("{canary}\n")).unwrap();
    let model = somaagent_test_services::model::Model::start().await.unwrap();
    let app = with_database()
        .await
        .set("LOG_LEVEL", "DEBUG")
        .set("SA01_LLM_BASE_URL", &model.base_url())
        .set("SA01_LLM_MODEL", "scripted")
        .set("SA01_LLM_API_KEY_FILE", &key.path().to_string_lossy())
        .start()
        .await
        .unwrap();
    let client = Client::new(app.url()).unwrap();
    let session = new_session();
    client.message(&Post::new("hi").to(&session)).await.unwrap();
    let exchange = model.exchange(0).await;
    assert_eq!(exchange.headers["authorization"], format!("Bearer {canary}"));
    crate::stack::ended_turns(&client, &session, 1).await;
    for path in ["/v1/runtime-config", "/ui/config.json", "/healthz"] {
        assert!(!client.get(path).await.unwrap().text.contains(canary), "{path} tells the key");
    }
    assert!(!app.output().contains(canary), "the log tells the key");
}

#[tokio::test]
async fn what_has_no_effect_and_what_is_open_to_others_is_said_at_the_start() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "canary-6f1c0a0e9b7d4c2f").unwrap();
    std::fs::set_permissions(key.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let app = with_database()
        .await
        .set("GATEWAY_ENC_KEY", "canary-2b7e151628aed2a6")
        .set("GATEWAY_JWT_SECERT", "canary-abf7158809cf4f3c")
        .set("GATEWAY_INTERNAL_TOKEN_FILE", &key.path().to_string_lossy())
        .start()
        .await
        .unwrap();
    let output = app.output();
    let says = |words: &[&str]| output.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(says(&["INFO", "GATEWAY_ENC_KEY", "is no setting, and has no effect"]), "{output}");
    assert!(says(&["WARN", "GATEWAY_JWT_SECERT", "GATEWAY_JWT_SECRET\""]), "{output}");
    assert!(says(&["WARN", "GATEWAY_INTERNAL_TOKEN_FILE", "everybody on this machine may read it"]), "{output}");
    assert!(!output.contains("canary"), "{output}");
}

#[tokio::test]
async fn a_process_with_a_database_writes_no_file() {
    let mut stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let handles = std::fs::read_dir(format!("/proc/{}/fd", stack.app.id())).unwrap();
    let open = handles.filter_map(|handle| std::fs::read_link(handle.unwrap().path()).ok());
    let files: Vec<_> = open.filter(|file| file.is_absolute() && !file.starts_with("/dev")).collect();
    assert!(files.is_empty(), "{files:?}");
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    let left: Vec<_> = std::fs::read_dir(stack.app.binary().home()).unwrap().map(Result::unwrap).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_taken_port_is_told_and_named() {
    let first = with_database().await.start().await.unwrap();
    let port = first.port().to_string();
    for variable in ["GATEWAY_PORT", "GATEWAY_METRICS_PORT"] {
        let ended = with_database().await.set(variable, &port).run().await.unwrap();
        assert!(ended.code.is_some_and(told), "{:?}: {}", ended.code, ended.output);
        assert!(ended.output.contains(&port), "the port is not named: {}", ended.output);
        assert!(ended.output.contains(&format!("set {variable}")), "{}", ended.output);
        // Before anything is made.
        assert!(ended.output.contains("step `ports`"), "another step is blamed: {}", ended.output);
        assert!(!ended.output.contains("panicked"), "{}", ended.output);
    }
    assert_eq!(Client::new(first.url()).unwrap().get("/healthz").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_second_process_on_the_same_data_is_refused() {
    let first = binary().start().await.unwrap();
    let second = first.binary().clone().run().await.unwrap();
    assert!(second.code.is_some_and(told), "{:?}: {}", second.code, second.output);
    let folder = first.binary().data().to_string_lossy().into_owned();
    assert!(second.output.contains(&folder), "the folder is not named: {}", second.output);
    assert!(!second.output.contains("panicked"), "{}", second.output);
    let client = Client::new(first.url()).unwrap();
    let session = new_session();
    assert_eq!(client.message(&Post::new("hi").to(&session)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    let closed = port::free();
    let dsn = format!("postgres://me:canary@127.0.0.1:{closed}/nowhere");
    let ended = binary().set("SA01_DB_DSN", &dsn).set("SA01_BOOT__STEP_MS", "5000").run().await.unwrap();
    assert!(ended.code.is_some_and(told), "{:?}: {}", ended.code, ended.output);
    assert!(!ended.output.contains("canary"), "the password is told: {}", ended.output);
    assert!(ended.output.to_lowercase().contains("database"), "{}", ended.output);
    assert!(ended.output.contains("Connection refused"), "the cause is not told: {}", ended.output);
}

#[tokio::test]
async fn a_database_that_goes_away_in_the_middle_of_the_migrations_is_waited_for() {
    let postgres = Postgres::shared().unwrap();
    let database = postgres.fresh_database().await.unwrap();
    let proxy = Proxy::postgres(postgres.address().unwrap()).await.unwrap();
    let mut cuts = [proxy.cut_before_commit("_sqlx_migrations"), proxy.cut_after_commit("_sqlx_migrations")];
    let app = binary().set("SA01_DB_DSN", &database.dsn_through(proxy.port())).start().await.unwrap();
    for cut in &mut cuts {
        cut.wait().await;
    }
    assert_eq!(Client::new(app.url()).unwrap().get("/readyz").await.unwrap().status, 200);
}

/// Who waits for the lock under which the wall between tenants is raised.
const RAISES: &str = "SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND NOT granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[tokio::test]
async fn a_database_that_goes_away_while_the_wall_between_tenants_is_raised_is_waited_for() {
    let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
    let app = binary().set("SA01_DB_DSN", &database.dsn());
    // The tables and the wall's function are there from a start before.
    assert_eq!(app.start().await.unwrap().terminate().await.unwrap(), Some(0));
    let pool = database.pool().await.unwrap();
    let mut wall = pool.begin().await.unwrap();
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('raise_tenant_wall', 0))";
    sqlx::raw_sql(lock).execute(&mut *wall).await.unwrap();

    let started = tokio::spawn(async move { app.start().await });
    let first: i32 = raising(&pool, None).await;
    sqlx::query("SELECT pg_terminate_backend($1)").bind(first).execute(&pool).await.unwrap();
    raising(&pool, Some(first)).await;
    wall.rollback().await.unwrap();
    let app = started.await.unwrap().unwrap();
    assert_eq!(Client::new(app.url()).unwrap().get("/readyz").await.unwrap().status, 200);
}

/// Waits until a connection other than this one is about to raise the wall, and says which.
async fn raising(pool: &sqlx::PgPool, other_than: Option<i32>) -> i32 {
    eventually("the wall is being raised", async || {
        let waiting: Option<i32> = sqlx::query_scalar(RAISES).fetch_optional(pool).await.ok()?;
        waiting.filter(|pid| Some(*pid) != other_than)
    })
    .await
}

#[tokio::test]
async fn metrics_have_a_port_of_their_own() {
    let port = port::free();
    let app = with_database().await.set("GATEWAY_METRICS_PORT", &port.to_string()).start().await.unwrap();
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let page = metrics.get("/metrics").await.unwrap();
    assert_eq!(page.status, 200);
    for name in ["actor_mailbox_capacity", "sessions_live", "sse_subscribers", "journal_batch_size"] {
        assert!(page.text.contains(&format!("# HELP {name}")), "{name} is missing");
    }
    let client = Client::new(app.url()).unwrap();
    assert_eq!(client.get("/metrics").await.unwrap().status, 404);
    assert_ne!(metrics.get("/v1/sessions").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_running_process_describes_itself() {
    let stack = Stack::start().await;
    for path in ["/healthz", "/v1/health", "/health"] {
        let health = stack.get(path).await;
        assert_eq!(health["status"], "ok", "{path}: {health:#}");
        assert_eq!(health["components"]["postgres"]["status"], "ok", "{path}: {health:#}");
        let log = json!({"status": "ok", "detail": "not configured: the log is inside the database"});
        assert_eq!(health["components"]["kafka"], log, "{path}: {health:#}");
        assert!(!health.to_string().contains("redis"), "{path}: {health:#}");
    }
    let config = stack.get("/ui/config.json").await;
    assert_eq!((&config["responder"], &config["model"]), (&json!("model"), &json!("scripted")), "{config:#}");
    assert_eq!(config["api_base"], "/v1");
    let runtime = stack.get("/v1/runtime-config").await;
    assert_eq!(runtime["auth"]["require_auth"], false, "{runtime:#}");
    let openapi = stack.get("/openapi.json").await;
    assert!(openapi["paths"]["/v1/session/message"]["post"]["x-action"].is_string());
    let tree = stack.get("/v1/admin/actors").await.to_string();
    for actor in ["journal", "session-keeper", "brain-client"] {
        assert!(tree.contains(actor), "{actor} is missing in {tree}");
    }
}

#[tokio::test]
async fn a_term_signal_ends_an_idle_process_with_zero() {
    let mut stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let mut stream = stack.client.events(&session).open().await.unwrap();
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    // Its streams were ended in order; their readers connect again and miss nothing.
    stream.until_end().await;
    stack.restart().await;
    assert_eq!(stack.ended_turns(&session, 1).await.len(), 1);
}

#[tokio::test]
async fn a_drain_lets_the_running_turn_finish() {
    let mut stack = Setup::default().set("SA01_SHUTDOWN__DRAIN_MS", 60_000).start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(["finished ", "in time"], &gate));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stream.until(|frame| frame.text() == "finished ").await.unwrap();
    stack.app.signal(ProcessSignal::TERM).unwrap();
    draining(&stack).await;
    gate.open();
    let end = stream.until_terminal().await.unwrap();
    assert_eq!((end.kind(), end.data["message"].as_str()), ("assistant.final", Some("finished in time")));
    assert_eq!(stack.app.wait().await.unwrap().code(), Some(0));
    stack.restart().await;
    assert_eq!(stack.ended_turns(&session, 1).await[0].text(), "finished in time");
}

#[tokio::test]
async fn a_drain_that_leaves_a_turn_keeps_to_its_time() {
    let drain = Duration::from_secs(2);
    let mut stack = Setup::default().set("SA01_SHUTDOWN__DRAIN_MS", drain.as_millis()).start().await;
    let session = new_session();
    stack.model.next(Script::new().text("half").stall());
    // A reader of events, and a request that never becomes whole.
    let _stream = stack.client.events(&session).open().await.unwrap();
    let mut unfinished = somaagent_test_services::client::Raw::connect(stack.app.url(), None).await.unwrap();
    let host = format!("127.0.0.1:{}", stack.app.port());
    let head = format!(
        "POST /v1/session/message HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{"
    );
    unfinished.send(head.as_bytes()).await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.model.exchange(0).await.played(1).await;
    let told = Instant::now();
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    let took = told.elapsed();
    assert!(took > drain / 2, "the turn was not waited for: {took:?}");
    // The request alone would hold up the end for five seconds.
    assert!(took < drain + Duration::from_secs(4), "the end took {took:?}");
}

/// Waits until the process takes no new work: no connection, or 503.
async fn draining(stack: &Stack) {
    eventually("the process to take no new work", async || {
        let post = Post::new("too late").to(&new_session());
        match stack.client.message(&post).await {
            Err(_) => Some(()),
            Ok(answer) => (answer.status == 503).then_some(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_turn_that_outlasts_the_drain_is_handed_on() {
    let mut stack = Setup::default().set("SA01_SHUTDOWN__DRAIN_MS", 200).start().await;
    let session = new_session();
    stack.model.next(Script::new().text("half").stall());
    stack.post(&Post::new("hi").to(&session)).await;
    stack.model.exchange(0).await.played(1).await;
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    stack.restart().await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns[0].kind(), turns[0].text()), ("assistant.final", "you said: hi"));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    for second in [ProcessSignal::TERM, ProcessSignal::INT] {
        let mut stack = Setup::default().set("SA01_SHUTDOWN__DRAIN_MS", 600_000).start().await;
        let session = new_session();
        stack.model.next(Script::new().text("half").stall());
        stack.post(&Post::new("hi").to(&session)).await;
        stack.model.exchange(0).await.played(1).await;
        stack.app.signal(ProcessSignal::TERM).unwrap();
        draining(&stack).await;
        assert!(stack.app.is_running(), "the first signal did not wait for the turn");
        stack.app.signal(second).unwrap();
        // Without it the drain would outlast every patience.
        let status = stack.app.wait().await.unwrap();
        assert!(
            status.code() != Some(0) || status.signal().is_some(),
            "an interrupted drain looks like a complete one"
        );
    }
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_cut() {
    let app = with_database()
        .await
        // Not shorter: the HTTP library reads a clock that is up to half a second behind.
        .set("SA01_HTTP__HEADER_TIMEOUT_MS", "4000")
        .set("SA01_HTTP__KEEP_ALIVE_MS", "4000")
        .start()
        .await
        .unwrap();
    let connect = async || somaagent_test_services::client::Raw::connect(app.url(), None).await.unwrap();
    let mut slow = connect().await;
    slow.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ").await.unwrap();
    let answer = slow.read_to_end().await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    let mut idle = connect().await;
    idle.send(format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", app.port()).as_bytes()).await.unwrap();
    let answer = idle.read_to_end().await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn streams_can_be_switched_off() {
    let stack = Setup::default().set("GATEWAY_DISABLE_SSE", true).start().await;
    let path = format!("/v1/session/{}/events", new_session());
    let answer = stack.client.send(stack.client.request(Method::GET, &path)).await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "sse-disabled"));
    assert_eq!(stack.get("/v1/runtime-config").await["sse"]["enabled"], false);
}
