//! The text of a Word document: a ZIP archive of XML.
//!
//! Only the parts with text are unpacked, each and all together up to a bound; macros, embedded files and whatever relations
//! point to are not looked at.

use std::io::{Cursor, Read};

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};
use zip::ZipArchive;
use zip::result::ZipError;

use super::charset;
use super::gathered::{Gap, Gathered};
use crate::extraction::error::Refusal;

/// Most bytes of all parts together, unpacked.
const UNPACKED_MAX: u64 = 64 * 1024 * 1024;

/// Most entries of an archive: real documents have some dozens, and their images.
const ENTRIES_MAX: usize = 10_000;

/// How an OLE file begins: a Word document of old, or one that is locked by a password.
const OLE: &[u8] = &[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

/// The parts with text in the order in which they are given, as their names begin.
const PARTS: &[&str] = &["header", "document", "footnotes", "endnotes", "footer"];

type Archive = ZipArchive<Cursor<Vec<u8>>>;

pub(super) fn read(content: Vec<u8>, text: &mut Gathered) -> Result<(), Refusal> {
    if content.starts_with(OLE) {
        return Err(ole(&content));
    }
    let mut archive = Archive::new(Cursor::new(content)).map_err(|error| broken(&error))?;
    if archive.len() > ENTRIES_MAX {
        return Err(Refusal::TooLarge(format!("more than {ENTRIES_MAX} entries in the archive")));
    }
    let mut left = UNPACKED_MAX;
    let parts = parts(&archive);
    if !parts.iter().any(|(order, _)| PARTS[*order] == "document") {
        return Err(Refusal::malformed("the archive holds no Word document"));
    }
    // Headers of first, even and other pages often say the same.
    let mut seen = Vec::new();
    for (order, name) in parts {
        let part = unpack(&mut archive, &name, &mut left)?;
        let of_pages = ["header", "footer"].contains(&PARTS[order]);
        if of_pages && seen.contains(&part) {
            continue;
        }
        read_part(&charset::decode(&part, true).text, text)?;
        text.gap(Gap::Blank);
        if of_pages {
            seen.push(part);
        }
    }
    Ok(())
}

/// Names of the parts with text, with their places in [`PARTS`], in order.
fn parts(archive: &Archive) -> Vec<(usize, String)> {
    let names = archive.file_names().filter_map(Result::ok);
    let mut parts: Vec<_> = names.filter_map(|name| Some((order(&name)?, name.into_owned()))).collect();
    parts.sort_by(|a, b| (a.0, a.1.len(), &a.1).cmp(&(b.0, b.1.len(), &b.1)));
    parts.dedup();
    parts
}

/// The place in [`PARTS`] of `word/header2.xml` and its like.
fn order(name: &str) -> Option<usize> {
    let stem = name.strip_prefix("word/")?.strip_suffix(".xml")?.trim_end_matches(|c: char| c.is_ascii_digit());
    PARTS.iter().position(|part| *part == stem)
}

fn unpack(archive: &mut Archive, name: &str, left: &mut u64) -> Result<Vec<u8>, Refusal> {
    let file = archive.by_name(name).map_err(|error| broken(&error))?;
    let mut part = Vec::new();
    let read = file.take(left.saturating_add(1)).read_to_end(&mut part);
    let read = read.map_err(|_| Refusal::malformed("a part of the document cannot be unpacked"))?;
    *left = left.checked_sub(read as u64).ok_or_else(|| {
        Refusal::TooLarge(format!("the text of the document unpacks to more than {} MiB", UNPACKED_MAX >> 20))
    })?;
    Ok(part)
}

fn broken(error: &ZipError) -> Refusal {
    match error {
        ZipError::InvalidPassword => Refusal::Encrypted,
        // What the library says of an entry that is locked.
        ZipError::UnsupportedArchive(why) if *why == ZipError::PASSWORD_REQUIRED => Refusal::Encrypted,
        ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
            Refusal::malformed("the archive is packed in a way that documents are not")
        }
        _ => Refusal::malformed("it is no ZIP archive, or a broken one"),
    }
}

/// A locked document is an OLE file with a stream of this name.
fn ole(content: &[u8]) -> Refusal {
    let name: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    if content.windows(name.len()).any(|window| window == name) {
        Refusal::Encrypted
    } else {
        Refusal::Unsupported("a document of Word 97 to 2003".to_owned())
    }
}

/// Where the reader of a part is.
#[derive(Default)]
struct Place {
    /// In an element whose characters are text.
    in_text: bool,
    /// In how many cells of tables, one inside the other.
    cells: u32,
    /// In how many renderings for programs that do not know the first.
    fallbacks: u32,
    open: u64,
}

fn read_part(part: &str, text: &mut Gathered) -> Result<(), Refusal> {
    let mut reader = Reader::from_str(part);
    let mut place = Place::default();
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Eof if place.open > 0 => return Err(malformed()),
            Event::Eof => return Ok(()),
            Event::Start(element) => place.start(element.local_name().as_ref(), text),
            Event::Empty(element) => {
                place.start(element.local_name().as_ref(), text);
                place.end(element.local_name().as_ref(), text);
            }
            Event::End(element) => place.end(element.local_name().as_ref(), text),
            Event::Text(piece) if place.shown() => text.verbatim(&piece),
            Event::CData(piece) if place.shown() => text.verbatim(&piece),
            Event::GeneralRef(reference) if place.shown() => text.verbatim(&character(&reference)),
            _ => {}
        }
    }
}

impl Place {
    const fn shown(&self) -> bool {
        self.in_text && self.fallbacks == 0
    }

    fn start(&mut self, element: &str, text: &mut Gathered) {
        self.open += 1;
        match element {
            "t" => self.in_text = true,
            "tc" => self.cells += 1,
            "Fallback" => self.fallbacks += 1,
            "tab" if self.fallbacks == 0 => text.gap(Gap::Tab),
            "br" | "cr" if self.fallbacks == 0 => text.gap(Gap::Line),
            "noBreakHyphen" if self.fallbacks == 0 => text.verbatim("-"),
            "tbl" => text.gap(Gap::Line),
            _ => {}
        }
    }

    fn end(&mut self, element: &str, text: &mut Gathered) {
        self.open = self.open.saturating_sub(1);
        match element {
            "t" => self.in_text = false,
            "tc" => {
                self.cells = self.cells.saturating_sub(1);
                text.gap(Gap::Tab);
            }
            "Fallback" => self.fallbacks = self.fallbacks.saturating_sub(1),
            "p" if self.cells > 0 => text.gap(Gap::Space),
            "p" | "tr" => text.gap(Gap::Line),
            "tbl" if self.cells == 0 => text.gap(Gap::Blank),
            _ => {}
        }
    }
}

/// The character a reference stands for, or the reference as it is written.
fn character(reference: &BytesRef<'_>) -> String {
    let named = || {
        let named = quick_xml::escape::resolve_predefined_entity(reference)?;
        Some(named.to_owned())
    };
    match reference.resolve_char_ref() {
        Ok(Some(character)) => character.to_string(),
        _ => named().unwrap_or_else(|| format!("&{};", &**reference)),
    }
}

fn malformed() -> Refusal {
    Refusal::malformed("a part of the document is not well-formed XML")
}

#[cfg(test)]
mod tests;
