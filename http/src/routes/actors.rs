//! The actors of the process, for people who operate it.

use std::collections::BTreeMap;

use actix_web::web::{Data, Json};
use serde::Serialize;
use somaagent_supervision::{ActorSnapshot, GroupSnapshot, InstanceQuery, PortSnapshot};
use utoipa::ToSchema;

use crate::{door::Door, extract::Query, problem::Problem};

/// A page of actors.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActorsReply {
    /// Supervisors before their children; many actors of one kind are one row with a `count`.
    actors: Vec<ActorRow>,
    /// Where the next page begins; absent on the last.
    next_cursor: Option<u64>,
}

/// One actor, or many of one kind.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ActorRow {
    /// Names from the root down, joined by slashes.
    path: String,
    /// What it is doing; for many, the state most of them are in.
    state: String,
    /// How often it was restarted; 0 for many, because these are not.
    restarts: u32,
    /// Messages queued or in hand.
    depth: usize,
    /// The most there can be of them.
    capacity: usize,
    /// Age of the oldest of them.
    oldest_message_age_ms: Option<u64>,
    /// What went wrong last.
    last_error: Option<String>,
    /// How many actors the row stands for, if it stands for many.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    /// How many of them are in each state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    states: BTreeMap<&'static str, usize>,
    /// Its ports, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortRow>,
}

/// One way into an actor's mailbox.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PortRow {
    /// Its name.
    name: &'static str,
    /// What it takes.
    message: &'static str,
    /// Messages queued or in hand.
    depth: usize,
    /// The most there can be of them.
    capacity: usize,
}

/// Lists the supervised actors. With `group`, the single actors that row stands for.
#[utoipa::path(
    get,
    path = "/v1/admin/actors",
    tag = "admin",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 500, description = "Page size (200)"),
        ("cursor" = Option<i64>, Query, minimum = 0, description = "The `next_cursor` of the page before"),
        ("group" = Option<String>, Query, description = "The `path` of a row with a `count`"),
        ("state" = Option<String>, Query, description = "With `group`: only actors in this state"),
    ),
    responses((status = 200, description = "A page of actors", body = ActorsReply)),
    extensions(("x-action" = json!("admin.actors.read")), ("x-problems" = json!(["invalid-query"]))),
)]
pub(crate) async fn get_actors(door: Data<Door>, query: Query) -> Result<Json<ActorsReply>, Problem> {
    let limit = usize::try_from(query.limit(500, 200)?).unwrap_or(usize::MAX);
    let cursor = query.number("cursor", 0..=i64::MAX)?.and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let state = query.text("state")?.map(str::to_owned);
    let Some(group) = query.text("group")? else { return Ok(Json(overview(&door, cursor, limit))) };
    let page = door.tree.instances(group, &InstanceQuery { state, after: cursor, limit });
    Ok(Json(ActorsReply { actors: page.instances.into_iter().map(single).collect(), next_cursor: page.next }))
}

fn overview(door: &Door, cursor: u64, limit: usize) -> ActorsReply {
    let snapshot = door.tree.snapshot();
    let rows = rows(snapshot.actors, snapshot.groups);
    let skip = usize::try_from(cursor).unwrap_or(usize::MAX);
    let end = skip.saturating_add(limit);
    let next_cursor = u64::try_from(end).ok().filter(|_| end < rows.len());
    ActorsReply { actors: rows.into_iter().skip(skip).take(limit).collect(), next_cursor }
}

/// Groups stand after the last actor of their supervisor.
fn rows(actors: Vec<ActorSnapshot>, groups: Vec<GroupSnapshot>) -> Vec<ActorRow> {
    let mut rows: Vec<ActorRow> = actors.into_iter().map(single).collect();
    for group in groups {
        let parent = group.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let below = |path: &str| path == parent || path.strip_prefix(parent).is_some_and(|rest| rest.starts_with('/'));
        let at = rows.iter().rposition(|row| below(&row.path)).map_or(rows.len(), |last| last + 1);
        rows.insert(at, many(group));
    }
    rows
}

fn single(actor: ActorSnapshot) -> ActorRow {
    ActorRow {
        path: actor.path,
        state: actor.state.to_owned(),
        restarts: actor.restarts,
        depth: actor.mailbox_depth,
        capacity: actor.mailbox_capacity,
        oldest_message_age_ms: actor.oldest_message_age_ms,
        last_error: actor.last_error,
        count: None,
        states: BTreeMap::new(),
        ports: actor.ports.iter().map(port).collect(),
    }
}

fn many(group: GroupSnapshot) -> ActorRow {
    let most = group.states.iter().max_by_key(|(_, count)| **count).map_or("gone", |(state, _)| state);
    ActorRow {
        path: group.path,
        state: most.to_owned(),
        restarts: 0,
        depth: group.mailbox_depth,
        capacity: group.mailbox_capacity,
        oldest_message_age_ms: group.oldest_message_age_ms,
        last_error: None,
        count: Some(group.instances),
        states: group.states,
        ports: Vec::new(),
    }
}

fn port(port: &PortSnapshot) -> PortRow {
    let &PortSnapshot { name, message, depth, capacity } = port;
    PortRow { name, message, depth, capacity }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(path: &str) -> ActorSnapshot {
        ActorSnapshot {
            path: path.to_owned(),
            state: "running",
            restarts: 0,
            mailbox_depth: 0,
            mailbox_capacity: 8,
            oldest_message_age_ms: None,
            last_error: None,
            ports: Vec::new(),
        }
    }

    #[test]
    fn many_actors_of_one_kind_are_one_row_below_their_supervisor() {
        let actors = ["root", "root/sessions", "root/sessions/journal", "root/telemetry"].map(actor).into();
        let group = GroupSnapshot {
            path: "root/sessions/conversation".to_owned(),
            instances: 3,
            states: BTreeMap::from([("idle", 2), ("thinking", 1)]),
            mailbox_depth: 1,
            mailbox_capacity: 240,
            oldest_message_age_ms: Some(4),
        };
        let rows = rows(actors, vec![group]);
        let paths: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(
            paths,
            ["root", "root/sessions", "root/sessions/journal", "root/sessions/conversation", "root/telemetry"]
        );
        assert_eq!((rows[3].state.as_str(), rows[3].count), ("idle", Some(3)));
        assert_eq!((rows[0].count, rows[0].state.as_str()), (None, "running"));
    }
}
