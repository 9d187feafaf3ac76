//! Looks through again what was sent lately, when there are newer signatures or it is long ago, and what nobody could look through.
//!
//! State: the round under way, if one is. Which attachments are due is read from the database each time, so that a restart forgets
//! nothing. One process at a time does this, by a lease, one file after the other, and only while scanners are to spare.
//! Asks: none. Tells: none; it looks by itself.
//! Supervision: child of `uploads`, Permanent. Crashes on broken invariants only. A clamd or a database that does not answer
//! ends the round; the next one goes on.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Uploads,
    ingest::{
        ScanError,
        scanning::{Found, Scanner, Verdict},
    },
    rescanning::{Asked, NotScanned},
    scanner::{AntivirusSettings, Scanners},
};
use crate::{
    domain::ids::Tenant,
    store::{
        StoreError,
        attachments::rescans::{self, Due, Terms},
    },
};

/// How long uploads are waited for that need the scanners.
const YIELD: Duration = Duration::from_secs(1);
/// Shortest rest between two files. One that took longer is followed by as long a rest.
const REST: Duration = Duration::from_millis(50);
/// What could not be looked through is left alone for so long.
const RETRY_AFTER: time::Duration = time::Duration::minutes(10);
/// How much longer the lease lasts than the longest verdict.
const LEASE_MARGIN: Duration = Duration::from_mins(2);

/// What the rescanner needs; survives a restart.
#[derive(Clone)]
pub struct RescannerDeps {
    /// Where files are, and what they are held to.
    pub uploads: Uploads,
    /// Who looks through them.
    pub scanners: Scanners,
    /// How old they may be, and how often it looks.
    pub settings: AntivirusSettings,
}

/// See the module.
pub struct AttachmentRescanner {
    deps: RescannerDeps,
    /// Its name as the holder of the lease.
    claim: Uuid,
    state: State,
}

#[derive(Default)]
struct State {
    is_working: bool,
    /// The number of clamd's signatures, in the round under way.
    signatures: Option<i64>,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// There may be more to do, after this rest, by signatures of this number.
    More(Duration, i64),
    /// That was all.
    All,
}

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("clamd is away: {0}")]
    Away(String),
}

impl AttachmentRescanner {
    /// A rescanner that begins with a look.
    #[must_use]
    pub fn new(deps: RescannerDeps) -> Self {
        Self { deps, claim: Uuid::new_v4(), state: State::default() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.state.is_working, true) {
            self.step(ctx);
        }
    }

    fn step(&mut self, ctx: &mut Context<Self>) {
        let (deps, claim, signatures) = (self.deps.clone(), self.claim, self.state.signatures);
        async move { step(&deps, claim, signatures).await }
            .into_actor(self)
            .map(|done, this, ctx| {
                let failed = match done {
                    Ok(Done::More(rest, signatures)) => {
                        this.state.signatures = Some(signatures);
                        ctx.run_later(rest, Self::step);
                        return;
                    }
                    Ok(Done::All) => None,
                    Err(error) => Some(error),
                };
                if let Some(error) = failed {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "attachments were not looked through again"
                    );
                }
                this.state = State::default();
            })
            .spawn(ctx);
    }
}

/// The next step of a round; `signatures` is known from its second one on. One that fails leaves the round to another process: that
/// one may reach clamd.
async fn step(deps: &RescannerDeps, claim: Uuid, signatures: Option<i64>) -> Result<Done, Failed> {
    let done = go_on(deps, claim, signatures).await;
    if done.is_err()
        && let Err(error) = deps.uploads.store.run(move |rows| Box::pin(rescans::end(rows, claim))).await
    {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "nobody looks through attachments again for some minutes"
        );
    }
    done
}

async fn go_on(deps: &RescannerDeps, claim: Uuid, signatures: Option<i64>) -> Result<Done, Failed> {
    if !deps.uploads.rules().antivirus.enabled || deps.settings.rescan_days == 0 {
        return Ok(Done::All);
    }
    let (store, now) = (&deps.uploads.store, (deps.uploads.clock)());
    let until = now + deps.settings.answer_within() + LEASE_MARGIN;
    if !store.run(move |connection| Box::pin(rescans::lease(connection, claim, now, until))).await? {
        return Ok(Done::All);
    }
    let Some(signatures) = signatures else {
        let seen = deps.scanners.watch().await.map_err(|error| Failed::Away(error.to_string()))?;
        let signatures = seen.signatures.database.map_or(0, i64::from);
        let terms = terms(&deps.settings, signatures, now);
        let waiting = store.run(move |connection| Box::pin(rescans::waiting(connection, terms))).await?;
        deps.uploads.metrics.rescans_waiting(waiting);
        return Ok(Done::More(Duration::ZERO, signatures));
    };
    if !deps.scanners.has_time() {
        // A process that never has time must not keep one from it that has.
        store.run(move |connection| Box::pin(rescans::end(connection, claim))).await?;
        return Ok(Done::More(YIELD, signatures));
    }
    let terms = terms(&deps.settings, signatures, now);
    let Some(due) = store.run(move |connection| Box::pin(rescans::next(connection, terms))).await? else {
        store.run(move |connection| Box::pin(rescans::end(connection, claim))).await?;
        deps.uploads.metrics.rescans_waiting(0);
        return Ok(Done::All);
    };
    let begun = Instant::now();
    rescan(&deps.uploads, &(Arc::new(deps.scanners.clone()) as Arc<dyn Scanner>), due).await?;
    Ok(Done::More(begun.elapsed().max(REST), signatures))
}

/// What is due at `now`, by signatures of this number.
fn terms(settings: &AntivirusSettings, signatures: i64, now: OffsetDateTime) -> Terms {
    let again = time::Duration::seconds(i64::try_from(settings.rescan_after_seconds).unwrap_or(i64::MAX));
    let long_ago = |span: time::Duration| now.checked_sub(span).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Terms {
        sent_since: long_ago(time::Duration::days(i64::from(settings.rescan_days))),
        tried_before: long_ago(again.min(RETRY_AFTER)),
        scanned_before: long_ago(again),
        signatures,
    }
}

/// Looks through what is due. What cannot be looked through is left alone for a while; without clamd nothing is.
async fn rescan(uploads: &Uploads, scanner: &Arc<dyn Scanner>, due: Due) -> Result<(), Failed> {
    let Some(tenant) = Tenant::new(&due.tenant) else { return Ok(()) };
    let bytes = (due.blob_id, u64::try_from(due.size).unwrap_or_default());
    let found = match uploads.look_through(scanner, &tenant, bytes).await {
        Ok(found) => found,
        Err(NotScanned::Scan(error @ (ScanError::Busy | ScanError::Away(_)))) => {
            return Err(Failed::Away(error.to_string()));
        }
        Err(error) => {
            uploads.metrics.rescanned("error");
            tracing::warn!(error = &error as &dyn std::error::Error, "an attachment could not be looked through again");
            let (name, at) = (tenant.clone(), (uploads.clock)());
            let work = uploads.store.change_for(tenant, move |rows| {
                Box::pin(async move { rescans::tried(rows, name.as_str(), due.blob_id, at).await })
            });
            return Ok(work.await?);
        }
    };
    let result = told(&found);
    for one in uploads.judge_again(&tenant, due.blob_id, found, Asked::ByNobody).await? {
        uploads.metrics.rescanned(result);
        if one.before != one.after {
            tracing::warn!(attachment = %one.id, before = one.before, after = one.after, "an attachment was judged anew");
        }
    }
    Ok(())
}

const fn told(found: &Found) -> &'static str {
    match found.verdict {
        Verdict::Clean => "clean",
        Verdict::Infected { .. } => "infected",
        Verdict::LimitsExceeded { .. } => "limits_exceeded",
    }
}

impl Actor for AttachmentRescanner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
        ctx.run_interval(Duration::from_secs(self.deps.settings.rescan_interval_seconds), Self::look);
    }
}

impl Supervised for AttachmentRescanner {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for AttachmentRescanner {
    const NAME: &'static str = "attachment-rescanner";

    fn state_name(&self) -> &'static str {
        if self.state.is_working { "looking" } else { "resting" }
    }
}

#[cfg(test)]
mod tests;
