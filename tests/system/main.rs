//! The built system seen from outside: the binary as a child process, a real PostgreSQL, a scriptable model server and a
//! scriptable SomaBrain on sockets, and proxies between them that cut, stall and spoil.
//!
//! Nothing here uses a crate of the system. Tests wait for conditions, never for lengths of time; schedules left to chance
//! print the seed that plays them again (`SA01_TEST_SEED`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::large_futures,
    clippy::too_many_lines,
    reason = "a test fails by panicking, keeps real time and tells its story in one piece"
)]

mod antivirus;
mod api_keys;
mod attached;
mod attachments;
mod audit;
mod bad_requests;
mod boot;
mod brain_faults;
mod canaries;
mod concurrency;
mod crash;
mod database_faults;
mod database_tls;
mod dead_letters;
mod disturbance;
mod doctor;
mod downloads;
mod embedded;
mod exports;
mod extraction;
#[path = "../extraction/files.rs"]
#[expect(dead_code, reason = "the suite of extraction needs more kinds of files")]
mod files;
mod forged;
mod history;
mod hostile_page;
mod identity;
mod kafka;
mod limits;
mod links;
mod logins;
mod losses;
mod memories;
mod memory_admin;
mod metrics;
mod model_faults;
mod other_sites;
mod policy;
mod public_address;
mod receipts;
mod replica;
mod resume;
mod roles;
mod secrets;
mod sessions;
mod settings;
mod stack;
mod start_stop;
mod stop;
mod subscribers;
mod thumbnails;
mod trail;
mod turn;
mod tus;
mod two_nodes;
mod uploads;
mod verify;
