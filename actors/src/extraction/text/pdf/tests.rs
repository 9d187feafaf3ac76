#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::fmt::Write;

use super::*;

/// A PDF of these objects, the first of which is the catalogue.
fn pdf(objects: &[String]) -> Vec<u8> {
    let mut file = "%PDF-1.7\n".to_owned();
    let mut places = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        places.push(file.len());
        write!(file, "{} 0 obj\n{object}\nendobj\n", number + 1).unwrap();
    }
    let start = file.len();
    write!(file, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).unwrap();
    for place in places {
        writeln!(file, "{place:010} 00000 n ").unwrap();
    }
    write!(file, "trailer\n<</Size {} /Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n", objects.len() + 1).unwrap();
    file.into_bytes()
}

/// A page for each of these streams of drawing, with Helvetica as `/F`.
fn pages(drawings: &[&str]) -> Vec<u8> {
    let kids = (0..drawings.len()).map(|n| format!("{} 0 R ", 4 + 2 * n)).collect::<Vec<_>>().concat();
    let mut objects = vec![
        "<</Type /Catalog /Pages 2 0 R>>".to_owned(),
        format!("<</Type /Pages /Count {} /Kids [{kids}] /MediaBox [0 0 600 800]>>", drawings.len()),
        "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding>>".to_owned(),
    ];
    for (n, drawing) in drawings.iter().enumerate() {
        objects.push(format!(
            "<</Type /Page /Parent 2 0 R /Contents {} 0 R /Resources <</Font <</F 3 0 R>>>>>>",
            5 + 2 * n
        ));
        objects.push(format!("<</Length {}>>\nstream\n{drawing}\nendstream", drawing.len()));
    }
    pdf(&objects)
}

fn text(content: Vec<u8>, max_pages: u32) -> Result<(String, Pages), Refusal> {
    let mut text = Gathered::new(1_000);
    let pages = read(content, max_pages, &mut text)?;
    Ok((text.finish().0, pages))
}

#[test]
fn pages_give_their_lines_in_order() {
    let first = "BT /F 12 Tf 72 720 Td (Hello, ) Tj (world) Tj 0 -14 Td (second) Tj 200 0 Td (column) Tj ET \
                 BT /F 12 Tf 72 600 Td [(sp) -20 (lit) -400 (words)] TJ ET";
    let (text, pages) = text(pages(&[first, "BT /F 9 Tf 72 720 Td (\\334ber \\(x\\)) Tj ET"]), 10).unwrap();
    assert_eq!(text, "Hello, world\nsecond\tcolumn\n\nsplit words\n\nÜber (x)");
    assert_eq!(pages, Pages { read: 2, total: 2 });
}

#[test]
fn text_drawn_twice_to_be_bold_is_read_once() {
    let bold = "BT /F 12 Tf 72 720 Td (bold) Tj ET BT /F 12 Tf 72.3 720 Td (bold) Tj ET \
                BT /F 12 Tf 2 Tr 72 700 Td (outlined) Tj ET BT /F 12 Tf 3 Tr 72 686 Td (unseen) Tj ET";
    assert_eq!(text(pages(&[bold]), 10).unwrap().0, "bold\noutlined\nunseen");
}

#[test]
fn pages_beyond_the_most_are_counted() {
    let page = "BT /F 12 Tf 72 720 Td (x) Tj ET";
    assert_eq!(text(pages(&[page; 5]), 2).unwrap(), ("x\n\nx".into(), Pages { read: 2, total: 5 }));
    let long = format!("BT /F 12 Tf 72 720 Td ({}) Tj ET", "y".repeat(1_001));
    assert_eq!(text(pages(&[&long, page]), 10).unwrap().1, Pages { read: 1, total: 2 });
}

#[test]
fn a_locked_document_says_so() {
    let mut objects = vec![
        "<</Type /Catalog /Pages 2 0 R>>".to_owned(),
        "<</Type /Pages /Count 0 /Kids []>>".to_owned(),
        format!("<</Filter /Standard /V 1 /R 2 /P -4 /O <{}> /U <{}>>>", "41".repeat(32), "42".repeat(32)),
    ];
    objects.truncate(3);
    let file = String::from_utf8(pdf(&objects)).unwrap();
    let locked = file.replace("/Root 1 0 R", "/Root 1 0 R /Encrypt 3 0 R /ID [<41> <41>]");
    assert_eq!(text(locked.into_bytes(), 10), Err(Refusal::Encrypted));
}

#[test]
fn trees_of_pages_without_end_end() {
    let round = pdf(&[
        "<</Type /Catalog /Pages 2 0 R>>".to_owned(),
        "<</Type /Pages /Count 1000000 /Kids [2 0 R 3 0 R]>>".to_owned(),
        "<</Type /Pages /Kids [2 0 R 3 0 R]>>".to_owned(),
    ]);
    if let Ok((text, pages)) = text(round, 10) {
        assert_eq!((text.as_str(), pages.read), ("", pages.total));
    }
}

#[test]
fn what_is_no_pdf_is_refused_wherever_it_ends() {
    let whole = pages(&["BT /F 12 Tf 72 720 Td (x) Tj ET"]);
    for length in 0..whole.len() {
        // A reader may still find what is there.
        if let Err(refusal) = text(whole[..length].to_vec(), 10) {
            assert!(matches!(refusal, Refusal::Malformed(_)), "{length}: {refusal:?}");
        }
    }
    assert!(matches!(text(b"%PDF-1.7 nothing".to_vec(), 10), Err(Refusal::Malformed(_))));
}
