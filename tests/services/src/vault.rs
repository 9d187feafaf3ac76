//! A server that speaks as much of Vault's protocol as is needed to keep secrets in it: KV version 2, and the own token's lookup
//! and renewal. On command it is sealed, slow, gone, or talks rubbish.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use crate::http::{Request, Server, Service, Wire};
use crate::lock::locked;
use crate::wait::within;

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers.
    Well,
    /// Every call gets this status; 503 is a sealed Vault.
    Failing(u16),
    /// Every call is answered with 200 and a text that is no answer of Vault's.
    Babbling,
    /// Every call is answered with 200 and a text that never ends.
    Flooding,
    /// Calls are read and never answered.
    Silent,
    /// Every call loses its connection.
    Dropping,
}

/// What a token may do, and for how long.
#[derive(Debug, Clone, Copy)]
struct Standing {
    seconds: u64,
    is_renewable: bool,
}

struct Desk {
    mood: Mutex<Mood>,
    /// Where every call is sent, and by which status; this comes before the mood.
    elsewhere: Mutex<Option<(u16, String)>>,
    /// Whether renewals fail, whatever else is well.
    holds_renewals: AtomicBool,
    tokens: Mutex<HashMap<String, Standing>>,
    /// By mount and path, `secret/gateway`.
    secrets: Mutex<HashMap<String, Map<String, Value>>>,
    calls: watch::Sender<Vec<String>>,
}

/// The server. Ends when dropped.
pub struct Vault {
    server: Server<Desk>,
}

impl Vault {
    /// Starts one without any secret, which takes `token` for ever.
    pub async fn start(token: &str) -> Result<Self> {
        let desk = Desk {
            mood: Mutex::new(Mood::Well),
            elsewhere: Mutex::default(),
            holds_renewals: AtomicBool::default(),
            tokens: Mutex::default(),
            secrets: Mutex::default(),
            calls: watch::Sender::default(),
        };
        let vault = Self { server: Server::start(desk).await? };
        vault.admit(token, 0, false);
        Ok(vault)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What goes in `VAULT_ADDR`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Changes its behaviour, for calls to come.
    pub fn set_mood(&self, mood: Mood) {
        *locked(&self.desk().elsewhere) = None;
        *locked(&self.desk().mood) = mood;
    }

    /// Sends every call to the same path at `url`, until its [mood](Self::set_mood) is changed.
    pub fn send_to(&self, status: u16, url: &str) {
        *locked(&self.desk().elsewhere) = Some((status, url.to_owned()));
    }

    /// Whether renewals of tokens get 503; nothing else does.
    pub fn hold_renewals(&self, holds: bool) {
        self.desk().holds_renewals.store(holds, Ordering::SeqCst);
    }

    /// Takes a token that says it is good for so long (0: for ever). It ends only when it is [banned](Self::ban).
    pub fn admit(&self, token: &str, seconds: u64, is_renewable: bool) {
        locked(&self.desk().tokens).insert(token.to_owned(), Standing { seconds, is_renewable });
    }

    /// Takes a token no longer, as when it has ended.
    pub fn ban(&self, token: &str) {
        locked(&self.desk().tokens).remove(token);
    }

    /// Keeps fields of a secret at `place`, its mount and path, in place of what was there.
    pub fn keep(&self, place: &str, fields: &[(&str, &str)]) {
        let fields = fields.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        locked(&self.desk().secrets).insert(place.to_owned(), fields);
    }

    /// Keeps nothing there any more.
    pub fn delete(&self, place: &str) {
        locked(&self.desk().secrets).remove(place);
    }

    /// Every call so far: method and path.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.desk().calls.borrow().clone()
    }

    /// Waits until something more was asked for whose path ends so than `before`.
    pub async fn called(&self, end: &str, before: usize) {
        let count = |calls: &Vec<String>| calls.iter().filter(|call| call.ends_with(end)).count();
        let mut calls = self.desk().calls.subscribe();
        let more = async { drop(calls.wait_for(|calls| count(calls) > before).await) };
        within(&format!("a call of {end}"), more).await;
    }

    /// How often something was asked for whose path ends so.
    #[must_use]
    pub fn count(&self, end: &str) -> usize {
        self.calls().iter().filter(|call| call.ends_with(end)).count()
    }

    /// Closes its port and every connection.
    pub async fn down(&self) {
        self.server.down().await;
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> Result<()> {
        self.server.up().await
    }

    fn desk(&self) -> &Desk {
        self.server.service()
    }
}

impl Desk {
    /// Status and body of an answer.
    fn answer(&self, request: &Request) -> (u16, Value) {
        let tokens = locked(&self.tokens);
        let shown = request.headers.get("x-vault-token").map(String::as_str).unwrap_or_default();
        let Some(standing) = tokens.get(shown) else { return refused(403, "permission denied") };
        match (request.method.as_str(), request.target.as_str()) {
            ("GET", "/v1/auth/token/lookup-self") => (200, whole(&lookup(shown, *standing), &Value::Null)),
            ("POST", "/v1/auth/token/renew-self") if self.holds_renewals.load(Ordering::SeqCst) => {
                refused(503, "no renewal now")
            }
            ("POST", "/v1/auth/token/renew-self") if standing.is_renewable => {
                (200, whole(&Value::Null, &renewal(shown, *standing)))
            }
            ("POST", "/v1/auth/token/renew-self") => refused(400, "lease is not renewable"),
            ("GET", target) => match target.strip_prefix("/v1/").and_then(|place| place.split_once("/data/")) {
                Some((mount, path)) => match locked(&self.secrets).get(&format!("{mount}/{path}")) {
                    Some(fields) => (200, whole(&json!({"data": fields, "metadata": metadata()}), &Value::Null)),
                    None => (404, json!({"errors": []})),
                },
                None => refused(404, "no handler for route"),
            },
            _ => refused(405, "unsupported operation"),
        }
    }
}

impl Service for Desk {
    async fn serve(&self, request: Request, mut wire: Wire) -> io::Result<Option<Wire>> {
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        let request = Request { target: path, ..request };
        self.calls.send_modify(|calls| calls.push(format!("{} {}", request.method, request.target)));
        let elsewhere = locked(&self.elsewhere).clone();
        if let Some((status, url)) = elsewhere {
            let location = [("location".to_owned(), format!("{url}{}", request.target))];
            wire.answer(status, &location, "").await?;
            return Ok(Some(wire));
        }
        let mood = *locked(&self.mood);
        match mood {
            Mood::Well => {
                let (status, body) = self.answer(&request);
                wire.answer_json(status, &body).await?;
            }
            Mood::Failing(status) => {
                // What a refusal says may repeat what was shown.
                let shown = request.headers.get("x-vault-token").cloned().unwrap_or_default();
                wire.answer_json(status, &refused(status, &format!("Vault is sealed, {shown}")).1).await?;
            }
            Mood::Babbling => wire.answer(200, &[], "<html>Down for maintenance</html>").await?,
            Mood::Flooding => {
                wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                // It ends with the connection.
                loop {
                    wire.send_chunk(&[b' '; 8 * 1024]).await?;
                }
            }
            Mood::Silent => {
                wire.closed().await;
                return Ok(None);
            }
            Mood::Dropping => {
                wire.reset();
                return Ok(None);
            }
        }
        Ok(Some(wire))
    }
}

fn refused(status: u16, why: &str) -> (u16, Value) {
    (status, json!({ "errors": [why] }))
}

/// What every answer has around it.
fn whole(data: &Value, auth: &Value) -> Value {
    json!({
        "request_id": "8f1c1a7e-0000-4000-8000-000000000000",
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "auth": auth,
        "wrap_info": null,
        "warnings": null,
    })
}

fn metadata() -> Value {
    json!({
        "created_time": "2026-01-01T00:00:00.000000000Z",
        "custom_metadata": null,
        "deletion_time": "",
        "destroyed": false,
        "version": 1,
    })
}

fn lookup(token: &str, Standing { seconds, is_renewable }: Standing) -> Value {
    json!({
        "accessor": "a",
        "creation_time": 1_767_225_600,
        "creation_ttl": seconds,
        "display_name": "token",
        "entity_id": "",
        "expire_time": null,
        "explicit_max_ttl": 0,
        "id": token,
        "issue_time": "2026-01-01T00:00:00Z",
        "meta": null,
        "num_uses": 0,
        "orphan": true,
        "path": "auth/token/create",
        "policies": ["somaagent"],
        "renewable": is_renewable,
        "ttl": seconds,
        "type": "service",
    })
}

fn renewal(token: &str, Standing { seconds, is_renewable }: Standing) -> Value {
    json!({
        "client_token": token,
        "accessor": "a",
        "policies": ["somaagent"],
        "token_policies": ["somaagent"],
        "metadata": null,
        "lease_duration": seconds,
        "renewable": is_renewable,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
        "mfa_requirement": null,
        "num_uses": 0,
    })
}
