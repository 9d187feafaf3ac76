//! Finds whatever somebody did to the audit trail, a page at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::checkpoint::{Checkpoint, CheckpointKey};
pub use crate::domain::audit_walk::{Finding, Kind};
use crate::{
    domain::{
        audit_chain::Head,
        audit_walk::{Known, Walk},
    },
    store::{Store, StoreError, audit_walk},
};

/// Links read at a time.
const LINKS: i64 = 500;
/// Tenants read at a time.
const TENANTS: i64 = 500;
/// Rows looked at at a time for such as have no link.
const ROWS: i64 = 5_000;

/// What verifying came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Chains that were walked along.
    pub tenants: usize,
    /// Links that they have.
    pub links: i64,
    /// Checkpoints that they were compared with.
    pub checkpoints: usize,
    /// What does not fit.
    pub findings: Vec<Finding>,
}

/// Checkpoints whose signatures are good, by tenant, and what is wrong with the others.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    good: BTreeMap<String, Vec<Known>>,
    count: usize,
    forged: Vec<Finding>,
}

impl Checkpoints {
    /// Reads what was signed, in the order in which it was told.
    #[must_use]
    pub fn read(signed: &[String], key: &CheckpointKey) -> Self {
        let mut all = Self::default();
        // A checkpoint may have been told twice.
        let mut seen = BTreeSet::new();
        for (place, jws) in (1..).zip(signed) {
            if !seen.insert(jws) {
                continue;
            }
            match key.read(jws).and_then(|checkpoint| Some((checkpoint.head()?, checkpoint))) {
                Some((head, Checkpoint { tenant, iat, .. })) => {
                    let source = format!("the checkpoint at {iat}");
                    all.good.entry(tenant).or_default().push(Known { head, source });
                    all.count += 1;
                }
                None => all.forged.push(Finding {
                    tenant: String::new(),
                    number: None,
                    row: None,
                    kind: Kind::CheckpointForged,
                    what: format!("checkpoint {place} is not signed by the key, or is none"),
                }),
            }
        }
        all
    }
}

/// Verifies the chain of `only`, or all chains; of a tenant of which nothing is known the report counts no chain. The checkpoints must have been read before: a chain grows.
///
/// # Errors
/// The store's.
pub async fn verify(store: &Store, only: Option<&str>, mut checkpoints: Checkpoints) -> Result<Report, StoreError> {
    let mut report = Report { findings: std::mem::take(&mut checkpoints.forged), ..Report::default() };
    report.checkpoints = checkpoints.count;
    if !store.run(|connection| Box::pin(audit_walk::has_sealer(connection))).await? {
        let what = "it is not written down how far the sealing is, so nothing is sealed any more".to_owned();
        report.findings.push(Finding {
            tenant: String::new(),
            number: None,
            row: None,
            kind: Kind::SealerMissing,
            what,
        });
    }
    if let Some(tenant) = only {
        let known = checkpoints.good.remove(tenant).unwrap_or_default();
        report.checkpoints = known.len();
        walk(store, tenant, known, &mut report).await?;
        return Ok(report);
    }
    let mut after: Option<String> = None;
    loop {
        let from = after.clone();
        let work = store.run(move |connection| {
            Box::pin(async move { audit_walk::tenants(connection, from.as_deref(), TENANTS).await })
        });
        let tenants = work.await?;
        let Some(last) = tenants.last() else { break };
        after = Some(last.clone());
        for tenant in tenants {
            let known = checkpoints.good.remove(&tenant).unwrap_or_default();
            walk(store, &tenant, known, &mut report).await?;
        }
    }
    // Chains of which nothing is left but what was told.
    for (tenant, known) in std::mem::take(&mut checkpoints.good) {
        walk(store, &tenant, known, &mut report).await?;
    }
    Ok(report)
}

async fn walk(store: &Store, tenant: &str, known: Vec<Known>, report: &mut Report) -> Result<(), StoreError> {
    let end = head(store, tenant).await?;
    let mut is_there = end.is_some() || !known.is_empty();
    let end = end.map(|head| Known { head, source: "its end as it is written down".to_owned() });
    let mut walk = Walk::new(tenant, known.into_iter().chain(end));
    loop {
        let (of, after) = (tenant.to_owned(), walk.number());
        let work =
            store.run(move |connection| Box::pin(async move { audit_walk::page(connection, &of, after, LINKS).await }));
        let page = work.await?;
        if page.is_empty() {
            break;
        }
        is_there = true;
        report.links += i64::try_from(page.len()).unwrap_or_default();
        for entry in &page {
            walk.step(entry);
        }
    }
    let mut after = i64::MIN;
    loop {
        let of = tenant.to_owned();
        let work = store
            .run(move |connection| Box::pin(async move { audit_walk::unsealed(connection, &of, after, ROWS).await }));
        let Some((rows, last)) = work.await? else { break };
        (after, is_there) = (last, true);
        for row in rows {
            walk.unsealed(row);
        }
    }
    report.tenants += usize::from(is_there);
    report.findings.extend(walk.end(head(store, tenant).await?));
    Ok(())
}

async fn head(store: &Store, tenant: &str) -> Result<Option<Head>, StoreError> {
    let tenant = tenant.to_owned();
    store.run(move |connection| Box::pin(async move { audit_walk::head(connection, &tenant).await })).await
}

#[cfg(test)]
mod tests;
