//! Text and smaller pictures out of files of strangers, whatever is in them.
//!
//! The readers of PDF, DOCX, images and the like are large and meet bytes made to break them, so none of them runs in the
//! server. [`Extractor`], the asking side, starts this very program once more for every file, with the hidden command `extract`;
//! [`child`] is what runs there. It first gives up what could do harm — memory and processor time beyond a bound, files, sockets,
//! further programs; see `confine` — then reads one job with its bytes from its input, writes one answer, and ends. A reader
//! that panics, runs wild, eats memory or is taken over costs its own process and gives an [`ExtractError`].
//!
//! | module | holds |
//! | --- | --- |
//! | `asking`, `places`, `process` | the asking side: waits, who is served next, the process and its end |
//! | [`child`], `confine` | the other side |
//! | `wire` | what the two say to each other |
//! | `work` | a job done, without any process: text by kind, and pictures |
//! | `text`, `picture` | one file a kind of content |
//! | [`settings`], [`metrics`], `error` | limits, counts, what can go wrong |
//!
//! Content comes in as a stream and is handed on piece by piece: the server never holds a file as a whole. Called as it is, by
//! any family; it knows no attachment, no table and no tenant.

mod asking;
pub mod child;
mod confine;
mod error;
pub mod metrics;
mod picture;
mod places;
mod process;
pub mod settings;
mod text;
mod wire;
mod work;

pub use asking::Extractor;
pub use error::ExtractError;
pub use metrics::ExtractionMetrics;
pub use picture::{Picture, Purpose};
pub use settings::ExtractionSettings;
pub use text::{Extracted, Pages, TextKind};
