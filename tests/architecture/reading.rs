//! Reading manifests and sources: as tokens, so that comments and texts are no arrows and grouped imports are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use toml::{Table, Value};

/// Something that is not allowed, and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

pub(crate) fn assert_none(found: impl IntoIterator<Item = Finding>) {
    let text: Vec<_> = found.into_iter().map(|finding| finding.to_string()).collect();
    assert!(text.is_empty(), "\n{}\n", text.join("\n"));
}

/// A `Cargo.toml`.
pub(crate) struct Manifest {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
    pub(crate) table: Table,
}

impl Manifest {
    pub(crate) fn new(file: impl Into<PathBuf>, text: String) -> Self {
        Self { file: file.into(), table: text.parse().unwrap(), text }
    }

    pub(crate) fn name(&self) -> &str {
        self.table["package"]["name"].as_str().unwrap()
    }

    pub(crate) fn dependencies(&self, table: &str) -> BTreeSet<String> {
        self.table.get(table).and_then(Value::as_table).into_iter().flat_map(Table::keys).cloned().collect()
    }

    /// A finding at the last line that begins with `key`: in the root's manifest dependencies stand below the workspace's.
    pub(crate) fn finding(&self, key: &str, what: String) -> Finding {
        let line =
            self.text.lines().collect::<Vec<_>>().iter().rposition(|line| line.starts_with(key)).unwrap_or(0) + 1;
        Finding { file: self.file.clone(), line, what }
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The manifests of all members of the workspace.
pub(crate) fn manifests() -> Vec<Manifest> {
    let read = |file: PathBuf| Manifest::new(&file, fs::read_to_string(root().join(&file)).unwrap());
    let top = read("Cargo.toml".into());
    let members = top.table["workspace"]["members"].as_array().unwrap().clone();
    let files = members.iter().map(|member| Path::new(member.as_str().unwrap()).join("Cargo.toml"));
    std::iter::once(top).chain(files.map(read)).collect()
}

/// A path in the code: `crate::store::Store` in whatever way it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) names: Vec<String>,
    pub(crate) line: usize,
}

/// A source file.
pub(crate) struct Source {
    pub(crate) file: PathBuf,
    pub(crate) text: String,
    pub(crate) tokens: TokenStream,
}

impl Source {
    pub(crate) fn new(file: impl Into<PathBuf>, text: &str) -> Self {
        let (file, tokens) = (file.into(), text.parse::<TokenStream>());
        let tokens = tokens.unwrap_or_else(|error| unreachable!("{}: {error}", file.display()));
        Self { file, text: text.to_owned(), tokens }
    }

    /// The first part of the path below `src/`: `actors/src/store/turns.rs` is of the room `store`.
    pub(crate) fn room(&self) -> String {
        let below = self.file.iter().skip_while(|part| *part != "src").nth(1).unwrap_or_default();
        Path::new(below).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn used(&self) -> Vec<Used> {
        let mut used = Vec::new();
        collect(self.tokens.clone(), &[], &mut used, &mut Vec::new());
        for path in &mut used {
            self.resolve(path);
        }
        used
    }

    /// `super::…` as a path from the crate's root, so that it cannot climb into another room unseen.
    pub(crate) fn resolve(&self, path: &mut Used) {
        let ups = path.names.iter().take_while(|name| *name == "super").count();
        if ups == 0 {
            return;
        }
        let parts = self.file.iter().skip_while(|part| *part != "src").skip(1);
        let mut module: Vec<_> = parts.map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
        module.retain(|part| !["mod", "lib", "main"].contains(&part.as_str()));
        module.truncate(module.len().saturating_sub(ups));
        let rest = path.names.split_off(ups);
        path.names = std::iter::once("crate".to_owned()).chain(module).chain(rest).collect();
    }

    pub(crate) fn finding(&self, line: usize, what: String) -> Finding {
        Finding { file: self.file.clone(), line, what }
    }
}

/// Collects the paths of `stream`, each behind `prefix`, and the names of modules that only tests compile.
pub(crate) fn collect(stream: TokenStream, prefix: &[String], used: &mut Vec<Used>, test_modules: &mut Vec<String>) {
    let mut tokens = stream.into_iter().peekable();
    let mut path = Used { names: prefix.to_vec(), line: 0 };
    let mut joined = true;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(name) => {
                if !joined {
                    flush(&mut path, prefix, used);
                }
                if path.names.len() == prefix.len() {
                    path.line = name.span().start().line;
                }
                path.names.push(name.to_string());
                joined = false;
            }
            TokenTree::Punct(colon) if colon.as_char() == ':' => {
                let double = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == ':');
                if double {
                    tokens.next();
                    joined = true;
                } else {
                    flush(&mut path, prefix, used);
                }
            }
            TokenTree::Punct(hash) if hash.as_char() == '#' => {
                flush(&mut path, prefix, used);
                if matches!(tokens.peek(), Some(TokenTree::Group(group)) if is_test_only(group)) {
                    skip_item(&mut tokens, test_modules);
                }
                joined = true;
            }
            TokenTree::Group(group) => {
                let grouped = joined && path.names.len() > prefix.len() && group.delimiter() == Delimiter::Brace;
                let inner = if grouped { std::mem::take(&mut path.names) } else { Vec::new() };
                if !grouped {
                    flush(&mut path, prefix, used);
                }
                collect(group.stream(), &inner, used, test_modules);
                path.names = prefix.to_vec();
                joined = true;
            }
            _ => {
                flush(&mut path, prefix, used);
                joined = true;
            }
        }
    }
    flush(&mut path, prefix, used);
}

pub(crate) fn flush(path: &mut Used, prefix: &[String], used: &mut Vec<Used>) {
    if path.names.len() > prefix.len() {
        used.push(Used { names: path.names.clone(), line: path.line });
    }
    path.names = prefix.to_vec();
}

pub(crate) fn is_test_only(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Skips the rest of an item: to the end of its block, or to its semicolon.
pub(crate) fn skip_item(tokens: &mut impl Iterator<Item = TokenTree>, test_modules: &mut Vec<String>) {
    let mut last = String::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Punct(end) if end.as_char() == ';' => {
                test_modules.push(last);
                return;
            }
            token => last = token.to_string(),
        }
    }
}

/// All files of a room, without those that only tests compile.
pub(crate) fn sources(room: &str) -> Vec<Source> {
    let mut files = BTreeMap::new();
    read_folder(Path::new(room), &mut files);
    assert!(!files.is_empty(), "{room} has no sources");
    let mut for_tests = BTreeSet::new();
    for source in files.values() {
        let mut modules = Vec::new();
        collect(source.tokens.clone(), &[], &mut Vec::new(), &mut modules);
        let stem = source.file.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = match stem.as_str() {
            "mod" | "lib" | "main" => source.file.parent().unwrap().to_owned(),
            _ => source.file.with_extension(""),
        };
        for_tests.extend(modules.into_iter().map(|module| folder.join(module)));
    }
    files.retain(|file, _| {
        !for_tests.iter().any(|module| file.starts_with(module) || file.with_extension("") == *module)
    });
    files.into_values().collect()
}

pub(crate) fn read_folder(folder: &Path, files: &mut BTreeMap<PathBuf, Source>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            read_folder(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(entry.path()).unwrap();
            files.insert(path.clone(), Source::new(path, &text));
        }
    }
}

/// `SessionRow` → `session`, `row`.
pub(crate) fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if !c.is_uppercase() => word.push(c),
            _ => words.push(c.to_lowercase().to_string()),
        }
    }
    words
}
