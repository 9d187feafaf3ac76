//! The server side of HTTP/1.1 by hand: enough for the stand-ins, and nothing hidden.
//!
//! A library server would finish half-sent answers politely and would not tell when exactly the client's socket closed;
//! both are what the suites ask for.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::lock::locked;

const HEAD_LIMIT: usize = 64 * 1024;

/// What a client asked for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// The server's end of one connection.
pub(crate) struct Wire {
    socket: TcpStream,
    /// Read but not yet asked for.
    ahead: Vec<u8>,
}

impl Wire {
    /// The next request, or `None` when the client closed in between.
    pub(crate) async fn request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some((head, mut request)) = parse_head(&self.ahead)? {
                let length = request.headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
                while self.ahead.len() < head + length {
                    if !self.read_more().await? {
                        return Ok(None);
                    }
                }
                request.body = self.ahead[head..head + length].to_vec();
                self.ahead.drain(..head + length);
                return Ok(Some(request));
            }
            if self.ahead.len() > HEAD_LIMIT {
                return Err(io::Error::other("request head too long"));
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        }
    }

    async fn read_more(&mut self) -> io::Result<bool> {
        Ok(self.socket.read_buf(&mut self.ahead).await? > 0)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// One chunk of a body in pieces. Nothing is no chunk: an empty one would end the body.
    pub(crate) async fn send_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk).await
    }

    /// A whole answer with a body of known length.
    pub(crate) async fn answer(&mut self, status: u16, headers: &[(String, String)], body: &str) -> io::Result<()> {
        let mut answer = format!("HTTP/1.1 {status} {}\r\ncontent-length: {}\r\n", reason(status), body.len());
        for (name, value) in headers {
            let _ = write!(answer, "{name}: {value}\r\n");
        }
        answer.push_str("\r\n");
        answer.push_str(body);
        self.send(answer.as_bytes()).await
    }

    /// A whole answer in JSON.
    pub(crate) async fn answer_json(&mut self, status: u16, body: &Value) -> io::Result<()> {
        let headers = [("content-type".to_owned(), "application/json".to_owned())];
        self.answer(status, &headers, &body.to_string()).await
    }

    /// Resolves when the client closes its end. What it sends meanwhile is kept for the next request.
    pub(crate) async fn closed(&mut self) {
        while matches!(self.read_more().await, Ok(true)) {}
    }

    /// Closes at once with a reset, so that not even sent data is sure to arrive.
    pub(crate) fn reset(self) {
        let _ = self.socket.set_zero_linger();
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, Request)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let headers = head
        .headers
        .iter()
        .map(|field| (field.name.to_ascii_lowercase(), String::from_utf8_lossy(field.value).into_owned()));
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
    };
    Ok(Some((length, request)))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

/// What a stand-in does with one connection's next request. The connection goes on while it gives the wire back.
pub(crate) trait Service: Send + Sync + 'static {
    fn serve(&self, request: Request, wire: Wire) -> impl Future<Output = io::Result<Option<Wire>>> + Send;
}

/// A listening stand-in; ends with its last handle.
pub(crate) struct Server<S> {
    service: Arc<S>,
    address: SocketAddr,
    running: Mutex<Option<AbortHandle>>,
}

impl<S: Service> Server<S> {
    pub(crate) async fn start(service: S) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let server = Self { service: Arc::new(service), address, running: Mutex::new(None) };
        server.run(listener);
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn service(&self) -> &Arc<S> {
        &self.service
    }

    fn run(&self, listener: TcpListener) {
        let service = self.service.clone();
        let task = tokio::spawn(async move {
            // Connections end with the task: aborting it drops the set.
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                connections.spawn(converse(service.clone(), Wire { socket, ahead: Vec::new() }));
                while connections.try_join_next().is_some() {}
            }
        });
        *locked(&self.running) = Some(task.abort_handle());
    }

    /// Closes the port and every connection; a connect is refused from now on.
    pub(crate) async fn down(&self) {
        let running = locked(&self.running).take();
        if let Some(running) = running {
            running.abort();
            while !running.is_finished() {
                tokio::task::yield_now().await;
            }
            // The sockets of an aborted task close when the runtime drops it, which a refused connect shows.
            while TcpStream::connect(self.address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Listens again on the same port.
    pub(crate) async fn up(&self) -> Result<()> {
        if locked(&self.running).is_none() {
            let listener = TcpListener::bind(self.address).await.context("the port was taken meanwhile")?;
            self.run(listener);
        }
        Ok(())
    }
}

impl<S> Drop for Server<S> {
    fn drop(&mut self) {
        if let Some(running) = locked(&self.running).take() {
            running.abort();
        }
    }
}

async fn converse<S: Service>(service: Arc<S>, mut wire: Wire) {
    while let Ok(Some(request)) = wire.request().await {
        match service.serve(request, wire).await {
            Ok(Some(back)) => wire = back,
            _ => return,
        }
    }
}
