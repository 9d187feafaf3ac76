//! Characters out of bytes whose charset nobody vouches for.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// How far into a document its own word on its charset is looked for, as browsers do.
const DECLARED_WITHIN: usize = 1024;

pub(super) struct Decoded<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) charset: &'static str,
}

/// By the byte order mark; else UTF-8 if that fits, since nothing else happens to; else as the document says, if it is of a kind
/// that does; else by what its bytes look like. What does not fit becomes U+FFFD.
pub(super) fn decode(bytes: &[u8], may_declare: bool) -> Decoded<'_> {
    let encoding = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding,
        None if std::str::from_utf8(bytes).is_ok() => UTF_8,
        None => may_declare.then(|| declared(bytes)).flatten().unwrap_or_else(|| guessed(bytes)),
    };
    let (text, _) = encoding.decode_with_bom_removal(bytes);
    Decoded { text, charset: encoding.name() }
}

/// What `<meta charset=…>`, `content="…; charset=…"` or `<?xml encoding=…?>` says.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes[..bytes.len().min(DECLARED_WITHIN)].to_ascii_lowercase();
    let after = [&b"charset"[..], b"encoding"].iter().find_map(|name| {
        let at = head.windows(name.len()).position(|window| window == *name)?;
        head.get(at + name.len()..)
    })?;
    let value = after.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
    let end = value.iter().position(|byte| !(byte.is_ascii_alphanumeric() || b"-_.:".contains(byte)));
    // A document in which that could be read is not in UTF-16, whatever it says.
    Encoding::for_label(&value[..end.unwrap_or(value.len())]).map(Encoding::output_encoding)
}

fn guessed(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Allow)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use encoding_rs::{EUC_JP, WINDOWS_1251, WINDOWS_1252};

    use super::*;

    fn read(bytes: &[u8], may_declare: bool) -> (String, &'static str) {
        let Decoded { text, charset } = decode(bytes, may_declare);
        (text.into_owned(), charset)
    }

    #[test]
    fn byte_order_marks_and_utf_8_come_first() {
        assert_eq!(read("grün".as_bytes(), false), ("grün".into(), "UTF-8"));
        assert_eq!(read(b"\xef\xbb\xbfa", false), ("a".into(), "UTF-8"));
        assert_eq!(read(b"\xff\xfea\0\xfc\0", false), ("aü".into(), "UTF-16LE"));
        assert_eq!(read(b"\xfe\xff\0a\0\xfc", false), ("aü".into(), "UTF-16BE"));
        let claims = "<meta charset=latin1>grün";
        assert_eq!(read(claims.as_bytes(), true), (claims.into(), "UTF-8"));
    }

    #[test]
    fn a_document_may_say_its_charset() {
        for start in [
            "<meta charset=\"windows-1251\">",
            "<META http-equiv=Content-Type content='text/html; CharSet = windows-1251'>",
            "<?xml version='1.0' encoding='windows-1251'?>",
        ] {
            let text = format!("{start}мир");
            let bytes = WINDOWS_1251.encode(&text).0;
            assert_eq!(read(&bytes, true), (text, "windows-1251"));
        }
        assert_eq!(read(b"<meta charset=utf-16>\xfcber", true).1, "UTF-8");
    }

    #[test]
    fn other_charsets_are_known_by_their_looks() {
        for (encoding, text) in [
            (WINDOWS_1252, "Der Käufer trägt die Kosten für die Rücksendung der Ware, übrigens auch bei Größen."),
            (WINDOWS_1251, "Съешь же ещё этих мягких французских булок, да выпей чаю."),
            (EUC_JP, "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"),
        ] {
            let bytes = encoding.encode(text).0;
            assert_eq!(read(&bytes, false), (text.into(), encoding.name()));
        }
    }

    #[test]
    fn a_declaration_that_ends_too_early_is_none() {
        for bytes in [&b"charset"[..], b"charset=", b"\xffcharset='", b"\xffencoding \xff"] {
            assert_eq!(declared(bytes), None);
        }
    }
}
