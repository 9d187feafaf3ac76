//! The asking side: waits for a place, has the work done elsewhere, counts.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, timeout};

use super::places::Places;
use super::process::Program;
use super::wire::{Done, Job};
use super::{ExtractError, Extracted, ExtractionMetrics, ExtractionSettings, Picture, Purpose, TextKind};

/// Reads files in processes of their own. Cheap to clone; clones share the places, of which thumbnails have some for themselves: people
/// look at a list while documents are read.
#[derive(Debug, Clone)]
pub struct Extractor {
    program: Arc<Program>,
    settings: ExtractionSettings,
    places: Places,
    thumbnail_places: Places,
    whose: Arc<str>,
    metrics: Option<ExtractionMetrics>,
}

impl Extractor {
    /// An extractor that starts `program`, which is this program, with the command `extract`.
    #[must_use]
    pub fn new(program: PathBuf, settings: ExtractionSettings) -> Self {
        Self::of(Program::confined(program, &settings), settings)
    }

    /// Counts into `metrics`.
    #[must_use]
    pub fn counted(self, metrics: ExtractionMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    pub(super) fn of(program: Program, settings: ExtractionSettings) -> Self {
        let (places, thumbnail_places) = (Places::new(settings.places), Places::new(settings.thumbnail_places));
        Self { program: Arc::new(program), settings, places, thumbnail_places, whose: "".into(), metrics: None }
    }

    /// The same, for files of `whose`: places are shared out fairly among all of these.
    #[must_use]
    pub fn serving(&self, whose: &str) -> Self {
        Self { whose: whose.into(), ..self.clone() }
    }

    /// The text of a file, at most [`TextKind::max_chars`] of it; see [`Extracted::note`] for what is missing.
    ///
    /// May be asked again at any time. Whoever drops the future ends the work.
    ///
    /// # Errors
    /// Every [`ExtractError`].
    pub async fn text(
        &self,
        kind: TextKind,
        content: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Extracted, ExtractError> {
        let job = Job::Text { kind, max_chars: kind.max_chars(), max_pages: self.settings.max_pages };
        match Box::pin(self.done(job, content)).await? {
            Done::Text(extracted) => Ok(extracted),
            Done::Picture(_) => Err(ExtractError::Garbled("an answer to another job")),
        }
    }

    /// A smaller picture of a PNG, JPEG, GIF or WebP.
    ///
    /// May be asked again at any time. Whoever drops the future ends the work.
    ///
    /// # Errors
    /// Every [`ExtractError`] but `Encrypted`.
    pub async fn picture(
        &self,
        purpose: Purpose,
        content: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Picture, ExtractError> {
        let job = Job::Picture { purpose, max_pixels: self.settings.max_pixels };
        match Box::pin(self.done(job, content)).await? {
            Done::Picture(picture) => Ok(picture),
            Done::Text(_) => Err(ExtractError::Garbled("an answer to another job")),
        }
    }

    async fn done(&self, job: Job, content: impl Stream<Item = io::Result<Bytes>>) -> Result<Done, ExtractError> {
        let done = self.placed(job, content).await;
        if let (Some(metrics), Err(error)) = (&self.metrics, &done) {
            metrics.failed(error);
        }
        done
    }

    async fn placed(&self, job: Job, content: impl Stream<Item = io::Result<Bytes>>) -> Result<Done, ExtractError> {
        let (places, wait) = match job {
            Job::Picture { purpose: Purpose::Thumbnail, .. } => {
                (&self.thumbnail_places, self.settings.thumbnail_wait())
            }
            Job::Picture { .. } | Job::Text { .. } => (&self.places, self.settings.wait()),
        };
        // Held to the end of the process.
        let Ok(Some(_place)) = timeout(wait, places.place(&self.whose)).await else { return Err(ExtractError::Busy) };
        let started = Instant::now();
        let done = self.program.run(&job, content, &self.settings).await;
        if let Some(metrics) = &self.metrics {
            metrics.took(job.wanted(), started.elapsed().as_secs_f64());
        }
        done
    }
}

#[cfg(test)]
mod tests;
