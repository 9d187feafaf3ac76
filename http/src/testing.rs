//! Doubles for the tests of this crate.
