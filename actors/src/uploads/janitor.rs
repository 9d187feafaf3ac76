//! Lets attachments go that are too old, links that are over, uploads that do not go on, bytes that nobody refers to, and memories
//! of attachments that were deleted.
//!
//! State: whether it is at work just now, when it last looked for what is old, and how far it is with the memories. What is to be done
//! is in the database.
//! Asks: the memory service, to forget. Tells: none; it looks by itself.
//! Supervision: child of `uploads`, Permanent. Crashes on broken invariants only. A database that does not answer is
//! waited for: what was not done is done in a later round, also by another process.

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::{Child, Port};
use time::OffsetDateTime;

use super::{Clock, UploadMetrics, remembering::Forgetting, rules::InForce};
use crate::{
    somabrain::messages::{Consult, DeleteByKey},
    store::{Store, StoreError, attachment_blobs, attachment_links, attachments, tus_uploads},
};

/// Between two looks for bytes that nobody refers to, and for memories that are to be taken back.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Rest between two steps of one round.
const REST: Duration = Duration::from_millis(50);
/// Bytes that have not gone on coming for so long do not come any more.
const STOPPED_AFTER: Duration = Duration::from_mins(15);
/// Attachments deleted at a time.
const EXPIRE_PAGE: i64 = 200;
/// Links removed at a time.
const PURGE_PAGE: i64 = 1_000;
/// Pieces removed at a time.
const SWEEP_PAGE: i64 = 32;

/// What the janitor needs; survives a restart.
#[derive(Clone)]
pub struct JanitorDeps {
    /// The database.
    pub store: Store,
    /// How long attachments are kept, and how often it looks.
    pub rules: InForce,
    /// To tell the memory service what it is to forget.
    pub forget: Port<Consult<DeleteByKey>>,
    /// What is counted.
    pub metrics: UploadMetrics,
    /// The clock.
    pub clock: Clock,
}

/// See the module.
pub struct AttachmentJanitor {
    deps: JanitorDeps,
    state: State,
}

#[derive(Default)]
struct State {
    is_working: bool,
    progress: Progress,
}

/// How far it is.
#[derive(Default)]
struct Progress {
    /// When it last came to the end of what is old.
    expired_at: Option<OffsetDateTime>,
    /// With the memories of what was deleted.
    forgetting: Forgetting,
}

/// What a step has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    /// There may be more of it.
    More,
    /// That was all.
    All,
}

impl AttachmentJanitor {
    /// A janitor that begins with a round.
    #[must_use]
    pub fn new(deps: JanitorDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.state.is_working, true) {
            self.step(ctx);
        }
    }

    fn step(&mut self, ctx: &mut Context<Self>) {
        let (deps, now) = (self.deps.clone(), (self.deps.clock)());
        let mut progress = std::mem::take(&mut self.state.progress);
        async move {
            let done = go_on(&deps, &mut progress, now).await;
            (done, progress)
        }
        .into_actor(self)
        .map(move |(done, progress), this, ctx| {
            this.state.progress = progress;
            match &done {
                Ok(Done::More) => {
                    ctx.run_later(REST, Self::step);
                    return;
                }
                Ok(Done::All) => {}
                Err(error) => {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "what is left of attachments is still there"
                    );
                }
            }
            this.state.is_working = false;
            #[expect(clippy::cast_precision_loss, reason = "a time in seconds is exact far beyond any that is shown")]
            this.deps.metrics.round(done.is_ok(), now.unix_timestamp() as f64);
        })
        .spawn(ctx);
    }
}

/// The next step of a round: of each kind of work there is more only when that of the one before has had its turn.
async fn go_on(deps: &JanitorDeps, progress: &mut Progress, now: OffsetDateTime) -> Result<Done, StoreError> {
    if is_due(deps, progress, now) {
        if expire(deps, now).await? == Done::More || purge(deps, now).await? == Done::More {
            return Ok(Done::More);
        }
        progress.expired_at = Some(now);
    }
    if sweep(deps, now).await? == Done::More {
        return Ok(Done::More);
    }
    let more = progress.forgetting.step(&deps.store, &deps.forget, deps.clock).await?;
    Ok(if more { Done::More } else { Done::All })
}

/// Whether it is time to look for what is old.
fn is_due(deps: &JanitorDeps, progress: &Progress, now: OffsetDateTime) -> bool {
    let every = Duration::from_secs(deps.rules.borrow().janitor_interval_seconds);
    progress.expired_at.is_none_or(|last| now - last >= every)
}

/// Deletes attachments that are too old.
async fn expire(deps: &JanitorDeps, now: OffsetDateTime) -> Result<Done, StoreError> {
    let before = now - time::Duration::days(i64::from(deps.rules.borrow().ttl_days));
    let work = deps.store.run(move |connection| Box::pin(attachments::expire(connection, before, now, EXPIRE_PAGE)));
    let count = work.await?;
    deps.metrics.deleted(count);
    Ok(if count >= EXPIRE_PAGE.unsigned_abs() { Done::More } else { Done::All })
}

/// Removes links that are over.
async fn purge(deps: &JanitorDeps, now: OffsetDateTime) -> Result<Done, StoreError> {
    let work = deps.store.run(move |connection| Box::pin(attachment_links::purge(connection, now, PURGE_PAGE)));
    Ok(if work.await? >= PURGE_PAGE.unsigned_abs() { Done::More } else { Done::All })
}

/// Gives uploads up of which nothing came for too long, and removes bytes that nobody refers to.
async fn sweep(deps: &JanitorDeps, now: OffsetDateTime) -> Result<Done, StoreError> {
    let work = deps.store.run(move |connection| Box::pin(tus_uploads::expire(connection, now, EXPIRE_PAGE)));
    if work.await? >= EXPIRE_PAGE.unsigned_abs() {
        return Ok(Done::More);
    }
    let before = now - STOPPED_AFTER;
    let work = deps.store.run(move |connection| Box::pin(attachment_blobs::sweep(connection, before, SWEEP_PAGE)));
    Ok(if work.await? { Done::More } else { Done::All })
}

impl Actor for AttachmentJanitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
        ctx.run_interval(SWEEP_EVERY, Self::look);
    }
}

impl Supervised for AttachmentJanitor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for AttachmentJanitor {
    const NAME: &'static str = "attachment-janitor";

    fn state_name(&self) -> &'static str {
        if self.state.is_working { "clearing" } else { "resting" }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::sync::Arc;

    use bytes::Bytes;
    use prometheus::Registry;
    use sqlx::PgPool;
    use time::Duration;

    use super::*;
    use crate::uploads::{
        Declared, Keeping,
        rules::Rules,
        tests::{caller, rules, uploads},
    };

    /// A janitor's deps, at a time of which `clock` tells.
    fn deps(pool: &PgPool, rules: Rules, clock: Clock) -> JanitorDeps {
        let (_, rules) = tokio::sync::watch::channel(Arc::new(rules));
        let metrics = UploadMetrics::register(&Registry::new()).unwrap();
        let forget = somaagent_supervision::Probe::new(1).1;
        JanitorDeps { store: uploads(pool).store, rules, forget, metrics, clock }
    }

    async fn send(pool: &PgPool) {
        let (uploads, caller) = (uploads(pool), caller("t"));
        let ingest = uploads.begin(&caller, Arc::new(rules()), &Declared::default()).await.unwrap();
        let judged = ingest.push(Bytes::from_static(b"words")).await.unwrap().finish().await.unwrap();
        judged.keep(Keeping { caller, session_id: None, persona_id: None }).await.unwrap();
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn old_ones_are_looked_for_as_often_as_the_rules_say_and_at_once_after_a_restart(pool: PgPool) {
        let (epoch, rules) = (OffsetDateTime::UNIX_EPOCH, Rules { janitor_interval_seconds: 100, ..rules() });
        let (deps, mut progress) = (deps(&pool, rules, || OffsetDateTime::UNIX_EPOCH), Progress::default());
        assert!(is_due(&deps, &progress, epoch));
        while go_on(&deps, &mut progress, epoch).await.unwrap() == Done::More {}
        let later = |seconds| epoch + Duration::seconds(seconds);
        assert!(!is_due(&deps, &progress, later(99)) && is_due(&deps, &progress, later(100)));
        assert!(is_due(&deps, &Progress::default(), epoch));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_old_goes_with_its_bytes_and_is_counted(pool: PgPool) {
        let deps = deps(&pool, Rules { ttl_days: 7, ..rules() }, || OffsetDateTime::UNIX_EPOCH);
        send(&pool).await;
        let young = OffsetDateTime::UNIX_EPOCH + Duration::days(7);
        assert_eq!(expire(&deps, young).await.unwrap(), Done::All);
        assert_eq!(sweep(&deps, young).await.unwrap(), Done::All);
        let blobs = "SELECT count(*) FROM attachment_blobs";
        assert_eq!(sqlx::query_scalar::<_, i64>(blobs).fetch_one(&pool).await.unwrap(), 1);
        let old = young + Duration::SECOND;
        assert_eq!(expire(&deps, old).await.unwrap(), Done::All);
        assert_eq!(sweep(&deps, old).await.unwrap(), Done::All);
        assert_eq!(sqlx::query_scalar::<_, i64>(blobs).fetch_one(&pool).await.unwrap(), 0);
        assert_eq!(deps.metrics.count_deleted(), 1);
    }
}
