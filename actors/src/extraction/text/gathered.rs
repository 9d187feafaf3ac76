//! Text while it is found, up to a number of characters; what comes after is counted only.

/// What separates two pieces of text. The widest asked for between two pieces counts, and none at either end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    None,
    Space,
    Tab,
    Line,
    Blank,
}

#[derive(Debug)]
pub(super) struct Gathered {
    text: String,
    room: usize,
    missing: u64,
    gap: Gap,
    /// Whether anything came, kept or not.
    begun: bool,
    /// The last character was a carriage return, kept as a line feed.
    after_return: bool,
}

impl Gathered {
    pub(super) const fn new(max_chars: usize) -> Self {
        Self { text: String::new(), room: max_chars, missing: 0, gap: Gap::None, begun: false, after_return: false }
    }

    /// Whether nothing more is kept.
    pub(super) const fn is_full(&self) -> bool {
        self.missing > 0
    }

    /// Asks for a gap before the next piece.
    pub(super) fn gap(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    /// A piece as it stands, its white space included.
    pub(super) fn verbatim(&mut self, piece: &str) {
        for c in piece.chars() {
            let ends_return = std::mem::replace(&mut self.after_return, c == '\r') && c == '\n';
            if !ends_return {
                self.put(if c == '\r' { '\n' } else { c });
            }
        }
    }

    /// A piece in which any white space is one gap.
    pub(super) fn words(&mut self, piece: &str) {
        for c in piece.chars() {
            // A space that must not break is meant.
            if c.is_whitespace() && c != '\u{a0}' {
                self.gap(Gap::Space);
            } else {
                self.put(c);
            }
        }
    }

    /// The text, and how many characters came after its end.
    pub(super) fn finish(self) -> (String, u64) {
        (self.text, self.missing)
    }

    fn put(&mut self, c: char) {
        if is_unwanted(c) {
            return;
        }
        let gap = std::mem::replace(&mut self.gap, Gap::None);
        if std::mem::replace(&mut self.begun, true) {
            let between = match gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Tab => "\t",
                Gap::Line => "\n",
                Gap::Blank => "\n\n",
            };
            between.chars().for_each(|c| self.keep(c));
        }
        self.keep(c);
    }

    fn keep(&mut self, c: char) {
        match self.room.checked_sub(1) {
            Some(room) => {
                self.room = room;
                self.text.push(c);
            }
            None => self.missing += 1,
        }
    }
}

/// Control characters that are neither ends of lines nor tabs, and marks of byte order.
pub(in super::super) fn is_unwanted(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || c == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_the_rest_is_counted() {
        let mut text = Gathered::new(3);
        text.verbatim("äöü\u{1f600}x");
        assert!(text.is_full());
        text.gap(Gap::Blank);
        text.words("y");
        assert_eq!(text.finish(), ("äöü".into(), 5));
    }

    #[test]
    fn control_characters_are_gone_and_lines_end_alike() {
        let mut text = Gathered::new(100);
        text.verbatim("\u{feff}a\0b\r\n\tc\rd\u{1b}[2J\u{85}\r");
        text.verbatim("\ne");
        assert_eq!(text.finish().0, "ab\n\tc\nd[2J\ne");
    }

    #[test]
    fn the_widest_gap_counts_and_none_stands_at_an_end() {
        let mut text = Gathered::new(100);
        text.words("  a ");
        text.gap(Gap::Line);
        text.words(" b\u{a0}c");
        text.gap(Gap::Blank);
        text.gap(Gap::Line);
        text.words("d  ");
        text.gap(Gap::Blank);
        assert_eq!(text.finish().0, "a\nb\u{a0}c\n\nd");
    }
}
