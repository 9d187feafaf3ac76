//! Every kind of file, as it should be.

use image::ImageFormat;
use somaagent_actors::extraction::{Pages, Purpose, TextKind};

use crate::{content, extractor, files, patient, text};

#[tokio::test]
async fn every_kind_of_file_gives_its_text() {
    let utf16: Vec<u8> = "\u{feff}grün,7\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (kind, file, expected) in [
        (TextKind::Plain, b"# Title\n\nbody\0".to_vec(), "# Title\n\nbody"),
        (TextKind::Plain, utf16, "grün,7\n"),
        (TextKind::Plain, b"{\"a\": [1, 2]}".to_vec(), "{\"a\": [1, 2]}"),
        (TextKind::Xml, b"<?xml version='1.0'?><a b='c'>d</a>".to_vec(), "<a b='c'>d</a>"),
        (TextKind::Html, b"<title>T</title><script>no</script><p>one<p>two".to_vec(), "T\n\none\n\ntwo"),
        (TextKind::Pdf, files::pdf("Hello, world"), "Hello, world"),
        (TextKind::Docx, files::docx(&["one", "two"]), "one\ntwo"),
    ] {
        let found = text(kind, file).await.unwrap();
        assert_eq!((found.text.as_str(), found.note()), (expected, None), "{kind:?}");
    }
}

#[tokio::test]
async fn a_long_text_is_cut_and_says_by_how_much() {
    let found = text(TextKind::Plain, "ü".repeat(200_005)).await.unwrap();
    assert_eq!((found.text.chars().count(), found.missing_chars), (200_000, 5));
    assert_eq!(found.note().as_deref(), Some("[5 more characters are left out]"));
    let found = text(TextKind::Docx, files::docx(&["x".repeat(400_001).as_str()])).await.unwrap();
    assert_eq!((found.text.len(), found.missing_chars), (400_000, 1));
}

#[tokio::test]
async fn pages_tell_how_many_there_are() {
    let found = text(TextKind::Pdf, files::pdf("x")).await.unwrap();
    assert_eq!(found.pages, Some(Pages { read: 1, total: 1 }));
}

#[tokio::test]
async fn images_give_thumbnails() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP] {
        let thumbnail = extractor(patient()).picture(Purpose::Thumbnail, content(files::image(format))).await.unwrap();
        assert_eq!((thumbnail.width, thumbnail.height), (320, 160), "{format:?}");
        assert_eq!(image::guess_format(&thumbnail.bytes).unwrap(), ImageFormat::WebP);
    }
}
