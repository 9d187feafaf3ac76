//! A document of XML as it is written, without what is not its content.
//!
//! Element names and attributes say as much as the text between them, so they stay. No entity is ever replaced and no type
//! declaration is read: references stay as they are written.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::gathered::Gathered;
use crate::extraction::error::Refusal;

pub(super) fn read(document: &str, text: &mut Gathered) -> Result<(), Refusal> {
    let document = document.trim_start();
    let mut reader = Reader::from_str(document);
    let mut open = 0_u64;
    loop {
        let start = position(&reader);
        let event = reader.read_event().map_err(|_| malformed())?;
        match &event {
            Event::Start(_) => open += 1,
            Event::End(_) => open = open.saturating_sub(1),
            _ => {}
        }
        match event {
            Event::Eof if open > 0 => return Err(malformed()),
            Event::Eof => return Ok(()),
            Event::Decl(_) | Event::DocType(_) | Event::Comment(_) | Event::PI(_) => {}
            _ => text.verbatim(document.get(start..position(&reader)).unwrap_or_default()),
        }
    }
}

fn malformed() -> Refusal {
    Refusal::malformed("it is not well-formed XML")
}

fn position(reader: &Reader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::fmt::Write as _;

    use super::*;

    fn text(document: &str) -> Result<String, Refusal> {
        let mut text = Gathered::new(1_000_000);
        read(document, &mut text)?;
        Ok(text.finish().0.trim().to_owned())
    }

    #[test]
    fn a_document_keeps_its_elements_and_loses_what_is_beside_them() {
        let document =
            "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>\n<!-- no --><a x=\"1\">t &lt; &b;<b/>\n<?no?></a>";
        assert_eq!(text(document).unwrap(), "<a x=\"1\">t &lt; &b;<b/>\n</a>");
    }

    #[test]
    fn a_billion_laughs_are_one() {
        let mut document = "<!DOCTYPE l [<!ENTITY l0 'ha'>".to_owned();
        for n in 1..10 {
            write!(document, "<!ENTITY l{n} '{}'>", format!("&l{};", n - 1).repeat(10)).unwrap();
        }
        document += "<!ENTITY x SYSTEM 'file:///etc/passwd'>]><l>&l9;&x;</l>";
        assert_eq!(text(&document).unwrap(), "<l>&l9;&x;</l>");
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for document in ["<a>", "<a></b>", "<a", "<!DOCTYPE a [", "<![CDATA[", "<!--"] {
            assert!(matches!(text(document), Err(Refusal::Malformed(_))), "{document}");
        }
    }

    #[test]
    fn nesting_of_any_depth_is_read() {
        let deep = format!("{}deep{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert_eq!(text(&deep).unwrap().len(), deep.len());
    }
}
