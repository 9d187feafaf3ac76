//! The least that keeps a file: `sha256sum`, and plain inserts of its bytes.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use somaagent_test_services::postgres::Database;
use sqlx::{Connection as _, PgConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use uuid::Uuid;

/// Bytes of a row, as the server writes them.
const ROW: usize = 256 << 10;

/// Makes a table for [`write()`].
pub async fn table(database: &Database) -> Result<()> {
    let mut connection = PgConnection::connect(&database.dsn()).await?;
    sqlx::raw_sql(
        "CREATE TABLE plain (file uuid NOT NULL, at bigint NOT NULL, bytes bytea NOT NULL, PRIMARY KEY (file, at));
         ALTER TABLE plain ALTER COLUMN bytes SET STORAGE EXTERNAL",
    )
    .execute(&mut connection)
    .await?;
    connection.close().await?;
    Ok(())
}

/// Writes `bytes` in one transaction.
pub async fn write(connection: &mut PgConnection, bytes: &[u8]) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let file = Uuid::new_v4();
    let mut at = 0_i64;
    for row in bytes.chunks(ROW) {
        sqlx::query("INSERT INTO plain (file, at, bytes) VALUES ($1, $2, $3)")
            .bind(file)
            .bind(at)
            .bind(row)
            .execute(&mut *transaction)
            .await?;
        at += i64::try_from(row.len())?;
    }
    Ok(transaction.commit().await?)
}

/// Has `sha256sum` read `bytes`.
pub async fn sum(bytes: &[u8]) -> Result<()> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("sha256sum does not start")?;
    let mut input = child.stdin.take().context("no pipe to sha256sum")?;
    input.write_all(bytes).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "sha256sum failed");
    Ok(())
}
