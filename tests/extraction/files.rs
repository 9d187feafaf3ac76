//! Files, good and bad.

use std::fmt::Write as _;
use std::io::{Cursor, Read as _, Write as _};

use image::{DynamicImage, ImageFormat, RgbImage};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// A ZIP archive.
pub fn zipped(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A Word document of one paragraph for each line.
pub fn docx(lines: &[&str]) -> Vec<u8> {
    let paragraph = |line: &&str| format!("<w:p><w:r><w:t>{line}</w:t></w:r></w:p>");
    let paragraphs = lines.iter().map(paragraph).collect::<Vec<_>>().concat();
    let document = format!("<w:document xmlns:w=\"w\"><w:body>{paragraphs}</w:body></w:document>");
    zipped(&[("[Content_Types].xml", b"<Types/>"), ("word/document.xml", document.as_bytes())])
}

/// A PDF of these objects, the first of which is the catalogue.
pub fn pdf_of(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (number, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", file.len()).unwrap();
        file.extend(format!("{} 0 obj\n", number + 1).into_bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let start = file.len();
    file.extend(table.into_bytes());
    let end = format!("trailer\n<</Size {} /Root 1 0 R>>\nstartxref\n{start}\n%%EOF\n", objects.len() + 1);
    file.extend(end.into_bytes());
    file
}

/// A stream with these entries beside its length.
pub fn stream(entries: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("<<{entries} /Length {}>>\nstream\n", content.len());
    [head.as_bytes(), content, b"\nendstream"].concat()
}

/// A PDF of one page with this stream, Helvetica as `/F`, and `forms` as `/X0`, `/X1` and so on.
pub fn pdf_with(page: Vec<u8>, forms: Vec<Vec<u8>>) -> Vec<u8> {
    let named = (0..forms.len()).map(|n| format!("/X{n} {} 0 R ", 6 + n)).collect::<Vec<_>>().concat();
    let resources = format!("<</Font <</F 3 0 R>> /XObject <<{named}>>>>");
    let mut objects = vec![
        b"<</Type /Catalog /Pages 2 0 R>>".to_vec(),
        b"<</Type /Pages /Count 1 /Kids [4 0 R] /MediaBox [0 0 600 800]>>".to_vec(),
        b"<</Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding>>".to_vec(),
        format!("<</Type /Page /Parent 2 0 R /Contents 5 0 R /Resources {resources}>>").into_bytes(),
        page,
    ];
    objects.extend(forms);
    pdf_of(&objects)
}

/// A PDF of one page that says this.
pub fn pdf(line: &str) -> Vec<u8> {
    pdf_with(stream("", format!("BT /F 12 Tf 72 720 Td ({line}) Tj ET").as_bytes()), Vec::new())
}

/// Bytes as `FlateDecode` packs them.
pub fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut archive = ZipArchive::new(Cursor::new(zipped(&[("x", bytes)]))).unwrap();
    let mut packed = vec![0x78, 0x9c];
    archive.by_index_raw(0).unwrap().read_to_end(&mut packed).unwrap();
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    packed.extend(((high << 16) | low).to_be_bytes());
    packed
}

/// An image with something in it.
pub fn image(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(400, 200, |x, y| image::Rgb([x.to_le_bytes()[0], y.to_le_bytes()[0], 7]));
    let mut bytes = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(image).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The first bytes of a PNG that says it is this large, and no more.
pub fn giant_png(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend([width.to_be_bytes(), height.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    let sum = !header.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    });
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d", header.as_slice(), &sum.to_be_bytes(), b"\0\0\0\0IDAT"].concat()
}
