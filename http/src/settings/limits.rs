//! How much callers may ask for.

use serde::Deserialize;

/// The section `limits` of the configuration. What has a pace fills steadily, and a pace of 0 switches it off.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Whether requests are counted by identity, or by address where there is none.
    pub enabled: bool,
    /// How many of them a second, in the long run.
    pub rps: f64,
    /// How many at once.
    pub burst: u32,
    /// How many requests a second each operation takes of those who look after the system, together.
    pub admin_rps: f64,
    /// How many at once; 0 is taken for 1.
    pub admin_burst: u32,
    /// How often a second one address may fail to prove who it is.
    pub failure_rps: f64,
    /// How often at once.
    pub failure_burst: u32,
    /// Requests under way at a time, without probes, open streams and those that wait for their bodies.
    pub max_in_flight: usize,
    /// Requests at a time whose bodies have not come yet; 0: no limit.
    pub max_bodies: usize,
    /// Those of one identity, or of one address where there is none; 0: no limit.
    pub max_bodies_each: usize,
    /// Event streams open at a time; 0: no limit.
    pub max_streams: usize,
    /// Those of one identity; 0: no limit.
    pub max_streams_each: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            rps: 50.0,
            burst: 100,
            admin_rps: 0.0,
            admin_burst: 10,
            failure_rps: 1.0,
            failure_burst: 200,
            max_in_flight: 4_096,
            max_bodies: 512,
            max_bodies_each: 32,
            max_streams: 50_000,
            max_streams_each: 100,
        }
    }
}
