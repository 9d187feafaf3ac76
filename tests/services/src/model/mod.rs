//! A scriptable server of the OpenAI chat-completions stream.
//!
//! Each request takes the next script of a queue, or the one made for it by the standing rule. The server keeps what it was
//! asked, and knows the instant at which each client's socket was closed.

mod script;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::script::Opening;
pub use self::script::{Gate, Script, Step};
use crate::http::{Request, Server, Service, Wire};
use crate::lock::locked;
use crate::wait::within;

/// Makes the script that answers a request.
type Rule = Arc<dyn Fn(&Exchange) -> Script + Send + Sync>;

/// The scriptable model server. Ends when dropped.
pub struct Model {
    server: Server<Player>,
}

impl Model {
    /// Starts a server that repeats what it is told: `you said: <last user message>`, a word a chunk.
    pub async fn start() -> Result<Self> {
        let player = Player {
            queue: Mutex::default(),
            rule: Mutex::new(Arc::new(|exchange: &Exchange| {
                Script::words(&format!("you said: {}", exchange.prompt()))
            })),
            exchanges: watch::Sender::default(),
            number: AtomicU64::new(0),
        };
        Ok(Self { server: Server::start(player).await? })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What goes in `SA01_LLM_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> String {
        base_url(self.address().port())
    }

    /// Puts a script at the end of the queue: it answers one request.
    pub fn next(&self, script: Script) {
        locked(&self.player().queue).push_back(script);
    }

    /// Sets the script of every request for which the queue has none.
    pub fn always(&self, script: Script) {
        self.answer(move |_| script.clone());
    }

    /// Sets the rule that makes the script of every request for which the queue has none.
    pub fn answer(&self, rule: impl Fn(&Exchange) -> Script + Send + Sync + 'static) {
        *locked(&self.player().rule) = Arc::new(rule);
    }

    /// Everything asked so far.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Arc<Exchange>> {
        self.player().exchanges.borrow().clone()
    }

    /// The `number`th request (0 is the first), waited for.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn exchange(&self, number: usize) -> Arc<Exchange> {
        let mut exchanges = self.player().exchanges.subscribe();
        within(&format!("request {number} to the model"), async {
            loop {
                if let Some(found) = exchanges.borrow_and_update().get(number) {
                    return found.clone();
                }
                if exchanges.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        })
        .await
    }

    /// Closes the port: a connect is refused.
    pub async fn down(&self) {
        self.server.down().await;
    }

    /// Opens the port again.
    pub async fn up(&self) -> Result<()> {
        self.server.up().await
    }

    fn player(&self) -> &Player {
        self.server.service()
    }
}

/// The base URL of a model server on this machine.
#[must_use]
pub fn base_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/v1")
}

/// One request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// How many requests came before.
    pub number: u64,
    /// When it had been read.
    pub at: Instant,
    /// Path and query.
    pub target: String,
    /// Header fields, names in lower case.
    pub headers: HashMap<String, String>,
    /// The JSON body.
    pub body: Value,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Default)]
struct Progress {
    /// When each step had been played.
    steps: Vec<Instant>,
    closed: Option<Instant>,
}

impl Exchange {
    /// The last message of the role `user`.
    #[must_use]
    pub fn prompt(&self) -> &str {
        let messages = self.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let user = messages.iter().rev().find(|message| message["role"] == "user");
        user.and_then(|message| message["content"].as_str()).unwrap_or_default()
    }

    /// Everything the request tells the model, as one text.
    #[must_use]
    pub fn context(&self) -> String {
        self.body["messages"].to_string()
    }

    /// Steps of the script that have been played.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.progress.borrow().steps.len()
    }

    /// When each step had been played.
    #[must_use]
    pub fn step_times(&self) -> Vec<Instant> {
        self.progress.borrow().steps.clone()
    }

    /// Waits until `count` steps have been played.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn played(&self, count: usize) {
        let mut progress = self.progress.subscribe();
        let _ = within("the model's next step", progress.wait_for(|now| now.steps.len() >= count)).await;
    }

    /// Waits until the client has closed its socket in the middle of the script, and tells when that was.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn closed(&self) -> Instant {
        let mut progress = self.progress.subscribe();
        let closed =
            within("the model's client to close its socket", progress.wait_for(|now| now.closed.is_some())).await;
        closed.ok().and_then(|now| now.closed).unwrap_or_else(Instant::now)
    }
}

/// Plays the scripts.
struct Player {
    queue: Mutex<VecDeque<Script>>,
    rule: Mutex<Rule>,
    exchanges: watch::Sender<Vec<Arc<Exchange>>>,
    number: AtomicU64,
}

impl Player {
    fn record(&self, request: Request) -> Arc<Exchange> {
        let body = request.json();
        let exchange = Arc::new(Exchange {
            number: self.number.fetch_add(1, Ordering::Relaxed),
            at: Instant::now(),
            target: request.target,
            headers: request.headers,
            body,
            progress: watch::Sender::default(),
        });
        self.exchanges.send_modify(|all| all.push(exchange.clone()));
        exchange
    }

    fn script_for(&self, exchange: &Exchange) -> Script {
        if let Some(script) = locked(&self.queue).pop_front() {
            return script;
        }
        let rule = locked(&self.rule).clone();
        rule(exchange)
    }
}

impl Service for Player {
    async fn serve(&self, request: Request, mut wire: Wire) -> io::Result<Option<Wire>> {
        if !request.target.ends_with("/chat/completions") {
            wire.answer_json(404, &json!({"error": {"message": "no such path"}})).await?;
            return Ok(Some(wire));
        }
        let exchange = self.record(request);
        let script = self.script_for(&exchange);
        let end = play(&exchange, script, &mut wire).await;
        match end {
            Ok(End::KeepAlive) => Ok(Some(wire)),
            Ok(End::Close) => Ok(None),
            Ok(End::Reset) => {
                wire.reset();
                Ok(None)
            }
            Err(error) => {
                exchange.progress.send_modify(|now| now.closed = Some(Instant::now()));
                Err(error)
            }
        }
    }
}

enum End {
    KeepAlive,
    Close,
    Reset,
}

async fn play(exchange: &Exchange, script: Script, wire: &mut Wire) -> io::Result<End> {
    match script.opening {
        Opening::Stream => {}
        Opening::Answer { status, headers, body } => {
            wire.answer(status, &headers, &body).await?;
            return Ok(End::KeepAlive);
        }
        Opening::Silence => {
            wire.closed().await;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    for step in script.steps {
        match step {
            Step::Wait(gate) => or_closed(wire, gate.pass()).await?,
            Step::Pause(length) => or_closed(wire, tokio::time::sleep(length)).await?,
            Step::Stall => {
                wire.closed().await;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Step::Endless(text) => loop {
                wire.send_chunk(&script::delta(exchange.number, &json!({"content": text}))).await?;
                // A client that went away is noticed even while the socket still takes what is sent.
                or_closed(wire, tokio::time::sleep(Duration::from_micros(200))).await?;
            },
            Step::Cut => return Ok(End::Close),
            Step::Reset => return Ok(End::Reset),
            Step::Split(bytes, lengths) => {
                let mut rest = bytes.as_slice();
                for length in lengths {
                    let (piece, after) = rest.split_at(length.min(rest.len()));
                    wire.send_chunk(piece).await?;
                    or_closed(wire, tokio::task::yield_now()).await?;
                    rest = after;
                }
                wire.send_chunk(rest).await?;
            }
            step => wire.send_chunk(&step.encode(exchange.number)).await?,
        }
        exchange.progress.send_modify(|now| now.steps.push(Instant::now()));
    }
    wire.send(b"0\r\n\r\n").await?;
    Ok(End::KeepAlive)
}

/// Waits for `work`, unless the client closes first.
async fn or_closed(wire: &mut Wire, work: impl Future<Output = ()>) -> io::Result<()> {
    tokio::select! {
        () = work => Ok(()),
        () = wire.closed() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    async fn ask(model: &Model, message: &str) -> reqwest::Response {
        reqwest::Client::new()
            .post(format!("{}/chat/completions", model.base_url()))
            .json(&json!({"stream": true, "messages": [{"role": "user", "content": message}]}))
            .send()
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_script_is_streamed_and_its_request_recorded() {
        let model = Model::start().await.unwrap();
        let text = ask(&model, "hello there").await.text().await.unwrap();
        assert!(text.contains(r#""content":"hello ""#), "{text}");
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert_eq!(model.exchange(0).await.prompt(), "hello there");
    }

    #[tokio::test]
    async fn a_gate_holds_the_stream_until_it_is_released() {
        let model = Model::start().await.unwrap();
        let gate = Gate::closed();
        model.next(Script::new().text("one").wait(&gate).text("two").done());
        let mut answer = ask(&model, "go").await;
        let first = answer.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("one"));
        model.exchange(0).await.played(1).await;
        gate.release(1);
        assert!(answer.text().await.unwrap().contains("two"));
    }

    #[tokio::test]
    async fn a_closed_client_is_noticed_before_the_next_step() {
        let model = Model::start().await.unwrap();
        let gate = Gate::closed();
        model.next(Script::new().text("one").wait(&gate).text("two").done());
        let mut answer = ask(&model, "go").await;
        answer.chunk().await.unwrap();
        drop(answer);
        let exchange = model.exchange(0).await;
        exchange.closed().await;
        assert_eq!(exchange.steps(), 1);
    }

    #[tokio::test]
    async fn faults_look_like_faults() {
        let model = Model::start().await.unwrap();
        model.next(Script::refuse(429, "slow down").header("retry-after", "3"));
        let refused = ask(&model, "go").await;
        assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "3"));
        for script in [Script::new().text("half").cut(), Script::new().text("half").reset()] {
            model.next(script);
            assert!(ask(&model, "go").await.text().await.is_err());
        }
        model.down().await;
        let request = reqwest::Client::new().post(format!("{}/chat/completions", model.base_url()));
        assert!(request.send().await.unwrap_err().is_connect());
        model.up().await.unwrap();
        assert_eq!(ask(&model, "go").await.status().as_u16(), 200);
    }
}
