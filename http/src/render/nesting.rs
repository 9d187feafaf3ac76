//! A bound on how deep a rendering nests, and on how much it holds that nobody wrote.
//!
//! What sanitises and what shows HTML takes time that grows faster than the depth of its nesting, and a text nests with
//! every byte (`>>>>`). So what is beyond the bound is shown flat: its text stays, its element goes. Cells that a table
//! has only because its head is wide go as well, because rows times columns is not in proportion to the text.

use pulldown_cmark::{Event, Tag, TagEnd};

/// Quotes and lists inside one another.
pub(super) const MAX_BLOCKS: usize = 12;

/// Emphasis, links and the like inside one another.
pub(super) const MAX_INLINES: usize = 8;

/// What is open, in the order of opening.
#[derive(Default)]
pub(super) struct Nesting {
    open: Vec<Open>,
    blocks: usize,
    inlines: usize,
    in_link: bool,
    /// Text stands before an item that is shown flat: the two must not run together.
    said: bool,
}

/// An element of the text, and whether it is shown.
#[derive(Clone, Copy)]
struct Open {
    kind: Kind,
    shown: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    Item,
    Inline,
    Link,
}

fn kind_of(tag: &Tag<'_>) -> Option<Kind> {
    match tag {
        Tag::BlockQuote(_) | Tag::List(_) => Some(Kind::Block),
        Tag::Item => Some(Kind::Item),
        Tag::Emphasis | Tag::Strong | Tag::Strikethrough => Some(Kind::Inline),
        Tag::Link { .. } | Tag::Image { .. } => Some(Kind::Link),
        _ => None,
    }
}

fn nests(end: TagEnd) -> bool {
    matches!(
        end,
        TagEnd::BlockQuote(_)
            | TagEnd::List(_)
            | TagEnd::Item
            | TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Link
            | TagEnd::Image
    )
}

impl Nesting {
    /// The event as it is to be shown, if it is.
    pub(super) fn bound<'a>(&mut self, event: Event<'a>) -> Option<Event<'a>> {
        match &event {
            Event::Start(tag) => match kind_of(tag) {
                Some(kind) => return self.start(kind, event),
                None => self.said = false,
            },
            Event::End(end) if nests(*end) => return self.end().then_some(event),
            Event::End(_) | Event::HardBreak | Event::Rule => self.said = false,
            Event::Text(_) | Event::Code(_) | Event::Html(_) | Event::InlineHtml(_) => self.said = true,
            _ => {}
        }
        Some(event)
    }

    fn start<'a>(&mut self, kind: Kind, event: Event<'a>) -> Option<Event<'a>> {
        let shown = match kind {
            Kind::Block => self.blocks < MAX_BLOCKS,
            // An item without its list is none.
            Kind::Item => self.open.last().is_none_or(|list| list.shown),
            Kind::Inline => self.inlines < MAX_INLINES,
            Kind::Link => self.inlines < MAX_INLINES && !self.in_link,
        };
        self.open.push(Open { kind, shown });
        if shown {
            self.count(kind, true);
            return Some(event);
        }
        let apart = kind == Kind::Item && std::mem::take(&mut self.said);
        apart.then_some(Event::HardBreak)
    }

    /// Whether what ends was shown.
    fn end(&mut self) -> bool {
        let Some(ended) = self.open.pop() else { return true };
        if ended.shown {
            self.count(ended.kind, false);
        }
        ended.shown
    }

    fn count(&mut self, kind: Kind, opened: bool) {
        let counter = match kind {
            Kind::Block => &mut self.blocks,
            Kind::Item => return self.said = false,
            Kind::Inline | Kind::Link => &mut self.inlines,
        };
        *counter = if opened { *counter + 1 } else { counter.saturating_sub(1) };
        match kind {
            Kind::Link => self.in_link = opened,
            Kind::Block => self.said = false,
            Kind::Inline | Kind::Item => {}
        }
    }
}
