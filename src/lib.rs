//! The process: reads the configuration, starts every room in order, waits for the end, and stops them in reverse.

pub mod config;
pub mod data_dir;
pub mod database;
pub mod embedded;
pub mod telemetry;
