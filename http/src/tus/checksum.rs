//! What a piece sums up to (`Upload-Checksum`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use somaagent_actors::uploads::tus::{Algorithm, Checksum};

use crate::{
    extract::bad_header,
    problem::{Code, Problem},
};

const HEADER: &str = "Upload-Checksum";

/// A checksum as tus writes it: what it was made by, and the sum in base64.
///
/// # Errors
/// It was made by something that is not known here, or is not written like that.
pub(crate) fn checksum(text: &str) -> Result<Checksum, Problem> {
    let (name, sum) = text.split_once(' ').ok_or_else(|| bad_header(HEADER, "must be an algorithm and a sum"))?;
    let (algorithm, length) = match name {
        "sha1" => (Algorithm::Sha1, 20),
        "sha256" => (Algorithm::Sha256, 32),
        _ => return Err(Code::ChecksumUnsupported.into()),
    };
    let sum = STANDARD.decode(sum).ok().filter(|sum| sum.len() == length);
    let sum = sum.ok_or_else(|| bad_header(HEADER, "must have a sum in base64, as long as its algorithm makes it"))?;
    Ok(Checksum { algorithm, sum })
}

/// The SHA-256 of a piece in hexadecimal digits alone.
///
/// # Errors
/// It is not written like that.
pub(crate) fn bare_checksum(text: &str) -> Result<Checksum, Problem> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| digit.try_into().ok())).collect();
    let digits = digits.filter(|digits| digits.len() == 64);
    let digits = digits.ok_or_else(|| bad_header(HEADER, "must be a SHA-256 in hexadecimal digits"))?;
    let sum = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    Ok(Checksum { algorithm: Algorithm::Sha256, sum })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(read: Result<Checksum, Problem>) -> Result<(Algorithm, usize), Code> {
        read.map(|read| (read.algorithm, read.sum.len())).map_err(|problem| problem.code())
    }

    #[test]
    fn a_checksum_is_as_long_as_its_algorithm_makes_it() {
        let (short, long) = (STANDARD.encode([7; 20]), STANDARD.encode([7; 32]));
        assert_eq!(code(checksum(&format!("sha1 {short}"))), Ok((Algorithm::Sha1, 20)));
        assert_eq!(code(checksum(&format!("sha256 {long}"))), Ok((Algorithm::Sha256, 32)));
        for (wrong, expected) in [
            (format!("sha1 {long}"), Code::InvalidHeader),
            (format!("sha256 {short}"), Code::InvalidHeader),
            (format!("sha1  {short}"), Code::InvalidHeader),
            ("sha1 ".to_owned(), Code::InvalidHeader),
            ("sha1 !!!!".to_owned(), Code::InvalidHeader),
            ("sha1".to_owned(), Code::InvalidHeader),
            (format!("md5 {short}"), Code::ChecksumUnsupported),
            (format!("SHA1 {short}"), Code::ChecksumUnsupported),
            (format!(" {short}"), Code::ChecksumUnsupported),
        ] {
            assert_eq!(code(checksum(&wrong)), Err(expected), "{wrong}");
        }
    }

    #[test]
    fn a_bare_one_has_sixty_four_digits() {
        let read = bare_checksum(&"0aF".repeat(22)[..64]).ok();
        assert_eq!(read.map(|read| read.sum[..4].to_vec()), Some(vec![0x0a, 0xf0, 0xaf, 0x0a]));
        for wrong in [String::new(), "a".repeat(63), "a".repeat(65), "g".repeat(64), "é".repeat(32)] {
            assert_eq!(code(bare_checksum(&wrong)), Err(Code::InvalidHeader), "{wrong}");
        }
    }
}
