//! A job done, in whatever process this is.

use super::error::Refusal;
use super::wire::{Done, Job};
use super::{picture, text};

pub(super) fn work(job: &Job, content: Vec<u8>) -> Result<Done, Refusal> {
    match *job {
        Job::Text { kind, max_chars, max_pages } => text::of(kind, content, max_chars, max_pages).map(Done::Text),
        Job::Picture { purpose, max_pixels } => picture::of(&content, purpose, max_pixels).map(Done::Picture),
    }
}
