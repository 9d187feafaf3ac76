//! Finds whatever somebody did to the audit trail, a page at a time.

mod sealing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use self::sealing::Sealing;
use super::checkpoint::{Checkpoint, CheckpointKey};
pub use crate::domain::audit_walk::{Finding, Kind, Signature, Takeover};
use crate::{
    domain::{
        audit_chain::Head,
        audit_walk::{Clocks, Judge, Known, Reader, Walk},
    },
    store::{Store, StoreError, audit_chain, audit_server, audit_walk},
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
    /// Whether there is a key and nothing that it signed, but links: then nobody can tell whether the chains are those that were
    /// made.
    pub is_unsigned: bool,
    /// Where chains go on on another server, or are said to: no fault in itself, but nothing that happens unnoticed.
    pub takeovers: Vec<Takeover>,
    /// What does not fit.
    pub findings: Vec<Finding>,
}

/// Checkpoints whose signatures are good, by tenant, and what is wrong with the others.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    good: BTreeMap<String, Vec<Known>>,
    clocks: Clocks,
    count: usize,
    forged: Vec<Finding>,
    /// What takeovers are judged by, too.
    key: Option<CheckpointKey>,
}

impl Checkpoints {
    /// Reads what was signed, in the order in which it was told.
    #[must_use]
    pub fn read(signed: &[String], key: &CheckpointKey) -> Self {
        let mut all = Self { key: Some(key.clone()), ..Self::default() };
        // A checkpoint may have been told twice.
        let mut seen = BTreeSet::new();
        for (place, jws) in (1..).zip(signed) {
            if !seen.insert(jws) {
                continue;
            }
            match key.read(jws).and_then(|checkpoint| Some((checkpoint.head()?, checkpoint))) {
                Some((head, Checkpoint { tenant, iat, sealer, .. })) => {
                    all.clocks.learn(sealer.as_ref(), iat);
                    let source = format!("the checkpoint at {iat}");
                    all.good.entry(tenant).or_default().push(Known { head, source, at: Some(iat), stand: sealer });
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

/// Verifies the chain of `only`, or all chains; of a tenant of which nothing is known the report counts no chain. The
/// checkpoints must have been read before: a chain grows. Those that were read with a key have takeovers judged by it.
///
/// # Errors
/// The store's.
pub async fn verify(store: &Store, only: Option<&str>, mut checkpoints: Checkpoints) -> Result<Report, StoreError> {
    let mut report = Report { findings: std::mem::take(&mut checkpoints.forged), ..Report::default() };
    report.checkpoints = checkpoints.count;
    report.is_unsigned = checkpoints.key.is_some() && checkpoints.count == 0;
    let standing = store.run(|connection| Box::pin(audit_chain::standing(connection))).await?;
    let server = store.run(|connection| Box::pin(audit_server::identity(connection))).await?;
    let clocks = Arc::new(std::mem::take(&mut checkpoints.clocks));
    let reader = checkpoints.key.take().map(|key| Arc::new(move |jws: &str| key.vouched(jws)) as Reader);
    let sealing = Sealing::new(standing, server, &clocks);
    let mut all = Verifying { store, sealing, clocks, reader, report };
    if let Some(tenant) = only {
        let known = checkpoints.good.remove(tenant).unwrap_or_default();
        all.report.checkpoints = known.len();
        all.walk(tenant, known).await?;
        return all.end().await;
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
            all.walk(&tenant, known).await?;
        }
    }
    // Chains of which nothing is left but what was told.
    for (tenant, known) in std::mem::take(&mut checkpoints.good) {
        all.walk(&tenant, known).await?;
    }
    all.end().await
}

/// A verification under way.
struct Verifying<'s> {
    store: &'s Store,
    sealing: Sealing,
    clocks: Arc<Clocks>,
    /// Where there is a key.
    reader: Option<Reader>,
    report: Report,
}

impl Verifying<'_> {
    async fn walk(&mut self, tenant: &str, known: Vec<Known>) -> Result<(), StoreError> {
        let end = head(self.store, tenant).await?;
        let mut is_there = end.is_some() || !known.is_empty();
        let source = || "its end as it is written down".to_owned();
        let end = end.map(|head| Known { head, source: source(), at: None, stand: None });
        let judge = Judge::new(tenant, &known, self.reader.clone(), Arc::clone(&self.clocks));
        let server = self.began_on(&judge).await?;
        let mut walk = Walk::new(judge, known.into_iter().chain(end), server);
        loop {
            let (of, after) = (tenant.to_owned(), walk.number());
            let work = self
                .store
                .run(move |connection| Box::pin(async move { audit_walk::page(connection, &of, after, LINKS).await }));
            let page = work.await?;
            if page.is_empty() {
                break;
            }
            is_there = true;
            self.report.links += i64::try_from(page.len()).unwrap_or_default();
            for entry in &page {
                walk.step(entry);
            }
        }
        self.sealing.walked(&walk);
        is_there |= self.unsealed(tenant, &mut walk).await?;
        self.report.tenants += usize::from(is_there);
        let walked = walk.end(head(self.store, tenant).await?);
        self.report.findings.extend(walked.findings);
        self.report.takeovers.extend(walked.takeovers);
        Ok(())
    }

    /// On which server a chain began: where the first takeover that is believed says that it came from, else where its first
    /// checkpoint was signed, else where all chains are.
    async fn began_on(&self, judge: &Judge) -> Result<Option<String>, StoreError> {
        let mut after = 0;
        loop {
            let of = judge.tenant().to_owned();
            let work = self
                .store
                .run(move |connection| Box::pin(async move { audit_walk::takeover(connection, &of, after).await }));
            let Some((entry, previous)) = work.await? else { break };
            if let Some(moved) = judge.believed(&entry, &previous) {
                return Ok(moved.from);
            }
            after = entry.number;
        }
        Ok(judge.first_server().map(str::to_owned).or_else(|| self.sealing.server()))
    }

    /// Looks for rows that should have been sealed. Whether there are any rows.
    async fn unsealed(&self, tenant: &str, walk: &mut Walk) -> Result<bool, StoreError> {
        let (mut after, mut is_there) = (i64::MIN, false);
        loop {
            let (of, reached) = (tenant.to_owned(), self.sealing.reached());
            let work = self.store.run(move |connection| {
                Box::pin(async move { audit_walk::unsealed(connection, &of, after, ROWS, reached).await })
            });
            let Some((rows, last)) = work.await? else { return Ok(is_there) };
            (after, is_there) = (last, true);
            for row in rows.into_iter().filter(|_| self.sealing.is_here()) {
                walk.unsealed(row);
            }
        }
    }

    /// Looks at how far the sealing is by now, which is at least as far as the rows that were seen.
    async fn end(mut self) -> Result<Report, StoreError> {
        let standing = self.store.run(|connection| Box::pin(audit_chain::standing(connection))).await?;
        let finding = |(kind, what)| Finding { tenant: String::new(), number: None, row: None, kind, what };
        self.report.findings.extend(self.sealing.judge(standing).map(finding));
        Ok(self.report)
    }
}

async fn head(store: &Store, tenant: &str) -> Result<Option<Head>, StoreError> {
    let tenant = tenant.to_owned();
    store.run(move |connection| Box::pin(async move { audit_walk::head(connection, &tenant).await })).await
}

#[cfg(test)]
mod tests;
