//! A server on a loopback socket that answers as a test says. One connection a request.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What the server does with a request.
pub(crate) enum Play {
    /// Sends these bytes as they are and closes.
    Cut(Vec<u8>),
    /// Sends these bytes, and then nothing more.
    Stall(Vec<u8>),
    /// Never answers.
    Hang,
}

impl Play {
    pub fn json(status: u16, body: &str) -> Self {
        Self::raw(status, "content-type: application/json\r\n", body)
    }

    pub fn raw(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Cut(
            format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
                .into_bytes(),
        )
    }
}

/// The server; it ends with this value.
pub(crate) struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<String>>>,
    _running: JoinSet<()>,
}

impl Server {
    /// Listens on a free port. `play` gets the whole request as text, head and body.
    pub async fn start(play: impl Fn(&str) -> Play + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (play, log) = (Arc::new(play), Arc::clone(&seen));
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&play), Arc::clone(&log)));
            }
        });
        Self { url, seen, _running: running }
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The last request.
    pub fn last(&self) -> String {
        self.seen().pop().unwrap()
    }
}

async fn serve(mut stream: TcpStream, play: Arc<impl Fn(&str) -> Play>, log: Arc<Mutex<Vec<String>>>) {
    let mut request = String::new();
    while !is_whole(&request) {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(length) if length > 0 => request.push_str(std::str::from_utf8(&piece[..length]).unwrap()),
            _ => return,
        }
    }
    log.lock().unwrap().push(request.clone());
    match play(&request) {
        Play::Cut(bytes) => drop(stream.write_all(&bytes).await),
        Play::Stall(bytes) => {
            stream.write_all(&bytes).await.unwrap();
            std::future::pending::<()>().await;
        }
        Play::Hang => std::future::pending().await,
    }
}

/// Whether head and body have arrived.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    body.len() >= length
}
