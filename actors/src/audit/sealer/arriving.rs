//! The sealer comes to a server: it looks whether the trail is at home there, and takes it over if not.
//!
//! That it is not is written where whoever owns the database can write. A sealer with the key vouches for what it takes over, so it
//! asks the checkpoints first: if the newest one was signed on this server, the trail was never away.

use super::{Known, SealerDeps, tell};
use crate::{
    audit::told::BookError,
    store::{
        StoreError, audit_server,
        audit_takeover::{self, Home, Takeover},
        audit_walk,
    },
};

/// Tenants read at a time.
const TENANTS: i64 = 500;
/// Rows looked at in one transaction: most of them are sealed.
const ROWS: i64 = 2_000;

/// Looks whether the trail is at home here, and makes it so. Returns whether there may be rows to seal.
pub(super) async fn settle_in(deps: &SealerDeps, known: &mut Known) -> Result<bool, StoreError> {
    let takeover = match look(deps).await? {
        Home::Here => return Ok(known.settled()),
        Home::Missing => return Ok(known.stuck(deps, "it is not written down how far the sealing is")),
        Home::Elsewhere(takeover) => takeover,
    };
    let from = takeover.from.clone().unwrap_or_default();
    if known.disbelieved.as_ref() == Some(&from) {
        return Ok(false);
    }
    let was_here = match was_here(deps, &takeover).await {
        Ok(was_here) => was_here,
        Err(BookError::Store(error)) => return Err(error),
        Err(BookError::Log(error)) => {
            return Ok(
                known.stuck(deps, &format!("it comes from another server, and checkpoints cannot be read: {error}"))
            );
        }
    };
    // Somebody else may have taken it over while the checkpoints were read, and signed.
    if was_here && !matches!(look(deps).await?, Home::Here) {
        let to = takeover.to;
        let why = format!(
            "it is said to come from the server {from:?}, and the last checkpoint was signed on this one, {to:?}"
        );
        known.disbelieved = Some(from);
        return Ok(known.stuck(deps, &why));
    }
    if !was_here {
        take_over(deps, takeover).await?;
    }
    Ok(known.settled())
}

async fn look(deps: &SealerDeps) -> Result<Home, StoreError> {
    let work = deps.store.run(|connection| {
        Box::pin(async move {
            let server = audit_server::identity(connection).await?;
            audit_takeover::look(connection, server).await
        })
    });
    work.await
}

/// Whether the newest checkpoint was signed on the server that the trail is said to come to. Without a key there is none.
async fn was_here(deps: &SealerDeps, takeover: &Takeover) -> Result<bool, BookError> {
    let Some(signer) = &deps.signer else { return Ok(false) };
    // Earlier keys are known by the settings.
    let key = match deps.settings.key() {
        Ok(Some(key)) => key.and(signer.public()),
        _ => signer.public(),
    };
    Ok(deps.book.signed_on(&key).await?.as_ref() == Some(&takeover.to))
}

impl Known {
    /// The trail is at home. Returns that there may be rows to seal.
    fn settled(&mut self) -> bool {
        *self = Self { at_home: true, stuck: self.stuck.take(), ..Self::default() };
        true
    }
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
    // The next one to come here, or to another server, knows by it.
    if let Some(signer) = &deps.signer {
        while tell(deps, signer.clone()).await? {}
    }
    deps.metrics.sealed(rows);
    tracing::warn!(rows, "the audit trail was taken over; rows that came along unsealed are sealed now");
    Ok(())
}

/// Takes over what is not sealed of one tenant. Returns how many rows.
async fn take_tenant(deps: &SealerDeps, takeover: &Takeover, tenant: String) -> Result<usize, StoreError> {
    let (mut after, mut rows) = (None, 0);
    loop {
        let (takeover, tenant, at) = (takeover.clone(), tenant.clone(), (deps.clock)());
        let signer = deps.signer.clone();
        let work = deps.store.run(move |connection| {
            Box::pin(async move {
                let sign = |vouched: &_| signer.as_ref()?.vouch(vouched);
                audit_takeover::take(connection, &takeover, &tenant, (after, ROWS), at, sign).await
            })
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
