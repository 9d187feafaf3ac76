#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{net::Ipv4Addr, sync::Arc};

use futures_util::FutureExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::PgPool;

use super::{
    super::{
        super::tests::{DAY, ada, caller, lines, made, on, process, refused, tomorrow},
        login_id,
    },
    *,
};
use crate::{domain::caller::Admission, identity::sign_in::Person, store::Connections};

/// Ada of a tenant, as who vouches for her knows her.
fn as_ada(tenant: &str) -> Caller {
    let admission = Admission { issuer: ada(tenant).issuer, ..Admission::default() };
    Caller { admission: Some(Arc::new(admission)), ..caller(tenant) }
}

/// Logs somebody in, who is Ada but for what is changed.
async fn log_in(keys: &ApiKeys, tenant: &str, change: impl FnOnce(&mut Person)) -> SecretString {
    let admission = Admission { user_agent: Some("browser/1".to_owned()), ..Admission::default() };
    let by = Caller {
        subject: None,
        admission: Some(Arc::new(admission)),
        address: Some(Ipv4Addr::new(192, 0, 2, 7).into()),
        ..caller("public")
    };
    let mut person = Person { identity: ada(tenant), name: Some("Ada".to_owned()) };
    change(&mut person);
    keys.log_in(&by, person, 3 * DAY).await.unwrap()
}

fn id(login: &SecretString) -> Uuid {
    login_id(login.expose_secret()).unwrap()
}

async fn listed(keys: &ApiKeys, tenant: &str, of: LoginsOf) -> Vec<Uuid> {
    let found = keys.logins(&Tenant::new(tenant).unwrap(), of, None, 100).await.unwrap();
    found.iter().map(|login| login.login_id).collect()
}

async fn stands(keys: &ApiKeys, login: &SecretString) -> bool {
    keys.prove_login(login.expose_secret()).await.is_ok()
}

#[sqlx::test(migrations = "../migrations")]
async fn people_see_and_end_their_own_logins_and_nobody_elses(pool: PgPool) {
    let (keys, later) = (process(&pool), on(Connections::of_pool(pool.clone()), tomorrow));
    let first = log_in(&keys, "acme", |_| ()).await;
    let last = log_in(&later, "acme", |_| ()).await;
    let others = [
        log_in(&keys, "tea", |_| ()).await,
        log_in(&keys, "acme", |person| person.identity.subject = "bob".to_owned()).await,
        log_in(&keys, "acme", |person| person.identity.issuer = Some("https://other.example".to_owned())).await,
        log_in(&keys, "acme", |person| person.identity.issuer = None).await,
    ];
    let key = made(&keys, "acme", None).await;
    let me = as_ada("acme");
    let mine = || LoginsOf::caller(&me).unwrap();
    assert_eq!(listed(&keys, "acme", mine()).await, [id(&last), id(&first)], "the latest first");
    let seen = keys.logins(&me.tenant, mine(), None, 1).await.unwrap().remove(0);
    assert_eq!((seen.subject.as_str(), seen.issuer, seen.name.as_str()), ("ada", ada("acme").issuer, "Ada"));
    assert_eq!((seen.created_at, seen.expires_at), (tomorrow(), tomorrow() + 3 * DAY));
    assert_eq!((seen.address.as_deref(), seen.user_agent.as_deref()), (Some("192.0.2.7"), Some("browser/1")));

    let foreign = others.iter().map(id).chain([key.key.key_id, Uuid::nil()]);
    for other in foreign {
        assert!(!keys.end_own_login(&me, other).await.unwrap(), "{other}");
    }
    assert!(keys.end_own_login(&me, id(&first)).await.unwrap());
    assert!(!keys.end_own_login(&me, id(&first)).await.unwrap(), "it has ended");
    assert!(!stands(&keys, &first).await && stands(&keys, &last).await);
    assert_eq!(listed(&keys, "acme", mine()).await, [id(&last)]);
    log_in(&keys, "acme", |_| ()).await;
    assert_eq!(keys.end_own_logins(&me).await.unwrap(), 2);
    assert_eq!(keys.end_own_logins(&me).await.unwrap(), 0);
    assert_eq!(refused(&keys.prove_login(last.expose_secret()).await), "it was revoked");
    for other in &others {
        assert!(stands(&keys, other).await);
    }
    assert!(keys.prove(key.secret()).await.is_ok());

    let told = lines(&pool).await;
    let told: Vec<_> = told.iter().filter(|line| line.1.starts_with("auth.logins.")).collect();
    let targets: Vec<_> = told.iter().map(|line| (line.1.as_str(), line.2.as_deref().unwrap())).collect();
    assert_eq!(targets, [("auth.logins.end", shown(id(&first)).as_str()), ("auth.logins.end_all", "ada")]);
    assert_eq!(told[1].3["count"], json!(2));
    assert!(told[1].3["ids"].as_array().unwrap().contains(&json!(shown(id(&last)))), "{told:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_has_no_logins(pool: PgPool) {
    let keys = process(&pool);
    let login = log_in(&keys, "acme", |_| ()).await;
    let nobody = Caller { subject: None, ..caller("acme") };
    assert_eq!(LoginsOf::caller(&nobody), None);
    assert!(!keys.end_own_login(&nobody, id(&login)).await.unwrap());
    assert_eq!(keys.end_own_logins(&nobody).await.unwrap(), 0);
    assert!(stands(&keys, &login).await);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_an_admin_ends_is_over_in_every_process_with_what_it_began(pool: PgPool) {
    let (here, there) = (process(&pool), process(&pool));
    let mut standings = Vec::new();
    let mut logins = Vec::new();
    for (tenant, subject, issuer) in
        [("acme", "bob", "one"), ("acme", "bob", "two"), ("acme", "cy", "one"), ("tea", "bob", "one")]
    {
        let login = log_in(&here, tenant, |person| {
            person.identity.subject = subject.to_owned();
            person.identity.issuer = Some(issuer.to_owned());
        });
        let login = login.await;
        for keys in [&here, &there] {
            standings.push(keys.prove_login(login.expose_secret()).await.unwrap().standing);
        }
        logins.push(login);
    }
    let over = || standings.iter().map(|standing| standing.clone().ended().now_or_never().is_some());
    let admin = as_ada("acme");
    let person = LoginsOf::Person { subject: "bob".to_owned(), issuer: Some("one".to_owned()) };
    assert_eq!(listed(&here, "acme", person.clone()).await, [id(&logins[0])]);
    assert_eq!(here.end_logins(&admin, person).await.unwrap(), 1);
    assert_eq!(over().collect::<Vec<_>>(), [true, false, false, false, false, false, false, false], "at once here");
    there.watched().await;
    assert_eq!(over().take(3).collect::<Vec<_>>(), [true, true, false], "and there with the next round");

    assert_eq!(here.end_logins(&admin, LoginsOf::Subject("bob".to_owned())).await.unwrap(), 1);
    assert_eq!(listed(&here, "acme", LoginsOf::Everybody).await, [id(&logins[2])]);
    assert_eq!(here.end_logins(&admin, LoginsOf::Everybody).await.unwrap(), 1);
    assert_eq!(here.end_logins(&admin, LoginsOf::Everybody).await.unwrap(), 0);
    there.watched().await;
    assert_eq!(over().collect::<Vec<_>>(), [true, true, true, true, true, true, false, false], "not another tenant's");
    assert!(stands(&there, &logins[3]).await);

    let told: Vec<_> = lines(&pool).await.into_iter().filter(|line| line.1 == "admin.logins.end").collect();
    let targets: Vec<_> = told.iter().map(|line| (line.0.as_str(), line.2.as_deref().unwrap())).collect();
    assert_eq!(targets, [("acme", "bob"), ("acme", "bob"), ("acme", "acme")], "and no row where nothing ended");
    assert_eq!(told[0].3, json!({"issuer": "one", "count": 1, "ids": [shown(id(&logins[0]))]}));
    assert_eq!(told[1].3["issuer"], json!(null));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_list_goes_on_where_it_was_whatever_has_gone(pool: PgPool) {
    let keys = process(&pool);
    for _ in 0..3 {
        log_in(&keys, "acme", |_| ()).await;
    }
    let tenant = Tenant::new("acme").unwrap();
    let whole = listed(&keys, "acme", LoginsOf::Everybody).await;
    let (mut seen, mut before) = (Vec::new(), None);
    while let Some(login) = keys.logins(&tenant, LoginsOf::Everybody, before, 1).await.unwrap().pop() {
        before = Some(ListCursor { at: login.created_at, id: login.login_id });
        seen.push(login.login_id);
        sqlx::query("DELETE FROM api_keys WHERE key_id = $1").bind(login.login_id).execute(&pool).await.unwrap();
    }
    assert_eq!((seen.len(), seen), (3, whole));
}
