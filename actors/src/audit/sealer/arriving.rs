//! The sealer comes to a server: it looks whether the trail is at home there, and takes it over if not.

use super::{Known, SealerDeps};
use crate::store::{
    StoreError, audit_server,
    audit_takeover::{self, Home, Takeover},
    audit_walk,
};

/// Tenants read at a time.
const TENANTS: i64 = 500;
/// Rows looked at in one transaction: most of them are sealed.
const ROWS: i64 = 2_000;

/// Looks whether the trail is at home here, and makes it so. Returns whether there may be rows to seal.
pub(super) async fn settle_in(deps: &SealerDeps, known: &mut Known) -> Result<bool, StoreError> {
    let work = deps.store.run(|connection| {
        Box::pin(async move {
            let server = audit_server::identity(connection).await?;
            audit_takeover::look(connection, server).await
        })
    });
    match work.await? {
        Home::Here => {}
        Home::Missing => return Ok(known.stuck(deps, "it is not written down how far the sealing is")),
        Home::Elsewhere(takeover) => take_over(deps, takeover).await?,
    }
    *known = Known { at_home: true, reached: None, ..std::mem::take(known) };
    Ok(true)
}

async fn take_over(deps: &SealerDeps, takeover: Takeover) -> Result<(), StoreError> {
    let Takeover { from, to, .. } = &takeover;
    tracing::warn!(from, to, "the audit trail comes from another server: it is taken over");
    let (mut after, mut rows): (Option<String>, usize) = (None, 0);
    loop {
        let from = after.clone();
        let work = deps.store.run(move |connection| {
            Box::pin(async move { audit_walk::tenants(connection, from.as_deref(), TENANTS).await })
        });
        let tenants = work.await?;
        let Some(last) = tenants.last() else { break };
        after = Some(last.clone());
        for tenant in tenants {
            rows += take_tenant(deps, &takeover, tenant).await?;
        }
    }
    let settled = takeover.clone();
    deps.store
        .run(move |connection| Box::pin(async move { audit_takeover::settle(connection, &settled).await }))
        .await?;
    deps.metrics.sealed(rows);
    tracing::warn!(rows, "the audit trail was taken over; rows that came along unsealed are sealed now");
    Ok(())
}

/// Takes over what is not sealed of one tenant. Returns how many rows.
async fn take_tenant(deps: &SealerDeps, takeover: &Takeover, tenant: String) -> Result<usize, StoreError> {
    let (mut after, mut rows) = (None, 0);
    loop {
        let (takeover, tenant, at) = (takeover.clone(), tenant.clone(), (deps.clock)());
        let work = deps.store.run(move |connection| {
            Box::pin(async move { audit_takeover::take(connection, &takeover, &tenant, after, ROWS, at).await })
        });
        // Somebody else was faster, or there is nothing more.
        let Some(taken) = work.await? else { return Ok(rows) };
        rows += taken.rows;
        if taken.last.is_none() {
            return Ok(rows);
        }
        after = taken.last;
    }
}
