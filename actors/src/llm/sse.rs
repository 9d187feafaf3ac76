//! Server-sent events out of bytes that arrive in any portions (WHATWG HTML §9.2).
//!
//! Only what a model's stream needs: the `data` of each event. Lines may end in LF, CRLF or CR; comments, other fields
//! and a leading byte order mark are skipped. A line is decoded when it is whole, so a character may be split over
//! portions anywhere. Existing parsers were left aside because they buffer without bound, and this one is short.

/// Longest event in bytes; a stream that exceeds it is broken or hostile.
const MAX_EVENT_BYTES: usize = 2 * 1024 * 1024;

/// An event was longer than the parser is willing to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overlong;

/// Collects bytes until an event is whole.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    /// The unfinished line.
    line: Vec<u8>,
    /// Data of the unfinished event; `None` while it has no data line.
    data: Option<String>,
    /// The last byte was a CR: an LF that follows belongs to the same line end.
    after_cr: bool,
    /// The first line was seen.
    begun: bool,
}

impl SseParser {
    /// Takes the next bytes and hands the data of each finished event to `events`.
    pub(super) fn push(&mut self, mut bytes: &[u8], events: &mut Vec<String>) -> Result<(), Overlong> {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                return self.keep(bytes);
            };
            self.keep(&bytes[..end])?;
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line(events);
        }
        Ok(())
    }

    /// The data of an event whose closing blank line never came. The standard drops it; some endpoints end without
    /// that line, and what was cut inside shows itself by not being JSON.
    pub(super) fn finish(mut self) -> Option<String> {
        let mut events = Vec::new();
        self.end_line(&mut events);
        self.data.take().or_else(|| events.pop())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Overlong> {
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held + bytes.len() > MAX_EVENT_BYTES {
            return Err(Overlong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<String>) {
        let mut line: &[u8] = &self.line;
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            events.extend(self.data.take());
        } else if let Some(value) = line.strip_prefix(b"data:") {
            let text = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&text);
                }
                None => self.data = Some(text.into_owned()),
            }
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    fn parse(portions: &[&[u8]]) -> Vec<String> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        for portion in portions {
            parser.push(portion, &mut events).unwrap();
        }
        events.extend(parser.finish());
        events
    }

    #[test]
    fn every_line_end_and_field_form_gives_the_same_events() {
        let cases: &[(&str, &[&str])] = &[
            ("data: a\n\ndata: b\n\n", &["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
            ("data: a\r\rdata: b\r\r", &["a", "b"]),
            ("data:a\n\ndata:  b\n\n", &["a", " b"]),
            (": hello\ndata: a\n: more\n\n:\n\n", &["a"]),
            ("event: x\nid: 1\nretry: 5\ndata: a\n\n", &["a"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("\u{feff}data: a\n\n", &["a"]),
            ("\n\n\nevent: x\n\ndata: a\n\n", &["a"]),
            ("data: a\n\ndata: b", &["a", "b"]),
            ("data: a\n\ndata: b\n", &["a", "b"]),
            ("data:\n\n", &[""]),
            ("database: x\n\n", &[]),
        ];
        for (text, events) in cases {
            assert_eq!(parse(&[text.as_bytes()]), *events, "{text:?}");
        }
    }

    #[test]
    fn a_stream_split_at_every_byte_gives_the_same_events() {
        let text = "\u{feff}: ping\r\ndata: grüß 👩‍🚀\r\n\r\ndata: {\"a\":\"日本\"}\n\ndata: z\r\r";
        let whole = parse(&[text.as_bytes()]);
        assert_eq!(whole.len(), 3);
        for at in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(parse(&[head, tail]), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(parse(&single), whole);
    }

    #[test]
    fn broken_utf8_is_replaced_not_refused() {
        assert_eq!(parse(&[b"data: a\xFFb\n\n"]), ["a\u{FFFD}b"]);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = SseParser::default();
        let (mut events, portion) = (Vec::new(), vec![b'x'; 64 * 1024]);
        let refused = (0..40).map(|_| parser.push(&portion, &mut events)).find(Result::is_err);
        assert_eq!(refused, Some(Err(Overlong)));
    }
}
