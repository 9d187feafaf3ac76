//! What clients of tus write into heads.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| somaagent_http::fuzzing::tus(text));
