//! Tables `event_log_members` and `event_log_offsets`: who reads the log inside the database, and how far.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

/// A partition as its group knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPartition {
    /// Its number.
    pub partition: i32,
    /// Everything before it is done.
    pub next_offset: i64,
    /// Who reads it; that member may be dead.
    pub owner: Option<Uuid>,
    /// Rises with each owner.
    pub epoch: i64,
}

/// Says that `member` lives until `lease_until`, and forgets the dead of its group.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log_groups.renew", skip_all)]
pub async fn renew(
    connection: &mut PgConnection,
    (group, topic, member): (&str, &str, Uuid),
    now: OffsetDateTime,
    lease_until: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH dead AS (
             DELETE FROM event_log_members
             WHERE group_name = $1 AND topic = $2 AND member <> $3 AND lease_until < $4
         )
         INSERT INTO event_log_members (group_name, topic, member, joined_at, lease_until)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (group_name, topic, member) DO UPDATE SET lease_until = EXCLUDED.lease_until",
        group,
        topic,
        member,
        now,
        lease_until,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes sure that `group` has a place in every partition of `topic`; new places are at the earliest record.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log_groups.ensure", skip_all)]
pub async fn ensure(connection: &mut PgConnection, group: &str, topic: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO event_log_offsets (group_name, topic, partition)
         SELECT $1, topic, partition FROM event_log_partitions WHERE topic = $2
         ON CONFLICT DO NOTHING",
        group,
        topic,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The partitions of a group, locked until the transaction ends: only one member at a time takes or gives back.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log_groups.lock", skip_all)]
pub async fn lock(connection: &mut PgConnection, group: &str, topic: &str) -> Result<Vec<GroupPartition>, sqlx::Error> {
    sqlx::query_as!(
        GroupPartition,
        "SELECT partition, next_offset, owner, epoch FROM event_log_offsets
         WHERE group_name = $1 AND topic = $2
         ORDER BY partition
         FOR UPDATE",
        group,
        topic,
    )
    .fetch_all(connection)
    .await
}

/// The members of a group that live at `now`, the oldest first.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log_groups.living", skip_all)]
pub async fn living(
    connection: &mut PgConnection,
    group: &str,
    topic: &str,
    now: OffsetDateTime,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT member FROM event_log_members
         WHERE group_name = $1 AND topic = $2 AND lease_until >= $3
         ORDER BY joined_at, member",
        group,
        topic,
        now,
    )
    .fetch_all(connection)
    .await
}

/// Gives the partitions `taken` to `member`, and those it gives back to nobody. Needs [`lock`].
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log_groups.hand_over", skip_all)]
pub async fn hand_over(
    connection: &mut PgConnection,
    (group, topic, member): (&str, &str, Uuid),
    taken: &[i32],
    given_back: &[i32],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE event_log_offsets
         SET owner = CASE WHEN partition = ANY ($4) THEN $3::uuid END, epoch = epoch + 1
         WHERE group_name = $1 AND topic = $2 AND partition = ANY ($4 || $5::integer[])",
        group,
        topic,
        member,
        taken,
        given_back,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes down that everything before `next_offset` is done, if `member` still has the partition as of `epoch`. Returns
/// whether it has.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log_groups.commit", skip_all)]
pub async fn commit(
    connection: &mut PgConnection,
    (group, topic, member): (&str, &str, Uuid),
    (partition, epoch): (i32, i64),
    next_offset: i64,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE event_log_offsets SET next_offset = $6
         WHERE group_name = $1 AND topic = $2 AND partition = $3 AND owner = $4 AND epoch = $5",
        group,
        topic,
        partition,
        member,
        epoch,
        next_offset,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// `member` is no longer of its group, and what it had is free.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log_groups.leave", skip_all)]
pub async fn leave(
    connection: &mut PgConnection,
    (group, topic, member): (&str, &str, Uuid),
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH left_behind AS (
             UPDATE event_log_offsets SET owner = NULL, epoch = epoch + 1
             WHERE group_name = $1 AND topic = $2 AND owner = $3
         )
         DELETE FROM event_log_members WHERE group_name = $1 AND topic = $2 AND member = $3",
        group,
        topic,
        member,
    )
    .execute(connection)
    .await?;
    Ok(())
}
