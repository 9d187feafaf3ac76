//! Memory: the client of SomaBrain, a server that remembers for us and speaks HTTP.

pub mod breaker;
