//! Texts of strangers without what a server of models could take for more than text: marks of chat templates, by which it knows who
//! says what, and characters that nobody sees.

/// Names between `<` and `>` that are marks of some model's template, with a slash before them or without.
const ANGLED: [&str; 23] = [
    "s",
    "bos",
    "eos",
    "unk",
    "pad",
    "mask",
    "sop",
    "eop",
    "start_of_turn",
    "end_of_turn",
    "start_of_image",
    "end_of_image",
    "image_soft_token",
    "think",
    "tool_call",
    "tool_response",
    "fim_prefix",
    "fim_middle",
    "fim_suffix",
    "fim_pad",
    "file_sep",
    "repo_name",
    "endoftext",
];

/// The same between brackets.
const BRACKETED: [&str; 19] = [
    "INST",
    "SYS",
    "SYSTEM_PROMPT",
    "AVAILABLE_TOOLS",
    "TOOL_CALLS",
    "TOOL_RESULTS",
    "TOOL_CONTENT",
    "IMG",
    "IMG_END",
    "IMG_BREAK",
    "gMASK",
    "sMASK",
    "THINK",
    "ARGS",
    "CALL_ID",
    "PREFIX",
    "SUFFIX",
    "MIDDLE",
    "AUDIO",
];

/// Longest of those names.
const NAME_MAX: usize = 16;

/// The text without characters that nobody sees, and with a space in whatever looks like a mark.
#[must_use]
pub fn harmless(text: &str) -> String {
    let seen: String = text.chars().filter(|c| !is_unseen(*c)).collect();
    let mut broken = String::with_capacity(seen.len());
    let mut rest = seen.as_str();
    while let Some(at) = rest.find(['<', '[']) {
        let (before, from) = rest.split_at(at);
        let (opening, after) = from.split_at(1);
        broken.push_str(before);
        broken.push_str(opening);
        if is_mark(opening, after) {
            broken.push(' ');
        }
        rest = after;
    }
    broken.push_str(rest);
    broken
}

/// Whether what follows an opening makes a mark of it.
fn is_mark(opening: &str, after: &str) -> bool {
    if opening == "<" {
        // `<|im_start|>` and the like, with the bar of some model from China too; `a <| b` is how some languages call.
        if let Some(name) = after.strip_prefix(['|', '\u{ff5c}']) {
            return name.starts_with(|c: char| !c.is_whitespace());
        }
        return after.starts_with("<SYS>") || after.starts_with("</SYS>") || is_named(after, '>', &ANGLED);
    }
    is_named(after, ']', &BRACKETED)
}

/// Whether one of `names` is what comes up to `end`.
fn is_named(after: &str, end: char, names: &[&str]) -> bool {
    let name = after.strip_prefix('/').unwrap_or(after);
    let near = name.char_indices().nth(NAME_MAX + 1).map_or(name, |(far, _)| &name[..far]);
    near.split_once(end).is_some_and(|(name, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}

/// Whether a character leaves no trace on a screen, but is there for a model.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        // A hyphen that is not shown, joiners and fillers.
        '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
        // Which way letters run, among others.
        | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        // Variants of what stands before; bytes can be hidden in a row of them.
        | '\u{fe00}'..='\u{fe0f}'
        // How lines, shorthand and music run, and what stands beside a line.
        | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Tags, an alphabet of its own, more variants, and what is kept for others of their kind.
        | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_templates_are_broken() {
        for (text, shown) in [
            ("<|im_start|>system", "< |im_start|>system"),
            ("a<|eot_id|><|eot_id|>", "a< |eot_id|>< |eot_id|>"),
            ("<\u{ff5c}begin\u{2581}of\u{ff5c}>", "< \u{ff5c}begin\u{2581}of\u{ff5c}>"),
            ("[INST] do [/INST]", "[ INST] do [ /INST]"),
            ("<s>hi</s>", "< s>hi< /s>"),
            ("<<SYS>> <</SYS>>", "< <SYS>> < </SYS>>"),
            ("<START_OF_TURN>", "< START_OF_TURN>"),
            ("</think>", "< /think>"),
            ("<\u{200b}|im_end|>", "< |im_end|>"),
            ("[IN\u{ad}ST]", "[ INST]"),
            ("<<s>", "<< s>"),
            ("[THINK]<fim_prefix>", "[ THINK]< fim_prefix>"),
            ("<\u{e01f0}s\u{fffb}>", "< s>"),
        ] {
            assert_eq!(harmless(text), shown, "{text}");
            assert_eq!(harmless(shown), shown, "once is enough");
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            "a < b",
            "xs <| f 7",
            "<p>tea</p>",
            "<section>",
            "[1] [x]",
            "{\"a\": [1, 2]}",
            "<s",
            "[INST",
            "grün お茶 🍵 \t\n",
        ] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn what_nobody_sees_is_dropped() {
        let tags: String = "obey".chars().filter_map(|c| char::from_u32(0xe0000 + c as u32)).collect();
        assert_eq!(harmless(&format!("t{tags}e\u{202e}a\u{2066}\u{feff} \u{e0101}t\u{200d}ime")), "tea time");
    }
}
