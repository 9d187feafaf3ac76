//! How much may be kept of files, by each tenant and in each session of it, and how much of that is left.
//!
//! An attachment takes as much as it has bytes, also where another one has the very same; one whose bytes are gone takes nothing. An
//! upload in pieces takes what it is to have from its beginning on, and nothing more when it becomes an attachment.

use std::fmt;

use uuid::Uuid;

use super::{Uploads, rules::Quotas};
use crate::{
    domain::caller::Caller,
    store::{StoreError, attachments::quota, wall::TenantTx},
};

/// Whose files are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of the tenant.
    Tenant,
    /// Those of the session.
    Session,
}

/// How many bytes may be kept, and how many are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Most of them.
    pub limit: u64,
    /// Those that are.
    pub used: u64,
}

/// Where files belong, by what may be kept there; `None` where everything may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Of the tenant.
    pub tenant: Option<Quota>,
    /// Of the session, if they belong to one.
    pub session: Option<Quota>,
}

/// Why a file is not kept: there is no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("files of the {scope} may have {} bytes in all, of which {} are left", quota.limit, quota.left())]
pub struct OverQuota {
    /// Of whose.
    pub scope: Scope,
    /// How much there was.
    pub quota: Quota,
}

impl Scope {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.as_str())
    }
}

impl Quota {
    /// How many more may be kept; none where the limit was lowered since.
    #[must_use]
    pub const fn left(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

impl Room {
    /// Whether there is room for so many bytes more. For none there always is.
    ///
    /// # Errors
    /// There is not.
    pub fn check(&self, bytes: u64) -> Result<(), OverQuota> {
        for (scope, quota) in [(Scope::Session, self.session), (Scope::Tenant, self.tenant)] {
            if let Some(quota) = quota.filter(|quota| bytes > quota.left()) {
                return Err(OverQuota { scope, quota });
            }
        }
        Ok(())
    }

    /// So many bytes more are kept.
    pub fn take(&mut self, bytes: u64) {
        for quota in [&mut self.tenant, &mut self.session].into_iter().flatten() {
            quota.used = quota.used.saturating_add(bytes);
        }
    }

    /// The same for whoever keeps something in this transaction: nobody else takes any of it until that ends.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn held(
        rows: &mut TenantTx<'_>,
        quotas: Quotas,
        (tenant, session): (&str, Option<Uuid>),
    ) -> Result<Self, sqlx::Error> {
        if quotas.counts(session) {
            quota::lock(rows, tenant).await?;
        }
        Self::of(rows, quotas, (tenant, session)).await
    }

    async fn of(
        rows: &mut TenantTx<'_>,
        quotas: Quotas,
        (tenant, session): (&str, Option<Uuid>),
    ) -> Result<Self, sqlx::Error> {
        let of = |limit, used: i64| Some(Quota { limit, used: used.unsigned_abs() });
        let mut room = Self::default();
        if let Some(limit) = quotas.tenant_bytes {
            room.tenant = of(limit, quota::used_by_tenant(rows, tenant).await?);
        }
        if let Some((limit, session)) = quotas.session_bytes.zip(session) {
            room.session = of(limit, quota::used_by_session(rows, tenant, session).await?);
        }
        Ok(room)
    }
}

impl Quotas {
    /// Whether anything is counted for files of a session, or of none.
    const fn counts(self, session: Option<Uuid>) -> bool {
        self.tenant_bytes.is_some() || self.session_bytes.is_some() && session.is_some()
    }
}

impl Uploads {
    /// What is left for files of the caller, and of a session if they belong to one. Others may take it meanwhile: it counts what is
    /// there when files are kept.
    ///
    /// # Errors
    /// The store's.
    pub async fn room(&self, caller: &Caller, quotas: Quotas, session: Option<Uuid>) -> Result<Room, StoreError> {
        if !quotas.counts(session) {
            return Ok(Room::default());
        }
        let tenant = caller.tenant.clone();
        let work = self.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move { Room::of(rows, quotas, (tenant.as_str(), session)).await })
        });
        work.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_to_the_last_byte_and_for_nothing_also_beyond_it() {
        let quota = |limit, used| Some(Quota { limit, used });
        let over = |room: Room, bytes| room.check(bytes).err().map(|over| over.scope);
        let mut room = Room { tenant: quota(10, 4), session: quota(8, 4) };
        assert_eq!((over(room, 4), over(room, 5)), (None, Some(Scope::Session)));
        assert_eq!(over(Room { session: None, ..room }, 7), Some(Scope::Tenant));
        room.take(4);
        assert_eq!((over(room, 0), over(room, 1)), (None, Some(Scope::Session)));
        assert_eq!(over(Room { tenant: quota(3, 9), session: None }, 0), None, "the limit was lowered");
        assert_eq!(over(Room::default(), u64::MAX), None);
    }
}
