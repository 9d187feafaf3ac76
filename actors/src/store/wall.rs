//! The second wall between tenants. The first one is the tenant in every query; behind this one the database itself shows and
//! takes rows of one tenant only, so that a query that forgot its tenant finds less, and not more.
//!
//! What is done for one caller outside the Journal takes a [`TenantTx`], which only [`Store`](super::Store) opens: a
//! transaction as the role that the function `tenant_role` names, under row-level security, with the tenant in
//! `soma.tenant`. A transaction, because both end with it: whoever has the connection next is nobody's again, also
//! through a pooler that hands it on. The role owns nothing and may log in nowhere, and policies hold for all but the
//! owner of the tables: what works for all tenants (the Journal, the queues, the replicator, the sealer) is the owner,
//! pays nothing, and need not be trusted with more than it had. To hold the owner back too would mean to trust a
//! setting that says "everybody" instead.
//!
//! It costs a read one round trip, for the beginning; the end comes after the answer. A change has had a beginning before.
//!
//! Behind the wall a condition finds its index only if PostgreSQL knows that it tells nobody of the rows it sees:
//! comparisons of columns do, what looks into JSON or changes a text does not. So such things are looked for in a
//! column of their own.
//!
//! The server may refuse the role, because whoever brought the tables up to date may make none. Then there is no wall, which is
//! logged, counted, and shown: see [`raise`].

pub mod survey;

use std::borrow::Cow;

use prometheus::{IntGauge, Registry};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction};

use crate::domain::ids::Tenant;

/// Whether row-level security holds back whoever asks.
const HELD_BACK: &str = "SELECT row_security_active('session_envelopes')";

/// Whether the database keeps tenants apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wall {
    /// It does, if this is done first.
    Up(Entrance),
    /// The same, but there is a gap somewhere, such as a table without row-level security: see [`survey`].
    Gaping(Entrance),
    /// It does not, for this reason.
    Absent(String),
}

/// The statement that becomes the role of the tenants until the end of the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance(Cow<'static, str>);

impl Entrance {
    /// For a database whose role is not known: it is asked for each time, which is dearer than all the rest of a beginning.
    pub const ASKING: Self = Self(Cow::Borrowed("SELECT set_config('role', tenant_role(), true)"));

    fn of(quoted_role: &str) -> Self {
        Self(Cow::Owned(format!("SET LOCAL ROLE {quoted_role}")))
    }
}

/// What a transaction of a tenant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To change something.
    Change,
    /// To write what a later change counts on, without waiting until it is on a disk.
    Prepare,
    /// To read.
    Read,
    /// To read by a filter: a plan for any filter would look at every row of the tenant, where one for this filter has
    /// an index.
    Search,
}

/// A transaction that sees and changes rows of one tenant only. Queries in it name the tenant all the same.
#[derive(Debug)]
pub struct TenantTx<'c> {
    transaction: Transaction<'c, Postgres>,
    undone: bool,
}

impl<'c> TenantTx<'c> {
    pub(super) async fn begin(
        connection: &'c mut PgConnection,
        wall: &Wall,
        tenant: &Tenant,
        purpose: Purpose,
    ) -> Result<Self, sqlx::Error> {
        let transaction = connection.begin_with(AssertSqlSafe(beginning(wall, tenant, purpose))).await?;
        Ok(Self { transaction, undone: false })
    }

    /// Nothing of what was done here remains.
    pub const fn undo(&mut self) {
        self.undone = true;
    }

    pub(super) async fn end(self) -> Result<(), sqlx::Error> {
        if self.undone { self.transaction.rollback().await } else { self.transaction.commit().await }
    }
}

impl std::ops::Deref for TenantTx<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl std::ops::DerefMut for TenantTx<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}

/// What begins a transaction, in one round trip.
fn beginning(wall: &Wall, tenant: &Tenant, purpose: Purpose) -> String {
    let begin = match purpose {
        Purpose::Change => "BEGIN",
        Purpose::Prepare => "BEGIN; SET LOCAL synchronous_commit = off",
        Purpose::Read => "BEGIN READ ONLY",
        Purpose::Search => "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan",
    };
    match wall {
        Wall::Up(Entrance(enter)) | Wall::Gaping(Entrance(enter)) => {
            let tenant = quoted(tenant.as_str());
            format!("{begin}; {enter}; SET LOCAL soma.tenant = {tenant}")
        }
        Wall::Absent(_) => begin.to_owned(),
    }
}

/// A text as SQL, whatever `standard_conforming_strings` says.
fn quoted(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// Why the database cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The user is taken for a tenant's, and would find every table empty.
    #[error(
        "the user of the database does not own the tables, so row-level security hides every row from it: name their owner, \
         or give the user BYPASSRLS"
    )]
    Outside,
    /// The database's.
    #[error("it could not be found out whether the database keeps tenants apart")]
    Database(#[from] sqlx::Error),
}

/// Makes the role, as far as the user may, and tells whether the wall is up: by looking from behind it, and by a survey.
///
/// # Errors
/// [`WallError`].
pub async fn raise(connection: &mut PgConnection) -> Result<Wall, WallError> {
    if sqlx::query_scalar(HELD_BACK).fetch_one(&mut *connection).await? {
        return Err(WallError::Outside);
    }
    sqlx::raw_sql("SELECT raise_tenant_wall()").execute(&mut *connection).await?;
    let wall = look(connection).await?;
    let Wall::Up(entrance) = wall else { return Ok(wall) };
    let gaps = survey::survey(connection).await?.map(|found| found.gaps).unwrap_or_default();
    // That the owner may ignore the wall everywhere takes nothing from it here.
    let gaps: Vec<&survey::Gap> = gaps.iter().filter(|gap| **gap != survey::Gap::WeBypass).collect();
    if gaps.is_empty() {
        return Ok(Wall::Up(entrance));
    }
    tracing::warn!(?gaps, "the wall between tenants has gaps; `somaagent doctor` says what to do");
    Ok(Wall::Gaping(entrance))
}

/// Looks from behind the wall whether it is up.
async fn look(connection: &mut PgConnection) -> Result<Wall, sqlx::Error> {
    let role: String = sqlx::query_scalar("SELECT quote_ident(tenant_role())").fetch_one(&mut *connection).await?;
    let entrance = Entrance::of(&role);
    let looked = async {
        sqlx::raw_sql(AssertSqlSafe(format!("BEGIN READ ONLY; {}", entrance.0))).execute(&mut *connection).await?;
        sqlx::query_scalar(HELD_BACK).fetch_one(&mut *connection).await
    };
    let looked = looked.await;
    sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
    match looked {
        Ok(true) => Ok(Wall::Up(entrance)),
        Ok(false) => Ok(Wall::Absent("its role is not held back by row-level security".to_owned())),
        Err(sqlx::Error::Database(refusal)) => Ok(Wall::Absent(refusal.message().to_owned())),
        Err(error) => Err(error),
    }
}

impl Wall {
    /// Shows whether it is up.
    ///
    /// # Errors
    /// If the metric is there already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        let gauge = IntGauge::new(
            "store_tenant_wall_up",
            "1 where row-level security was found to keep tenants apart at the start, 0 where it is absent or has gaps.",
        )?;
        gauge.set(i64::from(matches!(self, Self::Up(_))));
        registry.register(Box::new(gauge))
    }
}

/// Does `work` behind the wall and keeps what it changed.
///
/// # Panics
/// If anything fails.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "for tests")]
pub async fn within<T>(
    connection: &mut PgConnection,
    tenant: &str,
    work: impl AsyncFnOnce(&mut TenantTx<'_>) -> Result<T, sqlx::Error>,
) -> T {
    let tenant = Tenant::new(tenant).unwrap();
    let mut rows = TenantTx::begin(connection, &Wall::Up(Entrance::ASKING), &tenant, Purpose::Change).await.unwrap();
    let done = work(&mut rows).await.unwrap();
    rows.end().await.unwrap();
    done
}

#[cfg(test)]
mod tests;
