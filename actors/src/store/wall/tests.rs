#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
#![allow(clippy::disallowed_methods, reason = "the tests play the process: they know the runtime")]

use std::{collections::BTreeSet, time::Duration};

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{
    survey::{Gap, NOBODYS, WALLED, survey},
    *,
};
use crate::store::{Connections, Store, StoreError};

/// How a row of each table behind the wall is made.
const ROWS: [(&str, &str); WALLED.len()] = [
    ("api_keys", "(tenant, key_id, label, prefix, hash, salt, rounds, created_by, scopes, created_at)
      VALUES ($t, gen_random_uuid(), '', '', decode(repeat('00', 32), 'hex'), decode(repeat('00', 16), 'hex'), 390000, '', '{}', now())"),
    ("attachment_blobs", "(tenant, id, state, created_at, touched_at)
      VALUES ($t, gen_random_uuid(), 'arriving', now(), now())"),
    ("attachment_chunks", "(tenant, blob_id, at, bytes)
      VALUES ($t, (SELECT id FROM attachment_blobs WHERE tenant = $t), random() * 1000000000, '')"),
    ("attachment_pictures", "(tenant, blob_id, purpose, failure, made_at)
      VALUES ($t, (SELECT id FROM attachment_blobs WHERE tenant = $t),
              CASE WHEN 'e' < 'f' THEN 'model' ELSE 'thumbnail' END, 'x', now())"),
    ("attachment_texts", "(tenant, blob_id, kind, failure, missing_chars, made_at)
      VALUES ($t, (SELECT id FROM attachment_blobs WHERE tenant = $t),
              CASE WHEN 'e' < 'f' THEN 'plain' ELSE 'pdf' END, 'x', 0, now())"),
    ("attachments", "(tenant, id, filename, mime, size, sha256, status, created_at)
      VALUES ($t, gen_random_uuid(), 'f', 'm', 0, '', 'clean', now())"),
    ("attachment_links", "(tenant, id, attachment_id, token_sha256, created_at, expires_at)
      VALUES ($t, gen_random_uuid(), (SELECT id FROM attachments WHERE tenant = $t LIMIT 1), convert_to(gen_random_uuid()::text, 'UTF8'), now(), now())"),
    ("audit_event", "(tenant, ts, action, resource) VALUES ($t, now(), 'a', 'r')"),
    ("dlq_jobs", "(tenant, id, topic, status, upto, max_letters, total, request_id, created_at, updated_at)
      VALUES ($t, gen_random_uuid(), 'x', 'running', 1, 1, 1, gen_random_uuid(), now(), now())"),
    ("dlq_messages", "(tenant, topic, source_topic, original, error, error_class, attempts, origin, created_at, updated_at)
      VALUES ($t, 'x.dlq', 'x', '', 'e', 'c', 1, 'outbox', now(), now())"),
    ("export_chunks", "(tenant, job_id, number, data) VALUES ($t, 1, 0, '')"),
    ("export_jobs", "(tenant, status, params, max_rows, request_id, created_at, updated_at)
      VALUES ($t, 'queued', '{}', 1, gen_random_uuid(), now(), now())"),
    ("memory_replica", r#"(tenant, event_id, payload, topic, partition, "offset", sha256, created_at)
      VALUES ($t, 'e', '{}', 'x', 0, 0, '', now())"#),
    ("memory_tombstones", r#"(tenant, event_id, source, topic, partition, "offset", created_at)
      VALUES ($t, 'e', 's', 'x', 0, 0, now())"#),
    ("memory_write_outbox", "(tenant, session_id, payload, idempotency_key, next_attempt_at, created_at, updated_at)
      VALUES ($t, gen_random_uuid(), '{}', 'k', now(), now(), now())"),
    ("message_outbox", "(tenant, topic, partition_key, payload, next_attempt_at, created_at, updated_at)
      VALUES ($t, 'x', 'k', '{}', now(), now(), now())"),
    ("session_envelopes", "(tenant, session_id, epoch, created_at, updated_at)
      VALUES ($t, gen_random_uuid(), 1, now(), now())"),
    ("session_events", "(tenant, session_id, seq, event_id, type, occurred_at, payload)
      VALUES ($t, gen_random_uuid(), 1, gen_random_uuid(), 'user', now(), '{}')"),
    ("turns", "(tenant, session_id, turn_seq, event_id, state, started_at, updated_at)
      VALUES ($t, gen_random_uuid(), 1, gen_random_uuid(), 'queued', now(), now())"),
    ("tus_uploads", "(tenant, id, kind, length, arrived, writer, attachment_id, created_at, expires_at)
      VALUES ($t, gen_random_uuid(), 'whole', 0, 0, 0, gen_random_uuid(), now(), now())"),
];

/// Every table behind the wall, what tenants may do with their rows there, and how one is made.
fn covered() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    WALLED.into_iter().zip(ROWS).map(|((table, may), (of, row))| {
        assert_eq!(table, of);
        (table, may, row)
    })
}

const REFUSED: Option<&str> = Some("42501");

async fn insert(connection: &mut PgConnection, table: &str, row: &str, tenant: &str) -> Result<u64, sqlx::Error> {
    let sql = format!("INSERT INTO {table} {}", row.replace("$t", &quoted(tenant)));
    Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?.rows_affected())
}

/// What comes of `sql` behind the wall, for the tenant `a`: rows, or the state of the refusal. Nothing of it remains.
async fn comes_of(connection: &mut PgConnection, sql: String) -> Result<u64, String> {
    let tenant = Tenant::new("a").unwrap();
    let mut rows = TenantTx::begin(connection, &Wall::Up(Entrance::ASKING), &tenant, Purpose::Change).await.unwrap();
    let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *rows).await;
    rows.undo();
    rows.end().await.unwrap();
    done.map(|done| done.rows_affected())
        .map_err(|error| error.as_database_error().unwrap().code().unwrap().into_owned())
}

#[sqlx::test(migrations = "../migrations")]
async fn a_query_without_a_tenant_sees_and_changes_rows_of_one_only(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for (table, may, row) in covered() {
        for tenant in ["a", "b"] {
            insert(&mut connection, table, row, tenant).await.unwrap();
        }
        let all = format!("SELECT tenant FROM {table}");
        let seen = async |rows: &mut TenantTx<'_>| {
            sqlx::query_scalar::<_, String>(AssertSqlSafe(all.clone())).fetch_all(&mut **rows).await
        };
        assert_eq!(within(&mut connection, "a", seen).await, ["a"], "{table}");
        let whole = format!("UPDATE {table} SET tenant = tenant");
        let changed = comes_of(&mut connection, whole).await;
        assert_eq!(changed, if may.contains("UPDATE") { Ok(1) } else { Err("42501".to_owned()) }, "{table}");
        let gone = comes_of(&mut connection, format!("DELETE FROM {table}")).await;
        assert_eq!(gone, if may.contains("DELETE") { Ok(1) } else { Err("42501".to_owned()) }, "{table}");
        let given = comes_of(&mut connection, format!("UPDATE {table} SET tenant = 'b'")).await;
        assert_eq!(given.err().as_deref(), REFUSED, "{table}: a row is not given to another tenant");
        for (tenant, taken) in [("a", may.contains("INSERT")), ("b", false)] {
            let put = format!("INSERT INTO {table} {}", row.replace("$t", &quoted(tenant)).replace("'e'", "'f'"));
            let put = comes_of(&mut connection, put).await;
            assert_eq!(put, if taken { Ok(1) } else { Err("42501".to_owned()) }, "{table}: a row of {tenant}");
        }
        let whole = format!("TRUNCATE {table}");
        assert_eq!(comes_of(&mut connection, whole).await.err().as_deref(), REFUSED, "{table}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_names_no_tenant_has_no_rows(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for (table, _, row) in covered() {
        insert(&mut connection, table, row, "a").await.unwrap();
    }
    // At first the setting is unknown; after its first use it is known, and empty.
    for _ in 0..2 {
        for (table, may, row) in covered() {
            let begin = format!("BEGIN; {}", Entrance::ASKING.0);
            let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await.unwrap();
            let count = format!("SELECT count(*) FROM {table}");
            let seen: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *transaction).await.unwrap();
            assert_eq!(seen, 0, "{table}");
            for tenant in ["a", ""] {
                let mut point = transaction.begin().await.unwrap();
                let put = insert(&mut point, table, row, tenant).await.unwrap_err();
                assert_eq!(put.as_database_error().unwrap().code().as_deref(), REFUSED, "{table} {may}");
            }
        }
        within(&mut connection, "a", async |rows| rows.ping().await).await;
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn every_table_is_behind_the_wall_or_said_to_be_nobodys(pool: PgPool) {
    type Found = (String, bool, bool, bool, Vec<String>);
    let found: Vec<Found> = sqlx::query_as(
        "SELECT c.relname::text, c.relrowsecurity, c.relforcerowsecurity,
                EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polcmd = '*' AND p.polpermissive),
                ARRAY (
                    SELECT may FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
                        WITH ORDINALITY AS m(may, place)
                    WHERE has_table_privilege($1, c.oid, may) ORDER BY place
                )
         FROM pg_class AS c
         WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
           AND c.relname <> '_sqlx_migrations'",
    )
    .bind(role(&pool).await)
    .fetch_all(&pool)
    .await
    .unwrap();
    let covered = WALLED.iter().map(|(table, may)| (*table, *may, true));
    let nobodys = NOBODYS.iter().map(|(table, may, _)| (*table, *may, false));
    let expected: BTreeSet<_> = covered
        .chain(nobodys)
        .map(|(table, may, walled)| {
            let may = may.split(' ').filter(|may| !may.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            (table.to_owned(), walled, false, walled, may)
        })
        .collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "a table is in neither list, or not as it says");
}

fn store(pool: PgPool) -> Store {
    Store::new(Connections::of_pool(pool), Duration::from_secs(10), Handle::current())
}

/// Who a connection is, and for whom.
const WHO: &str = "SELECT current_user::text || ' ' || COALESCE(current_setting('soma.tenant', true), '') || ' '
                       || current_setting('transaction_read_only') || ' ' || current_setting('plan_cache_mode')";

#[sqlx::test(migrations = "../migrations")]
async fn a_connection_is_nobodys_again_whatever_was_done_with_it(pool: PgPool) {
    let one = PgPoolOptions::new().max_connections(1).connect_with((*pool.connect_options()).clone()).await.unwrap();
    let (store, tenant) = (store(one), Tenant::new("a").unwrap());
    let who = || {
        store
            .run(|connection| Box::pin(async move { sqlx::query_scalar::<_, String>(WHO).fetch_one(connection).await }))
    };
    let owner = who().await.unwrap();
    assert!(owner.ends_with("  off auto"), "{owner}");
    macro_rules! me {
        () => {
            |rows| Box::pin(async move { sqlx::query_scalar::<_, String>(WHO).fetch_one(&mut **rows).await })
        };
    }
    let ours = role(&pool).await;
    assert_eq!(store.change_for(tenant.clone(), me!()).await.unwrap(), format!("{ours} a off auto"));
    assert_eq!(who().await.unwrap(), owner);
    assert_eq!(store.read_for(tenant.clone(), me!()).await.unwrap(), format!("{ours} a on auto"));
    assert_eq!(who().await.unwrap(), owner);
    assert_eq!(store.search_for(tenant.clone(), me!()).await.unwrap(), format!("{ours} a on force_custom_plan"));
    assert_eq!(who().await.unwrap(), owner);
    let failing = store.change_for(tenant.clone(), |rows| {
        Box::pin(async move { sqlx::raw_sql("SELECT 1 / 0").execute(&mut **rows).await.map(drop) })
    });
    assert!(matches!(failing.await, Err(StoreError::Rejected(_))));
    assert_eq!(who().await.unwrap(), owner);
    let panicking = store.read_for(tenant, |_| {
        Box::pin(async {
            assert_eq!(1, 2, "on purpose");
            Ok(())
        })
    });
    assert!(matches!(panicking.await, Err(StoreError::Interrupted(_))));
    assert_eq!(who().await.unwrap(), owner);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_change_is_kept_whole_or_undone_whole_and_a_read_changes_nothing(pool: PgPool) {
    let (store, tenant) = (store(pool.clone()), Tenant::new("a").unwrap());
    let row = ROWS.iter().find(|(table, _)| *table == "audit_event").unwrap().1;
    for (undone, left) in [(true, 0), (false, 1)] {
        let change = store.change_for(tenant.clone(), move |rows| {
            Box::pin(async move {
                insert(rows, "audit_event", row, "a").await?;
                if undone {
                    rows.undo();
                }
                Ok(())
            })
        });
        change.await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM audit_event").fetch_one(&pool).await.unwrap();
        assert_eq!(count, left);
    }
    let write = store.read_for(tenant, move |rows| Box::pin(insert(rows, "audit_event", row, "a")));
    assert_eq!(write.await.unwrap_err().sqlstate().as_deref(), Some("25006"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_tenant_may_have_any_name(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let ours = role(&pool).await;
    for standard in ["on", "off"] {
        let set = format!("SET standard_conforming_strings = {standard}");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *connection).await.unwrap();
        for name in ["o'neil", r"back\slash", r"\'; RESET ROLE; --", "''", "$$", "größe", "a b"] {
            let who = async |rows: &mut TenantTx<'_>| {
                let sql = "SELECT current_user::text, current_setting('soma.tenant')";
                sqlx::query_as::<_, (String, String)>(sql).fetch_one(&mut **rows).await
            };
            assert_eq!(within(&mut connection, name, who).await, (ours.clone(), name.to_owned()));
        }
    }
}

/// Who the tenants of this database are, which no other database has.
async fn role(pool: &PgPool) -> String {
    let sql =
        "SELECT tenant_role() FROM pg_database WHERE datname = current_database() AND tenant_role() LIKE '%' || oid";
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// A user that owns the tables and no more, in the place of whoever is connected.
async fn humble(pool: &PgPool) -> (sqlx::pool::PoolConnection<sqlx::Postgres>, String) {
    let name = format!("humble_{}", Uuid::new_v4().simple());
    let sql = format!(
        "CREATE ROLE {name};
         GRANT CREATE ON SCHEMA public TO {name};
         DO $$ DECLARE name text; BEGIN
             FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP
                 EXECUTE format('ALTER TABLE %I OWNER TO {name}', name);
             END LOOP;
         END $$;"
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    become_user(&mut connection, &name).await;
    (connection, name)
}

async fn become_user(connection: &mut PgConnection, name: &str) {
    let sql = format!("SET SESSION AUTHORIZATION {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn without_the_right_to_the_role_there_is_no_wall_and_that_is_told(pool: PgPool) {
    let ours = role(&pool).await;
    let (mut connection, name) = humble(&pool).await;
    let raised = raise(&mut connection).await.unwrap();
    assert!(matches!(&raised, Wall::Absent(why) if why.contains(&ours)), "{raised:?}");
    let registry = Registry::new();
    raised.register(&registry).unwrap();
    assert!(registry.gather()[0].get_metric()[0].get_gauge().get_value().abs() < 0.5);
    // What is done for tenants goes on without, and is refused where nobody said that there is none.
    let tenant = Tenant::new("a").unwrap();
    TenantTx::begin(&mut connection, &raised, &tenant, Purpose::Read).await.unwrap().end().await.unwrap();
    assert!(TenantTx::begin(&mut connection, &Wall::Up(Entrance::ASKING), &tenant, Purpose::Read).await.is_err());
    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.unwrap();
    // An administrator makes good for it.
    sqlx::raw_sql(AssertSqlSafe(format!("GRANT {ours} TO {name}"))).execute(&pool).await.unwrap();
    let raised = raise(&mut connection).await.unwrap();
    assert_eq!(raised, Wall::Up(Entrance::of(&ours)));
    TenantTx::begin(&mut connection, &raised, &tenant, Purpose::Read).await.unwrap().end().await.unwrap();
    drop(connection.detach());
    let sql = format!("REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_copy_brought_of_another_databases_role_is_taken_away(pool: PgPool) {
    // No database has this number.
    let other = format!("soma_tenant_{}", u64::MAX - u64::from(std::process::id()));
    let may = format!("SELECT has_table_privilege('{other}', 'api_keys', 'SELECT')");
    let may = async || sqlx::query_scalar::<_, bool>(AssertSqlSafe(may.clone())).fetch_one(&pool).await.unwrap();
    let sql = format!("CREATE ROLE {other}; GRANT SELECT ON api_keys TO {other}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    assert!(may().await);
    assert!(matches!(raise(&mut pool.acquire().await.unwrap()).await.unwrap(), Wall::Up(_)));
    assert!(!may().await);
    sqlx::raw_sql(AssertSqlSafe(format!("DROP OWNED BY {other}; DROP ROLE {other}"))).execute(&pool).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn what_a_copy_brought_goes_also_where_no_role_may_be_made(pool: PgPool) {
    let (ours, other) = (role(&pool).await, format!("soma_tenant_{}", u64::MAX - u64::from(std::process::id()) - 2));
    let (mut connection, name) = humble(&pool).await;
    let sql =
        format!("DROP OWNED BY {ours}; DROP ROLE {ours}; CREATE ROLE {other}; GRANT SELECT ON api_keys TO {other}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    assert!(matches!(raise(&mut connection).await.unwrap(), Wall::Absent(_)));
    let may = format!("SELECT has_table_privilege('{other}', 'api_keys', 'SELECT')");
    assert!(!sqlx::query_scalar::<_, bool>(AssertSqlSafe(may)).fetch_one(&pool).await.unwrap());
    drop(connection.detach());
    let sql =
        format!("REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}, {other}; DROP ROLE {name}, {other}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn a_user_that_would_find_every_table_empty_is_refused(pool: PgPool) {
    let name = format!("outside_{}", Uuid::new_v4().simple());
    let sql = format!("CREATE ROLE {name}; GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    become_user(&mut connection, &name).await;
    assert!(matches!(raise(&mut connection).await, Err(WallError::Outside)));
    drop(connection.detach());
    let sql = format!("DROP OWNED BY {name}; DROP ROLE {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn processes_that_start_together_raise_one_wall(pool: PgPool) {
    let raised = async || raise(&mut pool.acquire().await.unwrap()).await.unwrap();
    let all = tokio::join!(raised(), raised(), raised(), raised());
    let up = Wall::Up(Entrance::of(&role(&pool).await));
    assert_eq!(all, (up.clone(), up.clone(), up.clone(), up));
}

/// What a survey finds.
async fn gaps(pool: &PgPool) -> (Wall, Vec<Gap>) {
    let found = survey(&mut pool.acquire().await.unwrap()).await.unwrap().unwrap();
    assert_eq!(found.role, role(pool).await);
    (found.wall, found.gaps)
}

#[sqlx::test(migrations = "../migrations")]
async fn every_gap_in_the_wall_is_found_and_gone_once_it_is_mended(pool: PgPool) {
    let up = Wall::Up(Entrance::of(&role(&pool).await));
    assert_eq!(gaps(&pool).await, (up.clone(), vec![]));
    let (ours, other) = (role(&pool).await, format!("soma_tenant_{}", u64::MAX - u64::from(std::process::id()) - 1));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let turns = || names(&["turns"]);
    for (harm, mend, expected) in [
        (
            format!("ALTER ROLE {ours} BYPASSRLS"),
            format!("ALTER ROLE {ours} NOBYPASSRLS"),
            vec![Gap::Unbound("BYPASSRLS".to_owned())],
        ),
        (
            format!("ALTER ROLE {ours} SUPERUSER BYPASSRLS"),
            format!("ALTER ROLE {ours} NOSUPERUSER NOBYPASSRLS"),
            vec![Gap::Unbound("SUPERUSER and BYPASSRLS".to_owned())],
        ),
        (format!("ALTER ROLE {ours} LOGIN"), format!("ALTER ROLE {ours} NOLOGIN"), vec![Gap::LogsIn]),
        (
            format!("ALTER TABLE turns OWNER TO {ours}"),
            format!("ALTER TABLE turns OWNER TO CURRENT_USER; GRANT SELECT ON turns TO {ours}"),
            vec![Gap::Owns(turns())],
        ),
        (
            "ALTER TABLE turns DISABLE ROW LEVEL SECURITY".to_owned(),
            "ALTER TABLE turns ENABLE ROW LEVEL SECURITY".to_owned(),
            vec![Gap::Open(turns())],
        ),
        (
            "CREATE POLICY all_of_it ON turns USING (true)".to_owned(),
            "DROP POLICY all_of_it ON turns".to_owned(),
            vec![Gap::OtherPolicy(names(&["turns (all_of_it, one_tenant)"]))],
        ),
        (
            "ALTER POLICY one_tenant ON turns USING (tenant <> '')".to_owned(),
            "ALTER POLICY one_tenant ON turns USING (tenant = NULLIF(current_setting('soma.tenant', true), ''))"
                .to_owned(),
            vec![Gap::OtherPolicy(names(&["turns (one_tenant)"]))],
        ),
        (
            format!("GRANT TRUNCATE ON turns TO {ours}; GRANT SELECT ON audit_seal TO PUBLIC"),
            format!("REVOKE TRUNCATE ON turns FROM {ours}; REVOKE SELECT ON audit_seal FROM PUBLIC"),
            vec![Gap::MayMore(names(&["audit_seal (SELECT)", "turns (TRUNCATE)"]))],
        ),
        (
            format!("REVOKE SELECT, UPDATE ON session_envelopes FROM {ours}"),
            format!("GRANT SELECT, UPDATE ON session_envelopes TO {ours}"),
            vec![Gap::MayLess(names(&["session_envelopes (SELECT, UPDATE)"]))],
        ),
        (
            format!("CREATE ROLE {other}; GRANT SELECT ON api_keys TO {other}"),
            format!("DROP OWNED BY {other}; DROP ROLE {other}"),
            vec![Gap::Strangers(vec![other.clone()])],
        ),
    ] {
        sqlx::raw_sql(AssertSqlSafe(harm.clone())).execute(&pool).await.unwrap();
        assert_eq!(gaps(&pool).await.1, expected, "{harm}");
        // A start mends what it may, and calls no wall with a gap whole.
        let raised = raise(&mut pool.acquire().await.unwrap()).await.unwrap();
        assert_eq!(raised == up, gaps(&pool).await == (up.clone(), vec![]), "{harm}: {raised:?}");
        sqlx::raw_sql(AssertSqlSafe(mend)).execute(&pool).await.unwrap();
        assert_eq!(gaps(&pool).await, (up.clone(), vec![]), "{harm} was mended");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_survey_tells_what_hides_rows_from_the_user_and_what_the_user_need_not_have(pool: PgPool) {
    let (mut connection, name) = humble(&pool).await;
    let found = async |connection: &mut PgConnection| survey(connection).await.unwrap().unwrap();
    let begun = found(&mut connection).await;
    assert_eq!((begun.user, begun.gaps), (name.clone(), vec![]));
    assert!(matches!(begun.wall, Wall::Absent(_)), "{:?}", begun.wall);
    let sql = "ALTER TABLE turns FORCE ROW LEVEL SECURITY";
    sqlx::raw_sql(sql).execute(&pool).await.unwrap();
    assert_eq!(found(&mut connection).await.gaps, [Gap::HidesFromUs(vec!["turns".to_owned()])]);
    sqlx::raw_sql(AssertSqlSafe(format!("ALTER ROLE {name} BYPASSRLS"))).execute(&pool).await.unwrap();
    assert_eq!(found(&mut connection).await.gaps, [Gap::WeBypass]);
    drop(connection.detach());
    let sql = format!("REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
}

#[sqlx::test(migrations = false)]
async fn there_is_nothing_to_survey_before_the_tables_are_there(pool: PgPool) {
    assert!(survey(&mut pool.acquire().await.unwrap()).await.unwrap().is_none());
}

/// So many rows of one tenant that none of these tables is read as a whole.
const MANY: &str = r#"
    INSERT INTO memory_write_outbox (
        tenant, session_id, payload, idempotency_key, dedupe_key, status, next_attempt_at, created_at, updated_at
    )
    SELECT 'a', gen_random_uuid(), jsonb_build_object('id', n::text), 'k', CASE WHEN n % 2 = 0 THEN n::text END, 'sent', now(),
           now(), now()
    FROM generate_series(1, 5000) AS n;
    INSERT INTO message_outbox (
        tenant, topic, partition_key, payload, dedupe_key, status, next_attempt_at, created_at, updated_at
    )
    SELECT 'a', 'memory.wal', n, '{}', n, CASE WHEN n % 2 = 0 THEN 'sent' ELSE 'pending' END, now(), now(), now()
    FROM generate_series(1, 5000) AS n;
    INSERT INTO dlq_messages (
        tenant, topic, source_topic, original, event, error, error_class, attempts, origin, created_at, updated_at
    )
    SELECT 'a', 'memory.wal.dlq', 'memory.wal', '', jsonb_build_object('id', n::text), 'e', 'c', 1, 'outbox', now(), now()
    FROM generate_series(1, 5000) AS n;
    INSERT INTO memory_replica (tenant, event_id, session_id, payload, topic, partition, "offset", sha256, created_at)
    SELECT 'a', n, gen_random_uuid(), '{}', 'x', 0, n, '', now() FROM generate_series(1, 5000) AS n;
    ANALYZE;
"#;

/// How the database would go about `sql` behind the wall.
async fn plan(connection: &mut PgConnection, sql: &str, types: &str, arguments: &str) -> String {
    let prepare = format!("SET LOCAL plan_cache_mode = force_generic_plan; PREPARE asked ({types}) AS {sql}");
    let explain = format!("EXPLAIN EXECUTE asked ({arguments})");
    let explain = async move |rows: &mut TenantTx<'_>| {
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut **rows).await?;
        let lines = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut **rows).await?;
        sqlx::raw_sql("DEALLOCATE asked").execute(&mut **rows).await?;
        Ok(lines)
    };
    let lines = within(connection, "a", explain).await;
    lines.iter().map(|line| sqlx::Row::get::<String, _>(line, 0)).collect::<Vec<_>>().join("\n")
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_looked_for_behind_the_wall_has_its_index(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    sqlx::raw_sql(MANY).execute(&mut *connection).await.unwrap();
    let arguments = "'a', 'e', 's', NULL";
    let receipt = plan(&mut connection, include_str!("../receipt.sql"), "text, text, text, text[]", arguments).await;
    let types = "text, uuid, text[], bigint, boolean, text[]";
    let arguments = format!("'a', '{}', NULL, 10, true, '{{memory.wal}}'", Uuid::nil());
    let timeline = plan(&mut connection, include_str!("../timeline.sql"), types, &arguments).await;
    for (plan, index, column) in [
        (&receipt, "memory_write_outbox_memory", "dedupe_key"),
        (&receipt, "memory_write_outbox_beside", "beside_id"),
        (&receipt, "message_outbox_memory", "dedupe_key"),
        (&receipt, "memory_replica_event", "event_id"),
        (&receipt, "dlq_messages_memory", "memory_id"),
        (&timeline, "message_outbox_keys", "partition_key"),
        (&timeline, "message_outbox_memory", "dedupe_key"),
        (&timeline, "memory_write_outbox_memory", "dedupe_key"),
        (&timeline, "memory_replica_session", "session_id"),
    ] {
        let lines: Vec<&str> = plan.lines().collect();
        let is_used = lines.windows(2).any(|pair| {
            pair[0].contains(&format!("using {index} ")) && pair[1].contains("Index Cond:") && pair[1].contains(column)
        });
        assert!(is_used, "{index} is of no use for {column}:\n{plan}");
    }
}
