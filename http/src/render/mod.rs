//! Markdown as HTML that is safe to insert into the page.
//!
//! Model text is hostile input: raw HTML is shown as text, images become links, and what the renderer makes passes an
//! allow-list once more. The result has no ids, no styles and no scripts; code carries the classes of [`highlight`].

pub mod highlight;
mod markdown;
mod nesting;
mod sanitise;

use std::fmt::Write as _;

/// Longer texts, in bytes, are not rendered: they are shown as they are.
pub const MAX_BYTES: usize = 256 << 10;

/// Renders Markdown. An unfinished code fence renders as code, so an answer can be rendered while it is written.
#[must_use]
pub fn to_html(markdown: &str) -> String {
    if markdown.len() > MAX_BYTES || parsing_steps(markdown) > MAX_PARSING_STEPS {
        let mut html = String::with_capacity(markdown.len() + 64);
        html.push_str("<pre>");
        escape_into(&mut html, markdown);
        html.push_str("</pre>\n");
        return html;
    }
    sanitise::clean(&markdown::to_html(markdown))
}

/// What parsing may take at most, as [`parsing_steps`] counts it.
const MAX_PARSING_STEPS: usize = 4 << 20;

/// A bound on what the parser does beyond one step a byte: each line may go on with every quote and list that is open, and
/// at most as many are open as the longest run of their marks and of indentation has bytes.
fn parsing_steps(markdown: &str) -> usize {
    let opens = |byte: &u8| matches!(byte, b' ' | b'\t' | b'>' | b'-' | b'+' | b'*' | b'.' | b')');
    let marks = |line: &str| line.bytes().filter(|byte| !byte.is_ascii_digit()).take_while(opens).count();
    let deepest = markdown.split(['\n', '\r']).map(marks).max().unwrap_or_default();
    deepest.saturating_mul(markdown.split(['\n', '\r']).count())
}

/// Appends `text` so that it reads as text, also inside an attribute.
fn escape_into(html: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if c.is_control() && !matches!(c, '\n' | '\t' | '\r') => {
                // Control characters mean nothing in HTML and confuse parsers.
                let _infallible = write!(html, "{}", char::REPLACEMENT_CHARACTER);
            }
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
