//! Proves from the sources that the rooms use each other in one direction only: `src → http → actors → supervision`, and
//! inside actors `families → store, bus → domain → nothing`, and `bus → store`. A finding names file and line.
//!
//! The sources are read as tokens, so comments and texts are no arrows and grouped imports are. What only tests compile
//! (`#[cfg(test)]`) may use anything. Each rule has a test that plants what it forbids and expects it to be found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation ends the test")]

mod asvs;
mod migrations;
mod planted;
mod reading;
mod rules;
mod walled;

use reading::{assert_none, manifests, sources};
use rules::{
    CRATES, aborting_profiles, crate_arrows, domain_words, door_arrows, environment_reads, missing_lints, room_arrows,
    started_programs, too_long,
};

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
fn every_crate_has_the_lints_which_forbid_unsafe_code() {
    assert_none(manifests().iter().filter_map(missing_lints));
}

#[test]
fn nothing_starts_another_program() {
    let rooms = ["src", "http/src", "actors/src", "actors/supervision/src"];
    assert_none(rooms.iter().flat_map(|room| sources(room)).flat_map(|file| started_programs(&file)));
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
fn what_is_done_for_a_tenant_sees_this_tenant_only() {
    let files = sources("actors/src/store");
    assert_none(files.iter().flat_map(walled::beside_the_wall));
    assert_eq!(walled::stale(&files), [""; 0], "there is no such function any more");
}

#[test]
fn the_driver_of_the_database_trusts_no_authority_that_nobody_named() {
    let lock = std::fs::read_to_string(reading::root().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let named = |package: &&toml::Value| package["name"].as_str() == Some("webpki-roots");
    let roots: Vec<_> = lock["package"].as_array().unwrap().iter().filter(named).collect();
    // What has a source is not ours, and full of them.
    assert!(roots.len() == 1 && roots[0].get("source").is_none(), "{roots:?}");
    assert!(sources("actors/roots/src")[0].text.contains("TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];"));
}

#[test]
fn no_file_is_too_long_to_read() {
    let rooms = ["src", "http/src", "actors/src", "actors/supervision/src"];
    assert_none(rooms.iter().flat_map(|room| sources(room)).filter_map(|file| too_long(&file)));
}
