//! One file a bench.

pub mod accept;
pub mod auth;
pub mod brain;
pub mod export;
pub mod fanout;
pub mod idle;
pub mod relay;
pub mod replicate;
pub mod start;
pub mod turn;
pub mod upload;
