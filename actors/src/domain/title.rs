//! What a session is called in lists.

/// Longest title, in characters.
pub const MAX_CHARS: usize = 80;

/// The title a first message gives its session: its words on one line, cut to [`MAX_CHARS`] characters with an ellipsis
/// inside that length. `None` when nothing is left.
#[must_use]
pub fn from_message(message: &str) -> Option<String> {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return None;
    }
    if line.chars().count() <= MAX_CHARS {
        return Some(line);
    }
    let kept: String = line.chars().take(MAX_CHARS - 1).collect();
    Some(format!("{}…", kept.trim_end()))
}

/// Whether `title` may be set by a person: one line of 1 to [`MAX_CHARS`] characters after trimming.
#[must_use]
pub fn accept(title: &str) -> Option<String> {
    let title = title.trim();
    let fits = !title.is_empty() && title.chars().count() <= MAX_CHARS && !title.chars().any(char::is_control);
    fits.then(|| title.to_owned())
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
    fn a_person_may_set_a_plain_line() {
        assert_eq!(accept(" Trains "), Some("Trains".to_owned()));
        for bad in ["", "  ", "a\nb", &"x".repeat(81)] {
            assert_eq!(accept(bad), None, "{bad:?} was taken");
        }
    }
}
