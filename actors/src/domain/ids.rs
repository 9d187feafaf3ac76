//! Who owns a conversation and which one it is.

use std::{fmt, sync::Arc};

use serde::{Serialize, Serializer};
use uuid::Uuid;

/// The name of a tenant, at most [`Tenant::MAX_CHARS`] characters, resolved once at the door and passed on explicitly.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// Longest accepted name, in characters.
    pub const MAX_CHARS: usize = 200;

    /// Takes a name that has been trimmed; `None` when it is empty, too long or holds a control character.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let usable = (1..=Self::MAX_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        usable.then(|| Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Tenant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The identity of a session: an id of another tenant does not exist for a caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// Whose session it is.
    pub tenant: Tenant,
    /// Its id inside that tenant.
    pub session_id: Uuid,
}

impl SessionKey {
    /// Puts the pair together.
    #[must_use]
    pub const fn new(tenant: Tenant, session_id: Uuid) -> Self {
        Self { tenant, session_id }
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.session_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_name_is_short_and_printable() {
        assert!(Tenant::new("public").is_some());
        for bad in ["", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(Tenant::new(bad).is_none(), "{bad:?} was taken");
        }
    }
}
