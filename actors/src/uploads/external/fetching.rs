//! Asking for a file that is elsewhere, and reading it.

use std::{error::Error, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Response,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderName, LOCATION},
    redirect::Policy,
};
use tokio::time::{Instant, timeout_at};

use super::{
    ExternalError, Failure, Networks,
    addresses::Reach,
    place::{CLOSED, Place},
    resolving::{Closed, Lookup, Resolver, system},
};
use crate::{base_url::root_cause, uploads::Source};

/// So often an answer may lead elsewhere.
const MAX_REDIRECTS: usize = 3;

/// How long others have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until they take a connection.
    pub(super) connect: Duration,
    /// Until something comes, and then until more does.
    pub(super) silence: Duration,
    /// For all of it: as long as a form has.
    pub(super) whole: Duration,
}

const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(10), silence: Duration::from_secs(30), whole: Duration::from_mins(10) };

/// Fetches files that are elsewhere. A cheap handle.
#[derive(Clone, Debug)]
pub struct External {
    /// Connects to what everybody can reach …
    open: Client,
    /// … and this to an operator's networks alone.
    within: Client,
    networks: Arc<Networks>,
    patience: Patience,
}

/// A file that is being fetched.
#[derive(Debug)]
pub struct Fetched {
    /// Where it was asked for.
    pub source: Source,
    /// What it is called there, as its URL ends.
    pub name: Option<String>,
    /// What type it is said to have.
    pub mime: Option<String>,
    /// `Content-Disposition` as it came.
    pub disposition: Option<Vec<u8>>,
    /// How many bytes are announced.
    pub length: Option<u64>,
    response: Response,
    until: Instant,
    silence: Duration,
}

impl External {
    /// Fetches from what everybody can reach, and from `networks`.
    ///
    /// # Errors
    /// There is no TLS to be had.
    pub fn new(networks: Networks) -> Result<Self, reqwest::Error> {
        Self::with(networks, &system(), PATIENCE)
    }

    pub(super) fn with(networks: Networks, lookup: &Lookup, patience: Patience) -> Result<Self, reqwest::Error> {
        let networks = Arc::new(networks);
        let client = |reach| {
            let resolver = Resolver { lookup: Arc::clone(lookup), networks: Arc::clone(&networks), reach };
            client(resolver, patience)
        };
        Ok(Self { open: client(Reach::Open)?, within: client(Reach::Networks)?, networks, patience })
    }

    /// Asks for the file at `url`, whose host must be on `list`, as every host must be that it leads to.
    ///
    /// # Errors
    /// [`ExternalError`].
    pub async fn open(&self, list: &[String], url: &str) -> Result<Fetched, ExternalError> {
        let until = Instant::now() + self.patience.whole;
        let first = Place::read(url, list, &self.networks)?;
        let mut place = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask(&place, until).await?;
            let failed = |failure| ExternalError::Failed { host: place.host.clone(), failure };
            match response.status().as_u16() {
                200 => return Ok(Fetched::of(&first, response, until, self.patience.silence)),
                301 | 302 | 303 | 307 | 308 => {}
                status => return Err(failed(Failure::Status(status))),
            }
            let next = header(&response, &LOCATION).and_then(|next| String::from_utf8(next).ok());
            let next = next.and_then(|next| place.url.join(&next).ok());
            let next = next.ok_or_else(|| failed(Failure::Redirected))?;
            place = match Place::read(next.as_str(), list, &self.networks) {
                Err(ExternalError::BadUrl(_)) => return Err(failed(Failure::Redirected)),
                place => place?,
            };
        }
        Err(ExternalError::Failed { host: place.host, failure: Failure::Redirected })
    }

    /// Asks for what is at one place, and waits for the head of the answer.
    async fn ask(&self, place: &Place, until: Instant) -> Result<Response, ExternalError> {
        let client = if place.reach == Reach::Open { &self.open } else { &self.within };
        let asked = client.get(place.url.clone()).header(ACCEPT, "*/*").header(ACCEPT_ENCODING, "identity").send();
        let lost = |error: reqwest::Error| {
            if is_closed(&error) {
                return ExternalError::NotAllowed(CLOSED);
            }
            let cause = root_cause(&error);
            let failure = if error.is_connect() { Failure::Unreachable(cause) } else { Failure::Broken(cause) };
            ExternalError::Failed { host: place.host.clone(), failure }
        };
        match in_time(until, self.patience.silence, asked).await {
            Ok(answer) => answer.map_err(lost),
            Err(failure) => Err(ExternalError::Failed { host: place.host.clone(), failure }),
        }
    }
}

impl Fetched {
    fn of(place: &Place, response: Response, until: Instant, silence: Duration) -> Self {
        let mime = header(&response, &CONTENT_TYPE).and_then(|mime| String::from_utf8(mime).ok());
        Self {
            source: Source { url: place.url.to_string(), host: place.host.clone() },
            name: place.name(),
            mime,
            disposition: header(&response, &CONTENT_DISPOSITION),
            length: response.content_length(),
            response,
            until,
            silence,
        }
    }

    /// The next bytes; `None` when all of them have come.
    ///
    /// # Errors
    /// [`ExternalError::Failed`]: no more come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ExternalError> {
        let failure = match in_time(self.until, self.silence, self.response.chunk()).await {
            Ok(Ok(bytes)) => return Ok(bytes),
            Ok(Err(error)) => Failure::Broken(root_cause(&error)),
            Err(failure) => failure,
        };
        Err(ExternalError::Failed { host: self.source.host.clone(), failure })
    }
}

fn client(resolver: Resolver, patience: Patience) -> Result<Client, reqwest::Error> {
    Client::builder()
        .dns_resolver(Arc::new(resolver))
        .connect_timeout(patience.connect)
        // A proxy would look names up by itself; it would be found in the environment, too, which only the outermost room reads.
        .no_proxy()
        // They are followed by hand, each looked at like the first.
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .http1_only()
        .pool_max_idle_per_host(0)
        .user_agent("SomaAgent01")
        // A file is what came: its type, its sum and what is found in it are of those bytes.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .build()
}

/// What `work` gives, unless nothing comes for too long, or all of it takes too long.
async fn in_time<T>(until: Instant, silence: Duration, work: impl Future<Output = T>) -> Result<T, Failure> {
    let silent = Instant::now() + silence;
    let late = if until < silent { Failure::TooSlow } else { Failure::Silent };
    timeout_at(until.min(silent), work).await.map_err(|_| late)
}

fn header(response: &Response, name: &HeaderName) -> Option<Vec<u8>> {
    response.headers().get(name).map(|value| value.as_bytes().to_vec())
}

/// Whether it was not asked for where it is.
fn is_closed(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<Closed>() {
            return true;
        }
        cause = inner.source();
    }
    false
}
