//! The one place where text becomes a number of tokens.
//!
//! The count is an estimate, `max(1, round(characters / 4))`, which is also what the history endpoint reports. A true
//! tokenizer would be true for one family of models only, weighs several megabytes of merge tables and takes a
//! noticeable part of a second to load; the model behind `SA01_LLM_BASE_URL` can be any. Scripts without spaces need
//! more tokens than estimated, so the context window in the settings should leave room.
//!
//! What is in files is reckoned more carefully, because a context is filled with it up to its brim: by [`weight`], in quarters
//! of a token, which is rather too much than too little for what no prose is.

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

/// Weights are counted in so many parts of a token.
pub const PARTS: usize = 4;

/// Letters and digits in a row of which no more are a word: what goes on is a key, a sum, or bytes in base64.
const LONGEST_WORD: usize = 16;

/// What a text weighs: never less than a quarter of a token for each character.
#[must_use]
pub fn weight(text: &str) -> usize {
    weights(text).sum()
}

/// The longest beginning of a text that weighs at most `most`.
#[must_use]
pub fn beginning(text: &str, most: usize) -> &str {
    let mut spent = 0_usize;
    let over = text.char_indices().zip(weights(text)).find(|(_, weight)| {
        spent += weight;
        spent > most
    });
    over.map_or(text, |((at, _), _)| &text[..at])
}

fn weights(text: &str) -> impl Iterator<Item = usize> {
    text.chars().scan(0, |run, c| Some(weight_of(c, run)))
}

/// What a character weighs after `run` others without a gap.
const fn weight_of(c: char, run: &mut usize) -> usize {
    *run = if c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_') { *run + 1 } else { 0 };
    match c {
        _ if *run > LONGEST_WORD => 3,
        'a'..='z' | 'A'..='Z' | ' ' => 1,
        '\0'..='\u{7f}' => 2,
        // Letters with marks, Greek, Cyrillic, Hebrew, Arabic.
        ..='\u{7ff}' => 3,
        // Dashes, quotes, signs of money, arrows, lines.
        '\u{2000}'..='\u{2bff}' => 4,
        // The scripts of Asia: some are a token, others two.
        ..='\u{ffff}' => 6,
        // Pictures and rare signs come byte by byte.
        _ => 12,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_prose_weighs_more() {
        for (text, parts) in [
            ("", 0),
            ("tea time", 8),
            ("7, 8\n", 2 + 2 + 1 + 2 + 2),
            ("grün", 6),
            ("чай", 9),
            ("“–€”", 16),
            ("お茶 한국", 6 + 6 + 1 + 6 + 6),
            ("चाय", 18),
            ("🍵🍵", 24),
            ("abcdefghijklmnop", 16),
            ("abcdefghijklmnopqr", 16 + 6),
            ("Zm9v/Zm9v+Zm9v==Zm9v", 15 + 4 * 2 + 4 * 3),
            ("abcdefghijklmnop qrst", 21),
        ] {
            assert_eq!(weight(text), parts, "{text}");
        }
    }

    #[test]
    fn a_beginning_is_as_long_as_it_may_weigh() {
        for (text, most, beginning) in [
            ("tea time", 3, "tea"),
            ("お茶", 11, "お"),
            ("お茶", 12, "お茶"),
            ("tea", 99, "tea"),
            ("tea", 0, ""),
            ("", 0, ""),
        ] {
            assert_eq!(super::beginning(text, most), beginning, "{text} {most}");
        }
    }

    #[test]
    fn bytes_in_base64_are_reckoned_half_a_token_each_and_more() {
        let line = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9";
        assert!(weight(line) > PARTS * line.len() / 2, "{}", weight(line));
    }

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
