//! What fuzzers feed: the readers of what strangers write, with nothing behind them. Each takes any bytes and panics if what comes
//! of them is not as it must be. `tests/fuzz` has the targets; what is in its folder `seeds` is fed by the tests of this module.
#![allow(clippy::panic, clippy::missing_panics_doc, reason = "a panic is what a fuzzer looks for")]

use std::convert::Infallible;

use actix_multipart::Multipart;
use actix_web::{
    http::header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    web::Bytes,
};
use futures_util::stream;
use somaagent_actors::{domain::filename::sanitised, uploads::tus::MAX_PARTS};
use tokio::runtime::{Builder, Runtime};

use crate::{
    extract::{Opened, piece, said_of},
    problem::Code,
    tus::{Concat, MAX_TYPE_BYTES, bare_checksum, bytes, checksum, concat, metadata},
};

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().unwrap_or_else(|error| panic!("{error}"));
}

/// Texts in the heads of tus: each reader gets all of them.
pub fn tus(text: &str) {
    if let Ok(read) = metadata(text) {
        let name = read.said.filename.as_deref();
        assert!(name.is_none_or(|name| sanitised(name) == name), "a name stays as it is made safe: {name:?}");
        let kind = read.said.mime.as_deref();
        assert!(kind.is_none_or(|kind| kind.len() <= MAX_TYPE_BYTES && !kind.contains(char::is_control)), "{kind:?}");
    }
    if let Ok(Concat::Final(parts)) = concat(text) {
        assert!((1..=MAX_PARTS).contains(&parts.len()), "{}", parts.len());
    }
    for read in [checksum(text), bare_checksum(text)].into_iter().flatten() {
        assert!(matches!(read.sum.len(), 20 | 32), "{}", read.sum.len());
    }
    if let Some(number) = bytes(text) {
        assert!(text.trim_start_matches('0').parse() == Ok(number) || number == 0, "{text:?} is {number}");
    }
}

/// A form, whose parts have `x` between them: a byte that says how long the pieces are in which it comes, and its bytes.
pub fn multipart(input: &[u8]) {
    let Some((length, body)) = input.split_first() else { return };
    let whole = RUNTIME.with(|runtime| runtime.block_on(read(body, body.len().max(1))));
    let pieces = RUNTIME.with(|runtime| runtime.block_on(read(body, usize::from(*length).max(1))));
    // Why it is refused may depend on how far it had come when that was seen.
    assert_eq!(whole.is_ok(), pieces.is_ok(), "a form is the same in whatever pieces it comes: {whole:?} {pieces:?}");
    if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
        assert_eq!(whole, pieces, "a form is the same in whatever pieces it comes");
        let taken: usize = whole.iter().map(|part| part.bytes.len()).sum();
        assert!(taken <= body.len(), "more came out than went in");
    }
}

/// What is read of a part.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    name: Option<String>,
    filename: Option<String>,
    mime: Option<String>,
    bytes: Vec<u8>,
}

/// Reads a form that comes in pieces of `length` bytes.
async fn read(body: &[u8], length: usize) -> Result<Vec<Part>, Code> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=x"));
    let pieces: Vec<_> = body.chunks(length).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    let pieces = stream::iter(pieces.into_iter().map(|piece| piece.map_err(|never| match never {})));
    let (mut form, mut parts) = (Opened::of(Multipart::new(&headers, pieces)), Vec::new());
    while let Some(mut field) = form.next().await.map_err(|problem| problem.code())? {
        let said = said_of(&field);
        let filename = said.filename.map(|name| sanitised(&name));
        let mut part = Part { name: field.name().map(str::to_owned), filename, mime: said.mime, bytes: Vec::new() };
        while let Some(more) = piece(&mut field).await.map_err(|problem| problem.code())? {
            part.bytes.extend_from_slice(&more);
        }
        parts.push(part);
    }
    Ok(parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The seeds of a target, by their names.
    fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(target);
        let seeds = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        seeds.map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
    }

    #[test]
    fn what_fuzzers_begin_with_is_read() {
        let (texts, forms) = (seeds("tus"), seeds("multipart"));
        assert!(texts.len() >= 8 && forms.len() >= 8, "{} {}", texts.len(), forms.len());
        for (_, text) in &texts {
            tus(std::str::from_utf8(text).unwrap());
        }
        let mut read = 0;
        for (name, form) in &forms {
            multipart(form);
            let parts = RUNTIME.with(|runtime| runtime.block_on(super::read(&form[1..], 7)));
            assert_eq!(parts.is_ok(), !name.contains("refused"), "{name}: {parts:?}");
            read += parts.map_or(0, |parts| parts.len());
        }
        assert!(read >= 8, "{read}");
    }

    /// Each seed with a byte changed, taken away or doubled: the nearest that a fuzzer tries.
    #[test]
    fn what_is_almost_a_seed_is_read() {
        for (_, seed) in seeds("multipart") {
            for at in 1..seed.len() {
                let (before, after) = (&seed[..at], &seed[at..]);
                multipart(&[before, &after[1..]].concat());
                multipart(&[before, &after[..1], after].concat());
                multipart(&[before, &[after[0] ^ 0x20], &after[1..]].concat());
            }
        }
        for (_, seed) in seeds("tus") {
            for at in 0..seed.len() {
                let (before, after) = (&seed[..at], &seed[at..]);
                for text in [[before, &after[1..]].concat(), [before, &after[..1], after].concat()] {
                    tus(&String::from_utf8_lossy(&text));
                }
            }
        }
    }
}
