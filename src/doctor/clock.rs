//! Whether a clock elsewhere agrees with this machine's.

use std::time::Duration;

use time::OffsetDateTime;

use super::finding::Notes;

/// Difference that nobody feels, if tokens allow as much.
const TOLERANCE: Duration = Duration::from_secs(2);

/// A clock that was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// Whose it is.
    pub(super) whose: &'a str,
    /// When it was asked, by this machine's clock.
    pub(super) before: OffsetDateTime,
    /// When the answer was there.
    pub(super) after: OffsetDateTime,
    /// What it showed.
    pub(super) shown: OffsetDateTime,
    /// To what it is rounded down.
    pub(super) steps: Duration,
}

/// Compares it, given how much clocks may differ before a token is refused.
pub(super) fn compare(notes: &Notes, asked: Asked<'_>, leeway_seconds: u64) {
    let half_step = asked.steps.as_secs_f64() / 2.0;
    let half_way = (asked.after - asked.before).as_seconds_f64() / 2.0;
    let skew = (asked.shown - asked.before).as_seconds_f64() + half_step - half_way;
    // Nobody knows when on the way of question and answer the clock was read.
    let unsure = half_step + half_way.max(0.0);
    let sure = (skew.abs() - unsure).max(0.0);
    let leeway = Duration::from_secs(leeway_seconds);
    let tolerance = TOLERANCE.min(leeway);
    let direction = if skew >= 0.0 { "ahead of" } else { "behind" };
    let seen = format!(
        "the clock of {} is {:.1} s {direction} this machine's (give or take {unsure:.1} s; {} s are tolerated, tokens bear {leeway_seconds} s)",
        asked.whose,
        skew.abs(),
        tolerance.as_secs(),
    );
    let advice = "have both clocks set by NTP (chrony, systemd-timesyncd); beyond GATEWAY_JWT_LEEWAY new tokens are not valid yet, or old ones still are";
    if sure <= tolerance.as_secs_f64() {
        notes.ok("clock", seen);
    } else if sure <= leeway.as_secs_f64() {
        notes.warning("clock", seen, advice);
    } else {
        notes.fault("clock", seen, advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn only_what_is_sure_counts() {
        for (ahead_ms, took_ms, leeway, severity) in [
            (0, 0, 10, Severity::Ok),
            (-900, 0, 10, Severity::Ok),
            (1_900, 0, 10, Severity::Ok),
            (3_100, 0, 10, Severity::Warning),
            (-4_000, 0, 10, Severity::Warning),
            (-4_000, 8_000, 10, Severity::Ok),
            (12_000, 0, 10, Severity::Fault),
            (-3_600_000, 10, 10, Severity::Fault),
            (3_000, 0, 0, Severity::Fault),
        ] {
            let before = OffsetDateTime::UNIX_EPOCH;
            let notes = Notes::of("clock");
            let shown = before + time::Duration::milliseconds(ahead_ms + took_ms / 2);
            let after = before + time::Duration::milliseconds(took_ms);
            compare(&notes, Asked { whose: "it", before, after, shown, steps: Duration::from_secs(1) }, leeway);
            let found = notes.into_findings();
            assert_eq!(found[0].severity, severity, "{ahead_ms} {took_ms} {leeway}: {found:?}");
        }
    }
}
