//! A server on a loopback socket that stands in clamd's place and does what a test says.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{settings::AntivirusSettings, target::Address};
use crate::uploads::{
    rules::{Antivirus, Rules},
    settings::UploadSettings,
};

/// What it says when it is asked which signatures it has.
pub(super) const VERSION: &str = "ClamAV 1.4.6/27400/Sat Sep 20 08:35:01 2025";

/// The server; it ends with this value.
pub(super) struct Double {
    pub address: Address,
    opened: Arc<AtomicUsize>,
    _running: JoinSet<()>,
}

impl Double {
    /// Listens on a free port, and has `play` speak on each connection.
    pub async fn start<F>(play: impl Fn(Line) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let opened = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&opened);
        let mut running = JoinSet::new();
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                connections.spawn(play(Line { stream, id: 0 }));
            }
        });
        Self { address, opened, _running: running }
    }

    /// One that finds no fault with anything but the bytes `bad`.
    pub async fn sound() -> Self {
        Self::start(|mut line| async move {
            while let Some(command) = line.command().await {
                let answer = match command.as_str() {
                    "zVERSION" => VERSION.to_owned(),
                    "zINSTREAM" => match line.stream().await {
                        Some(bytes) if bytes == b"bad" => "stream: Bad FOUND".to_owned(),
                        Some(_) => "stream: OK".to_owned(),
                        None => return,
                    },
                    other => format!("{other} ERROR"),
                };
                line.answer(&answer).await;
            }
        })
        .await
    }

    /// How many connections there were.
    pub fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    pub fn target(&self) -> Antivirus {
        Antivirus { enabled: true, strict: false, host: self.address.host.clone(), port: self.address.port }
    }
}

/// The double's end of a connection.
pub(super) struct Line {
    pub stream: TcpStream,
    /// Number of the last command.
    pub id: u32,
}

impl Line {
    /// The next command; nothing at the end.
    pub async fn command(&mut self) -> Option<String> {
        let mut command = Vec::new();
        loop {
            match self.stream.read_u8().await.ok()? {
                0 if command == b"zIDSESSION" => command.clear(),
                0 => break,
                byte => command.push(byte),
            }
        }
        self.id += 1;
        String::from_utf8(command).ok()
    }

    /// The bytes of a stream; nothing if it ends before its end.
    pub async fn stream(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let piece = self.piece().await?;
            if piece.is_empty() {
                return Some(bytes);
            }
            bytes.extend(piece);
        }
    }

    /// The next piece of a stream.
    pub async fn piece(&mut self) -> Option<Vec<u8>> {
        let mut piece = vec![0; self.stream.read_u32().await.ok()? as usize];
        self.stream.read_exact(&mut piece).await.ok()?;
        Some(piece)
    }

    /// Greets, and reads the command that begins a stream.
    pub async fn begun(&mut self) {
        self.command().await;
        self.answer(VERSION).await;
        self.command().await;
    }

    /// Answers the last command.
    pub async fn answer(&mut self, answer: &str) {
        let answer = format!("{}: {answer}\0", self.id);
        self.say(answer.as_bytes()).await;
    }

    /// Sends these bytes. Nobody may want them any more.
    pub async fn say(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }
}

/// Rules that say no more than who scans.
pub fn rules(antivirus: Antivirus) -> Rules {
    Rules { antivirus, ..UploadSettings::default().rules(&AntivirusSettings::default()) }
}
