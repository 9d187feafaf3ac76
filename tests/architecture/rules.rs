//! The rules, each a function from what it looks at to what it finds.

use toml::Value;

use crate::reading::{Finding, Manifest, Source, Used, camel_words};

/// What each crate of the workspace may depend on; tests may depend on `somaagent-test-services` besides.
pub(crate) const CRATES: &[(&str, &[&str])] = &[
    ("somaagent", &["somaagent-http", "somaagent-actors", "somaagent-supervision"]),
    ("somaagent-http", &["somaagent-actors", "somaagent-supervision"]),
    ("somaagent-actors", &["somaagent-supervision"]),
    ("somaagent-supervision", &[]),
    ("somaagent-test-services", &[]),
    ("webpki-roots", &[]),
    ("somaagent-load", &["somaagent-test-services", "somaagent-supervision", "somaagent-actors"]),
];

/// What a crate must do without: the rooms below it do that work.
pub(crate) const FOREIGN: &[(&str, &[&str])] = &[
    ("somaagent-http", &["sqlx", "reqwest", "rdkafka", "pglite-oxide", "actix"]),
    ("somaagent-actors", &["actix-web", "pglite-oxide", "clap"]),
    ("somaagent-supervision", &["sqlx", "reqwest", "rdkafka", "actix-web", "serde_json", "uuid"]),
];

/// Rooms of `actors` that have no actor and are called as they are.
pub(crate) const CALLED: &[&str] =
    &["base_url", "bounded", "breaker", "contents", "extraction", "llm", "policy", "retry", "secret"];

/// The only crates that rules without I/O, clock and actors need.
pub(crate) const PURE: &[&str] =
    &["alloc", "core", "serde", "serde_json", "sha2", "std", "thiserror", "time", "unicode_normalization", "uuid"];

/// Parts of the standard library that do I/O or tell the time.
pub(crate) const IMPURE: &[&str] = &["env", "fs", "io", "net", "os", "process", "thread"];

/// Words of the domain, which the kernel must not know.
pub(crate) const DOMAIN_WORDS: &[&str] = &[
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
pub(crate) const LINES_MAX: usize = 600;

pub(crate) fn crate_arrows(manifests: &[Manifest]) -> Vec<Finding> {
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

pub(crate) fn aborting_profiles(manifest: &Manifest) -> Vec<Finding> {
    let profiles = manifest.table.get("profile").and_then(Value::as_table).into_iter().flatten();
    let aborts =
        profiles.filter(|(_, profile)| profile.get("panic").is_some_and(|panic| panic.as_str() != Some("unwind")));
    aborts.map(|(name, _)| manifest.finding("panic", format!("profile {name} ends the process at a panic"))).collect()
}

/// A manifest whose crate goes without the workspace's lints, or whose workspace does not forbid unsafe code.
pub(crate) fn missing_lints(manifest: &Manifest) -> Option<Finding> {
    let read = |keys: &[&str]| keys.iter().try_fold(&manifest.table, |table, key| table.get(*key)?.as_table());
    let inherits = read(&["lints"]).is_some_and(|lints| lints.get("workspace") == Some(&Value::Boolean(true)));
    let is_root = manifest.table.contains_key("workspace");
    let forbids = || read(&["workspace", "lints", "rust"])?.get("unsafe_code")?.as_str();
    let why = match (inherits, is_root) {
        (false, _) => "is without the lints of the workspace",
        (true, true) if forbids() != Some("forbid") => "does not forbid unsafe code",
        _ => return None,
    };
    Some(manifest.finding("[lints]", format!("{} {why}", manifest.name())))
}

/// The one file that may start a process: this very program, confined.
pub(crate) const STARTS_ITSELF: &str = "actors/src/extraction/process.rs";

/// Uses of what starts another program, in the standard library or another.
pub(crate) fn started_programs(file: &Source) -> Vec<Finding> {
    if file.file.ends_with(STARTS_ITSELF) {
        return Vec::new();
    }
    let starts = |path: &Used| path.names.windows(2).any(|names| names == ["process", "Command"]);
    let used = file.used().into_iter().filter(starts);
    used.map(|path| file.finding(path.line, "nothing starts another program".into())).collect()
}

pub(crate) fn room_arrows(file: &Source) -> Vec<Finding> {
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
pub(crate) fn may_use(of: &str, other: &str, item: Option<&str>) -> bool {
    match (of, other) {
        ("domain", _) => false,
        // One form of the log is tables, hence the store.
        (_, "domain") | ("bus", "store") => true,
        ("store" | "bus" | "retry" | "base_url" | "bounded" | "breaker", _) => false,
        (_, "store" | "bus") => true,
        // What is saved becomes what uploads are held to.
        ("settings", "uploads") => item == Some("rules"),
        (_, other) if CALLED.contains(&other) => true,
        // A called room has no messages to wait for; it does not call back either.
        (of, _) if CALLED.contains(&of) => false,
        _ => item == Some("messages"),
    }
}

pub(crate) fn impure(path: &Used) -> bool {
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
pub(crate) const EXTERNAL: &[&str] = &[
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
    "regorus",
    "reqwest",
    "secrecy",
    "somaagent_supervision",
    "sqlx",
    "tokio",
    "tracing",
    "unicode_normalization",
];

pub(crate) fn door_arrows(file: &Source) -> Vec<Finding> {
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

pub(crate) fn environment_reads(file: &Source) -> Vec<Finding> {
    let reads = |path: &Used| {
        let names: Vec<_> = path.names.iter().map(String::as_str).collect();
        matches!(names.as_slice(), ["std", "env", ..] | ["env", "var" | "vars" | "var_os" | "vars_os", ..])
    };
    let used = file.used().into_iter().filter(reads);
    used.map(|path| file.finding(path.line, "only src/ reads the environment".into())).collect()
}

pub(crate) fn domain_words(file: &Source) -> Vec<Finding> {
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

pub(crate) fn too_long(file: &Source) -> Option<Finding> {
    let lines = file.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    (lines > LINES_MAX).then(|| file.finding(LINES_MAX, format!("{lines} lines without tests, at most {LINES_MAX}")))
}
