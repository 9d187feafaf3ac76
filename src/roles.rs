//! What a process does: everything, or a part of it beside other processes on the same database.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::Deserialize;

/// A part of the work. The order is that of a message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Serves people: the front door and the conversations.
    Gateway,
    /// Writes memories to the memory service.
    MemorySync,
    /// Carries records to the log.
    Outbox,
    /// Keeps the replica of what was remembered.
    Replicator,
}

impl Role {
    const ALL: [Self; 4] = [Self::Gateway, Self::MemorySync, Self::Outbox, Self::Replicator];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::MemorySync => "memory-sync",
            Self::Outbox => "outbox",
            Self::Replicator => "replicator",
        }
    }
}

/// The roles of a process, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Roles(BTreeSet<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self(Role::ALL.into())
    }
}

impl Roles {
    /// Whether `role` is among them.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// The roles, in the order of a message's way.
    pub fn iter(&self) -> impl Iterator<Item = Role> {
        self.0.iter().copied()
    }

    /// Those that some other process must have, or the work stays undone.
    pub fn missing(&self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(|role| !self.has(*role))
    }

    /// Whether the process does everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.missing().next().is_none()
    }
}

/// A word that names no role.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no role; there are all, gateway, memory-sync, outbox and replicator")]
pub struct UnknownRole(String);

impl FromStr for Roles {
    type Err = UnknownRole;

    /// Names with commas between them; `all` is all of them.
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let mut roles = BTreeSet::new();
        for name in text.split(',').map(str::trim) {
            match Role::ALL.into_iter().find(|role| role.name() == name) {
                Some(role) => {
                    roles.insert(role);
                }
                None if name == "all" => roles.extend(Role::ALL),
                None => return Err(UnknownRole(name.to_owned())),
            }
        }
        Ok(Self(roles))
    }
}

impl TryFrom<String> for Roles {
    type Error = UnknownRole;

    fn try_from(text: String) -> Result<Self, UnknownRole> {
        text.parse()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("all");
        }
        f.write_str(&self.iter().map(Role::name).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn roles_are_named_one_by_one_or_all_at_once() {
        let two: Roles = "replicator, outbox".parse().unwrap();
        assert!(two.has(Role::Outbox) && two.has(Role::Replicator) && !two.has(Role::Gateway));
        assert_eq!((two.to_string().as_str(), two.is_all()), ("outbox,replicator", false));
        assert_eq!(two.missing().collect::<Vec<_>>(), [Role::Gateway, Role::MemorySync]);
        for all in ["all", "gateway,memory-sync,outbox,replicator", "outbox,all"] {
            assert_eq!(all.parse::<Roles>().unwrap(), Roles::default());
        }
        for wrong in ["", "worker", "outbox,", "Outbox"] {
            assert!(wrong.parse::<Roles>().is_err(), "{wrong}");
        }
    }
}
