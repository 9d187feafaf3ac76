#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::io::Write;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

fn zipped(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        archive.start_file(*name, options).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn body(inner: &str) -> String {
    format!("<?xml version=\"1.0\"?><w:document xmlns:w=\"w\"><w:body>{inner}</w:body></w:document>")
}

fn text(content: Vec<u8>) -> Result<String, Refusal> {
    let mut text = Gathered::new(1_000_000);
    read(content, &mut text)?;
    Ok(text.finish().0)
}

#[test]
fn paragraphs_tables_headers_and_notes_are_read_in_their_order() {
    let document = body(
        "<w:p><w:r><w:t>Dear </w:t></w:r><w:r><w:t xml:space=\"preserve\">Ann &amp; Bob&#33;</w:t></w:r></w:p>\
         <w:p><w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t><w:delText>gone</w:delText>\
         <w:instrText>PAGE</w:instrText></w:r></w:p>\
         <w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr>\
         <w:tr><w:tc><w:p><w:r><w:t>c</w:t></w:r></w:p></w:tc></w:tr></w:tbl>\
         <mc:AlternateContent><mc:Choice><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Choice>\
         <mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>",
    );
    let header = body("<w:p><w:r><w:t>Letter</w:t></w:r></w:p>");
    let content = zipped(&[
        ("[Content_Types].xml", "<x/>"),
        ("word/footnotes.xml", &body("<w:p><w:r><w:t>note</w:t></w:r></w:p>")),
        ("word/document.xml", &document),
        ("word/header1.xml", &header),
        ("word/header2.xml", &header),
        ("word/vbaProject.bin", "macro"),
    ]);
    assert_eq!(text(content).unwrap(), "Letter\n\nDear Ann & Bob!\none\ttwo\nthree\na\tb\nc\n\nbox\n\nnote");
}

#[test]
fn a_document_part_by_another_name_is_found() {
    let content = zipped(&[("word/document2.xml", &body("<w:p><w:r><w:t>x</w:t></w:r></w:p>"))]);
    assert_eq!(text(content).unwrap(), "x");
}

#[test]
fn a_bomb_is_refused_before_it_unpacks() {
    let bomb = zipped(&[("word/document.xml", &"<a>".repeat(1 + (64 << 20) / 3))]);
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    assert!(matches!(text(bomb), Err(Refusal::TooLarge(_))));
    // Many parts share the bound.
    let part = body(&format!("<w:p><!--{}--></w:p>", " ".repeat(20 << 20)));
    let names = ["word/header1.xml", "word/document.xml", "word/footnotes.xml", "word/endnotes.xml"];
    assert!(matches!(text(zipped(&names.map(|name| (name, part.as_str())))), Err(Refusal::TooLarge(_))));
}

#[test]
fn no_entity_is_replaced() {
    let document = "<!DOCTYPE w [<!ENTITY x SYSTEM 'file:///etc/passwd'><!ENTITY y 'no'>]><w><t>&x;&y;&lt;</t></w>";
    assert_eq!(text(zipped(&[("word/document.xml", document)])).unwrap(), "&x;&y;<");
}

#[test]
fn what_is_no_document_is_refused_by_its_reason() {
    let locked: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(text([OLE, &locked].concat()), Err(Refusal::Encrypted));
    assert!(matches!(text([OLE, b"WordDocument"].concat()), Err(Refusal::Unsupported(_))));
    let whole = zipped(&[("word/document.xml", &body("<w:p/>"))]);
    for content in [
        Vec::new(),
        b"PK\x03\x04".to_vec(),
        whole[..whole.len() - 30].to_vec(),
        zipped(&[("xl/workbook.xml", "<x/>")]),
        zipped(&[("word/document.xml", "<w:p>")]),
    ] {
        assert!(matches!(text(content.clone()), Err(Refusal::Malformed(_))), "{content:?}");
    }
}
