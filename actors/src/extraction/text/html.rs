//! What a page shows.
//!
//! By the tokens of the page alone: no tree is made, so nesting costs nothing however deep it is.

use std::cell::{Cell, RefCell};

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts};

use super::gathered::{Gap, Gathered};

/// The text of a page, its title first.
pub(super) fn read(page: &str, text: &mut Gathered) {
    let mut gathered = Gathered::new(0);
    std::mem::swap(text, &mut gathered);
    let sink = Sink { text: RefCell::new(gathered), hidden: Cell::new(false), kept: Cell::new(0) };
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(page));
    let tokenizer = Tokenizer::new(sink, TokenizerOpts::default());
    // The sink stops it for no script and no charset, so it goes to the end.
    drop(tokenizer.feed(&input));
    tokenizer.end();
    *text = tokenizer.sink.text.into_inner();
}

struct Sink {
    text: RefCell<Gathered>,
    /// Inside an element whose content is no text.
    hidden: Cell<bool>,
    /// Open elements whose white space is meant.
    kept: Cell<u32>,
}

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _: u64) -> TokenSinkResult<()> {
        match token {
            Token::TagToken(tag) => return self.tag(&tag),
            Token::CharacterTokens(piece) if !self.hidden.get() => {
                let mut text = self.text.borrow_mut();
                if self.kept.get() > 0 { text.verbatim(&piece) } else { text.words(&piece) }
            }
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl Sink {
    fn tag(&self, tag: &Tag) -> TokenSinkResult<()> {
        let mut text = self.text.borrow_mut();
        text.gap(gap(&tag.name));
        let opens = tag.kind == TagKind::StartTag;
        // An end tag ends what is hidden: inside it nothing else is a tag.
        self.hidden.set(false);
        match &*tag.name {
            "pre" | "textarea" if opens => self.kept.set(self.kept.get().saturating_add(1)),
            "pre" | "textarea" => self.kept.set(self.kept.get().saturating_sub(1)),
            "img" if opens => {
                if let Some(alt) = tag.attrs.iter().find(|attribute| &*attribute.name.local == "alt") {
                    text.words(&alt.value);
                }
            }
            _ => {}
        }
        match &*tag.name {
            "script" if opens => self.hide(RawKind::ScriptData),
            "style" | "xmp" | "iframe" | "noembed" | "noframes" if opens => self.hide(RawKind::Rawtext),
            "title" | "textarea" if opens => TokenSinkResult::RawData(RawKind::Rcdata),
            "plaintext" if opens => TokenSinkResult::Plaintext,
            _ => TokenSinkResult::Continue,
        }
    }

    fn hide(&self, kind: RawKind) -> TokenSinkResult<()> {
        self.hidden.set(true);
        TokenSinkResult::RawData(kind)
    }
}

/// What an element stands apart by.
fn gap(element: &str) -> Gap {
    match element {
        "address" | "article" | "aside" | "blockquote" | "body" | "details" | "dialog" | "dl" | "fieldset"
        | "figure" | "footer" | "form" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "header" | "hr" | "main"
        | "menu" | "nav" | "ol" | "p" | "pre" | "section" | "table" | "title" | "ul" => Gap::Blank,
        "br" | "caption" | "center" | "dd" | "div" | "dt" | "figcaption" | "legend" | "li" | "optgroup" | "option"
        | "search" | "summary" | "tbody" | "textarea" | "tfoot" | "thead" | "tr" => Gap::Line,
        "td" | "th" => Gap::Tab,
        _ => Gap::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: &str) -> String {
        let mut text = Gathered::new(1_000_000);
        read(page, &mut text);
        text.finish().0
    }

    #[test]
    fn a_page_gives_what_it_shows() {
        let page = "<!DOCTYPE html><html><head><title>A &amp; B</title><style>p { color: red }</style>
            <script>if (a < b) document.write('<p>no</p>')</script></head>
            <body><h1>Head</h1><p>One   two<br>three<!-- no --> <b>fo</b>ur</p>
            <table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>7</td></tr></table>
            <pre>a\n  b</pre><ul><li>x<li>y</ul><img src=x alt='a cat'> <noscript>still</noscript>
            <iframe>no</iframe><script>let never = 1;";
        assert_eq!(
            text(page),
            "A & B\n\nHead\n\nOne two\nthree four\n\nName\tAge\nAnn\t7\n\na\n  b\n\nx\ny\n\na cat still"
        );
    }

    #[test]
    fn nesting_of_any_depth_is_read() {
        let deep = format!("{}deep{}", "<div>".repeat(100_000), "</div>".repeat(99_000));
        assert_eq!(text(&deep), "deep");
    }

    #[test]
    fn references_are_characters_and_broken_markup_is_text() {
        assert_eq!(text("1 &lt; 2 &#x41;&nosuch; <3 &copy"), "1 < 2 A&nosuch; <3 ©");
        assert_eq!(text("a\0b<"), "ab<");
        assert_eq!(text("<textarea><b>\n x</textarea>y</pre></pre> <xmp>no"), "<b>\n x\ny");
    }
}
