//! Proves from the sources that the rooms use each other in one direction only: `src → http → actors → supervision`, and
//! inside actors `families → store, bus → domain → nothing`. A finding names file and line.
//!
//! The sources are read as tokens, so comments and texts are no arrows and grouped imports are. What only tests compile
//! (`#[cfg(test)]`) may use anything. Each rule has a test that plants what it forbids and expects it to be found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use toml::{Table, Value};

/// What each crate of the workspace may depend on; tests may depend on `somaagent-test-services` besides.
const CRATES: &[(&str, &[&str])] = &[
    ("somaagent", &["somaagent-http", "somaagent-actors", "somaagent-supervision"]),
    ("somaagent-http", &["somaagent-actors", "somaagent-supervision"]),
    ("somaagent-actors", &["somaagent-supervision"]),
    ("somaagent-supervision", &[]),
    ("somaagent-test-services", &[]),
    ("somaagent-load", &["somaagent-test-services", "somaagent-supervision", "somaagent-actors"]),
];

/// What a crate must do without: the rooms below it do that work.
const FOREIGN: &[(&str, &[&str])] = &[
    ("somaagent-http", &["sqlx", "reqwest", "rdkafka", "pglite-oxide", "actix"]),
    ("somaagent-actors", &["actix-web", "pglite-oxide", "clap"]),
    ("somaagent-supervision", &["sqlx", "reqwest", "rdkafka", "actix-web", "serde_json", "uuid"]),
];

/// Rooms of `actors` that have no actor and are called as they are.
const CALLED: &[&str] = &["base_url", "llm", "retry"];

/// The only crates that rules without I/O, clock and actors need.
const PURE: &[&str] = &["alloc", "core", "serde", "serde_json", "sha2", "std", "thiserror", "time", "uuid"];

/// Parts of the standard library that do I/O or tell the time.
const IMPURE: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// Words of the domain, which the kernel must not know.
const DOMAIN_WORDS: &[&str] = &[
    "attachment",
    "brain",
    "conversation",
    "conversations",
    "journal",
    "llm",
    "namespace",
    "outbox",
    "persona",
    "replica",
    "session",
    "sessions",
    "somabrain",
    "tenant",
    "tombstone",
    "universe",
];

/// Most lines of a file, tests not counted.
const LINES_MAX: usize = 600;

// The rules on this workspace.

#[test]
fn crates_depend_downwards_only() {
    let manifests = manifests();
    assert!(manifests.len() >= CRATES.len(), "{} manifests", manifests.len());
    assert_none(crate_arrows(&manifests));
}

#[test]
fn no_profile_aborts_on_panic() {
    assert_none(manifests().iter().flat_map(aborting_profiles));
}

#[test]
fn rooms_of_actors_use_each_other_in_one_direction() {
    assert_none(sources("actors/src").iter().flat_map(room_arrows));
}

#[test]
fn the_door_knows_neither_tables_nor_brokers() {
    assert_none(sources("http/src").iter().flat_map(door_arrows));
}

#[test]
fn the_kernel_has_no_word_of_the_domain() {
    assert_none(sources("actors/supervision/src").iter().flat_map(domain_words));
}

#[test]
fn only_the_process_reads_its_environment() {
    let rooms = ["http/src", "actors/src", "actors/supervision/src"];
    assert_none(rooms.iter().flat_map(|room| sources(room)).flat_map(|file| environment_reads(&file)));
}

#[test]
fn no_file_is_too_long_to_read() {
    let rooms = ["src", "http/src", "actors/src", "actors/supervision/src"];
    assert_none(rooms.iter().flat_map(|room| sources(room)).filter_map(|file| too_long(&file)));
}

// The rules.

fn crate_arrows(manifests: &[Manifest]) -> Vec<Finding> {
    let mut found = Vec::new();
    for manifest in manifests {
        let Some((_, allowed)) = CRATES.iter().find(|(name, _)| *name == manifest.name()) else {
            found.push(manifest.finding("name", format!("{} is in no list of arrows", manifest.name())));
            continue;
        };
        let foreign = FOREIGN.iter().find(|(name, _)| *name == manifest.name()).map_or(&[][..], |(_, foreign)| foreign);
        for table in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for name in manifest.dependencies(table) {
                let ours = CRATES.iter().any(|(ours, _)| *ours == name);
                let for_tests = table == "dev-dependencies" && name == "somaagent-test-services";
                if ours && !for_tests && !allowed.contains(&name.as_str()) {
                    found.push(manifest.finding(&name, format!("{} may not depend on {name}", manifest.name())));
                }
                if table == "dependencies" && foreign.contains(&name.as_str()) {
                    found.push(manifest.finding(&name, format!("{} does without {name}", manifest.name())));
                }
            }
        }
    }
    found
}

fn aborting_profiles(manifest: &Manifest) -> Vec<Finding> {
    let profiles = manifest.table.get("profile").and_then(Value::as_table).into_iter().flatten();
    let aborts =
        profiles.filter(|(_, profile)| profile.get("panic").is_some_and(|panic| panic.as_str() != Some("unwind")));
    aborts.map(|(name, _)| manifest.finding("panic", format!("profile {name} ends the process at a panic"))).collect()
}

fn room_arrows(file: &Source) -> Vec<Finding> {
    let room = file.room();
    let inside = |path: &Used| ["crate", "somaagent_actors"].contains(&path.names[0].as_str());
    let mut found = Vec::new();
    for path in file.used() {
        let why = match (room.as_str(), path.names.get(1)) {
            ("lib", _) => None,
            (_, Some(other)) if inside(&path) => (*other != room
                && !may_use(&room, other, path.names.get(2).map(String::as_str)))
            .then(|| format!("{room} may not use {}", path.names.join("::"))),
            ("domain", _) => impure(&path).then(|| format!("domain may not use {}", path.names.join("::"))),
            ("store" | "bus", _) => ["actix", "actix_rt", "somaagent_supervision"]
                .contains(&path.names[0].as_str())
                .then(|| format!("{room} knows no actors")),
            _ => None,
        };
        found.extend(why.map(|why| file.finding(path.line, why)));
    }
    found
}

/// Whether room `of` may use `item` of room `other`; both are rooms of `actors`.
fn may_use(of: &str, other: &str, item: Option<&str>) -> bool {
    match (of, other) {
        ("domain", _) => false,
        (_, "domain") => true,
        ("store" | "bus" | "retry" | "base_url", _) => false,
        (_, "store" | "bus") => true,
        (_, other) if CALLED.contains(&other) => true,
        // A called room has no messages to wait for; it does not call back either.
        (of, _) if CALLED.contains(&of) => false,
        _ => item == Some("messages"),
    }
}

fn impure(path: &Used) -> bool {
    let names: Vec<_> = path.names.iter().map(String::as_str).collect();
    match names.as_slice() {
        // Names of the file itself and of the prelude have no second part or begin with a capital.
        [first, _, ..] if first.starts_with(char::is_lowercase) => match (*first, names[1]) {
            ("crate" | "self" | "super" | "somaagent_actors", _) => false,
            ("std", "time") => names.get(2).is_some_and(|name| ["Instant", "SystemTime"].contains(name)),
            // An address is a value; only what opens one is I/O.
            ("std", "net") => !names.get(2).is_some_and(|name| name.ends_with("Addr")),
            ("std", part) => IMPURE.contains(&part),
            (first, _) => EXTERNAL.contains(&first) && !PURE.contains(&first),
        },
        _ => false,
    }
}

/// Crates that code of `actors` could name, to tell them from modules of the file itself.
const EXTERNAL: &[&str] = &[
    "actix",
    "actix_rt",
    "actix_web",
    "async_stream",
    "backoff",
    "bytes",
    "futures_util",
    "prometheus",
    "rand",
    "rdkafka",
    "reqwest",
    "secrecy",
    "somaagent_supervision",
    "sqlx",
    "tokio",
    "tracing",
];

fn door_arrows(file: &Source) -> Vec<Finding> {
    let low = |path: &Used| {
        let names = (path.names[0].as_str(), path.names.get(1).map(String::as_str));
        matches!(
            names,
            ("sqlx" | "reqwest" | "rdkafka" | "pglite_oxide", _) | ("somaagent_actors", Some("store" | "bus"))
        )
    };
    let used = file.used().into_iter().filter(low);
    used.map(|path| file.finding(path.line, format!("the door may not use {}", path.names.join("::")))).collect()
}

fn environment_reads(file: &Source) -> Vec<Finding> {
    let reads = |path: &Used| {
        let names: Vec<_> = path.names.iter().map(String::as_str).collect();
        matches!(names.as_slice(), ["std", "env", ..] | ["env", "var" | "vars" | "var_os" | "vars_os", ..])
    };
    let used = file.used().into_iter().filter(reads);
    used.map(|path| file.finding(path.line, "only src/ reads the environment".into())).collect()
}

fn domain_words(file: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (line, text) in file.text.lines().enumerate() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).flat_map(camel_words) {
            if DOMAIN_WORDS.contains(&word.as_str()) {
                found.push(file.finding(line + 1, format!("`{word}` is a word of the domain")));
            }
        }
    }
    found
}

fn too_long(file: &Source) -> Option<Finding> {
    let lines = file.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    (lines > LINES_MAX).then(|| file.finding(LINES_MAX, format!("{lines} lines without tests, at most {LINES_MAX}")))
}

// Reading.

/// Something that is not allowed, and where it is.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

fn assert_none(found: impl IntoIterator<Item = Finding>) {
    let text: Vec<_> = found.into_iter().map(|finding| finding.to_string()).collect();
    assert!(text.is_empty(), "\n{}\n", text.join("\n"));
}

/// A `Cargo.toml`.
struct Manifest {
    file: PathBuf,
    text: String,
    table: Table,
}

impl Manifest {
    fn new(file: impl Into<PathBuf>, text: String) -> Self {
        Self { file: file.into(), table: text.parse().unwrap(), text }
    }

    fn name(&self) -> &str {
        self.table["package"]["name"].as_str().unwrap()
    }

    fn dependencies(&self, table: &str) -> BTreeSet<String> {
        self.table.get(table).and_then(Value::as_table).into_iter().flat_map(Table::keys).cloned().collect()
    }

    /// A finding at the last line that begins with `key`: in the root's manifest dependencies stand below the workspace's.
    fn finding(&self, key: &str, what: String) -> Finding {
        let line =
            self.text.lines().collect::<Vec<_>>().iter().rposition(|line| line.starts_with(key)).unwrap_or(0) + 1;
        Finding { file: self.file.clone(), line, what }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The manifests of all members of the workspace.
fn manifests() -> Vec<Manifest> {
    let read = |file: PathBuf| Manifest::new(&file, fs::read_to_string(root().join(&file)).unwrap());
    let top = read("Cargo.toml".into());
    let members = top.table["workspace"]["members"].as_array().unwrap().clone();
    let files = members.iter().map(|member| Path::new(member.as_str().unwrap()).join("Cargo.toml"));
    std::iter::once(top).chain(files.map(read)).collect()
}

/// A path in the code: `crate::store::Store` in whatever way it is written.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    names: Vec<String>,
    line: usize,
}

/// A source file.
struct Source {
    file: PathBuf,
    text: String,
    tokens: TokenStream,
}

impl Source {
    fn new(file: impl Into<PathBuf>, text: &str) -> Self {
        let (file, tokens) = (file.into(), text.parse::<TokenStream>());
        let tokens = tokens.unwrap_or_else(|error| unreachable!("{}: {error}", file.display()));
        Self { file, text: text.to_owned(), tokens }
    }

    /// The first part of the path below `src/`: `actors/src/store/turns.rs` is of the room `store`.
    fn room(&self) -> String {
        let below = self.file.iter().skip_while(|part| *part != "src").nth(1).unwrap_or_default();
        Path::new(below).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn used(&self) -> Vec<Used> {
        let mut used = Vec::new();
        collect(self.tokens.clone(), &[], &mut used, &mut Vec::new());
        for path in &mut used {
            self.resolve(path);
        }
        used
    }

    /// `super::…` as a path from the crate's root, so that it cannot climb into another room unseen.
    fn resolve(&self, path: &mut Used) {
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

    fn finding(&self, line: usize, what: String) -> Finding {
        Finding { file: self.file.clone(), line, what }
    }
}

/// Collects the paths of `stream`, each behind `prefix`, and the names of modules that only tests compile.
fn collect(stream: TokenStream, prefix: &[String], used: &mut Vec<Used>, test_modules: &mut Vec<String>) {
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

fn flush(path: &mut Used, prefix: &[String], used: &mut Vec<Used>) {
    if path.names.len() > prefix.len() {
        used.push(Used { names: path.names.clone(), line: path.line });
    }
    path.names = prefix.to_vec();
}

fn is_test_only(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// Skips the rest of an item: to the end of its block, or to its semicolon.
fn skip_item(tokens: &mut impl Iterator<Item = TokenTree>, test_modules: &mut Vec<String>) {
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
fn sources(room: &str) -> Vec<Source> {
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

fn read_folder(folder: &Path, files: &mut BTreeMap<PathBuf, Source>) {
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
fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if !c.is_uppercase() => word.push(c),
            _ => words.push(c.to_lowercase().to_string()),
        }
    }
    words
}

// The rules find what is planted.

#[test]
fn a_planted_crate_arrow_is_found() {
    let planted =
        "[package]\nname = \"somaagent-http\"\n[dependencies]\nsomaagent = \"1\"\nsqlx = \"1\"\nserde = \"1\"\n";
    let found = crate_arrows(&[Manifest::new("http/Cargo.toml", planted.into())]);
    let lines: Vec<_> = found.iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [4, 5], "{found:?}");
    let stranger = Manifest::new("x/Cargo.toml", "[package]\nname = \"stranger\"\n".into());
    assert_eq!(crate_arrows(&[stranger]).len(), 1);
}

#[test]
fn a_planted_abort_is_found() {
    let planted = "[package]\nname = \"p\"\n[profile.release]\nlto = true\npanic = \"abort\"\n";
    let found = aborting_profiles(&Manifest::new("Cargo.toml", planted.into()));
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [5]);
}

#[test]
fn planted_module_arrows_are_found_in_every_spelling() {
    for (file, code) in [
        ("domain/turn.rs", "fn f() {}\nuse crate::store::Store;"),
        ("domain/turn.rs", "fn f() {}\nfn now() -> u64 { std::time::SystemTime::now() }"),
        ("domain/turn.rs", "fn f() {}\nuse tokio::time::sleep;"),
        ("store/turns.rs", "use crate::domain::turn;\nuse crate::{domain::ids, journal::messages::Commit};"),
        ("store/turns.rs", "use crate::domain::turn;\nuse super::super::conversation::Keeper;"),
        ("store/mod.rs", "// actix\nuse actix::Actor;"),
        (
            "journal/mod.rs",
            "use crate::{store::Store, conversation::messages::Post};\nuse crate::conversation::Keeper;",
        ),
        ("journal/mod.rs", "fn f() {}\nfn g() { let x = vec![crate::conversation::keeper::LIMIT]; }"),
        ("llm/client.rs", "use crate::retry::Retries;\nuse crate::conversation::messages::Post;"),
        ("retry.rs", "use backoff::Backoff;\nuse crate::store::Store;"),
    ] {
        let found = room_arrows(&Source::new(format!("actors/src/{file}"), code));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2], "{file}: {code}: {found:?}");
    }
}

#[test]
fn allowed_arrows_and_tests_are_not_found() {
    for (file, code) in [
        ("domain/turn.rs", "use std::time::Duration; use super::ids::Tenant; use time::OffsetDateTime;"),
        ("store/turns.rs", "use crate::domain::{turn, ids::{Tenant, SessionId}}; use sqlx::PgConnection;"),
        (
            "journal/mod.rs",
            "use actix::Actor; use self::messages::Commit; use crate::conversation::messages::{Post, Stop};",
        ),
        ("journal/mod.rs", "/// See crate::conversation::Keeper\nconst A: &str = \"crate::conversation::Keeper\";"),
        ("domain/turn.rs", "#[cfg(test)]\nmod tests { use crate::store::Store; use tokio::time; }"),
        ("domain/turn.rs", "#[cfg(test)]\nuse crate::store::Store;\nfn f() {}"),
    ] {
        let found = room_arrows(&Source::new(format!("actors/src/{file}"), code));
        assert_eq!(found, [], "{file}: {code}");
    }
}

#[test]
fn planted_sql_in_the_door_is_found() {
    let planted = "use somaagent_actors::domain::ids;\nuse somaagent_actors::{conversation, store::Store};\nfn f() { sqlx::query(\"\") }";
    let found = door_arrows(&Source::new("http/src/routes/x.rs", planted));
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_planted_read_of_the_environment_is_found() {
    let planted = "use std::{env, fmt};\nfn f() { env::var(\"A\"); }\nfn g() { std::env::vars(); }";
    let found = environment_reads(&Source::new("http/src/x.rs", planted));
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_planted_word_of_the_domain_is_found() {
    let planted = "fn supervise() {}\nstruct SessionKeeper;\nfn drop_tenant() {}\n// obsessions";
    let found = domain_words(&Source::new("actors/supervision/src/x.rs", planted));
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_planted_long_file_is_found_and_its_tests_are_not_counted() {
    let code = "fn f() {}\n".repeat(LINES_MAX);
    assert!(too_long(&Source::new("src/x.rs", &format!("{code}#[cfg(test)]\nmod tests {{}}\n"))).is_none());
    assert!(too_long(&Source::new("src/x.rs", &format!("{code}fn g() {{}}\n"))).is_some());
}
