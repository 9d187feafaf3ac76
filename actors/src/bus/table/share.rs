//! Which partitions a member of a group takes and gives back.

use uuid::Uuid;

use crate::store::event_log_groups::GroupPartition;

/// What changes for a member.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Partitions that are its own from now on.
    pub taken: Vec<i32>,
    /// Partitions that are nobody's from now on.
    pub given_back: Vec<i32>,
}

/// Decides for the member `me`, one of `living` (the oldest first). It keeps what it has up to its share and gives back
/// what is above it; only what is nobody's or a dead member's is taken. Shares differ by one at most, and the oldest
/// members have the larger ones, so that somebody new moves nothing between the others.
pub fn change(me: Uuid, living: &[Uuid], partitions: &[GroupPartition]) -> Change {
    let Some(rank) = living.iter().position(|member| *member == me) else { return Change::default() };
    let share = partitions.len() / living.len() + usize::from(rank < partitions.len() % living.len());
    let of = |has: &dyn Fn(Option<Uuid>) -> bool| -> Vec<i32> {
        partitions.iter().filter(|place| has(place.owner)).map(|place| place.partition).collect()
    };
    let mut mine = of(&|owner| owner == Some(me));
    let free = of(&|owner| owner.is_none_or(|owner| !living.contains(&owner)));
    let taken = free.into_iter().take(share.saturating_sub(mine.len())).collect();
    Change { taken, given_back: mine.split_off(share.min(mine.len())) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn partitions(owners: &[u128]) -> Vec<GroupPartition> {
        let place = |(number, owner): (i32, &u128)| GroupPartition {
            partition: number,
            next_offset: 0,
            owner: (*owner > 0).then(|| id(*owner)),
            epoch: 0,
        };
        (0..).zip(owners).map(place).collect()
    }

    #[test]
    fn a_member_takes_what_is_free_and_gives_back_what_is_above_its_share() {
        for (me, living, owners, taken, given_back) in [
            (1, &[1][..], &[0, 0, 0][..], &[0, 1, 2][..], &[][..]),
            (1, &[1, 2], &[1, 1, 1], &[], &[2]),
            (2, &[1, 2], &[1, 1, 1], &[], &[]),
            (2, &[1, 2], &[1, 1, 0], &[2], &[]),
            // The owner of the last one is dead.
            (2, &[1, 2], &[1, 1, 9], &[2], &[]),
            (4, &[1, 2, 3, 4], &[1, 2, 3], &[], &[]),
            (9, &[1, 2], &[9, 0, 0], &[], &[]),
        ] {
            let living: Vec<Uuid> = living.iter().map(|number| id(*number)).collect();
            let expected = Change { taken: taken.to_vec(), given_back: given_back.to_vec() };
            assert_eq!(change(id(me), &living, &partitions(owners)), expected, "{me} of {owners:?}");
        }
    }

    proptest! {
        #[test]
        fn after_two_rounds_every_partition_has_one_living_owner_and_shares_differ_by_one(
            owners in prop::collection::vec(0_u128..8, 1..12),
            members in 1_u128..6,
        ) {
            let living: Vec<Uuid> = (1..=members).map(id).collect();
            let mut partitions = partitions(&owners);
            for me in living.iter().chain(&living) {
                let Change { taken, given_back } = change(*me, &living, &partitions);
                for place in &mut partitions {
                    if taken.contains(&place.partition) {
                        place.owner = Some(*me);
                    } else if given_back.contains(&place.partition) {
                        place.owner = None;
                    }
                }
            }
            let mut shares: BTreeMap<Uuid, usize> = living.iter().map(|member| (*member, 0)).collect();
            for place in &partitions {
                let Some(share) = place.owner.and_then(|owner| shares.get_mut(&owner)) else {
                    return Err(TestCaseError::fail(format!("{partitions:?}")));
                };
                *share += 1;
            }
            let (least, most) = (shares.values().min(), shares.values().max());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{shares:?}");
        }
    }
}
