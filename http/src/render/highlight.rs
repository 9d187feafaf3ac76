//! Colours for code, as classes.
//!
//! A piece of code that means something is a `<span>` whose classes are [`PREFIX`] and the first atoms of its scope, as
//! editors name them (the scope naming of `TextMate` and Sublime Text). The first class is one of [`KINDS`]; up to two more say which
//! sort of it, such as `hl-keyword hl-control` or `hl-entity hl-name`. Plain code has no span.

use std::sync::LazyLock;

use syntect::{
    easy::ScopeRegionIterator,
    parsing::{ParseState, Scope, ScopeStack, SyntaxReference, SyntaxSet},
};

use super::escape_into;

/// What every class starts with.
pub const PREFIX: &str = "hl-";

/// The kinds a piece of code can be. A page that colours these has coloured everything.
pub const KINDS: [&str; 10] =
    ["comment", "constant", "entity", "invalid", "keyword", "markup", "storage", "string", "support", "variable"];

/// Names that people write and the grammars do not know, with the grammar that comes closest.
const ALIASES: [(&str, &str); 12] = [
    ("c#", "cs"),
    ("console", "sh"),
    ("golang", "go"),
    ("json5", "json"),
    ("jsonc", "json"),
    ("jsx", "js"),
    ("py3", "py"),
    ("python3", "py"),
    ("shell", "sh"),
    ("ts", "js"),
    ("tsx", "js"),
    ("typescript", "js"),
];

/// Lines longer than this, in bytes, end the colouring of their block: a grammar may need time that grows faster than
/// the line.
const MAX_LINE_BYTES: usize = 1024;

/// How much more code of one rendering is coloured; what is beyond stays plain.
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(32 << 10)
    }
}

/// Read from the binary when the first code block is rendered, not at start-up.
static SYNTAXES: LazyLock<SyntaxSet> = LazyLock::new(SyntaxSet::load_defaults_newlines);

static KIND_SCOPES: LazyLock<Vec<Scope>> =
    LazyLock::new(|| KINDS.iter().filter_map(|kind| Scope::new(kind).ok()).collect());

/// Appends `code`, coloured as `language` if that is known and the budget lasts.
pub(super) fn write(html: &mut String, language: &str, code: &str, budget: &mut Budget) {
    let Some(syntax) = Some(language).filter(|name| !name.is_empty()).and_then(find) else {
        return escape_into(html, code);
    };
    let mut lines = Lines { state: ParseState::new(syntax), stack: ScopeStack::new() };
    let mut rest = code;
    for line in code.split_inclusive('\n') {
        if line.len() > MAX_LINE_BYTES.min(budget.0) || lines.write(html, line).is_none() {
            break;
        }
        budget.0 -= line.len();
        rest = &rest[line.len()..];
    }
    escape_into(html, rest);
}

fn find(language: &str) -> Option<&'static SyntaxReference> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == language).map_or(language, |(_, name)| name);
    SYNTAXES.find_syntax_by_token(name).filter(|syntax| syntax.name != "Plain Text")
}

struct Lines {
    state: ParseState,
    stack: ScopeStack,
}

impl Lines {
    /// Appends one line; `None` when the grammar gives up, with nothing appended.
    fn write(&mut self, html: &mut String, line: &str) -> Option<()> {
        let ops = self.state.parse_line(line, &SYNTAXES).ok()?;
        let mut written = String::with_capacity(line.len() * 2);
        let (mut classes, mut run) = (String::new(), String::new());
        for (text, op) in ScopeRegionIterator::new(&ops, line) {
            self.stack.apply(op).ok()?;
            let now = self.classes();
            if now != classes {
                span(&mut written, &classes, &run);
                (classes, run) = (now, String::new());
            }
            run.push_str(text);
        }
        span(&mut written, &classes, &run);
        html.push_str(&written);
        Some(())
    }

    /// The classes of the innermost scope that means something.
    fn classes(&self) -> String {
        self.stack.as_slice().iter().rev().find_map(|scope| classes_of(*scope)).unwrap_or_default()
    }
}

fn classes_of(scope: Scope) -> Option<String> {
    if !KIND_SCOPES.iter().any(|kind| kind.is_prefix_of(scope)) {
        return None;
    }
    let name = scope.build_string();
    Some(name.split('.').take(3).map(|atom| format!("{PREFIX}{atom}")).collect::<Vec<_>>().join(" "))
}

fn span(html: &mut String, classes: &str, text: &str) {
    if classes.is_empty() || text.trim().is_empty() {
        return escape_into(html, text);
    }
    html.push_str("<span class=\"");
    escape_into(html, classes);
    html.push_str("\">");
    escape_into(html, text);
    html.push_str("</span>");
}
