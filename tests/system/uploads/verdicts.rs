//! What a real clamd finds in files that are sent, and what follows from it.

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use reqwest::{Body, Method};
use serde_json::json;
use somaagent_test_services::clamd::{Clamd, EICAR, eicar, eicar_in_a_zip};
use somaagent_test_services::wait::eventually;

use super::{Form, content_type, noise, upload};
use crate::stack::{Setup, Stack};

/// A system whose operator has had nothing scanned so far.
async fn unscanned(clamd: &Clamd) -> Stack {
    let (host, port) = clamd.place();
    let setup = Setup::default().set("CLAMAV_HOST", host).set("CLAMAV_PORT", port);
    setup.set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000).start().await
}

/// What has files scanned from the beginning.
pub fn scanning(clamd: &Clamd) -> Setup {
    let (host, port) = clamd.place();
    Setup::default().set("CLAMAV_ENABLED", "true").set("CLAMAV_HOST", host).set("CLAMAV_PORT", port)
}

/// Saves fields of the section `antivirus`.
async fn save(stack: &Stack, fields: &[(&str, serde_json::Value)]) {
    let fields: Vec<_> = fields.iter().map(|(id, value)| json!({"id": id, "value": value})).collect();
    let body = json!({"sections": [{"id": "antivirus", "fields": fields}]});
    let answer = stack.client.post("/v1/ui/settings/sections", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn what_is_infected_is_quarantined_and_neither_sent_nor_referred_to() {
    let clamd = Clamd::start(&[]).unwrap();
    let stack = unscanned(&clamd).await;
    let infected = || Form::default().file("a.txt", "text/plain", &eicar());
    assert_eq!(upload(&stack.client, infected()).await.json()[0]["status"], "clean", "nobody looked");

    save(&stack, &[("av_enabled", json!(true))]).await;
    let form = infected().file("a.zip", "application/zip", &eicar_in_a_zip()).file(
        "b.bin",
        "application/octet-stream",
        &noise(700_000, 7),
    );
    let kept = upload(&stack.client, form).await;
    assert_eq!(kept.status, 200, "{}", kept.text);
    let found: Vec<_> = kept.json().as_array().unwrap().iter().map(|file| file["status"].clone()).collect();
    assert_eq!(found, ["quarantined", "quarantined", "clean"]);
    assert_eq!(kept.json()[0]["quarantine_reason"], "infected");
    let pool = stack.database.pool().await.unwrap();
    let threats = "SELECT count(*) FROM attachments WHERE threat = $1 AND scanned_at IS NOT NULL";
    let threats: i64 = sqlx::query_scalar(threats).bind(EICAR).fetch_one(&pool).await.unwrap();
    assert_eq!(threats, 3, "the one that was let in unseen has the same bytes");

    let path = |place: usize| kept.json()[place]["path"].as_str().unwrap().to_owned();
    let refused = stack.client.get(&path(0)).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "attachment-quarantined"));
    assert_eq!(stack.client.get(&path(2)).await.unwrap().status, 200);
    for (place, status) in [(1, 422), (2, 200)] {
        let message = json!({"message": "look", "attachments": [path(place)]});
        let answer = stack.client.post("/v1/session/message", &message).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}

#[tokio::test]
async fn what_is_found_in_bytes_counts_for_all_who_have_them_and_for_whoever_sends_them_again() {
    let clamd = Clamd::start(&[]).unwrap();
    let (host, port) = clamd.place();
    let setup = Setup::default().set("CLAMAV_HOST", host).set("CLAMAV_PORT", port);
    let setup = setup.set("SA01_UPLOADS__DEDUP_SHA256", "true").set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000);
    let stack = setup.start().await;
    let pool = stack.database.pool().await.unwrap();
    let infected = || Form::default().file("a.txt", "text/plain", &eicar());
    let (first, second) = (upload(&stack.client, infected()).await, upload(&stack.client, infected()).await);
    assert_eq!((&first.json()[0]["status"], &second.json()[0]["status"]), (&json!("clean"), &json!("clean")));
    assert_eq!(super::counts(&pool).await, (2, 1, 0));
    save(&stack, &[("av_enabled", json!(true))]).await;
    let path = |answer: &somaagent_test_services::client::Answer| answer.json()[0]["path"].as_str().unwrap().to_owned();
    let judged = stack.client.post(&format!("{}/scan", path(&first)), &json!(null)).await.unwrap();
    assert_eq!(judged.status, 200, "{}", judged.text);
    save(&stack, &[("av_enabled", json!(false))]).await;
    // Nobody looks any more, but what was found is known.
    let third = upload(&stack.client, infected()).await;
    assert_eq!((third.status, &third.json()[0]["quarantine_reason"]), (200, &json!("infected")), "{}", third.text);
    for path in [path(&first), path(&second), path(&third)] {
        assert_eq!(stack.client.get(&path).await.unwrap().code(), "attachment-quarantined");
    }
    assert_eq!(super::counts(&pool).await, (3, 1, 0));
}

#[tokio::test]
async fn without_clamd_files_are_quarantined_or_where_that_is_strict_refused_and_not_kept() {
    let clamd = Clamd::start(&[]).unwrap();
    let stack = unscanned(&clamd).await;
    save(&stack, &[("av_enabled", json!(true))]).await;
    clamd.kill().unwrap();
    let form = || Form::default().file("a.txt", "text/plain", b"tea");
    let kept = upload(&stack.client, form()).await;
    assert_eq!((kept.status, &kept.json()[0]["quarantine_reason"]), (200, &json!("av_error")), "{}", kept.text);

    save(&stack, &[("av_strict", json!(true))]).await;
    let refused = upload(&stack.client, form()).await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "antivirus-error"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    let pool = stack.database.pool().await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM attachments").fetch_one(&pool).await.unwrap();
    assert_eq!(kept, 1, "the one that was quarantined");

    clamd.restart().unwrap();
    eventually("it is looked through again", async || {
        (upload(&stack.client, form()).await.json()[0]["status"] == "clean").then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_hundred_files_at_once_are_each_judged_by_what_is_in_them() {
    let clamd = Clamd::start(&[]).unwrap();
    let setup = scanning(&clamd).set("SA01_ANTIVIRUS__SCANNERS", 10).set("SA01_ANTIVIRUS__OPEN_TIMEOUT_MS", 120_000);
    let stack = setup.set("GATEWAY_MAX_BODIES_EACH", 0).start().await;
    let infected = |number: u64| number.is_multiple_of(3);
    let sent = (0..200).map(|number| {
        let mut file = noise(1_000 + usize::try_from(number).unwrap() * 997, number + 1);
        if infected(number) {
            file.extend(eicar());
        }
        let stack = &stack;
        async move { upload(&stack.client, Form::default().file("a.bin", "a/b", &file)).await }
    });
    for (number, answer) in (0..).zip(join_all(sent).await) {
        assert_eq!(answer.status, 200, "{number}: {}", answer.text);
        let (status, reason) =
            if infected(number) { ("quarantined", json!("infected")) } else { ("clean", json!(null)) };
        let file = &answer.json()[0];
        assert_eq!((&file["status"], &file["quarantine_reason"]), (&json!(status), &reason), "{number}");
    }
}

#[tokio::test]
async fn what_is_behind_ninety_megabytes_is_found_and_what_clamd_does_not_look_through_is_not_let_pass() {
    let clamd = Clamd::start(&[]).unwrap();
    let setup = scanning(&clamd).set("GATEWAY_UPLOAD_MAX_MB", 120).set("SA01_UPLOADS__INLINE_MAX_MB", 120);
    let stack = setup.set("SA01_UPLOADS__QUARANTINE_POLICY", "drop_bytes_keep_meta").start().await;
    let pool = stack.database.pool().await.unwrap();
    let mut file = noise(90 << 20, 1);
    file.extend(eicar());
    let found = upload(&stack.client, Form::default().file("large.bin", "a/b", &file)).await;
    assert_eq!((found.status, &found.json()[0]["quarantine_reason"]), (200, &json!("infected")), "{}", found.text);
    // clamd takes 100 MiB.
    let long = noise(101 << 20, 2);
    let passed = upload(&stack.client, Form::default().file("longer.bin", "a/b", &long)).await;
    assert_eq!((passed.status, &passed.json()[0]["quarantine_reason"]), (200, &json!("limits_exceeded")));
    eventually("only what they were is kept", async || {
        let sql = "SELECT count(*) FROM attachment_chunks";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
    assert_eq!(super::counts(&pool).await.0, 2);
}

#[tokio::test]
async fn a_clamd_that_stands_still_while_a_file_comes_has_it_quarantined() {
    let clamd = Clamd::start(&[]).unwrap();
    // Long enough for a clamd that works, on a machine that has much else to do.
    let setup = scanning(&clamd);
    let setup = setup.set("SA01_ANTIVIRUS__WRITE_TIMEOUT_MS", 3000).set("SA01_ANTIVIRUS__ANSWER_TIMEOUT_MS", 3000);
    let stack = setup.start().await;
    // Its connection is open when it stops.
    let file = || Form::default().file("a.bin", "a/b", &noise(5_000_000, 3));
    assert_eq!(upload(&stack.client, file()).await.json()[0]["status"], "clean");
    clamd.freeze().unwrap();
    let kept = upload(&stack.client, file()).await;
    assert_eq!((kept.status, &kept.json()[0]["quarantine_reason"]), (200, &json!("av_error")), "{}", kept.text);
    clamd.thaw().unwrap();
    eventually("it is looked through again", async || {
        (upload(&stack.client, file()).await.json()[0]["status"] == "clean").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_sender_keeps_no_scanner_from_others_and_is_looked_through_too() {
    let clamd = Clamd::start(&[]).unwrap();
    let setup = scanning(&clamd).set("SA01_ANTIVIRUS__SCANNERS", 1).set("SA01_ANTIVIRUS__FEED_TIMEOUT_MS", 200);
    let stack = setup.start().await;
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let mut slow = Form::default().file("slow.bin", "a/b", &[noise(300_000, 4), eicar()].concat()).end();
    let rest = slow.split_off(200_000);
    let body = stream::once(async move { Ok::<_, std::io::Error>(slow) })
        .chain(stream::once(async move { wait.await.map(|()| rest).map_err(std::io::Error::other) }));
    let request = stack.client.request(Method::POST, "/v1/uploads").header("Content-Type", content_type());
    let slow = stack.client.send(request.body(Body::wrap_stream(body)));
    let others = async {
        // The one scanner is given back before the slow file has come.
        for number in 0..3 {
            let file = Form::default().file("a.bin", "a/b", &noise(500_000, number + 10));
            assert_eq!(upload(&stack.client, file).await.json()[0]["status"], "clean", "{number}");
        }
        go_on.send(()).unwrap();
    };
    let (slow, ()) = tokio::join!(slow, others);
    let slow = slow.unwrap();
    assert_eq!((slow.status, &slow.json()[0]["quarantine_reason"]), (200, &json!("infected")), "{}", slow.text);
}
