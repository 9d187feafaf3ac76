//! The rules find what is planted.

use crate::reading::{Manifest, Source};
use crate::rules::{
    LINES_MAX, aborting_profiles, crate_arrows, domain_words, door_arrows, environment_reads, missing_lints,
    room_arrows, started_programs, too_long,
};

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
fn a_crate_without_lints_is_found() {
    let member = "[package]\nname = \"p\"\n[lints]\nworkspace = true\n";
    let root = |unsafe_code: &str| format!("{member}[workspace.lints.rust]\nunsafe_code = \"{unsafe_code}\"\n");
    let found = |text: &str| missing_lints(&Manifest::new("Cargo.toml", text.into())).is_some();
    assert!(!found(member) && !found(&root("forbid")));
    assert!(found(&root("deny")) && found(&format!("{member}[workspace]\n")));
    assert!(found("[package]\nname = \"p\"\n") && found(&member.replace("true", "false")));
}

#[test]
fn a_planted_program_is_found_in_every_spelling() {
    for code in [
        "fn f() {}\nfn g() { std::process::Command::new(\"sh\"); }",
        "fn f() {}\nuse std::process::Command;",
        "fn f() {}\nuse tokio::{io, process::{Child, Command}};",
        "fn f() {}\nuse std::process::Command as Program;",
    ] {
        let found = started_programs(&Source::new("src/x.rs", code));
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2], "{code}");
    }
    assert_eq!(started_programs(&Source::new("src/x.rs", "use std::process::ExitCode; fn g() { process::id() }")), []);
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
