//! Names of media types.

/// Longest part of a media type (RFC 6838 §4.2).
const MAX_PART: usize = 127;

/// Whether `text` is the name of a media type, without parameters: `image/png`, and not `image/*`.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    text.split_once('/').is_some_and(|(kind, sub)| is_part(kind) && is_part(sub))
}

/// RFC 6838 §4.2.
fn is_part(text: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
    (1..=MAX_PART).contains(&text.len()) && text.as_bytes()[0].is_ascii_alphanumeric() && text.bytes().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_two_names_and_nothing_else() {
        let long = "a".repeat(MAX_PART);
        for text in ["image/png", "application/vnd.api+json", "x/1", &format!("{long}/{long}")] {
            assert!(is_media_type(text), "{text}");
        }
        let longer = format!("a/{long}a");
        for text in
            ["", "image", "image/", "/png", "image/*", "*/*", "a/b/c", "a/b; c=d", "a /b", "ä/b", ".a/b", &longer]
        {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
