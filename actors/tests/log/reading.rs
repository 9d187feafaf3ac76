//! What a reader gets.

use std::time::Duration;

use somaagent_actors::bus::Position;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use crate::ground::{
    Ground, Heard, KEYS, PATIENCE, SOON, append, join, new_group, next, nothing_more, read, record, said, say,
};

pub async fn a_new_group_begins_with_the_earliest_record(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    say(&log, &topic, &["oak"], 0, 5).await;
    let mut reader = join(&ground.log(), &new_group(), &topic).await;
    say(&log, &topic, &["oak"], 5, 5).await;
    assert_eq!(read(&mut reader, 10).await.of("oak"), said("oak", 10));
}

pub async fn groups_do_not_share(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    say(&log, &topic, &KEYS, 0, 2).await;
    let (mut one, mut two) = (join(&log, &new_group(), &topic).await, join(&log, &new_group(), &topic).await);
    for reader in [&mut one, &mut two] {
        let heard = read(reader, KEYS.len() * 2).await;
        assert!(KEYS.into_iter().all(|key| heard.of(key) == said(key, 2)));
    }
}

pub async fn an_idle_next_returns_in_time(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let mut reader = join(&log, &new_group(), &topic).await;
    say(&log, &topic, &["oak"], 0, 1).await;
    read(&mut reader, 1).await;
    let begun = Instant::now();
    assert_eq!(reader.next(10, Duration::from_millis(700)).await.unwrap(), None);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(20), "{took:?}");
}

pub async fn records_come_while_a_reader_waits(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let mut reader = join(&log, &new_group(), &topic).await;
    say(&log, &topic, &["oak"], 0, 1).await;
    let mut heard = read(&mut reader, 1).await;
    for n in 1..6 {
        // The reader waits before there is anything, and longer than it should have to.
        let (batch, _) = tokio::join!(reader.next(10, PATIENCE), say(&log, &topic, &["oak"], n, 1));
        heard.add(batch.unwrap().unwrap());
    }
    assert_eq!(heard.of("oak"), said("oak", 6));
}

pub async fn a_batch_has_its_limit_and_one_partition(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let places = say(&log, &topic, &KEYS, 0, 10).await;
    let mut reader = join(&log, &new_group(), &topic).await;
    let mut heard = Heard::default();
    while heard.len() < places.len() {
        let Some(batch) = next(&mut reader, 7, PATIENCE).await else { continue };
        assert!((1..=7).contains(&batch.records.len()));
        let partition = batch.partition;
        assert!(batch.records.windows(2).all(|two| two[0].offset < two[1].offset));
        assert!(batch.records.iter().all(|record| places.contains(&Position { partition, offset: record.offset })));
        heard.add(batch);
    }
    assert!(KEYS.into_iter().all(|key| heard.of(key) == said(key, 10)));
}

pub async fn a_large_backlog_comes_whole_and_in_order(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    for n in 0..20 {
        say(&log, &topic, &KEYS, n * 50, 50).await;
    }
    let heard = read(&mut join(&log, &new_group(), &topic).await, KEYS.len() * 1_000).await;
    for key in KEYS {
        assert_eq!(heard.of(key), said(key, 1_000));
    }
}

pub async fn a_poison_record_holds_up_nobody(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let group = new_group();
    let records =
        vec![record(&topic, "oak", "good"), record(&topic, "oak", "{ no JSON"), record(&topic, "oak", "good")];
    append(&log, records).await;
    let mut reader = join(&log, &group, &topic).await;
    let heard = read(&mut reader, 3).await;
    // Who finds that it cannot use one commits what is before it, then what is behind it.
    let (partition, poison) = (heard.0[1].0, heard.0[1].1.offset);
    reader.commit(Position { partition, offset: poison }).await.unwrap();
    reader.commit(Position { partition, offset: poison + 1 }).await.unwrap();
    reader.leave().await;
    let again = read(&mut join(&log, &group, &topic).await, 1).await;
    assert_eq!(again.of("oak"), ["good"]);
}

pub async fn a_record_knows_when_it_was_appended(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let before = OffsetDateTime::now_utc();
    say(&log, &topic, &["oak"], 0, 2).await;
    let after = OffsetDateTime::now_utc();
    let heard = read(&mut join(&log, &new_group(), &topic).await, 2).await;
    for (_, record) in &heard.0 {
        let (at, slack) = (record.appended_at, Duration::from_millis(2));
        assert!(before - slack <= at && at <= after + slack, "{before} {at} {after}");
    }
}

pub async fn seek_goes_back(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let places = say(&log, &topic, &["oak"], 0, 6).await;
    let mut reader = join(&log, &new_group(), &topic).await;
    read(&mut reader, 6).await;
    for from in [4, 0, 2] {
        reader.seek(places[from]).await.unwrap();
        assert_eq!(read(&mut reader, 6 - from).await.of("oak"), said("oak", 6)[from..]);
        nothing_more(&mut reader).await;
    }
}

pub async fn seek_goes_on_further(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let places = say(&log, &topic, &["oak"], 0, 6).await;
    let mut reader = join(&log, &new_group(), &topic).await;
    while next(&mut reader, 1, PATIENCE).await.is_none() {}
    reader.seek(places[4]).await.unwrap();
    assert_eq!(read(&mut reader, 2).await.of("oak"), said("oak", 6)[4..]);
    // Behind the last record it waits for the next.
    reader.seek(Position { offset: places[5].offset + 1, ..places[5] }).await.unwrap();
    say(&log, &topic, &["oak"], 6, 1).await;
    assert_eq!(read(&mut reader, 1).await.of("oak"), ["oak 6"]);
}

pub async fn seek_forgets_what_was_read_ahead(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let places = say(&log, &topic, &["oak"], 0, 50).await;
    let mut reader = join(&log, &new_group(), &topic).await;
    let deadline = Instant::now() + PATIENCE;
    while next(&mut reader, 3, SOON).await.is_none() {
        assert!(Instant::now() < deadline);
    }
    reader.seek(places[40]).await.unwrap();
    assert_eq!(read(&mut reader, 10).await.of("oak"), said("oak", 50)[40..]);
    nothing_more(&mut reader).await;
}

pub async fn a_next_that_nobody_waited_for_loses_nothing(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let mut reader = join(&log, &new_group(), &topic).await;
    let mut heard = Heard::default();
    for n in 0..10 {
        say(&log, &topic, &["oak"], n * 5, 5).await;
        // Given up at any point of its work.
        if let Ok(batch) = timeout(Duration::from_millis(n as u64 * 3), reader.next(3, PATIENCE)).await {
            heard.add(batch.unwrap().unwrap());
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while heard.len() < 50 {
        assert!(Instant::now() < deadline, "{} of 50 records came", heard.len());
        if let Some(batch) = next(&mut reader, 100, SOON).await {
            heard.add(batch);
        }
    }
    assert_eq!(heard.of("oak"), said("oak", 50));
}
