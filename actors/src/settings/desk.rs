//! Shows, saves, restores and compares settings. Each change is one transaction with its version and its audit row.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;

use super::{
    SettingsMetrics, StoreError,
    in_force::{Board, Condition, View},
    operators::Operators,
    uploads,
};
use crate::{
    domain::{
        caller::Caller,
        session::audit,
        settings::{Difference, Document, Fault, Given, Unreadable, check, differences},
    },
    store::{
        Store, audit_event,
        ui_settings::{self, StoredSettings},
        ui_settings_versions::{self, SettingsVersion},
    },
    uploads::rules::{InForce, Rules},
};

/// The kind of thing that audit rows name.
const RESOURCE: &str = "ui.settings";
/// Which one.
const TARGET: &str = "global";

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The caller is no operator.
    #[error("only operators may change settings")]
    NotOperator,
    /// What was sent is wrong.
    #[error("{} things are wrong with the settings that were sent", .0.len())]
    Invalid(Vec<Fault>),
    /// Another version is saved than the caller expects: this one.
    #[error("version {0} of the settings is saved")]
    Stale(i64),
    /// What is saved, or is to be restored, cannot be read.
    #[error("the settings cannot be read: {0}")]
    Unreadable(#[from] Unreadable),
    /// There is no such version, or not any more.
    #[error("there is no such version of the settings")]
    NoSuchVersion,
    /// The store's; after `Interrupted` and `TimedOut` the change may have been made.
    #[error("the settings were not stored")]
    Store(#[from] StoreError),
}

/// Which version the caller expects to be saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Any.
    Any,
    /// One of these.
    OneOf(Vec<i64>),
}

impl Expected {
    fn allows(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }
}

/// Versions, the newest first.
#[derive(Debug)]
pub struct VersionPage {
    /// The versions.
    pub items: Vec<SettingsVersion>,
    /// Before which the next page begins, if there is one.
    pub next: Option<i64>,
}

/// The settings of the installation. A cheap handle; what is in force is shared.
#[derive(Clone)]
pub struct Settings {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: fn() -> OffsetDateTime,
    operators: Operators,
    board: Mutex<Board>,
}

/// What is to be done with the settings.
enum Order {
    Save(Vec<Given>),
    Restore(i64),
}

impl Settings {
    /// Settings that are kept in `store` and lie over what is `configured`. Until the first [`look`](Self::look) no uploads
    /// are taken.
    #[must_use]
    pub fn new(
        store: Store,
        clock: fn() -> OffsetDateTime,
        operators: Operators,
        configured: Rules,
        metrics: SettingsMetrics,
    ) -> Self {
        let board = Mutex::new(Board::new(configured, metrics));
        Self { inner: Arc::new(Inner { store, clock, operators, board }) }
    }

    /// The rules of uploads that are in force, now and from now on.
    #[must_use]
    pub fn rules(&self) -> InForce {
        self.inner.board.lock().rules()
    }

    /// How it stands with the settings.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.inner.board.lock().condition()
    }

    /// Asks the database what is saved, and goes by that.
    ///
    /// # Errors
    /// The store's: then what was in force goes on.
    pub async fn look(&self) -> Result<View, StoreError> {
        let look = self.inner.board.lock().begin();
        let found = self.inner.store.run(|connection| Box::pin(ui_settings::read(connection))).await;
        let mut board = self.inner.board.lock();
        match found {
            Ok(found) => {
                board.learn(look, &found);
                Ok(board.view())
            }
            Err(error) => {
                board.failed(look);
                Err(error)
            }
        }
    }

    /// Saves what is given over what is saved. What is given as it is shown changes nothing; if nothing changes there is no new
    /// version.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was changed, but for what is said there.
    pub async fn save(&self, caller: &Caller, expected: Expected, given: Vec<Given>) -> Result<View, ChangeError> {
        self.change(caller, expected, Order::Save(given)).await
    }

    /// Saves a former version once more; 0 is that before anything was saved.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing was changed, but for what is said there.
    pub async fn restore(&self, caller: &Caller, expected: Expected, number: i64) -> Result<View, ChangeError> {
        self.change(caller, expected, Order::Restore(number)).await
    }

    async fn change(&self, caller: &Caller, expected: Expected, order: Order) -> Result<View, ChangeError> {
        if !self.inner.operators.has(&caller.tenant) {
            return Err(ChangeError::NotOperator);
        }
        let (caller, at) = (caller.clone(), (self.inner.clock)());
        let configured = self.inner.board.lock().configured().clone();
        let work = self.inner.store.run(move |connection| {
            Box::pin(async move {
                let mut transaction = connection.begin().await?;
                let made = make(&mut transaction, (&caller, at), &expected, &configured, order).await?;
                match &made {
                    Ok(_) => transaction.commit().await?,
                    Err(_) => transaction.rollback().await?,
                }
                Ok(made)
            })
        });
        let saved = work.await??;
        let mut board = self.inner.board.lock();
        board.keep(&saved);
        Ok(board.view())
    }

    /// Up to `limit` versions before `before`.
    ///
    /// # Errors
    /// The store's.
    pub async fn versions(&self, before: Option<i64>, limit: i64) -> Result<VersionPage, StoreError> {
        let work =
            self.inner.store.run(move |connection| Box::pin(ui_settings_versions::list(connection, before, limit + 1)));
        let mut items = work.await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| last.number);
        Ok(VersionPage { items, next })
    }

    /// Whether the caller is told who made a version: operators are, and those of the same tenant.
    #[must_use]
    pub fn tells_who(&self, caller: &Caller, version: &SettingsVersion) -> bool {
        self.inner.operators.has(&caller.tenant) || caller.tenant.as_str() == version.tenant
    }

    /// What differs between two versions; 0 is that before anything was saved.
    ///
    /// # Errors
    /// `NoSuchVersion`, `Store`.
    pub async fn compare(&self, from: i64, to: i64) -> Result<Vec<Difference>, ChangeError> {
        let work = self.inner.store.run(move |connection| {
            Box::pin(async move {
                let before = ui_settings_versions::find(connection, from).await?;
                let after = ui_settings_versions::find(connection, to).await?;
                Ok(before.zip(after))
            })
        });
        let (before, after) = work.await?.ok_or(ChangeError::NoSuchVersion)?;
        Ok(differences(&before, &after))
    }
}

/// Makes a change and returns what is saved since, or says why not; then nothing may be committed.
async fn make(
    connection: &mut PgConnection,
    (caller, at): (&Caller, OffsetDateTime),
    expected: &Expected,
    configured: &Rules,
    order: Order,
) -> Result<Result<StoredSettings, ChangeError>, sqlx::Error> {
    let before = ui_settings::lock(connection).await?;
    if !expected.allows(before.version) {
        return Ok(Err(ChangeError::Stale(before.version)));
    }
    let (document, restored) = match order {
        Order::Save(given) => match saved_over(&before.document, configured, &given) {
            Ok(document) => (document, None),
            Err(refusal) => return Ok(Err(refusal)),
        },
        Order::Restore(number) => {
            let Some(document) = ui_settings_versions::find(connection, number).await? else {
                return Ok(Err(ChangeError::NoSuchVersion));
            };
            if let Err(unreadable) = Document::read(&document) {
                return Ok(Err(unreadable.into()));
            }
            (document, Some(number))
        }
    };
    if document == before.document {
        return Ok(Ok(before));
    }
    let differences = differences(&before.document, &document);
    let version = ui_settings_versions::next(connection, before.version).await?;
    let saved = StoredSettings { version, document };
    ui_settings::write(connection, &saved).await?;
    let doer = caller.doer();
    let change = SettingsVersion {
        number: version,
        changed: differences.iter().map(Difference::name).collect(),
        restored,
        created_at: at,
        tenant: caller.tenant.as_str().to_owned(),
        subject: doer.subject.clone(),
        request_id: doer.request(),
    };
    ui_settings_versions::insert(connection, &saved, &change).await?;
    let details = json!({"version": version, "restored": restored});
    let mut line = audit(caller, "settings.update", RESOURCE, TARGET.to_owned(), details);
    line.diff = Some(told(&differences));
    audit_event::insert(connection, &caller.tenant, &line, at).await?;
    Ok(Ok(saved))
}

/// The document with what is given.
fn saved_over(stored: &Value, configured: &Rules, given: &[Given]) -> Result<Value, ChangeError> {
    let document = Document::read(stored)?;
    let shown = uploads::shown(&uploads::over(configured, document.values()));
    let changes = check(given, &shown).map_err(ChangeError::Invalid)?;
    if changes.is_empty() {
        return Ok(stored.clone());
    }
    Ok(document.after(changes).to_stored())
}

/// What differs, for the audit trail.
fn told(differences: &[Difference]) -> Value {
    let told = |found: &Difference| (found.name(), json!({"before": found.before, "after": found.after}));
    differences.iter().map(told).collect::<Map<String, Value>>().into()
}
