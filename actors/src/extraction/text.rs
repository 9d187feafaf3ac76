//! Text by kind of content.

mod charset;
mod docx;
mod gathered;
mod html;
mod pdf;
mod xml;

use serde::{Deserialize, Serialize};

use self::gathered::Gathered;
use super::error::Refusal;

pub(super) use gathered::is_unwanted;

/// How content is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TextKind {
    /// Text as it stands: Markdown, JSON, CSV, source code, whatever is meant to be read.
    Plain,
    /// The document without its type declaration, comments and processing instructions; references stay as they are written.
    Xml,
    /// What a page shows, without its markup.
    Html,
    /// Page by page, in the order in which the document draws it.
    Pdf,
    /// Paragraphs and tables of a Word document, with its headers, notes and footers.
    Docx,
}

impl TextKind {
    /// How content of a media type is read, parameters or not; `None` if there is no text in it for us.
    #[must_use]
    pub fn of_mime(mime: &str) -> Option<Self> {
        let essence = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        Some(match essence.as_str() {
            "text/html" | "application/xhtml+xml" => Self::Html,
            "text/xml" | "application/xml" => Self::Xml,
            "application/pdf" => Self::Pdf,
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Self::Docx,
            "application/json"
            | "application/x-ndjson"
            | "application/yaml"
            | "application/x-yaml"
            | "application/toml"
            | "application/javascript"
            | "application/sql" => Self::Plain,
            "text/rtf" => return None,
            other if other.starts_with("text/") || other.ends_with("+json") => Self::Plain,
            other if other.ends_with("+xml") => Self::Xml,
            _ => return None,
        })
    }

    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Xml => "xml",
            Self::Html => "html",
            Self::Pdf => "pdf",
            Self::Docx => "docx",
        }
    }

    /// Most characters that are given: 400 000 of documents with pages, 200 000 of anything else.
    #[must_use]
    pub const fn max_chars(self) -> usize {
        match self {
            Self::Pdf | Self::Docx => 400_000,
            Self::Plain | Self::Xml | Self::Html => 200_000,
        }
    }
}

/// Text as it was found: lines end with `\n`; of control characters there are only that and tabs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extracted {
    /// The text; empty where there is none, as in a scanned document.
    pub text: String,
    /// Characters of the pages read that came after the most there may be.
    pub missing_chars: u64,
    /// Of a document that has pages, how many were read.
    pub pages: Option<Pages>,
    /// The charset that plain text, XML and HTML were read as.
    pub charset: Option<String>,
}

/// Pages of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// The first so many were read.
    pub read: u32,
    /// There are so many.
    pub total: u32,
}

impl Extracted {
    /// What is missing, in words for whoever reads the text; `None` if nothing is.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let chars = (self.missing_chars > 0).then(|| format!("{} more characters are left out", self.missing_chars));
        let pages = self.pages.filter(|pages| pages.read < pages.total);
        let pages = pages.map(|Pages { read, total }| format!("pages {} to {total} were not read", read + 1));
        let said: Vec<_> = chars.into_iter().chain(pages).collect();
        (!said.is_empty()).then(|| format!("[{}]", said.join("; ")))
    }
}

/// The text of `content`.
pub(super) fn of(kind: TextKind, content: Vec<u8>, max_chars: usize, max_pages: u32) -> Result<Extracted, Refusal> {
    let mut text = Gathered::new(max_chars);
    let (mut pages, mut charset) = (None, None);
    match kind {
        TextKind::Pdf => pages = Some(pdf::read(content, max_pages, &mut text)?),
        TextKind::Docx => docx::read(content, &mut text)?,
        TextKind::Plain | TextKind::Xml | TextKind::Html => {
            let decoded = charset::decode(&content, kind != TextKind::Plain);
            charset = Some(decoded.charset.to_owned());
            match kind {
                TextKind::Xml => xml::read(&decoded.text, &mut text)?,
                TextKind::Html => html::read(&decoded.text, &mut text),
                _ => text.verbatim(&decoded.text),
            }
        }
    }
    let (text, missing_chars) = text.finish();
    Ok(Extracted { text, missing_chars, pages, charset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_say_how_content_is_read() {
        for (mime, kind) in [
            ("text/plain; charset=utf-8", Some(TextKind::Plain)),
            ("Text/Markdown", Some(TextKind::Plain)),
            ("text/csv", Some(TextKind::Plain)),
            ("application/json", Some(TextKind::Plain)),
            ("application/ld+json", Some(TextKind::Plain)),
            ("text/html", Some(TextKind::Html)),
            ("application/xhtml+xml", Some(TextKind::Html)),
            ("application/xml", Some(TextKind::Xml)),
            ("image/svg+xml", Some(TextKind::Xml)),
            ("application/pdf", Some(TextKind::Pdf)),
            ("image/png", None),
            ("application/octet-stream", None),
            ("", None),
        ] {
            assert_eq!(TextKind::of_mime(mime), kind, "{mime}");
        }
    }

    #[test]
    fn the_note_tells_what_is_missing() {
        let mut found = Extracted { text: "a".into(), missing_chars: 0, pages: None, charset: None };
        assert_eq!(found.note(), None);
        found.missing_chars = 7;
        assert_eq!(found.note().as_deref(), Some("[7 more characters are left out]"));
        found.pages = Some(Pages { read: 500, total: 900 });
        assert_eq!(found.note().as_deref(), Some("[7 more characters are left out; pages 501 to 900 were not read]"));
        found = Extracted { missing_chars: 0, pages: Some(Pages { read: 2, total: 2 }), ..found };
        assert_eq!(found.note(), None);
    }
}
