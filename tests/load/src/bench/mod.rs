//! One file a bench.

pub mod accept;
pub mod fanout;
pub mod idle;
pub mod start;
pub mod turn;
