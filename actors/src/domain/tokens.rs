//! The one place where text becomes a number of tokens.
//!
//! The count is an estimate, `max(1, round(characters / 4))`, which is also what the history endpoint reports. A true
//! tokenizer would be true for one family of models only, weighs several megabytes of merge tables and takes a
//! noticeable part of a second to load; the model behind `SA01_LLM_BASE_URL` can be any. Scripts without spaces need
//! more tokens than estimated, so the context window in the settings should leave room.

/// Tokens that a message costs beside its text (role and separators in the usual chat templates).
pub const PER_MESSAGE: usize = 4;

/// The estimated tokens of a text, never 0.
#[must_use]
pub fn of_text(text: &str) -> usize {
    of_chars(text.chars().count())
}

/// The estimated tokens of a text that has `chars` characters, never 0.
#[must_use]
pub const fn of_chars(chars: usize) -> usize {
    // Halves round up, as they do when the contract rounds to the nearest.
    let rounded = chars / 4 + (chars % 4 >= 2) as usize;
    if rounded == 0 { 1 } else { rounded }
}

/// The estimated tokens of a message with this text: the text and [`PER_MESSAGE`].
#[must_use]
pub fn of_message(text: &str) -> usize {
    of_text(text) + PER_MESSAGE
}

/// The estimated tokens of a picture: what the first models that saw asked for one, by its tiles of 512 × 512 pixels.
#[must_use]
pub const fn of_image(width: u32, height: u32) -> usize {
    85 + 170 * (width.div_ceil(512) as usize) * (height.div_ceil(512) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_costs_by_its_tiles() {
        assert_eq!([(1, 1), (512, 512), (513, 512), (1024, 1024)].map(|(x, y)| of_image(x, y)), [255, 255, 425, 765]);
    }

    #[test]
    fn a_token_is_four_characters_rounded_and_at_least_one() {
        for (chars, tokens) in [(0, 1), (1, 1), (5, 1), (6, 2), (7, 2), (8, 2), (9, 2), (10, 3), (4_000, 1_000)] {
            assert_eq!(of_text(&"ä".repeat(chars)), tokens, "{chars} characters");
        }
    }
}
