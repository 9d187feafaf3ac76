//! What every bench stands on: databases with tables and without rows, and words the server is asked with.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};
use somaagent_test_services::postgres::{Database, Postgres};
use somaagent_test_services::process::{Binary, Running};
use uuid::Uuid;

use crate::wire;

/// A message of a length that people write.
const WORDS: &str = "When did we last talk about the garden, and what did I say about the apple tree behind the house?";

/// Below the range from which systems take the ports of outgoing connections: a client that tries such a port again and again
/// before anybody listens there would one day be connected to itself.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A port on which nobody listens.
pub fn free_port() -> Result<u16> {
    let begin = u16::try_from(std::process::id() % 10_000)?;
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    PORTS.skip(usize::from(begin)).find(free).context("no port is free")
}

/// The post of a message to `session`.
#[must_use]
pub fn message(port: u16, session: Uuid) -> Vec<u8> {
    wire::post(port, "/v1/session/message", &format!(r#"{{"session_id":"{session}","message":"{WORDS}"}}"#))
}

/// The stop of what `session` is answering.
#[must_use]
pub fn stop(port: u16, session: Uuid) -> Vec<u8> {
    wire::post(port, &format!("/v1/sessions/{session}/stop"), "")
}

/// A new database with the tables of `binary`, which has ended again.
pub async fn tables(binary: &Binary) -> Result<Database> {
    let (mut server, database) = on_new_database(binary).await?;
    server.terminate().await?;
    Ok(database)
}

/// Starts `binary` on a new outside database.
pub async fn on_new_database(binary: &Binary) -> Result<(Running, Database)> {
    let database = Postgres::shared()?.fresh_database().await?;
    let server = on(binary, &database).start().await?;
    Ok((server, database))
}

/// `binary` on that database.
#[must_use]
pub fn on(binary: &Binary, database: &Database) -> Binary {
    binary.clone().set("SA01_DB_DSN", &database.dsn())
}
