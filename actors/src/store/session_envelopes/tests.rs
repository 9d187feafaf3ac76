#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use sqlx::PgPool;

use super::*;
use crate::{
    domain::{
        append::Append,
        caller::Caller,
        memory::MemorySpace,
        message::MessageDraft,
        session::{Session, Stamp},
    },
    store::{
        append::append_batch,
        erase::{Leave, erase},
        session_events,
        wall::within,
    },
};

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second)
}

fn key(id: u128) -> SessionKey {
    SessionKey::new(Tenant::new("t").unwrap(), Uuid::from_u128(id))
}

/// A message of `subject`, as the session's conversation would store it.
fn said(session: &Session, subject: Option<&str>, second: i64) -> Append {
    let caller = Caller { subject: subject.map(str::to_owned), ..Caller::new(session.key.tenant.clone(), Uuid::nil()) };
    let draft = MessageDraft { message: "hi".into(), ..MessageDraft::default() };
    let space = MemorySpace { universe: None, namespace: "wm".into() };
    let stamp = Stamp { at: at(second), node: "n".into(), lease_until: at(second) };
    let event_id = Uuid::from_u128(session.key.session_id.as_u128() * 100 + u128::try_from(second).unwrap());
    session.message(&draft, event_id, &caller, &space, &stamp)
}

async fn begin(connection: &mut PgConnection, id: u128, subject: Option<&str>, second: i64) -> Session {
    let mut session = Session::unused(key(id));
    let append = said(&session, subject, second);
    assert_eq!(append_batch(connection, std::slice::from_ref(&append)).await.unwrap(), [true]);
    session.committed(&append);
    session
}

fn names(only: &[&str]) -> Vec<String> {
    only.iter().map(ToString::to_string).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_session_is_that_of_its_first_message_for_ever(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let fenced = key(1);
    fence_unused(&mut connection, &fenced, "n", at(0)).await.unwrap();
    let Claim::Taken(owned) = claim(&mut connection, &fenced, "n", at(1), at(1)).await.unwrap() else { unreachable!() };
    assert_eq!(owned.whose, Whose::Nobodys, "a row without a message is nobody's");
    let mut session = Session { fresh: false, epoch: owned.epoch, ..Session::unused(fenced) };
    for (subject, second) in [("ann", 2), ("bob", 3)] {
        let mut append = said(&session, Some(subject), second);
        // Whatever a writer believes: the first one counts.
        append.begun = said(&Session::unused(key(1)), Some(subject), second).begun;
        assert_eq!(append_batch(&mut connection, std::slice::from_ref(&append)).await.unwrap(), [true]);
        session.committed(&append);
        let stored = within(&mut connection, "t", async |rows| get(rows, &session.key, None).await).await.unwrap();
        assert_eq!(stored.subject.as_deref(), Some("ann"));
    }
    let without = begin(&mut connection, 2, None, 4).await;
    let append = said(&without, Some("bob"), 5);
    assert_eq!(append_batch(&mut connection, std::slice::from_ref(&append)).await.unwrap(), [true]);
    assert_eq!(
        within(&mut connection, "t", async |rows| get(rows, &without.key, None).await).await.unwrap().subject,
        None
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_tells_whose_the_session_is_whatever_else_it_finds(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let ann = Whose::Begun(Some("ann".into()));
    let session = begin(&mut connection, 1, Some("ann"), 1).await;
    let Claim::Taken(owned) = claim(&mut connection, &session.key, "n", at(2), at(9)).await.unwrap() else {
        unreachable!()
    };
    assert_eq!(owned.whose, ann);
    let elsewhere = claim(&mut connection, &session.key, "other", at(3), at(9)).await.unwrap();
    assert!(matches!(elsewhere, Claim::Elsewhere(until, whose) if (until, &whose) == (at(9), &ann)));
    let line = said(&session, None, 4).audit.remove(0);
    let erased = within(&mut connection, "t", async |rows| {
        erase(rows, &session.key, (owned.epoch, 1), Leave::Tombstone, at(4), &line).await
    })
    .await;
    assert_eq!(erased, Some(1));
    let deleted = claim(&mut connection, &session.key, "n", at(5), at(9)).await.unwrap();
    assert!(matches!(deleted, Claim::Deleted(whose) if whose == ann));
    let found = async |connection: &mut PgConnection, only: Option<&[String]>| {
        let found = within(connection, "t", async |rows| get(rows, &session.key, only).await).await;
        found.map(|found| found.deleted_at)
    };
    assert_eq!(
        found(&mut connection, Some(&names(&["ann"]))).await,
        Some(Some(at(4))),
        "its tombstone is its owner's too"
    );
    assert_eq!(found(&mut connection, Some(&names(&["bob"]))).await, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_read_of_some_subjects_sees_their_sessions_alone(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let hers = begin(&mut connection, 1, Some("ann"), 1).await.key;
    let ownerless = begin(&mut connection, 2, None, 2).await.key;
    for (session, only, seen) in [
        (&hers, None, true),
        (&hers, Some(names(&["ann"])), true),
        (&hers, Some(names(&["bob"])), false),
        (&hers, Some(names(&[""])), false),
        (&hers, Some(vec![]), false),
        (&ownerless, None, true),
        (&ownerless, Some(names(&["ann"])), false),
        (&ownerless, Some(names(&[""])), false),
        (&ownerless, Some(vec![]), false),
    ] {
        let only = only.as_deref();
        let found = (
            within(&mut connection, "t", async |rows| get(rows, session, only).await).await.is_some(),
            session_events::between(&mut connection, session, only, 0, 9, 9).await.unwrap().len() == 1,
            within(&mut connection, "t", async |rows| session_events::before(rows, session, only, 9, 9).await)
                .await
                .len()
                == 1,
        );
        assert_eq!(found, (seen, seen, seen), "{session} {only:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_of_ones_own_is_the_tenants_without_the_others(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for (id, subject) in [(1, Some("ann")), (2, Some("bob")), (3, None), (4, Some("ann")), (5, Some("ann"))] {
        begin(&mut connection, id, subject, i64::try_from(id).unwrap()).await;
    }
    let tenant = key(0).tenant;
    let list = async |connection: &mut PgConnection, subject, limit, before, containing| {
        let list = async |rows: &mut TenantTx<'_>| list_of(rows, &tenant, subject, limit, before, containing).await;
        let found = within(connection, "t", list).await;
        found.into_iter().map(|found| found.session_id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(list(&mut connection, "ann", 9, None, None).await, [5, 4, 1]);
    assert_eq!(list(&mut connection, "ann", 2, None, None).await, [5, 4]);
    assert_eq!(list(&mut connection, "ann", 9, Some((at(4), Uuid::from_u128(4))), None).await, [1]);
    assert_eq!(list(&mut connection, "ann", 9, None, Some("HI")).await, [5, 4, 1]);
    assert_eq!(list(&mut connection, "ann", 9, None, Some("no")).await, [0; 0]);
    assert_eq!(list(&mut connection, "bob", 9, None, None).await, [2]);
    assert_eq!(list(&mut connection, "", 9, None, None).await, [0; 0]);
    let all = within(&mut connection, "t", async |rows| self::list(rows, &tenant, 9, None, None).await).await;
    assert_eq!(all.iter().map(|found| found.session_id.as_u128()).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
}
