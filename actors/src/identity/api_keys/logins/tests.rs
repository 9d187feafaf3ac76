#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use futures_util::FutureExt as _;
use sqlx::PgPool;
use uuid::Uuid;

use super::{
    super::tests::{ada, caller, lines, made, process, refused},
    *,
};
use crate::domain::ids::Tenant;

const HOUR: Duration = Duration::from_hours(1);

fn nobody() -> Caller {
    Caller { subject: None, ..caller("public") }
}

fn person() -> Person {
    Person { identity: ada("acme"), name: Some("Ada".to_owned()) }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_login_counts_everywhere_until_somebody_logs_out(pool: PgPool) {
    let (here, there) = (process(&pool), process(&pool));
    let login = here.log_in(&nobody(), person(), HOUR).await.unwrap();
    let shown = login.expose_secret();
    let mut standings = Vec::new();
    for keys in [&here, &there] {
        let proved = keys.prove_login(shown).await.unwrap();
        assert_eq!(proved.identity, ada("acme"));
        standings.push(proved.standing);
    }
    assert_eq!(here.login_name(&caller("acme"), shown).await.unwrap().as_deref(), Some("Ada"));
    assert_eq!(here.login_name(&caller("tea"), shown).await.unwrap(), None);
    here.log_out(&nobody(), &login).await.unwrap();
    assert!(standings[0].clone().ended().now_or_never().is_some(), "what it began here ends at once");
    assert_eq!(refused(&here.prove_login(shown).await), "it was revoked");
    there.watched().await;
    assert!(standings[1].clone().ended().now_or_never().is_some(), "and elsewhere when the next round is over");
    assert_eq!(refused(&there.prove_login(shown).await), "it was revoked");
    here.log_out(&nobody(), &login).await.unwrap();
    let told: Vec<_> = lines(&pool).await.into_iter().map(|(tenant, action, ..)| (tenant, action)).collect();
    let line = |action: &str| ("acme".to_owned(), action.to_owned());
    assert_eq!(told, [line("auth.login"), line("auth.logout")]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_login_is_no_key_and_a_key_no_login(pool: PgPool) {
    let keys = process(&pool);
    let login = keys.log_in(&nobody(), person(), HOUR).await.unwrap();
    let key = made(&keys, "acme", None).await;
    assert_eq!(refused(&keys.prove(login.expose_secret()).await), "it is no key");
    assert_eq!(refused(&keys.prove_login(key.secret()).await), "it is no key");
    assert!(keys.prove_login(login.expose_secret()).await.is_ok() && keys.prove(key.secret()).await.is_ok());
    assert!(keys.known_login(login.expose_secret()).is_some() && keys.known(key.secret()).is_some());
    assert!(keys.known(login.expose_secret()).is_none() && keys.known_login(key.secret()).is_none());
    // Not even with the beginning of the other.
    let disguised = login.expose_secret().replacen("sl_", "sk_", 1);
    assert_eq!(refused(&keys.prove(&disguised).await), "it is of another kind");
    let listed = keys.list(&Tenant::new("acme").unwrap(), None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|key| key.key_id).collect::<Vec<_>>(), [key.key.key_id]);
    let (_, login_id) = secret::key_id(login.expose_secret()).unwrap();
    assert!(!keys.revoke(&caller("acme"), login_id).await.unwrap(), "no admin finds it among the keys");
    assert!(keys.prove_login(login.expose_secret()).await.is_ok());
    keys.log_out(&nobody(), &SecretString::from(key.secret())).await.unwrap();
    assert!(keys.prove(key.secret()).await.is_ok(), "nobody logs a key out");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_login_ends_by_itself_and_is_swept_with_the_next(pool: PgPool) {
    let keys = process(&pool);
    let over = keys.log_in(&nobody(), person(), Duration::ZERO).await.unwrap();
    assert_eq!(refused(&keys.prove_login(over.expose_secret()).await), "it has expired");
    let mut others = person();
    others.identity.subject = "bob".to_owned();
    keys.log_in(&nobody(), others, Duration::ZERO).await.unwrap();
    keys.log_in(&nobody(), person(), HOUR).await.unwrap();
    let query = "SELECT created_by, expires_at > created_at FROM api_keys ORDER BY created_by";
    let left: Vec<(String, bool)> = sqlx::query_as(query).fetch_all(&pool).await.unwrap();
    assert_eq!(left, [("ada".to_owned(), true), ("bob".to_owned(), false)], "one's own are swept");
    let purged: Vec<_> = lines(&pool).await.into_iter().filter(|line| line.1 == "auth.login.purge").collect();
    let [(tenant, _, _, details)] = &purged[..] else { panic!("{purged:?}") };
    assert_eq!((tenant.as_str(), &details["count"]), (person().identity.tenant.as_str(), &serde_json::json!(1)));
}

#[sqlx::test(migrations = "../migrations")]
async fn only_the_hash_of_a_login_is_kept(pool: PgPool) {
    let keys = process(&pool);
    let login = keys.log_in(&nobody(), person(), HOUR).await.unwrap();
    let random = &login.expose_secret()[36..];
    let stored: String =
        sqlx::query_scalar("SELECT to_jsonb(api_keys)::text FROM api_keys").fetch_one(&pool).await.unwrap();
    assert!(stored.contains("Ada") && !stored.contains(random), "{stored}");
    assert!(!lines(&pool).await[0].3.to_string().contains(random));
    let unknown = login.expose_secret().replace(&login.expose_secret()[3..35], &Uuid::nil().simple().to_string());
    assert_eq!(refused(&keys.prove_login(&unknown).await), "nobody has it");
}
