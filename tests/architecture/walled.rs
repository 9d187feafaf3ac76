//! What is done for one tenant takes a transaction that sees this tenant only. What takes a whole connection and a tenant all the
//! same is listed here, with the reason.

use crate::reading::{Finding, Source};

/// Functions of the store that name a tenant or a session and see all of them: file, function, reason.
const UNWALLED: &[(&str, &str, &str)] = &[
    // Steps of changes that are made for tenants and of work for all of them. For tenants they are called behind the wall.
    ("audit_event.rs", "insert", STEP),
    ("audit_event.rs", "insert_of_session", STEP),
    ("audit_event.rs", "put", STEP),
    ("dead_letters/replay.rs", "delete_all", STEP),
    ("dead_letters/replay.rs", "lock_page", STEP),
    ("memory_lock.rs", "lock", STEP),
    ("memory_lock.rs", "lock_shared", STEP),
    ("message_outbox/mod.rs", "forget_failed", STEP),
    ("session_events.rs", "between", STEP),
    // A conversation takes its session over and goes on with it, as the Journal does.
    ("session_envelopes.rs", "claim", OWNER),
    ("session_envelopes.rs", "fence_unused", OWNER),
    ("session_envelopes.rs", "hold", OWNER),
    ("session_events.rs", "by_id", OWNER),
    ("session_events.rs", "by_idempotency_key", OWNER),
    ("turns.rs", "last", OWNER),
    ("turns.rs", "open", OWNER),
    // Work for all tenants, one after the other.
    ("audit_event.rs", "insert_of_process", WORKER),
    ("audit_takeover.rs", "*", WORKER),
    ("audit_walk.rs", "head", WORKER),
    ("audit_walk.rs", "page", WORKER),
    ("audit_walk.rs", "takeover", WORKER),
    ("audit_walk.rs", "unsealed", WORKER),
    ("export_chunks.rs", "insert", WORKER),
    ("memory_write_outbox/mod.rs", "newest_state", WORKER),
    ("memory_replica/reads.rs", "numbers", "the index of texts is of no use behind the wall; it gives numbers only"),
    ("wall.rs", "within", "for tests"),
    ("brain_memories.rs", "*", "the stand-in of another service"),
];

const STEP: &str = "a step of both";
const OWNER: &str = "the conversation's";
const WORKER: &str = "a worker's";

/// Whether a row of the list is about a function.
fn is_about((path, name, _): &(&str, &str, &str), file: &str, function: &str) -> bool {
    file.ends_with(&format!("store/{path}")) && (*name == "*" || *name == function)
}

/// The functions of a file that take a connection, and a tenant or a session: line, name.
fn unwalled(text: &str) -> Vec<(usize, &str)> {
    let ours = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = Vec::new();
    for (at, _) in ours.match_indices("async fn ") {
        let rest = &ours[at + "async fn ".len()..];
        let head = &rest[..rest.find(") ->").unwrap_or(rest.len())];
        let (name, parameters) = head.split_once('(').unwrap_or((head, ""));
        let name = name.split('<').next().unwrap_or_default();
        let of_somebody = ["tenant: &", "tenant, ", "key: &SessionKey", "session: &SessionKey"];
        if parameters.contains("&mut PgConnection") && of_somebody.iter().any(|part| parameters.contains(part)) {
            found.push((ours[..at].lines().count(), name));
        }
    }
    found
}

pub(crate) fn beside_the_wall(file: &Source) -> Vec<Finding> {
    let path = file.file.to_string_lossy();
    let listed = |name: &str| UNWALLED.iter().any(|row| is_about(row, &path, name));
    let found = unwalled(&file.text).into_iter().filter(|(_, name)| !listed(name));
    found
        .map(|(line, name)| file.finding(line, format!("`{name}` sees all tenants: it may take a `TenantTx`")))
        .collect()
}

/// Rows of the list that are about nothing.
pub(crate) fn stale(files: &[Source]) -> Vec<&'static str> {
    let is_there = |row: &&(&'static str, &'static str, &'static str)| {
        files.iter().any(|file| {
            let path = file.file.to_string_lossy();
            unwalled(&file.text).into_iter().any(|(_, name)| is_about(row, &path, name))
        })
    };
    UNWALLED.iter().filter(|row| !is_there(row)).map(|(_, name, _)| *name).collect()
}

#[test]
fn a_function_that_sees_all_tenants_is_found() {
    let planted = "pub async fn list(\n    connection: &mut PgConnection,\n    tenant: &str,\n) -> Result<(), E> {}\n
        pub async fn all(connection: &mut PgConnection) -> u8 {}\n
        async fn of(rows: &mut TenantTx<'_>, tenant: &str) -> u8 {}\n";
    assert_eq!(unwalled(planted), [(1, "list")]);
}
