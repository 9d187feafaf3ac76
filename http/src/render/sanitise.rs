//! The allow-list every rendering passes, whatever the renderer did.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use ammonia::{Builder, UrlRelative};

use super::highlight::PREFIX;

const TAGS: [&str; 27] = [
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "input",
    "li",
    "ol",
    "p",
    "pre",
    "span",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
];

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let attributes = HashMap::from([
        ("a", HashSet::from(["href", "title"])),
        ("code", HashSet::from(["class"])),
        ("input", HashSet::from(["type", "checked", "disabled"])),
        ("ol", HashSet::from(["start"])),
        ("span", HashSet::from(["class"])),
        ("td", HashSet::from(["align"])),
        ("th", HashSet::from(["align"])),
    ]);
    let mut builder = Builder::new();
    builder
        .tags(HashSet::from(TAGS))
        .generic_attributes(HashSet::new())
        .tag_attributes(attributes)
        .url_schemes(HashSet::from(["http", "https", "mailto"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .set_tag_attribute_value("a", "target", "_blank")
        .attribute_filter(|tag, name, value| match (tag, name) {
            (_, "class") => known_classes(value),
            ("input", "type") => Some("checkbox".into()),
            _ => Some(value.into()),
        });
    builder
});

/// Keeps what is on the list.
pub(super) fn clean(html: &str) -> String {
    CLEANER.clean(html).to_string()
}

/// Classes the renderer writes; a class that the page uses for itself must not come out of a message.
fn known_classes(value: &str) -> Option<Cow<'_, str>> {
    let known = |class: &str| class.starts_with(PREFIX) || class.starts_with("language-");
    value.split(' ').all(known).then_some(Cow::Borrowed(value))
}
