//! Markdown events as HTML: what pulldown-cmark writes, with code, images, tables and raw HTML our own way.

use pulldown_cmark::{Alignment, CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd, html};

use super::{
    escape_into,
    highlight::{self, Budget},
    nesting::Nesting,
};

/// Renders to HTML that is well formed but not yet checked against the allow-list.
pub(super) fn to_html(markdown: &str) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let (mut nesting, mut writer) = (Nesting::default(), Writer::default());
    let mut out = String::with_capacity(markdown.len() * 3 / 2);
    let events = Parser::new_ext(markdown, options).filter_map(|event| nesting.bound(event));
    let events = events.flat_map(|event| writer.write(event)).flatten();
    html::push_html(&mut out, events);
    out
}

/// What the events so far have opened.
#[derive(Default)]
struct Writer<'a> {
    code: Option<Code<'a>>,
    alignments: Vec<Alignment>,
    column: usize,
    in_head: bool,
    /// Cells of the row that hold nothing so far: written once something follows them. A row gets a cell for each column of
    /// its head, and what nobody wrote would be out of proportion to the text.
    owed: String,
    budget: Budget,
}

struct Code<'a> {
    language: CowStr<'a>,
    text: String,
}

impl<'a> Writer<'a> {
    /// The event as it is to be written, after the cells that are owed to it.
    fn write(&mut self, event: Event<'a>) -> [Option<Event<'a>>; 2] {
        match event {
            Event::Start(Tag::TableCell) => {
                let cell = self.cell();
                self.owed.push_str(&cell);
                [None, None]
            }
            Event::End(TagEnd::TableCell) => {
                let end = if self.in_head { "</th>" } else { "</td>" };
                if self.owed.is_empty() {
                    return [Some(Event::Html(end.into())), None];
                }
                self.owed.push_str(end);
                [None, None]
            }
            Event::End(TagEnd::TableRow) => {
                self.owed.clear();
                [self.translate(event), None]
            }
            event => [self.settle(), self.translate(event)],
        }
    }

    fn settle(&mut self) -> Option<Event<'a>> {
        (!self.owed.is_empty()).then(|| Event::Html(std::mem::take(&mut self.owed).into()))
    }

    fn translate(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                self.code = Some(Code { language: language(kind), text: String::new() });
                None
            }
            Event::End(TagEnd::CodeBlock) => {
                let code = self.code.take()?;
                Some(Event::Html(self.code_block(&code).into()))
            }
            Event::Text(text) if self.code.is_some() => {
                if let Some(code) = &mut self.code {
                    code.text.push_str(&text);
                }
                None
            }
            Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
            // An image from elsewhere tells its server who reads; the page's policy would not load it anyway.
            Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
                Some(Event::Start(Tag::Link { link_type, dest_url, title, id }))
            }
            Event::End(TagEnd::Image) => Some(Event::End(TagEnd::Link)),
            event => Some(self.table(event)),
        }
    }

    fn code_block(&mut self, code: &Code<'_>) -> String {
        let mut html = String::with_capacity(code.text.len() * 2);
        html.push_str("<pre><code");
        if !code.language.is_empty() {
            html.push_str(" class=\"language-");
            escape_into(&mut html, &code.language);
            html.push('"');
        }
        html.push('>');
        highlight::write(&mut html, &code.language, &code.text, &mut self.budget);
        html.push_str("</code></pre>\n");
        html
    }

    /// Cells say how they are aligned by an attribute: the page's policy forbids the style that the library would write.
    fn table(&mut self, event: Event<'a>) -> Event<'a> {
        match &event {
            Event::Start(Tag::Table(alignments)) => {
                let plain = vec![Alignment::None; alignments.len()];
                self.alignments.clone_from(alignments);
                return Event::Start(Tag::Table(plain));
            }
            Event::Start(Tag::TableHead) => (self.in_head, self.column) = (true, 0),
            Event::Start(Tag::TableRow) => self.column = 0,
            Event::End(TagEnd::TableHead) => self.in_head = false,
            _ => {}
        }
        event
    }

    fn cell(&mut self) -> String {
        let name = if self.in_head { "th" } else { "td" };
        let column = self.column;
        self.column += 1;
        match self.alignments.get(column) {
            Some(Alignment::Right) => format!("<{name} align=\"right\">"),
            Some(Alignment::Center) => format!("<{name} align=\"center\">"),
            _ => format!("<{name}>"),
        }
    }
}

/// The first word of a fence's info string, if it looks like the name of a language.
fn language(kind: CodeBlockKind<'_>) -> CowStr<'_> {
    let CodeBlockKind::Fenced(info) = kind else { return CowStr::Borrowed("") };
    let name = info.split([' ', ',', '{']).next().unwrap_or_default();
    let plausible = |c: char| c.is_ascii_alphanumeric() || "+-#._".contains(c);
    if name.len() <= 32 && name.chars().all(plausible) { name.to_ascii_lowercase().into() } else { "".into() }
}
