//! Adding times that callers choose.

use std::time::Duration;

use tokio::time::Instant;

/// Longer than any process runs, short enough for every clock.
const AGES: Duration = Duration::from_hours(30 * 365 * 24);

/// `within` after `from`. [`Duration::MAX`] means never and must not overflow.
pub(crate) fn deadline(from: Instant, within: Duration) -> Instant {
    from + within.min(AGES)
}
