//! A model that answers at once, as cheaply as it can, on a thread of its own.
//!
//! It speaks the OpenAI chat-completions stream. The first piece goes out with the head of the answer; every piece is the
//! instant at which it is sent. How many there are and how far apart is fixed for a run.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{self, Nanos};
use crate::sse;
use crate::wire::{self, Head};

const OPENING: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

/// How the model answers.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// So many pieces, so far apart, then the end.
    Pieces(u32, Duration),
    /// Pieces so far apart, until the client hangs up.
    Endless(Duration),
    /// It takes the request and never answers.
    Silent,
}

/// Something that happened at the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A request was there.
    Asked(Nanos),
    /// A client hung up before its answer was complete.
    HungUp(Nanos),
}

/// The model. Ends when dropped.
#[derive(Debug)]
pub struct Model {
    port: u16,
    events: mpsc::UnboundedReceiver<Event>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    plan: Plan,
    events: mpsc::UnboundedSender<Event>,
}

impl Model {
    /// Starts a model with a plan.
    pub fn start(plan: Plan) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let (sender, events) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Shared { plan, events: sender };
        let thread = std::thread::Builder::new().name("model".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    _ = serve(listener, shared) => {}
                }
            });
        })?;
        Ok(Self { port, events, end: Some(end), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What goes in `SA01_LLM_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// The request of a client that asks the model directly.
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        wire::post(
            self.port,
            "/v1/chat/completions",
            r#"{"model":"instant","stream":true,"messages":[{"role":"user","content":"say something"}]}"#,
        )
    }

    /// Forgets what has happened so far.
    pub fn forget(&mut self) {
        while self.events.try_recv().is_ok() {}
    }

    /// The next thing that happens, or has happened since it was last asked.
    pub async fn event(&mut self) -> Result<Event> {
        self.events.recv().await.context("the model has ended")
    }

    /// The instant of the next request, passing over everything before it.
    pub async fn asked(&mut self) -> Result<Nanos> {
        loop {
            if let Event::Asked(at) = self.event().await? {
                return Ok(at);
            }
        }
    }

    /// The instant at which the next client hangs up, passing over everything before it.
    pub async fn hung_up(&mut self) -> Result<Nanos> {
        loop {
            if let Event::HungUp(at) = self.event().await? {
                return Ok(at);
            }
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, shared: Shared) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let player = Player { socket, read: Vec::new(), written: String::new(), shared: shared.clone() };
        // What ends a connection early is told as an event; there is nobody else to tell.
        tokio::spawn(async move {
            let mut player = player;
            let _ = player.play().await;
        });
    }
}

/// One connection.
struct Player {
    socket: TcpStream,
    read: Vec<u8>,
    written: String,
    shared: Shared,
}

impl Player {
    async fn play(&mut self) -> Result<()> {
        while self.request().await? {
            let _ = self.shared.events.send(Event::Asked(clock::now()));
            if let Err(error) = self.reply(self.shared.plan).await {
                let _ = self.shared.events.send(Event::HungUp(clock::now()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Reads a request; `false` when the client hung up in between.
    async fn request(&mut self) -> Result<bool> {
        self.read.clear();
        loop {
            if let Some(head) = Head::of(&self.read)?
                && self.read.len() >= head.body + head.length.unwrap_or(0)
            {
                return Ok(true);
            }
            if self.socket.read_buf(&mut self.read).await? == 0 {
                return Ok(false);
            }
        }
    }

    async fn reply(&mut self, plan: Plan) -> Result<()> {
        let (count, apart) = match plan {
            Plan::Pieces(count, apart) => (count, apart),
            Plan::Endless(apart) => (u32::MAX, apart),
            Plan::Silent => return self.wait_for_hang_up().await,
        };
        let apart = u64::try_from(apart.as_nanos())?;
        self.written.push_str(OPENING);
        let mut due = clock::now();
        for _ in 0..count {
            self.wait_until(due).await?;
            self.piece(clock::now());
            self.flush().await?;
            due += apart;
        }
        self.chunk(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
        self.chunk(r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":20,"total_tokens":23}}"#);
        self.chunk("[DONE]");
        self.written.push_str("0\r\n\r\n");
        self.flush().await
    }

    /// Waits, unless the client hangs up before.
    async fn wait_until(&mut self, due: Nanos) -> Result<()> {
        if clock::now() >= due {
            return Ok(());
        }
        tokio::select! {
            () = clock::until(due) => Ok(()),
            gone = self.wait_for_hang_up() => gone,
        }
    }

    /// Waits for the client to hang up, which is an error: a client says nothing else before its answer is complete.
    async fn wait_for_hang_up(&mut self) -> Result<()> {
        let mut nothing = [0; 1];
        let read = self.socket.read(&mut nothing).await?;
        Err(anyhow!(if read == 0 { "the client hung up" } else { "the client spoke out of turn" }))
    }

    fn piece(&mut self, at: Nanos) {
        let stamp = sse::stamp(at);
        self.chunk(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{stamp}"}},"finish_reason":null}}]}}"#));
    }

    fn chunk(&mut self, data: &str) {
        let length = "data: \n\n".len() + data.len();
        let _ = write!(self.written, "{length:x}\r\ndata: {data}\n\n\r\n");
    }

    async fn flush(&mut self) -> Result<()> {
        self.socket.write_all(self.written.as_bytes()).await?;
        self.written.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::sse::{Stream, Writer};

    #[tokio::test]
    async fn an_answer_has_all_its_pieces_and_the_connection_stays() {
        let mut model = Model::start(Plan::Pieces(3, Duration::from_millis(1))).unwrap();
        let mut stream = Stream::connect(model.port(), Writer::Model).await.unwrap();
        for _ in 0..2 {
            stream.ask(&model.request()).await.unwrap();
            let pieces = stream.answer().await.unwrap();
            assert_eq!(pieces.len(), 3);
            assert!(pieces.iter().all(|(sent, read)| sent <= read));
            assert!(model.asked().await.unwrap() <= pieces[0].0);
        }
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_noticed() {
        for plan in [Plan::Silent, Plan::Endless(Duration::from_mins(1))] {
            let mut model = Model::start(plan).unwrap();
            let stream = Stream::open(model.port(), &model.request(), Writer::Model).await.unwrap();
            let asked = model.asked().await.unwrap();
            drop(stream);
            assert!(model.hung_up().await.unwrap() >= asked);
        }
    }
}
