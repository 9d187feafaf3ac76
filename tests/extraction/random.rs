//! Files that chance has had a hand in: cut, spoilt, made up.

use futures_util::future::join_all;
use image::ImageFormat;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use somaagent_actors::extraction::{ExtractError, Extractor, Purpose, TextKind};

use crate::{content, extractor, files, patient};

/// Reads a file in every way there is. Whatever is in it, each gives an answer or says that the file is at fault.
async fn read_in_every_way(extractor: &Extractor, file: &[u8]) {
    let kinds = [TextKind::Plain, TextKind::Xml, TextKind::Html, TextKind::Pdf, TextKind::Docx];
    let texts = kinds.map(|kind| async move {
        let found = extractor.text(kind, content(file.to_vec())).await;
        is_answered(&found.map(|_| ()));
    });
    join_all(texts).await;
    is_answered(&extractor.picture(Purpose::Thumbnail, content(file.to_vec())).await.map(|_| ()));
}

fn is_answered(found: &Result<(), ExtractError>) {
    // A reader that gives up is told as a crash of its own process.
    let codes = ["unsupported", "encrypted", "too-large", "malformed", "out-of-time", "out-of-memory", "crashed"];
    assert!(found.as_ref().err().is_none_or(|error| codes.contains(&error.code())), "{found:?}");
}

/// Good files of the kinds that are hard to read.
fn good() -> Vec<Vec<u8>> {
    let packed = files::deflated(b"BT /F 12 Tf 72 720 Td (packed) Tj ET");
    vec![
        files::pdf("Hello, world"),
        files::pdf_with(files::stream("/Filter /FlateDecode", &packed), Vec::new()),
        files::docx(&["one", "two"]),
        files::image(ImageFormat::Png),
        files::image(ImageFormat::Jpeg),
        files::image(ImageFormat::Gif),
        files::image(ImageFormat::WebP),
    ]
}

#[tokio::test]
async fn files_that_end_too_early_are_answered() {
    let extractor = extractor(patient());
    for file in good() {
        for length in [0, 1, file.len() / 3, file.len() / 2, file.len() - 1] {
            read_in_every_way(&extractor, &file[..length]).await;
        }
    }
}

#[test]
fn files_that_are_spoilt_or_made_up_are_answered() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let extractor = extractor(patient());
    let spoilt =
        (proptest::sample::select(good()), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20));
    let spoilt = spoilt.prop_map(|(mut file, bytes)| {
        for (place, byte) in bytes {
            let place = place.index(file.len());
            file[place] = byte;
        }
        file
    });
    let starts =
        ["%PDF-1.7\n", "PK\u{3}\u{4}", "GIF89a", "<?xml version='1.0'?><", "<html><", "", ""].map(str::as_bytes);
    let made_up = (proptest::sample::select(starts.to_vec()), prop::collection::vec(any::<u8>(), 0..2_000));
    let made_up = made_up.prop_map(|(start, rest)| [start, &rest].concat());
    // What failed is shown whole, and needs no file to be tried again.
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop_oneof![spoilt, made_up], |file| {
            runtime.block_on(read_in_every_way(&extractor, &file));
            Ok(())
        })
        .unwrap();
}
