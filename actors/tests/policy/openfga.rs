//! What a real OpenFGA with the shipped model makes of members, and what becomes of its end.

use reqwest::Client;
use serde_json::{Value, json};
use somaagent_actors::{
    domain::ids::Tenant,
    policy::{FgaSettings, Membership},
};
use somaagent_test_services::judge::Judge;

const MODEL: &str = include_str!("../../../config/openfga/model.json");

/// An OpenFGA with a store that has the shipped model.
struct Store {
    judge: Judge,
    http: Client,
    id: String,
    model: String,
}

impl Store {
    async fn new() -> Self {
        let judge = Judge::openfga().await.unwrap();
        let http = Client::builder().no_proxy().build().unwrap();
        let mut store = Self { judge, http, id: String::new(), model: String::new() };
        let named = store.post("/stores", &json!({"name": "soma"})).await;
        named["id"].as_str().unwrap().clone_into(&mut store.id);
        let made = store.post(&format!("/stores/{}/authorization-models", store.id), &model()).await;
        made["authorization_model_id"].as_str().unwrap().clone_into(&mut store.model);
        store
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.http.post(format!("{}{path}", self.judge.url())).json(body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn make_member(&self, user: &str, tenant: &str) {
        let tuple = json!({"user": user, "relation": "member", "object": tenant});
        self.post(&format!("/stores/{}/write", self.id), &json!({"writes": {"tuple_keys": [tuple]}})).await;
    }

    fn settings(&self) -> FgaSettings {
        FgaSettings {
            api_url: Some(self.judge.url().to_owned()),
            store_id: Some(self.id.clone()),
            timeout_seconds: 60.0,
            cache_ttl_seconds: 0.0,
            ..FgaSettings::default()
        }
    }
}

fn model() -> Value {
    serde_json::from_str(MODEL).unwrap()
}

async fn is_member(membership: &Membership, subject: &str, tenant: &str) -> Option<bool> {
    membership.is_member(&Tenant::new(tenant).unwrap(), subject).await.ok()
}

#[tokio::test]
async fn a_member_is_known_by_name_and_tenant_until_the_openfga_is_gone() {
    let mut store = Store::new().await;
    store.make_member("user:ada", "tenant:acme").await;
    store.make_member("user:team", "tenant:acme").await;
    let newest = Membership::from_settings(&store.settings()).unwrap().unwrap();
    let pinned = FgaSettings { model_id: Some(store.model.clone()), ..store.settings() };
    let pinned = Membership::from_settings(&pinned).unwrap().unwrap();
    for membership in [&newest, &pinned] {
        for (subject, tenant, known) in [
            ("ada", "acme", true),
            ("team", "acme", true),
            ("Ada", "acme", false),
            ("ada", "umbrella", false),
            ("eve", "acme", false),
            ("*", "acme", false),
            ("ada#member", "acme", false),
            ("user:ada", "acme", false),
            ("ada\u{2028}", "acme", false),
            ("ädä 🦜", "größe \"7\"", false),
        ] {
            assert_eq!(is_member(membership, subject, tenant).await, Some(known), "{subject} of {tenant}");
        }
    }
    store.judge.kill().unwrap();
    for _ in 0..8 {
        assert_eq!(is_member(&newest, "ada", "acme").await, None, "nobody is let in");
    }
}

#[tokio::test]
async fn a_name_that_is_no_id_is_written_as_one() {
    let store = Store::new().await;
    store.make_member("user:github%3Aada%20l", "tenant:a%23b").await;
    let membership = Membership::from_settings(&store.settings()).unwrap().unwrap();
    assert_eq!(is_member(&membership, "github:ada l", "a#b").await, Some(true));
    assert_eq!(is_member(&membership, "github%3Aada%20l", "a#b").await, Some(false), "another name");
}

#[tokio::test]
async fn a_store_without_a_model_lets_nobody_in() {
    let store = Store::new().await;
    let empty = store.post("/stores", &json!({"name": "empty"})).await["id"].as_str().unwrap().to_owned();
    for id in [empty, "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(), "nonsense".to_owned()] {
        let settings = FgaSettings { store_id: Some(id.clone()), ..store.settings() };
        let membership = Membership::from_settings(&settings).unwrap().unwrap();
        assert_eq!(is_member(&membership, "ada", "acme").await, None, "{id}");
    }
}
