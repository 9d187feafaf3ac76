//! How readers share a topic, and where a group goes on.

use std::time::Duration;

use somaagent_actors::bus::{LogError, Position};
use tokio::time::Instant;

use crate::ground::{
    Ground, Heard, KEYS, PARTITIONS, PATIENCE, SOON, commit, join, new_group, next, nothing_more, read, said, say,
    share,
};

pub async fn what_was_not_committed_comes_again(ground: Ground) {
    let (topic, group) = (ground.topic().await, new_group());
    say(&ground.log(), &topic, &KEYS, 0, 3).await;
    for _ in 0..2 {
        // A process that dies: its log goes with it.
        let log = ground.log();
        let mut reader = join(&log, &group, &topic).await;
        let heard = read(&mut reader, KEYS.len() * 3).await;
        assert!(KEYS.into_iter().all(|key| heard.of(key) == said(key, 3)));
    }
}

pub async fn what_was_committed_does_not_come_again(ground: Ground) {
    let (topic, group) = (ground.topic().await, new_group());
    for round in 0..3 {
        let log = ground.log();
        say(&log, &topic, &KEYS, round, 1).await;
        let mut reader = join(&log, &group, &topic).await;
        let heard = read(&mut reader, KEYS.len()).await;
        assert!(KEYS.into_iter().all(|key| heard.of(key) == [format!("{key} {round}")]));
        commit(&mut reader, heard.ends()).await;
        if round == 2 {
            nothing_more(&mut reader).await;
        }
    }
}

pub async fn a_commit_is_of_one_partition(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    say(&log, &topic, &KEYS, 0, 1).await;
    let mut reader = join(&log, &group, &topic).await;
    let heard = read(&mut reader, KEYS.len()).await;
    let committed = heard.ends()[1];
    commit(&mut reader, vec![committed]).await;
    reader.leave().await;
    let left = heard.0.iter().filter(|(partition, _)| *partition != committed.partition).count();
    let mut reader = join(&log, &group, &topic).await;
    assert_eq!(read(&mut reader, left).await.partitions(), [0, 2]);
    nothing_more(&mut reader).await;
}

pub async fn a_commit_may_go_back(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    let places = say(&log, &topic, &["oak"], 0, 4).await;
    let mut reader = join(&log, &group, &topic).await;
    let heard = read(&mut reader, 4).await;
    commit(&mut reader, heard.ends()).await;
    commit(&mut reader, vec![places[2]]).await;
    reader.leave().await;
    assert_eq!(read(&mut join(&log, &group, &topic).await, 2).await.of("oak"), said("oak", 4)[2..]);
}

pub async fn two_readers_share_the_partitions(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    let (mut one, mut two) = (join(&log, &group, &topic).await, join(&ground.log(), &group, &topic).await);
    // Records go on coming until both readers get some, and each partition has one reader.
    let deadline = Instant::now() + PATIENCE;
    for n in 0.. {
        assert!(Instant::now() < deadline, "the partitions were not shared");
        say(&log, &topic, &KEYS, n, 1).await;
        let (mut by_one, mut by_two) = (Heard::default(), Heard::default());
        for (reader, heard) in [(&mut one, &mut by_one), (&mut two, &mut by_two)] {
            while let Some(batch) = next(reader, 100, Duration::from_millis(300)).await {
                heard.add(batch);
            }
        }
        let (ones, twos) = (by_one.partitions(), by_two.partitions());
        let apart = ones.iter().all(|partition| !twos.contains(partition));
        let current = |heard: &Heard, key: &str| heard.of(key) == [format!("{key} {n}")];
        let single = KEYS.into_iter().all(|key| current(&by_one, key) != current(&by_two, key));
        if apart && single && !ones.is_empty() && !twos.is_empty() && ones.len() + twos.len() == 3 {
            return;
        }
        commit_what_is_left(&mut one, &by_one).await;
        commit_what_is_left(&mut two, &by_two).await;
    }
}

/// Commits what was heard where the reader still may.
async fn commit_what_is_left(reader: &mut Box<dyn somaagent_actors::bus::Reader>, heard: &Heard) {
    for end in heard.ends() {
        match reader.commit(end).await {
            Ok(()) | Err(LogError::Lost(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub async fn a_rebalance_in_the_middle_of_a_batch_loses_nothing(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    say(&log, &topic, &KEYS, 0, 4).await;
    let mut one = join(&log, &group, &topic).await;
    let mut all = read(&mut one, KEYS.len() * 4).await;
    // All of it is in hand and nothing committed when another joins.
    let mut two = join(&ground.log(), &group, &topic).await;
    let (more, others) = share(&mut one, &mut two).await;
    let lost = others.partitions();
    all.0.extend(more.0);
    for end in all.ends() {
        let committed = one.commit(end).await;
        assert_eq!(committed.is_ok(), !lost.contains(&end.partition), "{end:?}: {committed:?}");
    }
    // What was in hand of the lost partitions comes to the other, whole and in order.
    let due: Vec<&str> =
        KEYS.into_iter().filter(|key| others.0.iter().any(|(_, record)| record.key.as_deref() == Some(*key))).collect();
    let mut heard = others;
    let deadline = Instant::now() + PATIENCE;
    while due.iter().any(|key| heard.first_of(key) != said(key, 4)) {
        assert!(Instant::now() < deadline, "the rest of the lost partitions did not come");
        if let Some(batch) = next(&mut two, 100, SOON).await {
            heard.add(batch);
        }
    }
}

pub async fn a_reader_that_lost_its_partition_cannot_commit(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    say(&log, &topic, &KEYS, 0, 1).await;
    let mut one = join(&log, &group, &topic).await;
    let heard = read(&mut one, KEYS.len()).await;
    let mut two = join(&ground.log(), &group, &topic).await;
    let (_, others) = share(&mut one, &mut two).await;
    for end in others.ends() {
        let ours = heard.ends().into_iter().find(|ours| ours.partition == end.partition).unwrap();
        assert!(matches!(one.commit(ours).await, Err(LogError::Lost(_))));
        two.commit(end).await.unwrap();
    }
    // Also when it has the partition again: what it has in hand is of the time before.
    let lost = others.partitions()[0];
    two.leave().await;
    say(&log, &topic, &KEYS, 1, 1).await;
    let deadline = Instant::now() + PATIENCE;
    while next(&mut one, 100, SOON).await.is_none_or(|batch| batch.partition != lost) {
        assert!(Instant::now() < deadline, "the partition did not come back");
    }
}

pub async fn a_reader_that_lost_its_partition_cannot_seek_in_it(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    say(&log, &topic, &KEYS, 0, 1).await;
    let mut one = join(&log, &group, &topic).await;
    read(&mut one, KEYS.len()).await;
    let mut two = join(&ground.log(), &group, &topic).await;
    let (_, others) = share(&mut one, &mut two).await;
    let lost = others.partitions()[0];
    let sought = one.seek(Position { partition: lost, offset: 0 }).await;
    assert!(matches!(sought, Err(LogError::Lost(_))), "{sought:?}");
}

pub async fn a_reader_keeps_what_it_still_has(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    say(&log, &topic, &KEYS, 0, 1).await;
    let mut one = join(&log, &group, &topic).await;
    let heard = read(&mut one, KEYS.len()).await;
    let mut two = join(&ground.log(), &group, &topic).await;
    let (more, others) = share(&mut one, &mut two).await;
    // Nothing of the partitions it kept came twice, and it may commit there.
    let kept: Vec<i32> = (0..PARTITIONS).filter(|partition| !others.partitions().contains(partition)).collect();
    assert!(!kept.is_empty() && more.partitions().iter().all(|partition| !kept.contains(partition)));
    for end in heard.ends().into_iter().filter(|end| kept.contains(&end.partition)) {
        one.commit(end).await.unwrap();
    }
}

pub async fn leaving_hands_over_at_once(ground: Ground) {
    let (log, topic, group) = (ground.patient_log(), ground.topic().await, new_group());
    say(&log, &topic, &KEYS, 0, 1).await;
    let mut one = join(&log, &group, &topic).await;
    read(&mut one, KEYS.len()).await;
    one.leave().await;
    read(&mut join(&ground.patient_log(), &group, &topic).await, KEYS.len()).await;
}

pub async fn a_dropped_reader_frees_its_partitions(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    say(&log, &topic, &KEYS, 0, 1).await;
    let mut one = join(&log, &group, &topic).await;
    let mut two = join(&ground.log(), &group, &topic).await;
    read(&mut one, 1).await;
    drop(one);
    let deadline = Instant::now() + PATIENCE;
    let mut heard = Heard::default();
    while heard.partitions() != [0, 1, 2] {
        assert!(Instant::now() < deadline, "some partitions stayed with the dropped reader");
        if let Some(batch) = next(&mut two, 100, SOON).await {
            heard.add(batch);
        }
    }
}

pub async fn a_reader_too_many_waits_for_its_turn(ground: Ground) {
    let (log, topic, group) = (ground.log(), ground.topic().await, new_group());
    let mut readers = Vec::new();
    for _ in 0..=PARTITIONS {
        readers.push(join(&log, &group, &topic).await);
    }
    say(&log, &topic, &KEYS, 0, 1).await;
    // Whoever has no partition gets one when the others are gone.
    let mut heard = Heard::default();
    let deadline = Instant::now() + PATIENCE;
    while heard.partitions() != [0, 1, 2] {
        assert!(Instant::now() < deadline, "not every partition has a reader");
        for reader in &mut readers {
            if let Some(batch) = next(reader, 100, SOON).await {
                heard.add(batch);
            }
        }
    }
    let mut last = readers.pop().unwrap();
    for reader in readers {
        reader.leave().await;
    }
    say(&log, &topic, &KEYS, 1, 1).await;
    let mut heard = Heard::default();
    while KEYS.into_iter().any(|key| heard.of(key).last() != Some(&format!("{key} 1"))) {
        assert!(Instant::now() < deadline, "the last reader did not get everything");
        if let Some(batch) = next(&mut last, 100, SOON).await {
            heard.add(batch);
        }
    }
}

pub async fn one_group_may_read_two_topics(ground: Ground) {
    let (log, group) = (ground.log(), new_group());
    let (first, second) = (ground.topic().await, ground.topic().await);
    say(&log, &first, &["oak"], 0, 3).await;
    say(&log, &second, &["oak"], 3, 3).await;
    let (mut one, mut two) = (join(&log, &group, &first).await, join(&log, &group, &second).await);
    let heard = read(&mut one, 3).await;
    assert_eq!(heard.of("oak"), said("oak", 3));
    commit(&mut one, heard.ends()).await;
    assert_eq!(read(&mut two, 3).await.of("oak"), ["oak 3", "oak 4", "oak 5"]);
}
