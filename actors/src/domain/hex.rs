//! Bytes as text.

/// Bytes in hexadecimal digits, two each, in lower case.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!((hex(&[0, 0xab, 7]), hex(&[])), ("00ab07".to_owned(), String::new()));
    }
}
