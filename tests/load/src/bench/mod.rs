//! One file a bench.

pub mod accept;
pub mod export;
pub mod fanout;
pub mod idle;
pub mod start;
pub mod turn;
