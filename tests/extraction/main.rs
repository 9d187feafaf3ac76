//! Files of strangers, read by the built program as processes of its own, and asked for as the rooms of the server ask.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    reason = "a test fails by panicking, keeps real time and tells its story in one piece"
)]

#[cfg(target_os = "linux")]
mod confined;
mod files;
mod hostile;
mod kinds;
mod random;

use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
use somaagent_actors::extraction::{ExtractError, Extracted, ExtractionSettings, Extractor, TextKind};

/// An extractor for a busy machine, with its other bounds as they are by default.
fn patient() -> ExtractionSettings {
    ExtractionSettings { wait_ms: 300_000, timeout_ms: 300_000, cpu_seconds: 60, ..ExtractionSettings::default() }
}

fn extractor(settings: ExtractionSettings) -> Extractor {
    Extractor::new(env!("CARGO_BIN_EXE_somaagent").into(), settings)
}

/// A file in pieces, as it comes out of a table.
fn content(file: impl Into<Bytes>) -> impl Stream<Item = io::Result<Bytes>> {
    let file: Bytes = file.into();
    let pieces: Vec<_> = file.chunks(256 * 1024).map(|piece| Ok(file.slice_ref(piece))).collect();
    stream::iter(pieces)
}

async fn text(kind: TextKind, file: impl Into<Bytes>) -> Result<Extracted, ExtractError> {
    extractor(patient()).text(kind, content(file)).await
}
