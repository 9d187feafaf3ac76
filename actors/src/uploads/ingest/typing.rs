//! What the bytes of a file are, whatever its sender calls them.
//!
//! Its first bytes say it where they are known (`infer`, which needs no end of the file and tells documents of offices from other
//! archives). What begins like nothing that is known is a text if it is UTF-8 without U+0000 to its end; which text, the sender
//! knows best.

/// As many of the first bytes as are looked at.
const HEAD_BYTES: usize = 8 << 10;
/// A type of which nothing is known.
pub const UNKNOWN: &str = "application/octet-stream";
/// A text of which nothing else is known.
const PLAIN: &str = "text/plain";

/// Types of texts whose names do not say so.
const TEXTS: &[&str] = &[
    "application/ecmascript",
    "application/javascript",
    "application/json",
    "application/jsonl",
    "application/rtf",
    "application/sql",
    "application/toml",
    "application/x-javascript",
    "application/x-ndjson",
    "application/x-sh",
    "application/x-yaml",
    "application/xml",
    "application/yaml",
];

/// The type of a file while its bytes come.
#[derive(Debug, Default)]
pub struct Typing {
    head: Vec<u8>,
    magic: Magic,
    text: Text,
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Magic {
    /// They are not all here.
    #[default]
    Unseen,
    /// Nothing that is known.
    Unknown,
    /// The type.
    Known(&'static str),
}

/// Whether bytes are UTF-8 without U+0000, as far as they have come.
#[derive(Debug, Default)]
struct Text {
    is_broken: bool,
    /// The beginning of a letter whose end has not come yet.
    rest: Vec<u8>,
}

impl Typing {
    /// Looks at the next bytes.
    pub fn look(&mut self, bytes: &[u8]) {
        if self.magic == Magic::Unseen {
            self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES - self.head.len())]);
            if self.head.len() == HEAD_BYTES {
                self.settle();
            }
        }
        self.text.look(bytes);
    }

    fn settle(&mut self) -> Option<&'static str> {
        if self.magic == Magic::Unseen {
            let known = infer::get(&std::mem::take(&mut self.head));
            self.magic = known.map_or(Magic::Unknown, |kind| Magic::Known(kind.mime_type()));
        }
        self.magic.known()
    }

    /// What the first bytes say by themselves, once enough of them are here.
    #[must_use]
    pub const fn found(&self) -> Option<&'static str> {
        self.magic.known()
    }

    /// The same, now that no more bytes come.
    pub fn found_in_all(&mut self) -> Option<&'static str> {
        self.settle()
    }

    /// What the first bytes say, once enough of them are here: what [`end`](Self::end) will say.
    #[must_use]
    pub fn so_far<'a>(&self, declared: Option<&'a str>) -> Option<&'a str> {
        let magic = self.magic.known()?;
        Some(declared.filter(|declared| refines(declared, magic)).unwrap_or(magic))
    }

    /// What all of the bytes are. `declared` is what the sender calls them, in lower case and without parameters.
    #[must_use]
    pub fn end(mut self, declared: Option<&str>) -> String {
        let declared = declared.filter(|declared| *declared != UNKNOWN);
        let mime = match (self.settle(), declared) {
            (Some(magic), Some(declared)) if refines(declared, magic) => declared,
            (Some(magic), _) => magic,
            (None, Some(declared)) if self.text.is_text() => {
                if is_textual(declared) {
                    declared
                } else {
                    PLAIN
                }
            }
            (None, None) if self.text.is_text() => PLAIN,
            // It is not what it is called, or that would have been seen; nor is it a text.
            (None, Some(declared)) if !infer::is_mime_supported(declared) && !is_textual(declared) => declared,
            (None, _) => UNKNOWN,
        };
        mime.to_owned()
    }
}

impl Magic {
    const fn known(self) -> Option<&'static str> {
        if let Self::Known(mime) = self { Some(mime) } else { None }
    }
}

impl Text {
    fn look(&mut self, mut bytes: &[u8]) {
        // The end of a letter that was cut comes byte by byte; a letter has four bytes at most.
        while !self.is_broken && !self.rest.is_empty() {
            let Some((first, others)) = bytes.split_first() else { return };
            self.rest.push(*first);
            bytes = others;
            match std::str::from_utf8(&self.rest) {
                Ok(_) => self.rest.clear(),
                Err(error) => self.is_broken = error.error_len().is_some(),
            }
        }
        if self.is_broken {
            return;
        }
        self.is_broken = bytes.contains(&0);
        if let Err(error) = std::str::from_utf8(bytes) {
            self.is_broken |= error.error_len().is_some();
            self.rest = bytes[error.valid_up_to()..].to_vec();
        }
    }

    fn is_text(&self) -> bool {
        !self.is_broken && self.rest.is_empty()
    }
}

/// Whether texts have a type of this name.
fn is_textual(mime: &str) -> bool {
    mime.starts_with("text/")
        || mime.ends_with("+json")
        || mime.ends_with("+xml")
        || mime.ends_with("+yaml")
        || TEXTS.contains(&mime)
}

/// Whether `declared` says more of the same bytes than `magic` does: another name of it, or one of the many kinds of files that
/// are archives or XML underneath.
fn refines(declared: &str, magic: &str) -> bool {
    match magic {
        // Documents of offices too begin like any archive, if their writer has an order of entries of its own.
        "application/zip" => {
            declared.starts_with("application/vnd.openxmlformats-officedocument.")
                || declared.starts_with("application/vnd.oasis.opendocument.")
                || declared.ends_with("+zip")
                || ["application/java-archive", "application/x-zip-compressed"].contains(&declared)
        }
        "application/msword" => declared.starts_with("application/vnd.ms-"),
        "application/gzip" => declared == "application/x-gzip",
        "text/xml" => declared == "application/xml" || declared.ends_with("+xml"),
        "image/jpeg" => declared == "image/jpg",
        "audio/x-wav" => declared == "audio/wav" || declared == "audio/wave",
        "video/webm" => declared == "audio/webm",
        "video/mp4" => declared == "audio/mp4",
        "text/x-shellscript" => declared == "application/x-sh",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    /// The type of `pieces`.
    fn of(pieces: &[&[u8]], declared: Option<&str>) -> String {
        let mut typing = Typing::default();
        for piece in pieces {
            typing.look(piece);
        }
        typing.end(declared)
    }

    #[test]
    fn bytes_are_what_they_are_and_not_what_they_are_called() {
        for (bytes, declared, expected) in [
            (PNG, Some("image/png"), "image/png"),
            (PNG, Some("text/html"), "image/png"),
            (PNG, None, "image/png"),
            (b"%PDF-1.7\n", Some("text/plain"), "application/pdf"),
            (b"<html><script>alert(1)</script>", Some("image/png"), "text/html"),
            (b"<!DOCTYPE html ><p>", Some("text/plain"), "text/html"),
            (b"<?xml version=\"1.0\"?><svg/>", Some("image/svg+xml"), "image/svg+xml"),
            (b"<?xml version=\"1.0\"?><a/>", None, "text/xml"),
            (b"PK\x03\x04\x14\0\0\0\x08\0", Some("application/epub+zip"), "application/epub+zip"),
            (b"PK\x03\x04\x14\0\0\0\x08\0", Some("application/pdf"), "application/zip"),
            (b"MZ\x90\0\x03", Some("image/png"), "application/vnd.microsoft.portable-executable"),
            (&[&b"\x7fELF\x02\x01\x01"[..], &[0; 64]].concat(), Some("text/plain"), "application/x-executable"),
            (b"# Title\n", Some("text/markdown"), "text/markdown"),
            (b"{\"a\":1}", Some("application/json"), "application/json"),
            (b"{\"a\":1}", Some("application/ld+json"), "application/ld+json"),
            (b"a,b\n1,2\n", None, "text/plain"),
            (b"a,b\n1,2\n", Some(UNKNOWN), "text/plain"),
            (b"just words", Some("image/png"), "text/plain"),
            (b"gr\xfc\xdfe", Some("text/plain"), UNKNOWN),
            (b"a\0b", Some("text/plain"), UNKNOWN),
            (b"a\0b", Some("image/png"), UNKNOWN),
            (b"a\0b", Some("application/x-cad"), "application/x-cad"),
            (b"", Some("text/csv"), "text/csv"),
            (b"", None, "text/plain"),
        ] {
            assert_eq!(of(&[bytes], declared), expected, "{bytes:?} {declared:?}");
        }
    }

    #[test]
    fn a_text_is_one_to_its_end_wherever_it_is_cut() {
        let text = "größe 日本語 👩🔬".repeat(2_000);
        let bytes = text.as_bytes();
        for length in [1, 2, 3, 5, 4096] {
            let pieces: Vec<&[u8]> = bytes.chunks(length).collect();
            assert_eq!(of(&pieces, None), PLAIN, "{length}");
            assert_eq!(of(&[&pieces[..], &[b"\0"]].concat(), None), UNKNOWN, "{length}");
        }
        assert_eq!(of(&[bytes, b"\xf0\x9f"], None), UNKNOWN, "it ends within a letter");
    }

    #[test]
    fn a_document_of_an_office_is_known_by_its_first_entries() {
        let entry = |name: &str| {
            let mut head = [&b"PK\x03\x04"[..], &[0; 22]].concat();
            head.extend([u8::try_from(name.len()).unwrap_or_default(), 0, 0, 0]);
            head.extend(name.as_bytes());
            head
        };
        let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        let begun = [entry("[Content_Types].xml"), entry("_rels/.rels")].concat();
        let whole = [&begun[..], &entry("word/document.xml"), &[1; 64], &entry("word/styles.xml")].concat();
        assert_eq!(of(&[&whole], Some("application/zip")), docx);
        // Others write more before that; then the sender's word counts, if it is so far right.
        let later = [&begun[..], &entry("docProps/app.xml"), &entry("word/document.xml")].concat();
        assert_eq!(of(&[&later], Some(docx)), docx);
        assert_eq!(of(&[&later], Some("image/png")), "application/zip");
    }

    /// Beginnings after which the rest is read.
    const SIGNATURES: [&[u8]; 12] = [
        b"PK\x03\x04",
        b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0\x13\0\0\0[Content_Types].xml",
        b"\x89PNG",
        b"RIFF",
        b"\0\0\0\x20ftyp",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"%PDF",
        b"MZ",
        b"\x7fELF",
        b"\xff\xd8\xff",
        b"ID3",
        b"",
    ];

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_looked_at(
            signature in prop::sample::select(SIGNATURES.to_vec()),
            rest in prop::collection::vec(any::<u8>(), 0..600),
            cut in 0usize..700,
        ) {
            let bytes = [signature, &rest].concat();
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(of(&[first, second], None), of(&[&bytes], None));
        }
    }
}
