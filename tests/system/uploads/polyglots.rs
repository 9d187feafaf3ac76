//! Files that are two things at once, or another one than their sender says.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use reqwest::Method;
use serde_json::json;
use somaagent_test_services::clamd::{Clamd, eicar_in_a_zip};

use super::archives::zip;
use super::verdicts::scanning;
use super::{Form, upload};

const PAGE: &[u8] = b"<!DOCTYPE html><html><body><script>alert(document.cookie)</script></body></html>";
const SVG: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(document.cookie)</script></svg>";
const SCRIPT: &[u8] = b"=1;alert(document.cookie)//";
const PDF: &[u8] = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n";

/// A whole image.
fn image(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::new(4, 4).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// What each is called and said to be, its bytes, and what it is taken for.
fn polyglots() -> Vec<(&'static str, &'static str, Vec<u8>, &'static str)> {
    let (png, jpeg, gif) = (image(ImageFormat::Png), image(ImageFormat::Jpeg), image(ImageFormat::Gif));
    let archive = zip([&b"words"[..]]);
    let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(PAGE.iter().flat_map(|letter| [*letter, 0])).collect();
    let and = |first: &[u8], second: &[u8]| [first, second].concat();
    vec![
        ("script.js", "text/javascript", and(b"GIF89a/*\0\0*/", SCRIPT), "image/gif"),
        ("script.gif", "image/gif", and(b"GIF89a/*\0\0*/", SCRIPT), "image/gif"),
        ("bitmap.js", "text/javascript", and(b"BM", SCRIPT), "image/bmp"),
        ("page.html", "text/html", and(&png, PAGE), "image/png"),
        ("page.png", "image/png", and(&png, PAGE), "image/png"),
        ("page.gif", "text/html", and(&gif, PAGE), "image/gif"),
        ("lying.png", "image/png", PAGE.to_vec(), "text/html"),
        ("blank.png", "image/png", and(b"\n\t ", PAGE), "text/html"),
        ("wide.png", "image/png", utf16, "application/octet-stream"),
        ("late.txt", "text/plain", and(b"words\n", PAGE), "text/plain"),
        ("paper.zip", "application/zip", and(PDF, &archive), "application/pdf"),
        ("paper.html", "text/html", and(PDF, PAGE), "application/pdf"),
        // Readers of PDF look for its beginning in the first 1024 bytes.
        ("late.pdf", "text/html", and(PAGE, PDF), "application/pdf"),
        ("photo.zip", "application/zip", and(&jpeg, &archive), "image/jpeg"),
        ("photo.jar", "application/java-archive", and(&jpeg, &archive), "image/jpeg"),
        ("drawing.svg", "image/svg+xml", SVG.to_vec(), "image/svg+xml"),
        ("drawing.png", "image/png", SVG.to_vec(), "text/plain"),
        ("drawn.svg", "image/svg+xml", and(b"<?xml version=\"1.0\"?>", SVG), "image/svg+xml"),
        ("drawn.png", "image/png", and(b"<?xml version=\"1.0\"?>", SVG), "text/xml"),
        ("archive.txt", "text/plain", archive.clone(), "application/zip"),
        ("program.txt", "text/plain", and(b"MZ\x90\0\0", &archive), "application/vnd.microsoft.portable-executable"),
        ("behind.txt", "text/plain", and(b"words\n\0", &archive), "application/octet-stream"),
        ("shell.jpg", "image/jpeg", b"#!/bin/sh\nrm -rf /\n".to_vec(), "text/x-shellscript"),
        ("sheet.csv", "text/csv", b"=cmd|' /C calc'!A0\n".to_vec(), "text/csv"),
    ]
}

#[tokio::test]
async fn what_a_file_is_taken_for_is_what_its_first_bytes_are_and_it_is_only_ever_saved() {
    let clamd = Clamd::shared().unwrap();
    let stack = scanning(clamd).set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000).start().await;
    for (filename, declared, bytes, mime) in polyglots() {
        let sent = upload(&stack.client, Form::default().file(filename, declared, &bytes)).await;
        assert_eq!(sent.status, 200, "{filename}: {}", sent.text);
        let file = &sent.json()[0];
        assert_eq!((&file["status"], &file["mime"]), (&json!("clean"), &json!(mime)), "{filename}");
        let path = file["path"].as_str().unwrap();
        let fetched = stack.client.request(Method::GET, path).send().await.unwrap();
        assert_eq!(fetched.status(), 200, "{filename}");
        let header = |name: &str| fetched.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), mime, "{filename}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{filename}");
        assert_eq!(header("content-disposition"), format!("attachment; filename=\"{filename}\""));
        let policy = header("content-security-policy");
        assert!(policy.starts_with("sandbox; default-src 'none'"), "{filename}: {policy}");
        assert!(!policy.contains("allow-"), "{filename}: {policy}");
        assert!(fetched.bytes().await.unwrap() == bytes, "{filename} comes as it was sent");
    }
}

#[tokio::test]
async fn an_infected_archive_is_found_behind_what_a_file_pretends_to_be() {
    let stack = scanning(Clamd::shared().unwrap()).set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000).start().await;
    let (png, jpeg, gif) = (image(ImageFormat::Png), image(ImageFormat::Jpeg), image(ImageFormat::Gif));
    for (filename, mime, head) in [
        ("a.png", "image/png", &png[..]),
        ("a.jpg", "image/jpeg", &jpeg),
        ("a.gif", "image/gif", &gif),
        ("a.pdf", "application/pdf", PDF),
        ("a.html", "text/html", PAGE),
    ] {
        let file = [head, &eicar_in_a_zip()].concat();
        let sent = upload(&stack.client, Form::default().file(filename, mime, &file)).await;
        assert_eq!(sent.status, 200, "{filename}: {}", sent.text);
        let file = &sent.json()[0];
        assert_eq!((&file["mime"], &file["quarantine_reason"]), (&json!(mime), &json!("infected")), "{filename}");
        for path in ["", "/thumbnail"].map(|end| format!("{}{end}", file["path"].as_str().unwrap())) {
            let refused = stack.client.get(&path).await.unwrap();
            assert_eq!((refused.status, refused.code().as_str()), (403, "attachment-quarantined"), "{filename}");
        }
    }
}

#[tokio::test]
async fn nothing_that_is_behind_an_image_is_in_its_thumbnail() {
    let stack = crate::stack::Stack::start().await;
    for (filename, mime, format) in
        [("a.png", "image/png", ImageFormat::Png), ("a.jpg", "image/jpeg", ImageFormat::Jpeg)]
    {
        let file = [&image(format)[..], PAGE].concat();
        let sent = upload(&stack.client, Form::default().file(filename, mime, &file)).await;
        let path = format!("{}/thumbnail", sent.json()[0]["path"].as_str().unwrap());
        let picture = stack.client.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(
            (picture.status().as_u16(), &picture.headers()["content-type"]),
            (200, &"image/webp".parse().unwrap())
        );
        let picture = picture.bytes().await.unwrap();
        assert_eq!(image::guess_format(&picture).unwrap(), ImageFormat::WebP);
        assert!(!picture.windows(8).any(|bytes| bytes == b"<script>"), "{filename}");
    }
}
