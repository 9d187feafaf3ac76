//! What a session is called in lists.

use super::text::one_line;

/// Longest title, in characters.
pub const MAX_CHARS: usize = 80;

/// The title a first message gives its session: its words on [one line](one_line), cut to [`MAX_CHARS`] characters with an ellipsis
/// inside that length. `None` when nothing is left.
#[must_use]
pub fn from_message(message: &str) -> Option<String> {
    let line = one_line(message);
    if line.is_empty() {
        return None;
    }
    if line.chars().count() <= MAX_CHARS {
        return Some(line);
    }
    let kept: String = line.chars().take(MAX_CHARS - 1).collect();
    Some(format!("{}…", kept.trim_end()))
}

/// The title that a person sets, at most [`MAX_CHARS`] characters: their words on [one line](one_line). `None` when it is longer
/// or nothing of it is left.
#[must_use]
pub fn accept(title: &str) -> Option<String> {
    let line = one_line(title);
    (title.chars().count() <= MAX_CHARS && !line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_line_of_at_most_eighty_characters() {
        assert_eq!(from_message("  When does\nthe   train leave? ").as_deref(), Some("When does the train leave?"));
        assert_eq!(from_message(" \n\t"), None);
        let long = from_message(&"ä".repeat(200)).unwrap_or_default();
        assert_eq!(long.chars().count(), MAX_CHARS);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_person_sets_a_plain_line() {
        assert_eq!(accept(" Trains\nand \u{202E}boats "), Some("Trains and boats".to_owned()));
        for bad in ["", "  ", "\u{200B}", "\u{202E}\u{200D}", &"x".repeat(81), &format!("{:>81}", "x")] {
            assert_eq!(accept(bad), None, "{bad:?} was taken");
        }
    }
}
