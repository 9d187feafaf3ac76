//! What the server is compared with: clients that write the same rows without it.

pub mod chunks;
pub mod clamd;
pub mod embedded;
pub mod pgbench;
pub mod rows;
