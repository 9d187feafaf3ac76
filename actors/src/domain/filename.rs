//! Names of files that people send: safe to show, to save under and to put into a header, whatever was sent.

use unicode_normalization::UnicodeNormalization as _;

/// Most bytes of a name, which every file system takes.
const MAX_BYTES: usize = 200;
/// Most bytes of an ending that is kept when a name is cut.
const MAX_ENDING_BYTES: usize = 16;
/// What a file is called of whose name nothing is left.
const NAMELESS: &str = "file";

/// What some systems take for a device, whatever its ending.
const RESERVED: &[&str] = &["aux", "con", "conin$", "conout$", "nul", "prn"];

/// The name under which a file is kept that its sender calls `given`: the last part of a path, in Unicode's composed form, without
/// what is not to be seen, what turns text around, and what file systems take for something else.
#[must_use]
pub fn sanitised(given: &str) -> String {
    let last = given.split(['/', '\\']).rev().find(|part| !part.trim().is_empty()).unwrap_or_default();
    let seen: String = last.chars().filter(|letter| is_taken(*letter)).nfc().collect();
    // A leading dot hides a file, and some systems drop what stands at the end.
    let whole = seen.trim_matches(|letter: char| letter == '.' || letter.is_whitespace());
    let name = cut(whole, MAX_BYTES);
    match name.split('.').next().unwrap_or_default() {
        _ if name.is_empty() => NAMELESS.to_owned(),
        stem if is_reserved(stem.trim_end()) => format!("_{}", cut(whole, MAX_BYTES - 1)),
        _ => name,
    }
}

fn is_taken(letter: char) -> bool {
    !letter.is_control() && !is_unseen(letter) && !matches!(letter, '<' | '>' | ':' | '"' | '|' | '?' | '*')
}

/// Letters that are not to be seen, or turn what follows around. Those that join others are part of many a script.
const fn is_unseen(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}' | '\u{e0000}'..='\u{e007f}'
    )
}

fn is_reserved(stem: &str) -> bool {
    let stem = stem.to_ascii_lowercase();
    let numbered = |prefix: &str| {
        let rest = stem.strip_prefix(prefix).map(str::chars);
        rest.is_some_and(|mut rest| matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None)))
    };
    RESERVED.contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

/// The name, cut to `most` bytes. It keeps its ending, by which people know what it is.
fn cut(name: &str, most: usize) -> String {
    if name.len() <= most {
        return name.to_owned();
    }
    let ending = name.rfind('.').map(|at| &name[at..]).filter(|ending| ending.len() <= MAX_ENDING_BYTES);
    let ending = ending.unwrap_or_default();
    let stem = &name[..name.floor_char_boundary(most - ending.len())];
    format!("{}{ending}", stem.trim_end_matches(|letter: char| letter == '.' || letter.is_whitespace()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_the_last_part_of_a_path_without_what_is_odd() {
        for (given, expected) in [
            ("note.txt", "note.txt"),
            ("", "file"),
            ("...", "file"),
            (" \t\r\n", "file"),
            ("/", "file"),
            ("../../etc/passwd", "passwd"),
            ("..\\..\\boot.ini", "boot.ini"),
            ("C:\\fakepath\\a.pdf", "a.pdf"),
            ("/tmp/", "tmp"),
            ("a/../..", "file"),
            (".htaccess", "htaccess"),
            ("..a..", "a"),
            ("a\0b.txt", "ab.txt"),
            ("a\r\nSet-Cookie: x=1.txt", "aSet-Cookie x=1.txt"),
            ("photo\u{202e}gpj.exe", "photogpj.exe"),
            ("\u{2066}a\u{2069}\u{200f}.txt", "a.txt"),
            ("\u{feff}a\u{200b}b.txt", "ab.txt"),
            ("a<b>:\"|?*.txt", "ab.txt"),
            ("Gro\u{308}ße.pdf", "Größe.pdf"),
            ("日本語.txt", "日本語.txt"),
            ("👩\u{200d}🔬.png", "👩\u{200d}🔬.png"),
            ("NUL", "_NUL"),
            ("con.txt", "_con.txt"),
            ("Com1 .tar.gz", "_Com1 .tar.gz"),
            ("lpt0", "_lpt0"),
            ("com10.txt", "com10.txt"),
            ("console.txt", "console.txt"),
            ("a.", "a"),
            ("a .txt ", "a .txt"),
            ("%2e%2e%2fa", "%2e%2e%2fa"),
            ("'; DROP TABLE attachments; --", "'; DROP TABLE attachments; --"),
        ] {
            assert_eq!(sanitised(given), expected, "{given:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_letters_and_keeps_its_ending() {
        for (given, ending) in [
            ("a".repeat(4096) + ".pdf", ".pdf"),
            ("ä".repeat(4096) + ".tar.gz", ".gz"),
            ("x.".repeat(2000) + "y", ".y"),
        ] {
            let name = sanitised(&given);
            assert!(name.len() <= MAX_BYTES && name.ends_with(ending), "{name}");
        }
        assert_eq!(sanitised(&("a.".to_owned() + &"b".repeat(4096))).len(), MAX_BYTES);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_a_name_can_be_saved_under_and_stays_as_it_is(given in any::<String>()) {
            let name = sanitised(&given);
            prop_assert!((1..=MAX_BYTES).contains(&name.len()));
            let has_odd = name.starts_with('.') || name.contains(['/', '\\', '\0', '\n', '\u{202e}']);
            prop_assert!(!has_odd);
            prop_assert_eq!(sanitised(&name), name);
        }
    }
}
