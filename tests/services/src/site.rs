//! A server of documents: each path answers what it was told to, and all of them can be struck dumb.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;

use anyhow::Result;
use serde_json::{Value, json};
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use crate::http::{Request, Server, Service, Wire};
use crate::lock::locked;

/// The server. Ends when dropped.
pub struct Site {
    server: Server<Desk>,
}

#[derive(Default)]
struct Desk {
    documents: Mutex<HashMap<String, Document>>,
    silent: Mutex<bool>,
    /// How far its clock is off.
    off: Mutex<Duration>,
}

#[derive(Clone)]
struct Document {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Site {
    /// Starts a server that has no documents.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> Result<Self> {
        Ok(Self { server: Server::start(Desk::default()).await? })
    }

    /// Where it listens, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Has `path` answered like this from now on, whatever the method and the query.
    pub fn put(&self, path: &str, status: u16, body: &Value) {
        self.put_with(path, status, &[], &body.to_string());
    }

    /// The same with headers and any text.
    pub fn put_with(&self, path: &str, status: u16, headers: &[(&str, &str)], body: &str) {
        let json = [("content-type", "application/json")];
        let headers = json.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let document = Document { status, headers: headers.collect(), body: body.to_owned() };
        locked(&self.server.service().documents).insert(path.to_owned(), document);
    }

    /// How far the clock is off that every answer tells in `Date`.
    pub fn set_clock(&self, off: Duration) {
        *locked(&self.server.service().off) = off;
    }

    /// Whether requests are read and never answered.
    pub fn set_silent(&self, silent: bool) {
        *locked(&self.server.service().silent) = silent;
    }
}

impl Desk {
    /// What time it is by its clock, as HTTP writes it (RFC 9110 §5.6.7).
    fn date(&self) -> String {
        let format =
            format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
        let off = *locked(&self.off);
        (OffsetDateTime::now_utc() + off).format(format).unwrap_or_default()
    }
}

impl Service for Desk {
    async fn serve(&self, request: Request, mut wire: Wire) -> io::Result<Option<Wire>> {
        if *locked(&self.silent) {
            wire.closed().await;
            return Ok(None);
        }
        let path = request.target.split_once('?').map_or(request.target.as_str(), |(path, _)| path);
        let document = locked(&self.documents).get(path).cloned();
        match document {
            Some(Document { status, mut headers, body }) => {
                headers.push(("date".to_owned(), self.date()));
                wire.answer(status, &headers, &body).await?;
            }
            None => wire.answer_json(404, &json!({"detail": "no such document"})).await?,
        }
        Ok(Some(wire))
    }
}
