//! Table `dlq_messages`: records that could not be carried on, until somebody looks at them.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// What is added to a topic's name to make the name of its dead letters.
pub const SUFFIX: &str = ".dlq";

/// A record to be kept.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    /// Whose it is.
    pub tenant: String,
    /// The topic it was for, without [`SUFFIX`].
    pub source_topic: String,
    /// What ordered it.
    pub key: Option<String>,
    /// Its headers, a JSON object of texts.
    pub headers: Value,
    /// The record itself, JSON text.
    pub event: String,
    /// Why it could not be carried on.
    pub error: String,
    /// How often that was tried.
    pub attempts: i32,
}

/// Keeps `letters`.
///
/// # Errors
/// The database's.
pub async fn insert(
    connection: &mut PgConnection,
    letters: &[NewDeadLetter],
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let text = |of: fn(&NewDeadLetter) -> &str| letters.iter().map(of).collect::<Vec<_>>();
    let topics: Vec<String> = letters.iter().map(|letter| format!("{}{SUFFIX}", letter.source_topic)).collect();
    let keys: Vec<Option<&str>> = letters.iter().map(|letter| letter.key.as_deref()).collect();
    let headers: Vec<Value> = letters.iter().map(|letter| letter.headers.clone()).collect();
    let attempts: Vec<i32> = letters.iter().map(|letter| letter.attempts).collect();
    sqlx::query!(
        "INSERT INTO dlq_messages (tenant, topic, partition_key, headers, event, error, attempts, created_at)
         SELECT tenant, topic, key, headers, event::jsonb, error, attempts, $8
         FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::integer[])
             AS l(tenant, topic, key, headers, event, error, attempts)",
        &text(|letter| &letter.tenant) as _,
        &topics,
        &keys as _,
        &headers,
        &text(|letter| &letter.event) as _,
        &text(|letter| &letter.error) as _,
        &attempts,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
