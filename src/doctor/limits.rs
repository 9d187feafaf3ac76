//! How many files the system lets a process have open.

use rustix::process::{Resource, getrlimit};

use super::{Look, finding::Notes};
use crate::open_files::{Needs, room_of};
use crate::roles::Role;

pub(super) fn check(look: Look<'_>, notes: &Notes) {
    let config = look.config;
    if !config.server.role.has(Role::Gateway) {
        return notes.skipped("limit", "no clients connect to a process of these roles");
    }
    // A process raises its limit as far as it may.
    let Some(limit) = getrlimit(Resource::Nofile).maximum else {
        return notes.ok("limit", "nothing limits open files");
    };
    let needs = Needs {
        turns: config.turns.max_running,
        database: usize::try_from(config.database.pool_size).unwrap_or(usize::MAX),
        memory: config.brain.max_calls(),
        scanners: config.antivirus.scanners,
        extractions: config.extraction.at_once(),
    };
    let room = room_of(limit, needs);
    let wanted = config.http.max_connections.saturating_mul(config.http.threads());
    let seen = format!("{limit} open files leave room for {room} connections of clients");
    if room < wanted.min(config.limits.max_streams.max(1)) {
        let advice =
            format!("raise the limit (ulimit -Hn, LimitNOFILE=) if more may come: the settings allow {wanted}");
        notes.note("limit", seen, Some(&advice));
    } else {
        notes.ok("limit", seen);
    }
}
