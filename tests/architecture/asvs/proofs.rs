//! What a row may name as its proof, and where that is looked for:
//!
//! - `name_of_a_test`: a Rust test, by its name if only one file has it, else as `path/of/file.rs::name_of_a_test`;
//! - `suite.test.js: title`: a test in the browser;
//! - `docs/page.md#heading`: a part of the documentation, where a requirement asks for no more;
//! - `ci: name`: a check of `.ci/run` by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree, token_stream};

use crate::reading::{read_folder, root};

/// Where the Rust sources of the program are, and their tests; what stands in folders of `tests` is looked at too.
const SOURCES: &[&str] =
    &["src", "http/src", "actors/src", "actors/tests", "actors/supervision/src", "actors/supervision/tests"];
const TESTS: &str = "tests";
/// The folder there that has no Rust.
const BROWSER: &str = "browser";
const SUITES: &str = "tests/browser/suites";
const PAGES: &str = "docs";
const CHECKS: &str = ".ci/run";

/// Everything that can be a proof.
#[derive(Default)]
pub(super) struct Proofs {
    /// The files that have a test of the name.
    pub(super) rust: BTreeMap<String, BTreeSet<PathBuf>>,
    /// `suite.test.js: title`.
    pub(super) browser: BTreeSet<String>,
    /// `docs/page.md#heading`.
    pub(super) pages: BTreeSet<String>,
    /// `ci: name`.
    pub(super) checks: BTreeSet<String>,
}

impl Proofs {
    /// What the workspace has.
    pub(super) fn of_workspace() -> Self {
        let mut all = Self::default();
        let mut sources = BTreeMap::new();
        let tests = fs::read_dir(root().join(TESTS)).unwrap().map(Result::unwrap);
        let tests = tests.filter(|entry| entry.file_type().unwrap().is_dir() && entry.file_name() != BROWSER);
        let tests = tests.map(|entry| Path::new(TESTS).join(entry.file_name()));
        for folder in SOURCES.iter().map(PathBuf::from).chain(tests) {
            read_folder(&folder, &mut sources);
        }
        for (file, source) in sources {
            for name in rust_tests(source.tokens) {
                all.rust.entry(name).or_default().insert(file.clone());
            }
        }
        for (name, text) in texts(SUITES, ".test.js") {
            all.browser.extend(browser_tests(&text).into_iter().map(|title| format!("{name}: {title}")));
        }
        for (name, text) in texts(PAGES, ".md") {
            all.pages.extend(headings(&text).into_iter().map(|heading| format!("{PAGES}/{name}#{heading}")));
        }
        all.checks.extend(checks(&fs::read_to_string(root().join(CHECKS)).unwrap()));
        assert!(all.rust.len() > 1000 && all.browser.len() > 50 && !all.pages.is_empty());
        all
    }

    /// Why `name` proves nothing, if it does not. Only a requirement `of_documentation` is met by some.
    pub(super) fn fault(&self, name: &str, of_documentation: bool) -> Option<String> {
        if name.contains(".md#") {
            let why = if of_documentation { "is no heading" } else { "is no test, and more than words is asked for" };
            return (!of_documentation || !self.pages.contains(name)).then(|| why.to_owned());
        }
        if name.starts_with("ci: ") {
            return (!self.checks.contains(name)).then(|| "is no check".to_owned());
        }
        if name.contains(".test.js: ") {
            return (!self.browser.contains(name)).then(|| "is no test of a suite".to_owned());
        }
        let (file, name) = name.split_once("::").map_or((None, name), |(file, name)| (Some(Path::new(file)), name));
        match (self.rust.get(name), file) {
            (None, _) => Some("is no test".to_owned()),
            (Some(files), Some(file)) => (!files.contains(file)).then(|| "is no test of that file".to_owned()),
            (Some(files), None) => (files.len() > 1).then(|| format!("is a test of each of {files:?}")),
        }
    }
}

/// The files of a folder whose names end so, with what is in them.
fn texts(folder: &str, end: &str) -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    named
        .filter(|(name, _)| name.ends_with(end))
        .map(|(name, path)| (name, fs::read_to_string(path).unwrap()))
        .collect()
}

/// The names of the tests in a file: functions with an attribute whose path ends with `test`, of whatever library, which
/// nothing keeps from being run.
pub(super) fn rust_tests(stream: TokenStream) -> Vec<String> {
    let mut found = Vec::new();
    let (mut is_test, mut is_kept_back) = (false, false);
    let mut tokens = stream.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                let name = attribute(&mut tokens);
                is_test |= name.as_deref() == Some("test");
                is_kept_back |= name.as_deref() == Some("ignore");
            }
            TokenTree::Ident(word) if word == "fn" => {
                let name = tokens.next().map(|name| name.to_string());
                found.extend(name.filter(|_| is_test && !is_kept_back));
                (is_test, is_kept_back) = (false, false);
            }
            // What may stand between the attributes and the name.
            TokenTree::Ident(word) if ["pub", "async"].iter().any(|between| word == between) => {}
            TokenTree::Group(group) => {
                found.extend(rust_tests(group.stream()));
                (is_test, is_kept_back) = (false, false);
            }
            _ => (is_test, is_kept_back) = (false, false),
        }
    }
    found
}

/// The last word of the path of the attribute that follows: `test` of `#[sqlx::test(migrations = "…")]`.
fn attribute(tokens: &mut Peekable<token_stream::IntoIter>) -> Option<String> {
    let Some(TokenTree::Group(group)) = tokens.next_if(|next| matches!(next, TokenTree::Group(_))) else { return None };
    let path = group.stream().into_iter().take_while(|part| match part {
        TokenTree::Ident(_) => true,
        TokenTree::Punct(colon) => colon.as_char() == ':',
        _ => false,
    });
    path.filter(|part| matches!(part, TokenTree::Ident(_))).last().map(|word| word.to_string())
}

/// The titles of the tests in a suite, as they are written: each `test('…', …` that begins a line.
pub(super) fn browser_tests(text: &str) -> Vec<String> {
    let mut without_blocks = String::new();
    for (at, part) in text.split("/*").enumerate() {
        without_blocks += if at == 0 { part } else { part.split_once("*/").map_or("", |(_, behind)| behind) };
    }
    let calls = without_blocks.lines().filter_map(|line| line.trim_start().strip_prefix("test("));
    let titles = calls.filter_map(|call| {
        let quote = call.chars().next().filter(|quote| "'\"`".contains(*quote))?;
        let (title, options) = call[1..].split_once(quote)?;
        let is_run = !["skip", "todo"].iter().any(|word| options.contains(word));
        is_run.then(|| title.to_owned())
    });
    titles.collect()
}

/// The headings of a page, as addresses name them.
pub(super) fn headings(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let words = lines.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    words.map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

/// The checks that a script makes: each `check "name" command` that begins a line.
pub(super) fn checks(script: &str) -> Vec<String> {
    let calls = script.lines().filter_map(|line| line.strip_prefix("check \""));
    calls.filter_map(|call| call.split_once("\" ")).map(|(name, _)| format!("ci: {name}")).collect()
}
