//! Files while they stream: one pipeline for every way in.
//!
//! A file is counted, hashed, typed, looked through and written into the database piece by piece, each step at the pace of
//! the slowest; how much of it is in memory does not depend on its size. Whoever looks through files does not wait long for a sender:
//! a file that comes slowly is looked through once it is here, out of the database. Nothing can be seen of it before
//! [`Judged::keep`], which does everything else in one transaction.

mod keeping;
pub mod scanning;
pub mod typing;
mod writing;

use std::{pin::pin, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use futures_util::{TryStreamExt as _, future::join};
use time::OffsetDateTime;

pub use self::{keeping::Keeping, scanning::ScanError};
pub(super) use self::{
    keeping::Origin,
    writing::{Blob, fill},
};
use self::{
    scanning::{Ended, Found, Scanning, Wait},
    typing::{Typing, UNKNOWN},
};
use super::{
    Uploads,
    quota::OverQuota,
    rules::{Quarantine, Rules},
};
use crate::{
    domain::{filename::sanitised, hex::hex, ids::Tenant},
    store::StoreError,
};

/// What a sender says of a file.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// What it is called.
    pub filename: Option<String>,
    /// What type it is said to have, with or without parameters.
    pub mime: Option<String>,
}

/// Where a file is that was fetched.
#[derive(Clone, Debug)]
pub struct Source {
    /// All of its URL. It may hold a secret.
    pub url: String,
    /// The host alone, which may be told.
    pub host: String,
}

/// Why a file is not taken. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// No file of this type is.
    #[error("files of the type {0} are not taken")]
    MimeNotAllowed(String),
    /// It is larger than any file may be.
    #[error("the file has more than {0} bytes")]
    TooLarge(u64),
    /// It is larger than a file may be that is kept here.
    #[error("the file has more than {0} bytes, which is too much to be kept here")]
    OverInlineCap(u64),
    /// Nobody is free to look through it now; nothing is wrong with it.
    #[error("nobody is free to look through the file")]
    Busy,
    /// It could not be looked through, and must be.
    #[error(transparent)]
    Scan(ScanError),
    /// It came so slowly that it was taken for one that does not come any more.
    #[error("the file was given up while it came")]
    GivenUp,
    /// The session that it was sent to was deleted while it came.
    #[error("the session was deleted while the file came")]
    SessionDeleted,
    /// There is no room for it.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// Whoever makes it of parts has as many uploads as one may have.
    #[error("the caller has too many uploads")]
    TooManyUploads,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file that comes. Dropped, it is given up.
pub struct Ingest {
    uploads: Uploads,
    rules: Arc<Rules>,
    filename: String,
    /// The declared type, in lower case and without parameters.
    declared: Option<String>,
    size: u64,
    digest: Context,
    typing: Typing,
    is_type_known: bool,
    scanning: Scanning,
    blob: Blob,
    /// Where it is fetched from, if it is.
    source: Option<Source>,
}

/// A file that has come whole, and of which it is known what is in it.
pub struct Judged {
    /// Its name, safe to show and to save under.
    pub filename: String,
    /// What its bytes are.
    pub mime: String,
    /// What its sender calls them.
    pub declared_mime: Option<String>,
    /// How many bytes it has.
    pub size: u64,
    /// Their SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// Why nobody is to get it: `infected`, `av_error` or `limits_exceeded`.
    pub quarantine_reason: Option<&'static str>,
    /// What was found in it.
    threat: Option<String>,
    /// When it was looked through, if it was, …
    scanned_at: Option<OffsetDateTime>,
    /// … and with which version of the signatures.
    signatures: Option<String>,
    uploads: Uploads,
    rules: Arc<Rules>,
    blob: Blob,
    /// Where it was fetched from, if it was.
    source: Option<Source>,
    /// Whether only what it is is kept, and its bytes are not.
    drops_bytes: bool,
    /// Its place among the files of one request.
    index: Option<u32>,
}

impl Judged {
    /// From which host it was fetched, if it was.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.host.as_str())
    }
}

impl Ingest {
    /// Begins to take a file of `tenant`.
    ///
    /// # Errors
    /// [`IngestError::MimeNotAllowed`], or [`IngestError::Scan`].
    pub(super) async fn begin(
        uploads: &Uploads,
        tenant: Tenant,
        rules: Arc<Rules>,
        said: &Declared,
    ) -> Result<Self, IngestError> {
        let blob = Blob::new(uploads.store.clone(), uploads.clock, tenant);
        Self::begin_into(blob, uploads, rules, said).await
    }

    /// Begins to take a file whose bytes go into `blob`.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub(super) async fn begin_into(
        blob: Blob,
        uploads: &Uploads,
        rules: Arc<Rules>,
        said: &Declared,
    ) -> Result<Self, IngestError> {
        let declared = check_declared(&rules, said)?;
        // What is here already keeps nobody waiting.
        let wait = if blob.is_stored() { Wait::AWhile } else { Wait::Never };
        let scanning = Scanning::open(&rules.antivirus, uploads.scanner.as_ref(), wait).await;
        let ingest = Self {
            filename: sanitised(said.filename.as_deref().unwrap_or_default()),
            declared,
            size: 0,
            digest: Context::new(&SHA256),
            typing: Typing::default(),
            is_type_known: false,
            scanning,
            blob,
            source: None,
            uploads: uploads.clone(),
            rules,
        };
        ingest.unless_strict()
    }

    /// The same file, which is fetched from `source`: if it is too large to be kept here, it is referred to there.
    #[must_use]
    pub fn fetched_from(self, source: Source) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Its name.
    #[must_use]
    pub fn filename(&self) -> &str {
        &self.filename
    }

    /// What its sender calls its type, in lower case and without parameters.
    #[must_use]
    pub fn declared_mime(&self) -> Option<&str> {
        self.declared.as_deref()
    }

    /// How many bytes have come.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`IngestError`]: nothing more of the file is of use.
    pub async fn push(mut self, mut bytes: Bytes) -> Result<Self, IngestError> {
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.size > self.rules.max_bytes {
            return Err(IngestError::TooLarge(self.rules.max_bytes));
        }
        self.digest.update(&bytes);
        self.typing.look(&bytes);
        if !self.is_type_known
            && let Some(mime) = self.typing.so_far(self.declared.as_deref())
        {
            check_found(&self.rules, mime, self.typing.found())?;
            self.is_type_known = true;
        }
        while let Some(piece) = self.blob.fill(&mut bytes) {
            // Each piece that is handed on wakes somebody up, so there are few and they are large.
            self.scanning.feed(piece.clone()).await;
            self = self.unless_strict()?;
            self.blob.write(piece).await?;
        }
        Ok(self)
    }

    /// Ends the file and finds out what is in it. One for which nobody was free, or that came too slowly, is looked through now.
    ///
    /// # Errors
    /// [`IngestError`].
    pub async fn finish(self) -> Result<Judged, IngestError> {
        let Self {
            uploads, rules, filename, declared, size, digest, mut typing, mut scanning, mut blob, source, ..
        } = self;
        let found = typing.found_in_all();
        let mime = typing.end(declared.as_deref());
        check_found(&rules, &mime, found)?;
        let rest = blob.unfilled();
        let looking = async {
            scanning.feed(rest).await;
            scanning.end().await
        };
        let (mut ended, settled) = join(looking, blob.settle()).await;
        settled?;
        if let Ended::PutOff = ended {
            ended = look_again(&uploads, &rules, &blob, size).await?;
        }
        let judgement = Judgement::of(ended, rules.antivirus.strict)?;
        let is_large = size > rules.inline_max_bytes;
        let mut drops_bytes = judgement.reason.is_some() && rules.quarantine == Quarantine::DropBytesKeepMeta;
        if is_large && source.is_none() && !drops_bytes {
            return Err(IngestError::OverInlineCap(rules.inline_max_bytes));
        }
        drops_bytes |= is_large;
        let Judgement { reason, threat, is_scanned, signatures } = judgement;
        Ok(Judged {
            filename,
            mime,
            declared_mime: declared,
            size,
            sha256: hex(digest.finish().as_ref()),
            quarantine_reason: reason,
            threat,
            scanned_at: is_scanned.then(|| (uploads.clock)()),
            signatures,
            uploads,
            rules,
            blob,
            source,
            drops_bytes,
            index: None,
        })
    }

    /// Nothing more of a file is of use that could not be looked through and must be.
    fn unless_strict(mut self) -> Result<Self, IngestError> {
        if self.rules.antivirus.strict
            && self.scanning.has_failed()
            && let Scanning::Failed(error) = std::mem::replace(&mut self.scanning, Scanning::Off)
        {
            return Err(IngestError::Scan(error));
        }
        Ok(self)
    }
}

/// Has a file looked through that is here: it has its turn as fast as it can be read, whoever sent it.
async fn look_again(uploads: &Uploads, rules: &Rules, blob: &Blob, size: u64) -> Result<Ended, IngestError> {
    let mut scanning = Scanning::open(&rules.antivirus, uploads.scanner.as_ref(), Wait::AWhile).await;
    let mut bytes = pin!(blob.again(size));
    while matches!(scanning, Scanning::On(_))
        && let Some(piece) = bytes.try_next().await?
    {
        scanning.feed(piece).await;
    }
    Ok(scanning.end().await)
}

/// What follows from what was found.
#[derive(Debug, PartialEq, Eq)]
struct Judgement {
    reason: Option<&'static str>,
    threat: Option<String>,
    is_scanned: bool,
    signatures: Option<String>,
}

impl Judgement {
    fn of(ended: Ended, strict: bool) -> Result<Self, IngestError> {
        let Found { verdict, signatures } = match ended {
            Ended::Found(found) => found,
            Ended::Unseen => return Ok(Self { reason: None, threat: None, is_scanned: false, signatures: None }),
            // A file that waits for others is no bad one, and must not be kept from everybody for that.
            Ended::PutOff => return Err(IngestError::Busy),
            Ended::Failed(error) if strict => return Err(IngestError::Scan(error)),
            Ended::Failed(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a file is quarantined unseen");
                return Ok(Self { reason: Some("av_error"), threat: None, is_scanned: false, signatures: None });
            }
        };
        let (reason, threat) = verdict.reason();
        Ok(Self { reason, threat, is_scanned: true, signatures })
    }
}

/// What a sender calls the type of a file, in lower case and without parameters.
///
/// # Errors
/// [`IngestError::MimeNotAllowed`].
pub(super) fn check_declared(rules: &Rules, said: &Declared) -> Result<Option<String>, IngestError> {
    let declared = said.mime.as_deref().map(essence).filter(|mime| !mime.is_empty());
    // Of a type that says nothing its bytes will say more.
    if let Some(mime) = declared.as_deref().filter(|mime| *mime != UNKNOWN) {
        check_mime(rules, mime)?;
    }
    Ok(declared)
}

/// A type in lower case and without its parameters.
fn essence(mime: &str) -> String {
    mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a file is taken whose bytes are `mime`, which may be the sender's word for what the first bytes were `found` to be. What
/// is denied stays so under each of the two names. What is allowed has to be so under the more exact one, by which it is kept and
/// sent: else a list with `text/xml` would let in pictures that run scripts.
fn check_found(rules: &Rules, mime: &str, found: Option<&str>) -> Result<(), IngestError> {
    if let Some(found) = found.filter(|found| is_in(&rules.denied_mime, found)) {
        return Err(IngestError::MimeNotAllowed(found.to_owned()));
    }
    check_mime(rules, mime)
}

fn check_mime(rules: &Rules, mime: &str) -> Result<(), IngestError> {
    if is_in(&rules.denied_mime, mime) || !(rules.allowed_mime.is_empty() || is_in(&rules.allowed_mime, mime)) {
        return Err(IngestError::MimeNotAllowed(mime.to_owned()));
    }
    Ok(())
}

fn is_in(list: &[String], mime: &str) -> bool {
    list.iter().any(|listed| listed == mime)
}

#[cfg(test)]
mod tests;
