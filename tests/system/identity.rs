//! Who may do what, once callers must prove who they are.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::tokens::{SECRET, Signer};
use somaagent_test_services::wait::eventually;

use crate::downloads::Planted;
use crate::logins::{id as login_id, login_of};
use crate::stack::{Setup, Stack, binary, ended_turns, new_session};

pub fn claims(tenant: &str, subject: &str, scope: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({"tenant": tenant, "sub": subject, "scope": scope, "exp": now + 3600})
}

pub fn token(tenant: &str, subject: &str, scope: &str) -> String {
    Signer::secret(SECRET).sign(&claims(tenant, subject, scope))
}

pub async fn guarded() -> Stack {
    Setup::default().set("GATEWAY_JWT_SECRET", SECRET).start().await
}

/// The one list that a query narrows to what somebody has.
const LOGINS: &str = "/v1/admin/logins";

/// An operation of the description.
struct Operation {
    method: Method,
    path: String,
    action: String,
}

impl Operation {
    /// Those that are not everybody's.
    async fn guarded(stack: &Stack) -> Vec<Self> {
        let api = stack.get("/openapi.json").await;
        let mut all = Vec::new();
        for (path, item) in api["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let action = operation["x-action"].as_str().unwrap().to_owned();
                let method = method.to_uppercase().parse().unwrap();
                all.push(Self { method, path: path.clone(), action });
            }
        }
        // What is for workers is nobody's here, whatever they show: that has tests of its own.
        all.retain(|operation| operation.action != "public" && !operation.action.starts_with("internal."));
        assert!(all.len() > 30, "{}", all.len());
        all
    }

    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn wants_admin(&self) -> bool {
        let admins = ["admin.", "memory.", "settings."].iter().any(|kind| self.action.starts_with(kind));
        admins && self.action != "memory.receipt"
    }

    /// Whether it names something that exists or does not.
    fn names_something(&self) -> bool {
        self.path.replace("{topic}", "").contains('{') || ["/gateway_stream", LOGINS].contains(&&*self.path)
    }

    /// Calls it about `ids`, with a body that would do.
    async fn call(&self, client: &Client, ids: &Ids) -> Answer {
        let mut path = self.path.clone();
        for (name, value) in [
            ("{session_id}", &ids.session),
            ("{event_id}", &ids.event),
            ("{topic}", &"memory.wal.dlq".to_owned()),
            ("{id}", &ids.number),
            ("{job_id}", &ids.number),
            ("{key_id}", &ids.key),
            ("{login_id}", &ids.login),
            ("{attachment_id}", &ids.attachment),
            ("{link_id}", &ids.attachment),
            ("{upload_id}", &ids.upload),
        ] {
            path = path.replace(name, value);
        }
        if self.path == "/gateway_stream" {
            path += "?session_id=";
            path += &ids.session;
        } else if self.path == LOGINS {
            path += "?subject=";
            path += &ids.subject;
        }
        let mut request = client.request(self.method.clone(), &path);
        if ["POST", "PUT", "PATCH"].contains(&self.method.as_str()) {
            let body = json!({"title": "mine", "message": "hi", "action": "summarize", "items": [], "session_id": ids.session});
            request = request.json(&body);
        }
        client.send(request).await.unwrap()
    }
}

/// What a path may name.
struct Ids {
    session: String,
    event: String,
    number: String,
    key: String,
    login: String,
    /// Whose the login is.
    subject: String,
    attachment: String,
    upload: String,
}

impl Ids {
    fn of_nothing() -> Self {
        Self {
            session: new_session(),
            event: new_session(),
            number: "999999".to_owned(),
            key: new_session(),
            login: new_session(),
            subject: "nobody".to_owned(),
            attachment: new_session(),
            upload: new_session(),
        }
    }
}

#[tokio::test]
async fn nobody_gets_anything_and_members_only_what_is_theirs() {
    let stack = guarded().await;
    let member = stack.client.showing(&token("acme", "ada", "chat")).unwrap();
    let mut refused = 0;
    for operation in Operation::guarded(&stack).await {
        let name = operation.name();
        let answer = operation.call(&stack.client, &Ids::of_nothing()).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "authorization-missing"), "{name}: {}", answer.text);
        assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="somaagent01""#, "{name}");
        if operation.path.ends_with("/events") || operation.path == "/gateway_stream" {
            continue;
        }
        let answer = operation.call(&member, &Ids::of_nothing()).await;
        if operation.wants_admin() {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "admin-scope-required"),
                "{name}: {}",
                answer.text
            );
            refused += 1;
        } else {
            assert!(![401, 403].contains(&answer.status), "{name}: {}", answer.text);
        }
    }
    assert!(refused > 15, "{refused}");
    for path in ["/", "/healthz", "/readyz", "/v1/health", "/ui/config.json", "/openapi.json", "/docs"] {
        assert_eq!(stack.client.get(path).await.unwrap().status, 200, "{path}");
    }
    assert_eq!(stack.get("/ui/config.json").await["features"]["require_auth"], true);
}

#[tokio::test]
async fn what_one_tenant_has_does_not_exist_for_another() {
    let stack = guarded().await;
    let acme = stack.client.showing(&token("acme", "ada", "admin")).unwrap();
    let stranger = stack.client.showing(&token("umbrella", "eve", "admin")).unwrap();
    assert_eq!(stack.get("/v1/health").await["components"]["tenant_wall"], json!({"status": "ok"}));
    let ids = something(&stack, &acme).await;
    let said = acme.history(&ids.session).await.unwrap();
    let mut compared = 0;
    for operation in Operation::guarded(&stack).await.iter().filter(|operation| operation.names_something()) {
        if operation.path.ends_with("/{session_id}/events") && operation.path.starts_with("/v1/session/")
            || operation.path == "/gateway_stream"
        {
            continue;
        }
        let name = operation.name();
        let nothing = Ids::of_nothing();
        let known = operation.call(&stranger, &ids).await;
        let unknown = operation.call(&stranger, &nothing).await;
        assert_eq!(anonymous(&known, &ids), anonymous(&unknown, &nothing), "{name}");
        compared += 1;
    }
    assert!(compared > 15, "{compared}");
    let listed = stranger.get("/v1/sessions").await.unwrap();
    assert!(!listed.text.contains(&ids.session), "{}", listed.text);
    let named = stranger.get("/v1/sessions?tenant=acme").await.unwrap();
    assert_eq!((named.status, named.code().as_str()), (403, "tenant-denied"));
    // And nothing of it was touched.
    let state = acme.get(&format!("/v1/sessions/{}/state", ids.session)).await.unwrap();
    assert_eq!(state.status, 200, "{}", state.text);
    assert_eq!(acme.history(&ids.session).await.unwrap(), said);
    assert_eq!(acme.get("/v1/keys").await.unwrap().json()[0]["revoked"], false);
    assert_eq!(acme.get("/v1/auth/logins").await.unwrap().json()[0]["login_id"], json!(ids.login));
}

/// An answer without what names the request, the ids and the time.
fn anonymous(answer: &Answer, ids: &Ids) -> (u16, String) {
    let mut text = answer.text.clone();
    for id in [&ids.session, &ids.event, &ids.key, &ids.login, &ids.attachment, &ids.upload] {
        text = text.replace(id.as_str(), "");
    }
    let mut body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if let Some(members) = body.as_object_mut() {
        members.remove("instance");
    }
    (answer.status, body.to_string())
}

/// A session with an answer, whose first memory is in the replica, an export of it, an API key, and a login.
async fn something(stack: &Stack, client: &Client) -> Ids {
    let session = new_session();
    let posted = client.message(&Post::new("tea").to(&session)).await.unwrap();
    assert_eq!(posted.status, 200, "{}", posted.text);
    ended_turns(client, &session, 1).await;
    let event = posted.text_of("event_id");
    let request = client.request(Method::GET, &format!("/v1/memory/{event}/receipt")).header("Prefer", "wait=30");
    let receipt = client.send(request).await.unwrap();
    assert_eq!(receipt.json()["state"], "replicated", "{}", receipt.text);
    let job = client.post("/v1/memory/export/jobs", &json!({})).await.unwrap();
    assert_eq!(job.status, 202, "{}", job.text);
    let key = client.post("/v1/keys", &json!({"label": "deploy"})).await.unwrap();
    assert_eq!(key.status, 200, "{}", key.text);
    let pool = stack.database.pool().await.unwrap();
    let login = login_of(&pool, "acme", "ada", None).await;
    let upload = client.post("/v1/uploads/tus", &json!({"filename": "a.txt", "size": 3})).await.unwrap();
    assert_eq!(upload.status, 200, "{}", upload.text);
    let attachment = Planted::of("acme", "a.txt").by("ada").plant(&pool, &[b"tea"]).await;
    Ids {
        session,
        event,
        number: job.json()["job_id"].to_string(),
        key: key.text_of("key_id"),
        login: login_id(&login).to_owned(),
        subject: "ada".to_owned(),
        attachment: attachment.to_string(),
        upload: upload.text_of("upload_id"),
    }
}

#[tokio::test]
async fn a_session_is_its_owners_and_an_admins() {
    let stack = guarded().await;
    let [ada, bob, admin] = [("ada", ""), ("bob", "chat"), ("root", "admin")]
        .map(|(subject, scope)| stack.client.showing(&token("acme", subject, scope)).unwrap());
    let ids = {
        let session = new_session();
        let posted = ada.message(&Post::new("tea").to(&session)).await.unwrap();
        ended_turns(&ada, &session, 1).await;
        Ids { session, event: posted.text_of("event_id"), ..Ids::of_nothing() }
    };
    let said = ada.history(&ids.session).await.unwrap();
    for path in ["state", "history", "events", "context-window"] {
        let path = format!("/v1/sessions/{}/{path}", ids.session);
        assert_eq!(ada.get(&path).await.unwrap().status, 200, "{path}");
        assert_eq!(admin.get(&path).await.unwrap().status, 200, "{path}");
        let answer = bob.get(&path).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (404, "session-not-found"), "{path}");
    }
    let post = bob.message(&Post::new("me too").to(&ids.session)).await.unwrap();
    assert_eq!((post.status, post.code().as_str()), (404, "session-not-found"), "{}", post.text);
    let deleted = bob.delete(&format!("/v1/sessions/{}", ids.session)).await.unwrap();
    assert_eq!(deleted.status, 404, "{}", deleted.text);
    let listed = |answer: Answer| answer.text.contains(&ids.session);
    assert!(!listed(bob.get("/v1/sessions").await.unwrap()));
    assert!(listed(ada.get("/v1/sessions").await.unwrap()) && listed(admin.get("/v1/sessions").await.unwrap()));
    assert_eq!(ada.history(&ids.session).await.unwrap(), said);
}

#[tokio::test]
async fn whoever_guesses_a_key_gets_nobodys_first_words() {
    let begin = async |client: &Client, to: Option<&str>| {
        let post = to.map_or_else(|| Post::new("dear diary"), |session| Post::new("mine").to(session));
        let posted = client.message(&post.key("first")).await.unwrap();
        assert_eq!(posted.status, 200, "{}", posted.text);
        posted.text_of("session_id")
    };
    for scope in ["chat", "admin"] {
        // What another door gives to the same key.
        let there = guarded().await;
        let guessed = begin(&there.client.showing(&token("acme", "ada", scope)).unwrap(), None).await;
        let stack = guarded().await;
        let [ada, bob] =
            [("ada", scope), ("bob", "")].map(|(who, scope)| stack.client.showing(&token("acme", who, scope)).unwrap());
        assert_eq!(begin(&bob, Some(&guessed)).await, guessed);
        let own = begin(&ada, None).await;
        assert_ne!(own, guessed, "{scope}");
        assert_eq!(begin(&ada, None).await, own, "{scope}");
        let heard = json!(bob.history(&guessed).await.unwrap()).to_string();
        assert!(heard.contains("mine") && !heard.contains("diary"), "{heard}");
    }
}

#[tokio::test]
async fn what_one_says_is_recalled_for_nobody_else() {
    for (shared, setting) in [(false, "false"), (true, "true")] {
        let settings = [("GATEWAY_JWT_SECRET", SECRET), ("GATEWAY_TENANT_SESSIONS", setting)];
        let binary = settings.iter().fold(binary(), |binary, (name, value)| binary.set(name, value));
        let app = binary.set("SA01_TURNS__RECALL_DEADLINE_MS", "20000").start().await.unwrap();
        let nobody = Client::new(app.url()).unwrap();
        let [ada, bob] = ["ada", "bob"].map(|subject| nobody.showing(&token("acme", subject, "chat")).unwrap());
        let told = new_session();
        let posted = ada.message(&Post::new("The code of the vault is 4711.").to(&told)).await.unwrap();
        ended_turns(&ada, &told, 1).await;
        let path = format!("/v1/memory/{}/receipt", posted.text_of("event_id"));
        let receipt = ada.send(ada.request(Method::GET, &path).header("Prefer", "wait=30")).await.unwrap();
        assert_eq!(receipt.json()["state"], "replicated", "{}", receipt.text);
        for (client, hears) in [(&ada, true), (&bob, shared)] {
            let session = new_session();
            client.message(&Post::new("What is the code of the vault?").to(&session)).await.unwrap();
            ended_turns(client, &session, 1).await;
            let said = json!(client.history(&session).await.unwrap()).to_string();
            assert_eq!(said.contains("4711"), hears, "{said}");
        }
    }
}

#[tokio::test]
async fn a_stranger_neither_wakes_a_session_nor_takes_it_from_its_node() {
    let stack = guarded().await;
    let other = stack.app.binary().elsewhere().unwrap().start().await.unwrap();
    let ada = stack.client.showing(&token("acme", "ada", "")).unwrap();
    let bob = Client::new(other.url()).unwrap().showing(&token("acme", "bob", "")).unwrap();
    let session = new_session();
    ada.message(&Post::new("tea").to(&session)).await.unwrap();
    ended_turns(&ada, &session, 1).await;
    let query = "UPDATE session_envelopes SET owner = NULL, lease_until = NULL WHERE tenant = 'acme'";
    let pool = stack.database.pool().await.unwrap();
    sqlx::query(query).execute(&pool).await.unwrap();
    let fence = async || {
        let query = "SELECT epoch, owner, lease_until::text FROM session_envelopes WHERE tenant = 'acme'";
        sqlx::query_as::<_, (i64, Option<String>, Option<String>)>(query).fetch_all(&pool).await.unwrap()
    };
    let before = fence().await;
    let post = bob.message(&Post::new("mine").to(&session)).await.unwrap();
    assert_eq!((post.status, post.code().as_str()), (404, "session-not-found"), "{}", post.text);
    let stream = bob.events(&session).open().await.unwrap();
    let stopped = bob.stop(&session).await.unwrap();
    assert_eq!(stopped.status, 404, "{}", stopped.text);
    assert_eq!(fence().await, before);
    drop(stream);
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_JWT_LEEWAY", 0).start().await;
    let mut short = claims("acme", "ada", "");
    short["exp"] = json!(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 2);
    let client = stack.client.showing(&Signer::secret(SECRET).sign(&short)).unwrap();
    // The answer is whole once the stream has ended; nothing but the token ends it.
    let path = format!("/v1/session/{}/events", new_session());
    let stream = client.get(&path).await.unwrap();
    assert_eq!(stream.status, 200, "{}", stream.text);
    // Clocks of tokens have whole seconds.
    let code = eventually("the token's end", async || {
        let answer = client.get("/v1/sessions").await.ok()?;
        (answer.status == 401).then(|| answer.code())
    });
    assert_eq!(code.await, "token-invalid");
}

#[tokio::test]
async fn neither_secret_nor_token_is_in_the_log() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("LOG_LEVEL", "DEBUG").start().await;
    let good = token("acme", "ada", "admin");
    let bad = Signer::secret("another secret, just as long as it must be").sign(&claims("acme", "ada", "admin"));
    for (token, status) in [(&good, 200), (&bad, 401)] {
        let client = stack.client.showing(token).unwrap();
        assert_eq!(client.get("/v1/sessions").await.unwrap().status, status);
        let cookie = stack.client.request(Method::GET, "/v1/sessions").header("Cookie", format!("jwt={token}"));
        let answer = stack.client.send(cookie).await.unwrap();
        assert_eq!(answer.status, status);
        assert!(!answer.text.contains(token.as_str()));
    }
    let member = stack.client.showing(&token("acme", "bob", "chat")).unwrap();
    assert_eq!(member.get("/v1/admin/audit").await.unwrap().status, 403);
    let log = stack.app.output();
    for code in ["token-invalid", "admin-scope-required"] {
        assert!(log.contains(code), "the refusal {code} is not in the log: {log}");
    }
    for part in good.split('.').skip(1).chain(bad.split('.').skip(1)).chain([SECRET]) {
        assert!(!log.contains(part), "{part}");
    }
}
