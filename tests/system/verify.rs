//! The command that tells whether anybody touched the audit trail.

use serde_json::{Value, json};
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::port;
use somaagent_test_services::tokens::ed_signer;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;

use crate::stack::{Setup, Stack, binary, new_session};

/// A system that seals and signs at once, with a message of `public` that is sealed and told to the log.
async fn told() -> (Stack, PgPool, Client) {
    let port = port::free();
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let setup = Setup::default()
        .set("GATEWAY_METRICS_PORT", port)
        .set("AUDIT_CHECKPOINT_KEY", &ed_signer().private_pem)
        .set("AUDIT_CHECKPOINT_EVERY_SECONDS", 1)
        .set("SA01_AUDIT__SEAL_EVERY_MS", 20)
        .set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05");
    let stack = setup.start().await;
    let pool = stack.database.pool().await.unwrap();
    for text in ["one", "two", "three"] {
        stack.post(&Post::new(text)).await;
    }
    eventually("a checkpoint of all in the log", async || {
        let sql = "SELECT (SELECT number = checkpointed FROM audit_chain WHERE number >= 3)
                      AND EXISTS (SELECT FROM event_log WHERE topic = 'audit.checkpoints')
                      AND NOT EXISTS (SELECT FROM message_outbox WHERE topic = 'audit.checkpoints' AND status <> 'sent')";
        (sqlx::query_scalar::<_, Option<bool>>(sql).fetch_one(&pool).await.unwrap() == Some(true)).then_some(())
    })
    .await;
    (stack, pool, metrics)
}

/// What `audit verify` says of the stack's database, and its exit code.
async fn verified(stack: &Stack, arguments: &[&str]) -> (Option<i32>, String) {
    let mut verify = binary()
        .set("SA01_DB_DSN", &stack.database.dsn())
        .set("AUDIT_CHECKPOINT_PUBLIC_KEY", &ed_signer().public_pem)
        .argument("audit")
        .argument("verify");
    for argument in arguments {
        verify = verify.argument(argument);
    }
    let ended = verify.run().await.unwrap();
    (ended.code, ended.output)
}

async fn change(pool: &PgPool, sql: &'static str) {
    sqlx::raw_sql(sql).execute(pool).await.unwrap();
}

#[tokio::test]
async fn whoever_verifies_the_trail_is_told_by_exit_code_and_by_name() {
    let (stack, pool, metrics) = told().await;
    let (code, output) = verified(&stack, &[]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("everything fits") && !output.contains("without checkpoints"), "{output}");
    eventually("no lag", async || {
        let page = metrics.get("/metrics").await.unwrap().text;
        (page.contains("audit_seal_lag_seconds 0\n") && !page.contains("audit_rows_sealed_total 0\n")).then_some(())
    })
    .await;

    change(&pool, "UPDATE audit_event SET subject = 'nobody' WHERE id = (SELECT min(id) FROM audit_event)").await;
    let row: i64 = sqlx::query_scalar("SELECT min(id) FROM audit_event").fetch_one(&pool).await.unwrap();
    let (code, output) = verified(&stack, &["--tenant", "public"]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("public: row {row} says something else than when it was sealed")), "{output}");
    let (code, output) = verified(&stack, &["--tenant", "public", "--json"]).await;
    let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(
        (code, &report["findings"][0]["kind"], &report["findings"][0]["row"]),
        (Some(1), &json!("row-changed"), &json!(row))
    );
    let (code, output) = verified(&stack, &["--tenant", "another"]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("there is no trail of a tenant \"another\""), "{output}");
}

#[tokio::test]
async fn a_chain_made_anew_by_the_owner_of_the_database_does_not_fit_its_checkpoints() {
    let (mut stack, pool, _) = told().await;
    let kept: Vec<String> =
        sqlx::query_scalar("SELECT convert_from(payload, 'UTF8') FROM event_log WHERE topic = 'audit.checkpoints'")
            .fetch_all(&pool)
            .await
            .unwrap();
    let file = stack.app.binary().home().join("checkpoints");
    std::fs::write(&file, kept.join("\n")).unwrap();
    // The program itself makes the chain again, without the key.
    stack.app.terminate().await.unwrap();
    change(
        &pool,
        "UPDATE audit_event SET details = '{}';
         TRUNCATE audit_seal, audit_chain;
         UPDATE audit_sealer SET xact = '0', id = 0;
         DELETE FROM event_log WHERE topic = 'audit.checkpoints'",
    )
    .await;
    let mut forger = binary().set("SA01_DB_DSN", &stack.database.dsn()).start().await.unwrap();
    eventually("another chain", async || {
        let sql =
            "SELECT count(*) FROM audit_event AS a WHERE NOT EXISTS (SELECT FROM audit_seal WHERE event_id = a.id)";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    forger.terminate().await.unwrap();
    let (code, output) = verified(&stack, &[]).await;
    assert_eq!(code, Some(2), "nothing is known of another chain: {output}");
    assert!(output.contains("there is a key and no checkpoint"), "{output}");
    assert!(!output.contains("everything fits"), "{output}");
    let (code, output) = verified(&stack, &["--checkpoints", file.to_str().unwrap()]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("is not the one of the checkpoint at "), "{output}");
}

/// Everything that was written is in its chain.
async fn all_sealed(pool: &PgPool) {
    eventually("everything sealed", async || {
        let sql =
            "SELECT count(*) FROM audit_event AS a WHERE NOT EXISTS (SELECT FROM audit_seal WHERE event_id = a.id)";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await.unwrap() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_row_of_old_between_two_takeovers_that_somebody_wrote_is_found() {
    let (stack, pool, _) = told().await;
    change(
        &pool,
        "INSERT INTO audit_event (ts, tenant, action, resource, details)
         SELECT now() - p.age, 'public', p.action, 'audit.chain', jsonb_build_object(
             'from', CASE p.n WHEN 1 THEN s.server ELSE 'cluster 1' END,
             'to', CASE p.n WHEN 1 THEN 'cluster 1' ELSE s.server END, 'rows', 0
         )
         FROM audit_sealer AS s, (
             VALUES (1, interval '0', 'audit.takeover'), (2, interval '1 day', 'do'), (3, interval '0', 'audit.takeover')
         ) AS p (n, age, action)
         ORDER BY p.n",
    )
    .await;
    all_sealed(&pool).await;
    let (code, output) = verified(&stack, &["--json"]).await;
    let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    let kinds: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|found| found["kind"].as_str().unwrap()).collect();
    assert_eq!((code, kinds), (Some(1), vec!["takeover-unsigned", "row-backdated", "takeover-unsigned"]), "{output}");
    assert_eq!(report["takeovers"][0]["signature"], "missing");
    let (_, output) = verified(&stack, &[]).await;
    assert!(output.contains("rows came along unsealed; nobody vouches for it"), "{output}");
}

#[tokio::test]
async fn a_server_that_somebody_wrote_down_makes_no_process_vouch_for_it() {
    let (mut stack, pool, metrics) = told().await;
    stack.app.terminate().await.unwrap();
    change(&pool, "CREATE TABLE kept AS TABLE audit_sealer; UPDATE audit_sealer SET server = 'cluster 1'").await;
    let is_told = async |says: &'static str| {
        eventually("the sealer says so", async || {
            metrics.get("/metrics").await.ok()?.text.contains(&format!("audit_sealer_stuck {says}\n")).then_some(())
        })
        .await;
    };
    let binary = stack.app.binary().clone();
    let mut app = binary.start().await.unwrap();
    is_told("1").await;
    let (code, output) = verified(&stack, &[]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("somebody wrote that, and no process with the key believes it"), "{output}");
    let takeovers = "SELECT count(*) FROM audit_event WHERE action = 'audit.takeover'";
    let takeovers: i64 = sqlx::query_scalar(takeovers).fetch_one(&pool).await.unwrap();
    assert_eq!(takeovers, 0, "nothing was signed");
    change(&pool, "UPDATE audit_sealer SET server = kept.server FROM kept").await;
    is_told("0").await;
    let (code, output) = verified(&stack, &[]).await;
    assert_eq!(code, Some(0), "{output}");
    app.terminate().await.unwrap();
}

#[tokio::test]
async fn a_function_that_somebody_puts_before_postgresqls_does_not_say_which_server_this_is() {
    let (mut stack, pool, metrics) = told().await;
    stack.app.terminate().await.unwrap();
    change(
        &pool,
        "CREATE FUNCTION public.has_function_privilege(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false';
         DO $$ BEGIN
             EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database());
         END $$",
    )
    .await;
    let mut app = stack.app.binary().clone().start().await.unwrap();
    let posted = Client::new(app.url()).unwrap().message(&Post::new("tea").to(&new_session())).await.unwrap();
    assert_eq!(posted.status, 200, "{}", posted.text);
    eventually("the sealer seals what came after the start", async || {
        let text = metrics.get("/metrics").await.ok()?.text;
        (text.contains("audit_sealer_stuck 0\n") && !text.contains("audit_rows_sealed_total 0\n")).then_some(())
    })
    .await;
    let (code, output) = verified(&stack, &[]).await;
    assert_eq!(code, Some(0), "{output}");
    app.terminate().await.unwrap();
    let takeovers = "SELECT count(*) FROM audit_event WHERE action = 'audit.takeover'";
    let takeovers: i64 = sqlx::query_scalar(takeovers).fetch_one(&pool).await.unwrap();
    assert_eq!(takeovers, 0, "{output}");
}

#[tokio::test]
async fn what_could_not_be_verified_is_not_called_good() {
    let nowhere =
        binary().set("SA01_DB_DSN", "postgres://127.0.0.1:1/none").set("SA01_DATABASE__ACQUIRE_TIMEOUT_MS", "200");
    let ended = nowhere.argument("audit").argument("verify").run().await.unwrap();
    assert_eq!(ended.code, Some(2), "{}", ended.output);
    let (stack, ..) = told().await;
    let unkeyed = binary().set("SA01_DB_DSN", &stack.database.dsn()).argument("audit").argument("verify");
    let ended = unkeyed.run().await.unwrap();
    assert_eq!(ended.code, Some(2), "{}", ended.output);
    assert!(ended.output.contains("AUDIT_CHECKPOINT_PUBLIC_KEY"), "{}", ended.output);
    assert_eq!(verified(&stack, &["--checkpoints", "/nowhere"]).await.0, Some(2));
    let (code, output) = verified(&stack, &["--checkpoints", "/dev/null"]).await;
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("/dev/null has no checkpoints"), "{output}");
}

#[tokio::test]
async fn whoever_mistypes_the_data_folder_gets_no_new_database() {
    let binary = binary().argument("audit").argument("verify");
    let folder = binary.data();
    for made in [false, true] {
        if made {
            std::fs::create_dir_all(folder.join("postgres")).unwrap();
        }
        let ended = binary.run().await.unwrap();
        assert_eq!(ended.code, Some(2), "{}", ended.output);
        assert!(ended.output.contains("there is no database in "), "{}", ended.output);
        let inside = walked(&folder);
        assert_eq!(inside, if made { vec![folder.join("postgres")] } else { vec![] });
    }
}

#[tokio::test]
async fn the_database_inside_the_process_is_sealed_and_verified_too() {
    let port = port::free();
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let binary = binary().set("SA01_AUDIT__SEAL_EVERY_MS", "20").set("GATEWAY_METRICS_PORT", &port.to_string());
    let mut app = binary.start().await.unwrap();
    let client = Client::new(app.url()).unwrap();
    let answer = client.message(&Post::new("tea")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    eventually("the message and the end of its turn sealed", async || {
        metrics.get("/metrics").await.unwrap().text.contains("audit_rows_sealed_total 2\n").then_some(())
    })
    .await;
    assert!(app.output().contains("no checkpoints of the audit trail are signed"), "{}", app.output());
    app.terminate().await.unwrap();
    let ended = binary.argument("audit").argument("verify").argument("--json").run().await.unwrap();
    let report: Value = serde_json::from_str(ended.output.lines().last().unwrap()).unwrap();
    assert_eq!(
        (ended.code, &report["links"], &report["findings"]),
        (Some(0), &json!(2), &json!([])),
        "{}",
        ended.output
    );
}

/// Everything below a folder.
fn walked(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let entries = entries.map(|entry| entry.unwrap().path());
    entries.flat_map(|path| std::iter::once(path.clone()).chain(walked(&path))).collect()
}
