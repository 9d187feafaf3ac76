//! Parts of a file, alone or several in one reply (RFC 9110 §14).

use std::fmt::Write as _;

use actix_web::{http::header::ByteRangeSpec, web::Bytes};

/// Parts that one reply may have. Whoever wants more gets all of it.
const MAX_PARTS: usize = 16;

/// A part of a file; none is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where its first byte is.
    pub(crate) from: u64,
    /// How many there are.
    pub(crate) length: u64,
}

impl Part {
    /// All of a file.
    pub(super) const fn all(size: u64) -> Self {
        Self { from: 0, length: size }
    }

    /// This part of a file that is in memory.
    pub(crate) fn of(self, file: &Bytes) -> Bytes {
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(file.len());
        file.slice(place(self.from)..place(self.from + self.length))
    }

    const fn last(self) -> u64 {
        self.from + self.length - 1
    }

    /// The value of `Content-Range` in a file of `size` bytes.
    pub(super) fn content_range(self, size: u64) -> String {
        format!("bytes {}-{}/{size}", self.from, self.last())
    }
}

/// What was wished of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// All of it, or too many parts: a reply with those could cost more than the file.
    Whole,
    /// These.
    Parts(Vec<Part>),
    /// Nothing that is there.
    Nothing,
}

/// The parts of a file of `size` bytes that `wished` means. Parts that overlap are a mistake or an attack, and get the file as it is
/// (§14.2, §17.15).
pub(super) fn wish(wished: &[ByteRangeSpec], size: u64) -> Wish {
    if wished.len() > MAX_PARTS {
        return Wish::Whole;
    }
    let there = wished.iter().filter_map(|range| range.to_satisfiable_range(size));
    let parts: Vec<Part> = there.map(|(from, to)| Part { from, length: to - from + 1 }).collect();
    let mut sorted: Vec<Part> = parts.clone();
    sorted.sort_unstable_by_key(|part| part.from);
    if sorted.windows(2).any(|pair| matches!(pair, [one, next] if one.last() >= next.from)) {
        return Wish::Whole;
    }
    if parts.is_empty() { Wish::Nothing } else { Wish::Parts(parts) }
}

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// These bytes.
    Text(Bytes),
    /// This part of the file.
    Of(Part),
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Self::Text(bytes) => bytes.len() as u64,
            Self::Of(part) => part.length,
        }
    }
}

/// A body of several parts of a file with the type `mime` and `size` bytes (`multipart/byteranges`, §14.6), and how long it is. What
/// separates them must not be in the file, so whoever calls this chooses `boundary` by chance.
pub(super) fn multipart(parts: &[Part], mime: &str, size: u64, boundary: &str) -> (Vec<Segment>, u64) {
    let mut segments = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let mut head = String::from(if number == 0 { "" } else { "\r\n" });
        // Writing into a text does not fail.
        let _ =
            write!(head, "--{boundary}\r\nContent-Type: {mime}\r\nContent-Range: {}\r\n\r\n", part.content_range(size));
        segments.extend([Segment::Text(head.into()), Segment::Of(*part)]);
    }
    segments.push(Segment::Text(format!("\r\n--{boundary}--\r\n").into()));
    let length = segments.iter().map(Segment::length).sum();
    (segments, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ByteRangeSpec::{From, FromTo, Last};

    #[test]
    fn parts_that_are_there_are_taken_and_costly_wishes_get_the_file() {
        let parts = |of: &[(u64, u64)]| Wish::Parts(of.iter().map(|&(from, length)| Part { from, length }).collect());
        for (wished, expected) in [
            (vec![FromTo(0, 9)], parts(&[(0, 10)])),
            (vec![FromTo(90, 500)], parts(&[(90, 10)])),
            (vec![From(99)], parts(&[(99, 1)])),
            (vec![Last(5)], parts(&[(95, 5)])),
            (vec![Last(500)], parts(&[(0, 100)])),
            (vec![FromTo(50, 59), FromTo(0, 9)], parts(&[(50, 10), (0, 10)])),
            (vec![FromTo(0, 9), From(100)], parts(&[(0, 10)])),
            (vec![From(100)], Wish::Nothing),
            (vec![Last(0)], Wish::Nothing),
            (vec![FromTo(0, 9), FromTo(9, 20)], Wish::Whole),
            (vec![Last(5), From(90)], Wish::Whole),
            ((0..17).map(|n| FromTo(n * 2, n * 2)).collect(), Wish::Whole),
        ] {
            assert_eq!(wish(&wished, 100), expected, "{wished:?}");
        }
        assert_eq!(wish(&[FromTo(0, 0)], 0), Wish::Nothing, "nothing has no parts");
    }

    #[test]
    fn several_parts_are_told_apart_and_counted() {
        let parts = [Part { from: 0, length: 2 }, Part { from: 7, length: 3 }];
        let (segments, length) = multipart(&parts, "text/plain", 10, "b");
        let file = b"0123456789";
        let body: Vec<u8> = segments
            .iter()
            .flat_map(|segment| match segment {
                Segment::Text(bytes) => bytes.to_vec(),
                Segment::Of(Part { from, length }) => file
                    .iter()
                    .skip(usize::try_from(*from).unwrap_or(0))
                    .take(usize::try_from(*length).unwrap_or(0))
                    .copied()
                    .collect(),
            })
            .collect();
        assert_eq!(
            String::from_utf8_lossy(&body),
            "--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n\
             --b\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-9/10\r\n\r\n789\r\n--b--\r\n"
        );
        assert_eq!(body.len() as u64, length);
    }
}
