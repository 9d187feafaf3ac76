//! What a person can see of a text, and what a database can hold of it.

/// `text` without what PostgreSQL has no place for.
#[must_use]
pub fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The words of a text on one line. Control characters and those that are invisible or turn the direction of writing around
/// are left out, so that the line looks like what it says, beside others too. What joins letters or emoji stays with them.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut gap = false;
    for char in text.chars() {
        if char.is_whitespace() {
            gap = true;
            continue;
        }
        if is_invisible(char) || (joins(char) && (gap || line.is_empty())) {
            continue;
        }
        if gap && !line.is_empty() {
            line.push(' ');
        }
        gap = false;
        line.push(char);
    }
    line
}

/// Characters that only change how the one before them looks: joiners and variation selectors.
const fn joins(char: char) -> bool {
    matches!(char, '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}')
}

/// Control characters and what Unicode calls default ignorable, format controls or fillers, except what [`joins`].
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{200B}' | '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{2800}'
            | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E00FF}' | '\u{E01F0}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_and_invisible_characters_show_nothing() {
        for blank in [
            "",
            " \n\t",
            "\u{200B}\u{FEFF}",
            "\u{202E} \u{2066}",
            "\u{200D}\u{FE0F}",
            "\u{3164}\u{2800}",
            "\u{7}\u{85}",
        ] {
            assert_eq!(one_line(blank), "", "{blank:?}");
        }
    }

    #[test]
    fn a_line_is_what_it_looks_like() {
        for (text, line) in [
            ("  two\n words ", "two words"),
            ("safe\u{202E}txt.exe", "safetxt.exe"),
            ("a\u{200B}b\u{0}c\u{AD}d", "abcd"),
            ("a \u{200D} b", "a b"),
            ("می\u{200C}خواهم", "می\u{200C}خواهم"),
            ("👩\u{200D}👩\u{200D}👧 ❤\u{FE0F}", "👩\u{200D}👩\u{200D}👧 ❤\u{FE0F}"),
        ] {
            assert_eq!(one_line(text), line, "{text:?}");
        }
    }
}
