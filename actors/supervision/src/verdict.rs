//! OTP's rules: who is restarted after which end. No actor, no clock.

use crate::{
    error::ExitReason,
    spec::{Restart, Strategy},
};

/// Whether a child that ended for `reason` on its own is restarted.
pub(crate) fn restarts(policy: Restart, reason: &ExitReason) -> bool {
    match policy {
        Restart::Permanent => true,
        Restart::Transient => reason.is_abnormal(),
        Restart::Temporary => false,
    }
}

/// The children stopped and started again with a failed one, or `None` when it is alone. `children`
/// are the supervisor's in start order.
pub(crate) fn group(strategy: Strategy, failed: u64, children: impl Iterator<Item = u64>) -> Option<Vec<u64>> {
    match strategy {
        Strategy::OneForOne => None,
        Strategy::OneForAll => Some(children.collect()),
        Strategy::RestForOne => Some(children.filter(|order| *order >= failed).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_meets_each_exit_reason() {
        let reasons = [
            ExitReason::Normal,
            ExitReason::Shutdown,
            ExitReason::Panicked("x".into()),
            ExitReason::Escalated("x".into()),
        ];
        let table = [
            (Restart::Permanent, [true, true, true, true]),
            (Restart::Transient, [false, false, true, true]),
            (Restart::Temporary, [false, false, false, false]),
        ];
        for (policy, expected) in table {
            for (reason, expected) in reasons.iter().zip(expected) {
                assert_eq!(restarts(policy, reason), expected, "{policy:?} {reason:?}");
            }
        }
    }

    #[test]
    fn each_strategy_picks_its_group() {
        let children = [1, 4, 6, 9];
        let pick = |strategy| group(strategy, 4, children.into_iter());
        assert_eq!(pick(Strategy::OneForOne), None);
        assert_eq!(pick(Strategy::OneForAll), Some(vec![1, 4, 6, 9]));
        assert_eq!(pick(Strategy::RestForOne), Some(vec![4, 6, 9]));
    }
}
