//! What becomes of a record.

use serde_json::json;
use somaagent_actors::bus::{LogError, MAX_RECORD_BYTES, Record};

use crate::ground::{Ground, KEYS, append, join, new_group, nothing_more, read, record, said, say};

pub async fn records_of_a_key_keep_their_order(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    say(&log, &topic, &KEYS, 0, 20).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, KEYS.len() * 20).await;
    for key in KEYS {
        assert_eq!(heard.of(key), said(key, 20));
    }
}

pub async fn records_of_a_key_stay_in_one_partition(ground: Ground) {
    let (one, two, topic) = (ground.log(), ground.log(), ground.topic().await);
    let mut places = say(&one, &topic, &["oak"], 0, 3).await;
    places.extend(say(&two, &topic, &["oak"], 3, 3).await);
    places.extend(say(&one, &topic, &["oak"], 6, 3).await);
    assert!(places.windows(2).all(|two| two[0].partition == two[1].partition && two[0].offset < two[1].offset));
}

pub async fn a_position_is_where_the_record_is(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let places = say(&log, &topic, &KEYS, 0, 1).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, KEYS.len()).await;
    for (key, place) in KEYS.iter().zip(places) {
        let found = heard.0.iter().find(|(partition, record)| {
            (*partition, record.offset) == (place.partition, place.offset) && record.key.as_deref() == Some(key)
        });
        assert!(found.is_some(), "{key} is not at {place:?}");
    }
    assert_eq!(heard.partitions(), [0, 1, 2]);
}

pub async fn headers_and_keys_are_kept(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let headers = json!({"tenant_id": "public", "schema": "", "event_type": "häufig \u{1f333}"});
    let said = Record { headers: headers.clone(), ..record(&topic, "oak", "{}") };
    append(&log, vec![said, record(&topic, "oak", "{}")]).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, 2).await;
    assert_eq!((heard.0[0].1.key.as_deref(), &heard.0[0].1.headers), (Some("oak"), &headers));
    assert_eq!(heard.0[1].1.headers, json!({}));
}

pub async fn an_empty_payload_is_kept(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    append(&log, vec![record(&topic, "oak", ""), record(&topic, "oak", "after it")]).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, 2).await;
    assert_eq!(heard.of("oak"), ["", "after it"]);
}

pub async fn an_empty_key_is_a_key(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    say(&log, &topic, &[""], 0, 10).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, 10).await;
    assert_eq!(heard.of(""), said("", 10));
}

pub async fn keys_of_any_script_are_kept(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let wordy = "k".repeat(1_000);
    let keys = ["дуб", "橡树", "بلوط", "\u{1f333}/\"'\\%", " ", &wordy];
    say(&log, &topic, &keys, 0, 2).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, keys.len() * 2).await;
    for key in keys {
        assert_eq!(heard.of(key), said(key, 2));
    }
}

pub async fn bytes_that_are_no_text_are_kept(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let bytes: Vec<u8> = (0..=255).rev().collect();
    append(&log, vec![record(&topic, "oak", bytes.clone())]).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, 1).await;
    assert_eq!(heard.0[0].1.payload, bytes);
}

pub async fn a_record_that_is_too_large_is_refused_alone(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let large = record(&topic, "oak", vec![b' '; MAX_RECORD_BYTES + 1]);
    let results = log.append(vec![record(&topic, "oak", "oak 0"), large, record(&topic, "oak", "oak 1")]).await;
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    let Err(LogError::Refused(reason)) = &results[1] else { panic!("{results:?}") };
    assert!(reason.contains(&MAX_RECORD_BYTES.to_string()), "{reason}");
    let heard = read(&mut join(&log, &new_group(), &topic).await, 2).await;
    assert_eq!(heard.of("oak"), said("oak", 2));
}

pub async fn the_largest_record_is_taken(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let large = record(&topic, "oak", vec![b'x'; MAX_RECORD_BYTES]);
    append(&log, vec![record(&topic, "oak", "first"), large, record(&topic, "oak", "last")]).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, 3).await;
    let sizes: Vec<_> = heard.0.iter().map(|(_, record)| record.payload.len()).collect();
    assert_eq!(sizes, [5, MAX_RECORD_BYTES, 4]);
}

pub async fn nothing_appended_is_nothing_done(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    assert!(log.append(vec![]).await.is_empty());
    nothing_more(&mut join(&log, &new_group(), &topic).await).await;
}

pub async fn one_append_may_have_many_topics(ground: Ground) {
    let log = ground.log();
    let mut topics = Vec::new();
    for _ in 0..5 {
        topics.push(ground.topic().await);
    }
    let records = (0..4).flat_map(|n| topics.iter().map(move |topic| record(topic, "oak", format!("oak {n}"))));
    append(&log, records.collect()).await;
    for topic in &topics {
        let heard = read(&mut join(&log, &new_group(), topic).await, 4).await;
        assert_eq!(heard.of("oak"), said("oak", 4));
    }
}

pub async fn appends_at_the_same_time_lose_nothing(ground: Ground) {
    let (log, topic) = (ground.log(), ground.topic().await);
    let writers: Vec<_> = KEYS
        .into_iter()
        .map(|key| {
            let (log, topic) = (log.clone(), topic.clone());
            tokio::spawn(async move {
                for n in 0..10 {
                    say(&log, &topic, &[key], n, 1).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let heard = read(&mut join(&log, &new_group(), &topic).await, KEYS.len() * 10).await;
    for key in KEYS {
        assert_eq!(heard.of(key), said(key, 10));
    }
}
