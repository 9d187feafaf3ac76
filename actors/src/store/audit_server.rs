//! Which server this is, as far as the numbers of transactions go.

use sqlx::PgConnection;
use tracing::instrument;

/// The name of the server: that of its cluster, which is made with it and which its replicas share. Where a server does not tell it,
/// the numbers of the database and of a table of ours: a trail that is restored has other ones.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.pg_control_system.identity", skip_all)]
pub async fn identity(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let may =
        sqlx::query_scalar!(r#"SELECT has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS "may!""#);
    if may.fetch_one(&mut *connection).await? {
        let cluster =
            sqlx::query_scalar!(r#"SELECT system_identifier::text AS "cluster!" FROM pg_catalog.pg_control_system()"#);
        match cluster.fetch_one(&mut *connection).await {
            Ok(cluster) => return Ok(format!("cluster {cluster}")),
            // Some servers that speak the protocol have no such file.
            Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
    }
    stand_in(connection).await
}

async fn stand_in(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    // No function puts them together: one that fits the types better than PostgreSQL's own goes before it, wherever it is.
    let numbers = sqlx::query!(
        r#"SELECT d.oid::pg_catalog.text AS "database!",
                  'audit_sealer'::pg_catalog.regclass::pg_catalog.oid::pg_catalog.text AS "table!"
           FROM pg_catalog.pg_database AS d
           WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"#
    );
    let numbers = numbers.fetch_one(connection).await?;
    Ok(format!("database {}, table {}", numbers.database, numbers.table))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::PgPool;

    use super::*;

    #[sqlx::test(migrations = "../migrations")]
    async fn a_server_has_one_name_and_another_one_where_it_keeps_that_to_itself(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let name = identity(&mut connection).await.unwrap();
        assert!(name.starts_with("cluster ") && name.len() > 10, "{name}");
        assert_eq!(identity(&mut connection).await.unwrap(), name);
        // Somebody who may not ask for it, as on servers that others run.
        let role = format!("denied_{}", uuid::Uuid::new_v4().simple());
        let denied = format!(
            "CREATE ROLE {role}; GRANT USAGE ON SCHEMA public TO {role};
             REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; SET ROLE {role}"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(denied)).execute(&mut *connection).await.unwrap();
        let denied = identity(&mut connection).await.unwrap();
        assert!(denied.starts_with("database ") && denied.contains(", table "), "{denied}");
        assert_eq!(identity(&mut connection).await.unwrap(), denied);
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "RESET ROLE; REVOKE ALL ON SCHEMA public FROM {role}; DROP ROLE {role}"
        )))
        .execute(&mut *connection)
        .await
        .unwrap();
    }
}
