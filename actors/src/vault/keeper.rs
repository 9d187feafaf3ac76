//! Reads the secrets of Vault again while the process runs, and keeps the own token alive.
//!
//! State: the attempt under way, how many failed in a row, what is known of the own token, what was said in the log. The secrets
//! themselves belong to whoever uses them, and outlive a restart.
//! Supervision: child of `secrets`, Permanent. Crashes on broken invariants only; a Vault that does not answer is asked again, and
//! what was read last is used on.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use somaagent_supervision::Child;
use tokio::time::Instant;

use super::{
    client::{Vault, VaultError},
    lease::Lease,
    metrics::VaultMetrics,
    place::Place,
};
use crate::{
    retry::{Retries, RetryPolicy},
    secret::Secret,
};

/// Shortest wait after an attempt that failed, and the bound of the first one. It doubles with each further one, up to the time
/// between two looks.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Says what is wrong with a text that is to be a secret, without repeating it.
pub type Check = Arc<dyn Fn(&SecretString) -> Result<(), String> + Send + Sync>;

/// A secret that is kept in Vault.
#[derive(Clone)]
pub struct Watched {
    /// The setting that it belongs to.
    pub key: &'static str,
    /// Where it is.
    pub place: Place,
    /// What the process uses.
    pub secret: Secret,
    /// Whether a new one counts at once; otherwise it does with the next start.
    pub is_live: bool,
    /// What a new one must be.
    pub check: Check,
}

/// How it stands with the secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// They are as Vault has them.
    Fresh,
    /// Not all of them can be read, or used, at present; what was read last is.
    Failing,
    /// That has lasted too long: they prove nothing any more.
    Stale,
}

/// What the keeper needs; survives a restart.
#[derive(Clone)]
pub struct VaultDeps {
    vault: Vault,
    watched: Arc<[Watched]>,
    metrics: VaultMetrics,
    /// When each secret was last as Vault has it, and whether all were at the last look.
    board: Arc<Mutex<Board>>,
}

struct Board {
    all_well: bool,
    confirmed: BTreeMap<&'static str, Instant>,
}

impl VaultDeps {
    /// Makes ready to look after `watched`, which have just been read; nothing is sent yet.
    #[must_use]
    pub fn new(vault: Vault, watched: Vec<Watched>, metrics: VaultMetrics) -> Self {
        let (now, stale) = (Instant::now(), vault.settings().stale());
        for watched in &watched {
            watched.secret.confirm(stale);
        }
        let confirmed = watched.iter().map(|watched| (watched.key, now)).collect();
        let vault = vault.with_metrics(metrics.clone());
        Self {
            vault,
            watched: watched.into(),
            metrics,
            board: Arc::new(Mutex::new(Board { all_well: true, confirmed })),
        }
    }

    /// How it stands with the secrets.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let (board, stale) = (self.board.lock(), self.vault.settings().stale());
        match board.confirmed.values().min() {
            Some(oldest) if oldest.elapsed() > stale => Condition::Stale,
            _ if board.all_well => Condition::Fresh,
            _ => Condition::Failing,
        }
    }
}

/// See the module.
pub struct VaultKeeper {
    deps: VaultDeps,
    state: State,
}

#[derive(Default)]
struct State {
    looking: bool,
    failures: u32,
    lease: Option<(Arc<str>, Lease)>,
    /// The waits since not every secret could be read.
    reading: Waits,
    /// The waits since the own token could not be renewed.
    renewing: Waits,
    /// What was said once and need not be said again before it changes.
    told: BTreeSet<(&'static str, String)>,
}

/// The waits after failures in a row.
#[derive(Default)]
struct Waits(Option<Retries>);

impl Waits {
    /// The wait after one more failure: drawn from what doubles up to `longest`, so that processes which failed together do not all
    /// come back together.
    fn next(&mut self, longest: Duration) -> Duration {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let retries = self.0.get_or_insert_with(|| {
            Retries::new(RetryPolicy {
                max_retries: u32::MAX,
                first_wait_ms: ms(FIRST_WAIT),
                max_wait_ms: ms(longest),
                max_retry_after_ms: 0,
            })
        });
        retries.next_wait(None).unwrap_or(longest).min(longest).max(FIRST_WAIT)
    }

    /// Nothing fails any more.
    fn end(&mut self) {
        self.0 = None;
    }
}

/// What became of what Vault has.
enum Taken {
    /// The process uses it.
    Is,
    /// The process uses another one until it starts again.
    IsNew,
}

/// What a look found.
struct Look {
    lease: Option<(Arc<str>, Lease)>,
    read: Vec<(usize, Result<SecretString, VaultError>)>,
}

impl VaultKeeper {
    /// A keeper that looks at once.
    #[must_use]
    pub fn new(deps: VaultDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.looking, true) {
            return;
        }
        let (deps, lease) = (self.deps.clone(), self.state.lease.clone());
        async move { Look { lease: renewed(&deps.vault, lease).await, read: read(&deps).await } }
            .into_actor(self)
            .map(|found, this, ctx| {
                this.state.looking = false;
                this.note(found);
                ctx.run_later(this.rest(Instant::now()), Self::look);
            })
            .spawn(ctx);
    }

    fn note(&mut self, found: Look) {
        self.state.note_lease(found.lease, &self.deps.metrics);
        let mut well = true;
        for (index, outcome) in found.read {
            let watched = &self.deps.watched[index];
            let told = match outcome.map_err(|error| error.to_string()).and_then(|fresh| self.deps.take(watched, fresh))
            {
                Ok(Taken::IsNew) => Some("is another one there now, which counts with the next start".to_owned()),
                Ok(Taken::Is) => None,
                Err(what) => {
                    well = false;
                    Some(what)
                }
            };
            self.state.say(watched.key, told);
        }
        self.state.failures = if well { 0 } else { self.state.failures.saturating_add(1) };
        self.deps.board.lock().all_well = well;
        self.deps.metrics.failures(self.state.failures);
    }

    /// The time until the next look: the own token may want to be renewed before.
    fn rest(&mut self, now: Instant) -> Duration {
        let (refresh, state) = (self.deps.vault.settings().refresh(), &mut self.state);
        let usual = if state.failures > 0 {
            state.reading.next(refresh)
        } else {
            state.reading.end();
            refresh
        };
        let renewal = state.lease.as_ref().and_then(|(_, lease)| Some((lease, lease.renewal()?)));
        let until = match renewal {
            // It was just tried.
            Some((lease, at)) if at <= now => state.renewing.next(refresh).min(lease.patience(now)),
            Some((_, at)) => {
                state.renewing.end();
                at - now
            }
            None => {
                state.renewing.end();
                usual
            }
        };
        until.max(FIRST_WAIT).min(usual)
    }
}

impl VaultDeps {
    /// What Vault has now becomes what the process uses.
    ///
    /// # Errors
    /// What is wrong with it.
    fn take(&self, watched: &Watched, fresh: SecretString) -> Result<Taken, String> {
        let settings = self.vault.settings();
        let is_new = fresh.expose_secret() != watched.secret.present().expose();
        if is_new && watched.is_live {
            if let Err(what) = (watched.check)(&fresh) {
                self.metrics.exchanged("refused");
                return Err(format!("it has changed there and cannot be used: it {what}"));
            }
            watched.secret.exchange(fresh, settings.grace());
            self.metrics.exchanged("taken");
            tracing::info!(setting = watched.key, "a secret was exchanged for the new one of Vault");
        }
        watched.secret.confirm(settings.stale());
        self.board.lock().confirmed.insert(watched.key, Instant::now());
        Ok(if is_new && !watched.is_live { Taken::IsNew } else { Taken::Is })
    }
}

impl State {
    fn note_lease(&mut self, lease: Option<(Arc<str>, Lease)>, metrics: &VaultMetrics) {
        let now = Instant::now();
        let left = lease.as_ref().and_then(|(_, lease)| lease.left(now));
        metrics.token_seconds(left.map(|left| left.as_secs()));
        let ends = lease.as_ref().and_then(|(_, lease)| lease.certain_end());
        self.lease = lease;
        self.say("vault.token", ends.map(|_| "cannot be renewed, and ends".to_owned()));
    }

    /// Says what is wrong with something, once, and once that nothing is any more.
    fn say(&mut self, of: &'static str, wrong: Option<String>) {
        let before: Vec<_> = self.told.iter().filter(|(told, _)| *told == of).cloned().collect();
        match wrong {
            Some(what) if before.iter().any(|(_, told)| *told == what) => {}
            Some(what) => {
                tracing::warn!(setting = of, "what Vault keeps of it is not as it should be: {what}");
                self.told.retain(|(told, _)| *told != of);
                self.told.insert((of, what));
            }
            None if before.is_empty() => {}
            None => {
                tracing::info!(setting = of, "what Vault keeps of it is as it should be again");
                self.told.retain(|(told, _)| *told != of);
            }
        }
    }
}

/// What is known of the token of now, renewed if it is time. A token whose end cannot be found out is used until it is refused.
async fn renewed(vault: &Vault, known: Option<(Arc<str>, Lease)>) -> Option<(Arc<str>, Lease)> {
    let token = vault.token().await.ok()?;
    let lease = match known {
        // Another token has taken its place, or nothing is known yet.
        Some((of, lease)) if *of == *fingerprint(&token) => lease,
        _ => vault.look_up().await.ok()?,
    };
    let lease = match lease.renewal() {
        Some(at) if at <= Instant::now() => match vault.renew().await {
            Ok(renewed) => renewed,
            Err(error) if error.is_passing() => lease,
            Err(_) => lease.unrenewable(),
        },
        _ => lease,
    };
    Some((fingerprint(&token), lease))
}

/// What a token is known by: its SHA-256.
fn fingerprint(token: &SecretString) -> Arc<str> {
    use sha2::{Digest as _, Sha256};
    crate::domain::hex::hex(&Sha256::digest(token.expose_secret())).into()
}

/// What Vault has now of every secret; each of its own secrets is read once.
async fn read(deps: &VaultDeps) -> Vec<(usize, Result<SecretString, VaultError>)> {
    let mut found = Vec::new();
    let mut by_path: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for (index, Watched { place, .. }) in deps.watched.iter().enumerate() {
        by_path.entry((&place.mount, &place.path)).or_default().push(index);
    }
    for ((mount, path), indices) in by_path {
        let fields = deps.vault.read(mount, path).await;
        for index in indices {
            let field = &deps.watched[index].place.field;
            let text = fields.as_ref().map_err(VaultError::clone).and_then(|fields| field_of(fields, field));
            found.push((index, text));
        }
    }
    found
}

/// A field of a secret as it is used. The line's end that a file left behind is not part of it.
///
/// # Errors
/// [`VaultError::Absent`].
pub fn field_of<S: std::hash::BuildHasher>(
    fields: &std::collections::HashMap<String, SecretString, S>,
    field: &str,
) -> Result<SecretString, VaultError> {
    let text = fields.get(field).map(|text| text.expose_secret().trim_end_matches(['\r', '\n']));
    text.filter(|text| !text.trim().is_empty()).map(SecretString::from).ok_or(VaultError::Absent)
}

impl Actor for VaultKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Supervised for VaultKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for VaultKeeper {
    const NAME: &'static str = "vault-keeper";

    fn state_name(&self) -> &'static str {
        match (self.state.looking, self.state.failures) {
            (true, _) => "looking",
            (false, 0) => "resting",
            (false, _) => "retrying",
        }
    }
}

#[cfg(test)]
mod tests;
