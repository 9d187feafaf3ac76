//! What the two processes say to each other: a head in JSON after its length, then bytes to the end of the stream.
//!
//! The asker trusts no answer: a child that strangers' bytes have taken over can write what it likes.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::picture::{Picture, Purpose};
use super::text::{Extracted, Pages, TextKind};
use super::{ExtractError, text};

/// Longest head.
const HEAD_MAX: usize = 4 * 1024;

/// What is wanted of the bytes that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Job {
    Text { kind: TextKind, max_chars: usize, max_pages: u32 },
    Picture { purpose: Purpose, max_pixels: u64 },
}

impl Job {
    /// Its name in metrics.
    pub(super) const fn wanted(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Picture { purpose: Purpose::Thumbnail, .. } => "thumbnail",
            Self::Picture { purpose: Purpose::Model, .. } => "picture",
        }
    }

    /// Longest answer that can be true.
    pub(super) const fn answer_max(&self) -> usize {
        HEAD_MAX
            + match self {
                Self::Text { max_chars, .. } => *max_chars * 4,
                Self::Picture { purpose, .. } => purpose.bytes_max(),
            }
    }
}

/// A job done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Done {
    Text(Extracted),
    Picture(Picture),
}

/// The head of an answer; the text or the image comes after it.
#[derive(Debug, Serialize, Deserialize)]
enum Head {
    Text { missing_chars: u64, pages: Option<Pages>, charset: Option<String> },
    Picture { width: u32, height: u32 },
    Refused(Refusal),
}

/// The bytes of a head.
pub(super) fn head(head: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(head)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes(), json.as_slice()].concat())
}

/// Reads the job, and leaves the bytes after it.
pub(super) fn read_job(input: &mut impl Read) -> io::Result<Job> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > HEAD_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the head is too long"));
    }
    let mut json = vec![0; length];
    input.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

/// Writes the answer.
pub(super) fn write_answer(output: &mut impl Write, answer: Result<Done, Refusal>) -> io::Result<()> {
    let (told, bytes) = match answer {
        Ok(Done::Text(Extracted { text, missing_chars, pages, charset })) => {
            (Head::Text { missing_chars, pages, charset }, text.into_bytes())
        }
        Ok(Done::Picture(Picture { bytes, width, height })) => (Head::Picture { width, height }, bytes.into()),
        Err(refusal) => (Head::Refused(refusal), Vec::new()),
    };
    output.write_all(&head(&told)?)?;
    output.write_all(&bytes)?;
    output.flush()
}

/// The answer to `job`, checked against it.
pub(super) fn answer(job: &Job, mut answer: Vec<u8>) -> Result<Done, ExtractError> {
    let (head, length) = split::<Head>(&answer).ok_or(ExtractError::Garbled("no head"))?;
    answer.drain(..length);
    match (job, head) {
        (_, Head::Refused(refusal)) => Err(short(refusal).into()),
        (Job::Text { max_chars, .. }, Head::Text { missing_chars, pages, charset }) => {
            let text = String::from_utf8(answer).map_err(|_| ExtractError::Garbled("no text"))?;
            if text.chars().count() > *max_chars || text.chars().any(text::is_unwanted) {
                return Err(ExtractError::Garbled("text that it should not give"));
            }
            let charset = charset.map(|name| name.chars().take(40).collect());
            Ok(Done::Text(Extracted { text, missing_chars, pages, charset }))
        }
        (Job::Picture { purpose, .. }, Head::Picture { width, height }) => {
            let within = |edge| (1..=purpose.edge()).contains(&edge);
            if !within(width) || !within(height) || !purpose.is_format_of(&answer) {
                return Err(ExtractError::Garbled("no such picture"));
            }
            Ok(Done::Picture(Picture { bytes: answer.into(), width, height }))
        }
        _ => Err(ExtractError::Garbled("an answer to another job")),
    }
}

/// The head at the beginning of `bytes`, and how long it is.
fn split<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, usize)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    let json = rest.get(..length).filter(|_| length <= HEAD_MAX)?;
    Some((serde_json::from_slice(json).ok()?, 4 + length))
}

/// A refusal as one short line, whoever wrote it.
fn short(refusal: Refusal) -> Refusal {
    let line = |why: String| why.chars().filter(|c| !c.is_control()).take(200).collect();
    match refusal {
        Refusal::Unsupported(what) => Refusal::Unsupported(line(what)),
        Refusal::TooLarge(what) => Refusal::TooLarge(line(what)),
        Refusal::Malformed(why) => Refusal::Malformed(line(why)),
        Refusal::Unconfined(why) => Refusal::Unconfined(line(why)),
        same @ (Refusal::Encrypted | Refusal::OutOfMemory | Refusal::Panicked) => same,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    const JOB: Job = Job::Text { kind: TextKind::Plain, max_chars: 5, max_pages: 1 };

    fn said(done: Result<Done, Refusal>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_answer(&mut bytes, done).unwrap();
        bytes
    }

    fn text(text: &str) -> Done {
        Done::Text(Extracted { text: text.into(), missing_chars: 3, pages: None, charset: Some("UTF-8".into()) })
    }

    #[test]
    fn a_job_and_its_answer_are_read_as_they_were_written() {
        let mut bytes = head(&JOB).unwrap();
        bytes.extend(b"content");
        let mut rest = bytes.as_slice();
        assert_eq!((read_job(&mut rest).unwrap(), rest), (JOB, &b"content"[..]));
        assert_eq!(answer(&JOB, said(Ok(text("four\n")))).unwrap(), text("four\n"));
        assert!(matches!(answer(&JOB, said(Err(Refusal::Encrypted))), Err(ExtractError::Encrypted)));
    }

    #[test]
    fn an_answer_that_cannot_be_true_is_refused() {
        let thumbnail = Job::Picture { purpose: Purpose::Thumbnail, max_pixels: 1 };
        let picture = Job::Picture { purpose: Purpose::Model, max_pixels: 1 };
        let giant = Picture { bytes: "RIFF----WEBP".into(), width: 100_000, height: 1 };
        let script = Picture { bytes: "<script>".into(), width: 1, height: 1 };
        for (job, bytes) in [
            (JOB, Vec::new()),
            (JOB, b"\xff\xff\xff\xff{}".to_vec()),
            (JOB, b"\x02\0\0\0{}".to_vec()),
            (JOB, said(Ok(text("longer")))),
            (JOB, said(Ok(text("\0")))),
            (JOB, [said(Ok(text(""))), vec![0xff]].concat()),
            (thumbnail, said(Ok(text("")))),
            (thumbnail, said(Ok(Done::Picture(giant.clone())))),
            (thumbnail, said(Ok(Done::Picture(script.clone())))),
            (picture, said(Ok(Done::Picture(Picture { width: 1, ..giant })))),
            (picture, said(Ok(Done::Picture(script)))),
        ] {
            assert!(matches!(answer(&job, bytes.clone()), Err(ExtractError::Garbled(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_refusal_is_one_short_line_whoever_wrote_it() {
        let error = answer(&JOB, said(Err(Refusal::Malformed("a\r\n\x1b[2J".repeat(300))))).unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains(char::is_control), "{error}");
    }
}
