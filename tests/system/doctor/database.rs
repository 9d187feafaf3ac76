//! What `somaagent doctor` says of the database, its wall between tenants and its audit trail.

use somaagent_test_services::port;
use somaagent_test_services::tokens::ed_signer;
use somaagent_test_services::wait::eventually;

use super::{Told, World};

#[tokio::test]
async fn each_fault_of_the_database_is_named_and_gone_once_it_is_mended() {
    let world = World::begin().await;
    world.migrated().await;
    world.told().await.is_fine();
    let (owner, name) = (&world.owner, world.database.name());
    for (fall_ill, mend, check, severity, says) in [
        (
            format!("ALTER ROLE {owner} SUPERUSER"),
            format!("ALTER ROLE {owner} NOSUPERUSER"),
            "user",
            "warning",
            "make a user that owns this database",
        ),
        (
            format!("ALTER DATABASE {name} SET synchronous_commit = off"),
            format!("ALTER DATABASE {name} RESET synchronous_commit"),
            "synchronous_commit",
            "warning",
            "set it on",
        ),
        (
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (999999, 'of the future', true, '', 0)"
                .to_owned(),
            "DELETE FROM _sqlx_migrations WHERE version = 999999".to_owned(),
            "migrations",
            "fault",
            "start the newer version",
        ),
        (
            "UPDATE _sqlx_migrations SET success = false WHERE version = 2".to_owned(),
            "UPDATE _sqlx_migrations SET success = true WHERE version = 2".to_owned(),
            "migrations",
            "fault",
            "the migration 2 was begun",
        ),
        (
            "UPDATE _sqlx_migrations SET checksum = checksum || '\\x00' WHERE version = 3".to_owned(),
            "UPDATE _sqlx_migrations SET checksum = substr(checksum, 1, length(checksum) - 1) WHERE version = 3"
                .to_owned(),
            "migrations",
            "fault",
            "the migration 3 that was applied is another one",
        ),
    ] {
        world.sql(fall_ill).await;
        let told = world.told().await;
        told.has(("database", check), severity, says);
        assert_eq!(told.code, if severity == "fault" { 2 } else { 1 }, "{:#?}", told.ills());
        world.sql(mend).await;
    }
    world.told().await.is_fine();
    let greedy = Told::by(&world.binary.clone().set("PG_POOL_MAX_SIZE", "1000")).await;
    greedy.has(("database", "connections"), "fault", "raise max_connections");
    let closed = format!("postgres://me:canary@127.0.0.1:{}/nowhere", port::free());
    let away = Told::by(&world.binary.clone().set("SA01_DB_DSN", &closed)).await;
    away.has(("database", "reachable"), "fault", "until then no process starts");
    away.has(("audit trail", "sealed"), "skipped", "no database server can be asked");
    away.has(("tenant wall", "up"), "skipped", "no database server can be asked");
    assert!(!away.document.to_string().contains("canary"), "{:#}", away.document);
}

#[tokio::test]
async fn each_fault_of_the_wall_between_tenants_is_named_and_gone_once_it_is_mended() {
    let world = World::begin().await;
    world.told().await.has(("tenant wall", "up"), "skipped", "the tables are not there yet");
    world.migrated().await;
    world.told().await.is_fine();
    let ours: String = sqlx::query_scalar("SELECT tenant_role()").fetch_one(&world.pool).await.unwrap();
    let owner = &world.owner;
    for (fall_ill, mend, check, severity, says) in [
        (
            format!("ALTER ROLE {ours} RENAME TO {ours}_away"),
            format!("ALTER ROLE {ours}_away RENAME TO {ours}"),
            "up",
            "warning",
            "have an administrator CREATE ROLE",
        ),
        (
            format!("ALTER ROLE {ours} BYPASSRLS"),
            format!("ALTER ROLE {ours} NOBYPASSRLS"),
            "role",
            "fault",
            "ALTER ROLE",
        ),
        (format!("ALTER ROLE {ours} LOGIN"), format!("ALTER ROLE {ours} NOLOGIN"), "role", "fault", "may log in"),
        (
            format!("ALTER TABLE turns OWNER TO {ours}"),
            format!("ALTER TABLE turns OWNER TO {owner}; GRANT SELECT ON turns TO {ours}"),
            "role",
            "fault",
            "an owner sees all rows",
        ),
        (
            "ALTER TABLE turns DISABLE ROW LEVEL SECURITY".to_owned(),
            "ALTER TABLE turns ENABLE ROW LEVEL SECURITY".to_owned(),
            "policies",
            "fault",
            "off for turns",
        ),
        (
            "CREATE POLICY all_of_it ON turns USING (true)".to_owned(),
            "DROP POLICY all_of_it ON turns".to_owned(),
            "policies",
            "fault",
            "turns (all_of_it, one_tenant)",
        ),
        (
            format!("GRANT SELECT ON audit_seal TO {ours}"),
            format!("REVOKE SELECT ON audit_seal FROM {ours}"),
            "rights",
            "fault",
            "audit_seal (SELECT)",
        ),
        (
            format!("REVOKE SELECT ON turns FROM {ours}"),
            format!("GRANT SELECT ON turns TO {ours}"),
            "rights",
            "fault",
            "SELECT raise_tenant_wall()",
        ),
        (
            format!("CREATE ROLE {ours}0000; GRANT SELECT ON api_keys TO {ours}0000"),
            format!("DROP OWNED BY {ours}0000; DROP ROLE {ours}0000"),
            "strangers",
            "fault",
            "other databases",
        ),
        (
            "ALTER TABLE turns FORCE ROW LEVEL SECURITY".to_owned(),
            "ALTER TABLE turns NO FORCE ROW LEVEL SECURITY".to_owned(),
            "user",
            "fault",
            "NO FORCE",
        ),
        (
            format!("ALTER ROLE {owner} BYPASSRLS"),
            format!("ALTER ROLE {owner} NOBYPASSRLS"),
            "user",
            "warning",
            "NOBYPASSRLS",
        ),
    ] {
        world.sql(fall_ill).await;
        let told = world.told().await;
        told.has(("tenant wall", check), severity, says);
        assert_eq!(told.code, if severity == "fault" { 2 } else { 1 }, "{:#?}", told.ills());
        world.sql(mend).await;
    }
    world.told().await.is_fine();
}

#[tokio::test]
async fn a_trail_for_which_nobody_signs_is_a_fault_until_somebody_does() {
    let world = World::begin().await;
    let key = &ed_signer().private_pem;
    let keyed = world.binary.clone().set("AUDIT_CHECKPOINT_KEY", key).set("AUDIT_CHECKPOINT_EVERY_SECONDS", "1");
    let signed = async || {
        let left = "SELECT count(*) FROM audit_chain WHERE checkpointed <> number";
        let sealed = "SELECT count(*) FROM audit_chain";
        let [left, sealed]: [i64; 2] = [
            sqlx::query_scalar(left).fetch_one(&world.pool).await.unwrap(),
            sqlx::query_scalar(sealed).fetch_one(&world.pool).await.unwrap(),
        ];
        (left == 0 && sealed > 0).then_some(())
    };
    world.migrated().await;
    // A process without the key seals and signs nothing.
    let mut unkeyed = world.binary.start().await.unwrap();
    world
        .sql(
            "INSERT INTO audit_event (tenant, ts, action, resource) VALUES ('acme', now() - interval '1 hour', 'a', 'r')"
                .to_owned(),
        )
        .await;
    eventually("the row is sealed", async || {
        let sealed: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_seal").fetch_one(&world.pool).await.unwrap();
        (sealed > 0).then_some(())
    })
    .await;
    Told::by(&world.binary).await.is_fine();
    let told = Told::by(&keyed).await;
    told.has(("audit trail", "signed lately"), "fault", "give every process with the role outbox");
    assert_eq!(told.code, 2);
    assert_eq!(unkeyed.terminate().await.unwrap(), Some(0));
    Told::by(&keyed).await.has(("audit trail", "signed lately"), "warning", "none is connected");
    let mut app = keyed.start().await.unwrap();
    eventually("it is signed", signed).await;
    let told = Told::by(&keyed).await;
    told.has(("audit trail", "signed lately"), "ok", "is signed for");
    told.is_fine();
    assert_eq!(app.terminate().await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_row_of_the_audit_trail_that_nobody_seals_is_a_warning() {
    let world = World::begin().await;
    world.migrated().await;
    world
        .sql(
            "INSERT INTO audit_event (tenant, ts, action, resource, details)
             VALUES ('acme', now() - interval '1 hour', 'a', 'r', '{}')"
                .to_owned(),
        )
        .await;
    world.told().await.has(("audit trail", "sealed"), "warning", "a process with the role outbox seals");
    // The next process seals it.
    let mut app = world.binary.start().await.unwrap();
    eventually("the row is sealed", async || {
        let left = "SELECT count(*) FROM audit_event AS e
                    WHERE NOT EXISTS (SELECT FROM audit_seal AS s WHERE s.tenant = e.tenant AND s.event_id = e.id)";
        let left: i64 = sqlx::query_scalar(left).fetch_one(&world.pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    world.told().await.is_fine();
    assert_eq!(app.terminate().await.unwrap(), Some(0));
}
