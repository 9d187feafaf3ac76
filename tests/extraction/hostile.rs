//! Files made to break whoever reads them.

use somaagent_actors::extraction::{ExtractError, ExtractionSettings, Purpose, TextKind};

use crate::{content, extractor, files, patient, text};

/// The code of the error a file gives, if it gives one.
fn code<T>(found: &Result<T, ExtractError>) -> Option<&'static str> {
    found.as_ref().err().map(ExtractError::code)
}

#[tokio::test]
async fn bombs_of_zip_are_refused() {
    let bomb = files::zipped(&[("word/document.xml", &vec![b' '; 65 << 20])]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(code(&text(TextKind::Docx, bomb).await), Some("too-large"));
}

#[tokio::test]
async fn laughs_are_not_multiplied() {
    let entity = |n: u8| format!("<!ENTITY l{n} '{}'>", format!("&l{};", n - 1).repeat(10));
    let entities = (1..10).map(entity).collect::<Vec<_>>().concat();
    let document = format!("<!DOCTYPE l [<!ENTITY l0 'ha'>{entities}]><l>&l9;</l>");
    assert_eq!(text(TextKind::Xml, document.clone()).await.unwrap().text, "<l>&l9;</l>");
    let zipped = files::zipped(&[("word/document.xml", document.replace("<l>&l9;</l>", "<t>&l9;</t>").as_bytes())]);
    assert_eq!(text(TextKind::Docx, zipped).await.unwrap().text, "&l9;");
}

#[tokio::test]
async fn nesting_costs_nothing() {
    let html = format!("{}deep{}", "<div><b>".repeat(100_000), "</b></div>".repeat(100_000));
    assert_eq!(text(TextKind::Html, html).await.unwrap().text, "deep");
    let xml = format!("{}{}", "<t>".repeat(100_000), "</t>".repeat(100_000));
    assert_eq!(text(TextKind::Docx, files::zipped(&[("word/document.xml", xml.as_bytes())])).await.unwrap().text, "");
}

#[tokio::test]
async fn a_pdf_that_draws_without_end_is_out_of_time() {
    // Each form draws the next one many times.
    let forms = (0..9).map(|n| {
        let resources = format!("<</XObject <</Y {} 0 R>>>>", 7 + n);
        let entries = format!("/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources {resources}");
        files::stream(&entries, "/Y Do ".repeat(50).as_bytes())
    });
    let last = files::stream("/Type /XObject /Subtype /Form /BBox [0 0 9 9]", b"0 0 m 1 1 l S");
    let pdf = files::pdf_with(files::stream("", b"/X0 Do"), forms.chain([last]).collect());
    let settings = ExtractionSettings { cpu_seconds: 1, ..patient() };
    assert_eq!(code(&extractor(settings).text(TextKind::Pdf, content(pdf.clone())).await), Some("out-of-time"));
    // The clock on the wall ends it as well.
    let settings = ExtractionSettings { timeout_ms: 1_500, ..patient() };
    assert_eq!(code(&extractor(settings).text(TextKind::Pdf, content(pdf)).await), Some("timed-out"));
}

#[tokio::test]
async fn a_pdf_that_unpacks_without_end_is_out_of_memory() {
    let packed = files::deflated(&files::deflated(&vec![b' '; 96 << 20]));
    assert!(packed.len() < 10_000);
    let pdf = files::pdf_with(files::stream("/Filter [/FlateDecode /FlateDecode]", &packed), Vec::new());
    let settings = ExtractionSettings { memory_mib: 64, ..patient() };
    assert_eq!(code(&extractor(settings).text(TextKind::Pdf, content(pdf)).await), Some("out-of-memory"));
}

#[tokio::test]
async fn a_pdf_whose_objects_lead_in_circles_ends() {
    let nested = format!("<</Type /Catalog /Pages 2 0 R /X {}{}>>", "[".repeat(500_000), "]".repeat(500_000));
    for objects in [
        vec![b"<</Type /Catalog /Pages 2 0 R>>".to_vec(), b"<</Type /Pages /Count 9 /Kids [2 0 R 2 0 R]>>".to_vec()],
        vec![b"<</Type /Catalog /Pages 1 0 R /Kids [1 0 R]>>".to_vec()],
        vec![b"<</Type /Catalog /Pages 2 0 R>>".to_vec(), b"2 0 R".to_vec()],
        vec![nested.into_bytes(), b"<</Type /Pages /Count 0 /Kids []>>".to_vec()],
    ] {
        let found = text(TextKind::Pdf, files::pdf_of(&objects)).await;
        assert!(matches!(code(&found), None | Some("malformed")), "{found:?}");
        assert!(found.is_err() || found.unwrap().text.is_empty());
    }
}

#[tokio::test]
async fn a_giant_image_is_refused_by_its_header() {
    let found = extractor(patient()).picture(Purpose::Thumbnail, content(files::giant_png(60_000, 60_000))).await;
    assert_eq!(code(&found), Some("too-large"));
    let settings = ExtractionSettings { max_bytes: 10, ..patient() };
    let found = extractor(settings).picture(Purpose::Thumbnail, content(files::giant_png(1, 1))).await;
    assert_eq!(code(&found), Some("too-large"));
}

#[tokio::test]
async fn an_image_that_needs_more_memory_than_there_is_ends_its_process_alone() {
    let extractor = extractor(ExtractionSettings { memory_mib: 16, ..patient() });
    let mut png = files::giant_png(6_000, 6_000);
    png.extend([0; 100]);
    let found = extractor.picture(Purpose::Thumbnail, content(png)).await;
    assert!(matches!(code(&found), Some("out-of-memory" | "malformed")), "{found:?}");
    assert_eq!(extractor.text(TextKind::Plain, content("still here")).await.unwrap().text, "still here");
}
