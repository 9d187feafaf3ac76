//! The tree as it is now, for people and health checks. Read from shared state; wakes no actor.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    cell::ChildCell,
    spec::Restart,
    supervisor::{Link, Member},
    tree::Tree,
};

/// All supervised actors. `Temporary` children are counted in groups, however many there are; see
/// [`Tree::instances`] for single ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TreeSnapshot {
    /// Supervisors and lasting children, parents before children, in start order.
    pub actors: Vec<ActorSnapshot>,
    /// `Temporary` children, one group for each supervisor and name.
    pub groups: Vec<GroupSnapshot>,
}

/// One actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActorSnapshot {
    /// Names from the root down, joined by slashes; an instance of many ends in its label or number.
    pub path: String,
    /// What it is doing: its own word ([`Child::state_name`](crate::Child::state_name)) while it
    /// runs, else `starting`, `stopping`, `parked` (stopped, to be restarted), `crashed`, `ended`,
    /// `backing-off` or `gone`.
    pub state: &'static str,
    /// How often it was restarted.
    pub restarts: u32,
    /// Messages queued or in hand, over its ports.
    pub mailbox_depth: usize,
    /// The most there can be of them.
    pub mailbox_capacity: usize,
    /// Age of the oldest of them, in milliseconds.
    pub oldest_message_age_ms: Option<u64>,
    /// What went wrong last, kept after a restart.
    pub last_error: Option<String>,
    /// Its ports, one by one.
    pub ports: Vec<PortSnapshot>,
}

/// One port of an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortSnapshot {
    /// The port's name.
    pub name: &'static str,
    /// The type of its messages.
    pub message: &'static str,
    /// Messages queued or in hand.
    pub depth: usize,
    /// The most there can be of them.
    pub capacity: usize,
}

/// All `Temporary` children of one name under one supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupSnapshot {
    /// The supervisor's path and the children's name.
    pub path: String,
    /// How many there are.
    pub instances: usize,
    /// How many are in each state.
    pub states: BTreeMap<&'static str, usize>,
    /// Messages queued or in hand, over all.
    pub mailbox_depth: usize,
    /// The most there can be of them, over all.
    pub mailbox_capacity: usize,
    /// Age of the oldest of them, in milliseconds.
    pub oldest_message_age_ms: Option<u64>,
}

/// Which instances of a group to show.
#[derive(Debug, Clone, Default)]
pub struct InstanceQuery {
    /// Only those in this state.
    pub state: Option<String>,
    /// Only those after this number: [`InstancePage::next`] of the page before, 0 for the first.
    pub after: u64,
    /// At most this many.
    pub limit: usize,
}

/// One page of a group's instances, in start order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<ActorSnapshot>,
    /// Where the next page begins, when there is more.
    pub next: Option<u64>,
}

impl Tree {
    /// The whole tree. With many instances it costs about a microsecond for each, so ask for it on a
    /// person's or a scraper's pace.
    #[must_use]
    pub fn snapshot(&self) -> TreeSnapshot {
        let mut snapshot = TreeSnapshot::default();
        let now = Instant::now();
        for root in self.shared().roots() {
            walk(&root, now, &mut snapshot);
        }
        snapshot
    }

    /// A page of the instances of one group. `path` as in [`GroupSnapshot::path`]; a path that is
    /// no group gives an empty page.
    #[must_use]
    pub fn instances(&self, path: &str, query: &InstanceQuery) -> InstancePage {
        let mut page = InstancePage { instances: Vec::new(), next: None };
        let Some((parent, name)) = path.rsplit_once('/') else {
            return page;
        };
        let now = Instant::now();
        let Some(link) = self.links().into_iter().find(|link| *link.path == *parent) else {
            return page;
        };
        let mut last = query.after;
        for (order, cell) in instances_of(&link, name, query.after) {
            let state = cell.look().state;
            if query.state.as_deref().is_some_and(|wanted| wanted != state) {
                continue;
            }
            if page.instances.len() == query.limit {
                page.next = Some(last);
                break;
            }
            page.instances.push(actor(instance_path(&link, &cell), &cell, now));
            last = order;
        }
        page
    }

    /// Every actor, instances included, whose oldest message has been queued or in hand for longer
    /// than `limit`: a handler that never ends is no crash, so somebody has to look.
    pub fn stalled(&self, limit: Duration) -> Vec<ActorSnapshot> {
        let now = Instant::now();
        let mut stalled = Vec::new();
        for link in self.links() {
            let cells: Vec<_> = link.roster.lock().values().map(cell_of).collect();
            for cell in cells {
                if oldest(&cell, now).is_some_and(|age| age > limit) {
                    stalled.push(actor(instance_path(&link, &cell), &cell, now));
                }
            }
        }
        stalled
    }

    /// All supervisors, parents first.
    fn links(&self) -> Vec<Arc<Link>> {
        let mut links = self.shared().roots();
        let mut next = 0;
        while let Some(link) = links.get(next).cloned() {
            let roster = link.roster.lock();
            links.extend(roster.values().filter_map(|member| member.subtree.clone()));
            next += 1;
        }
        links
    }
}

fn cell_of(member: &Member) -> Arc<ChildCell> {
    Arc::clone(&member.cell)
}

fn walk(link: &Arc<Link>, now: Instant, snapshot: &mut TreeSnapshot) {
    if let Some(cell) = link.cell() {
        snapshot.actors.push(actor(link.path.to_string(), cell, now));
    }
    // Copied out, so that looking at many children does not hold their supervisor up.
    let members: Vec<_> =
        link.roster.lock().values().map(|member| (cell_of(member), member.policy, member.subtree.clone())).collect();
    let mut namesakes: HashMap<&str, usize> = HashMap::new();
    for (cell, _, _) in &members {
        *namesakes.entry(cell.name()).or_default() += 1;
    }
    let mut groups: BTreeMap<&str, GroupSnapshot> = BTreeMap::new();
    for (cell, policy, subtree) in &members {
        if let Some(subtree) = subtree {
            walk(subtree, now, snapshot);
        } else if *policy == Restart::Temporary {
            let group = groups.entry(cell.name()).or_insert_with(|| GroupSnapshot {
                path: format!("{}/{}", link.path, cell.name()),
                instances: 0,
                states: BTreeMap::new(),
                mailbox_depth: 0,
                mailbox_capacity: 0,
                oldest_message_age_ms: None,
            });
            add(group, cell, now);
        } else {
            let alone = cell.label().is_none() && namesakes.get(cell.name()) == Some(&1);
            let path = if alone { format!("{}/{}", link.path, cell.name()) } else { instance_path(link, cell) };
            snapshot.actors.push(actor(path, cell, now));
        }
    }
    snapshot.groups.extend(groups.into_values());
}

fn add(group: &mut GroupSnapshot, cell: &ChildCell, now: Instant) {
    group.instances += 1;
    *group.states.entry(cell.look().state).or_default() += 1;
    for slots in cell.ports() {
        group.mailbox_depth += slots.depth();
        group.mailbox_capacity += slots.capacity();
    }
    group.oldest_message_age_ms = group.oldest_message_age_ms.max(oldest(cell, now).map(millis));
}

fn instances_of(link: &Link, name: &str, after: u64) -> Vec<(u64, Arc<ChildCell>)> {
    link.roster
        .lock()
        .range(after.saturating_add(1)..)
        .filter(|(_, member)| member.policy == Restart::Temporary && member.cell.name() == name)
        .map(|(order, member)| (*order, cell_of(member)))
        .collect()
}

fn instance_path(link: &Link, cell: &ChildCell) -> String {
    let name = cell.name();
    match cell.label() {
        Some(label) => format!("{}/{name}/{label}", link.path),
        None => format!("{}/{name}/{}", link.path, cell.order()),
    }
}

fn actor(path: String, cell: &ChildCell, now: Instant) -> ActorSnapshot {
    let look = cell.look();
    let ports: Vec<_> = cell
        .ports()
        .iter()
        .map(|slots| PortSnapshot {
            name: slots.name(),
            message: slots.message(),
            depth: slots.depth(),
            capacity: slots.capacity(),
        })
        .collect();
    ActorSnapshot {
        path,
        state: look.state,
        restarts: look.restarts,
        mailbox_depth: ports.iter().map(|port| port.depth).sum(),
        mailbox_capacity: ports.iter().map(|port| port.capacity).sum(),
        oldest_message_age_ms: oldest(cell, now).map(millis),
        last_error: look.last_error.as_deref().map(ToOwned::to_owned),
        ports,
    }
}

fn oldest(cell: &ChildCell, now: Instant) -> Option<Duration> {
    cell.ports().iter().filter_map(|slots| slots.oldest(now)).max()
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}
