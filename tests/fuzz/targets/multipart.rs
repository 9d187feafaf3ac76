//! Forms with files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| somaagent_http::fuzzing::multipart(input));
