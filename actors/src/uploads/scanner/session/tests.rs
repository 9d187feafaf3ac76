#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::{future::pending, time::Duration};

use super::*;
use crate::uploads::scanner::{
    settings::AntivirusSettings,
    testing::{Double, Line as Other},
};

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_mins(2);
/// What is sure to run out.
const SHORT: Duration = Duration::from_millis(100);

fn limits() -> Limits {
    Limits { connect: LONG, write: LONG, feed: LONG, answer: LONG, ..AntivirusSettings::default().limits() }
}

/// The verdict of a server on these pieces.
async fn judged(double: &Double, limits: Limits, pieces: Vec<Bytes>) -> Result<(Verdict, Option<Session>), ScanError> {
    let session = Session::open(&double.address, limits).await?;
    let (sender, mut receiver) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        sender.try_send(piece).unwrap();
    }
    drop(sender);
    session.scan(&mut receiver).await
}

/// The same where nobody cares for the bytes.
async fn judged_by(play: impl AsyncDouble, limits: Limits) -> Result<Verdict, ScanError> {
    let double = play.start().await;
    judged(&double, limits, vec![Bytes::from_static(b"text")]).await.map(|(verdict, _)| verdict)
}

/// A server that greets, and speaks for itself once a stream begins.
trait AsyncDouble {
    async fn start(self) -> Double;
}

impl<F, T> AsyncDouble for F
where
    F: Fn(Other) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    async fn start(self) -> Double {
        Double::start(move |mut line| {
            let speak = self.clone();
            async move {
                line.begun().await;
                speak(line).await;
            }
        })
        .await
    }
}

fn big(len: usize) -> Bytes {
    (0..=250_u8).cycle().take(len).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn every_byte_arrives_in_its_order_in_pieces_that_clamd_takes() {
    let sent = vec![big(1), big(3 * wire::MAX_PIECE_BYTES as usize + 17), big(70_000)];
    let expected = sent.concat();
    let play = move |mut line: Other| {
        let expected = expected.clone();
        async move {
            let mut whole = Vec::new();
            while let Some(piece) = line.piece().await.filter(|piece| !piece.is_empty()) {
                assert!(piece.len() <= wire::MAX_PIECE_BYTES as usize);
                whole.extend(piece);
            }
            line.answer(if whole == expected { "stream: OK" } else { "stream: Other FOUND" }).await;
        }
    };
    let (verdict, session) = judged(&play.start().await, limits(), sent).await.unwrap();
    assert_eq!(verdict, Verdict::Clean);
    assert!(session.is_some(), "it may be used again");
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let play = |mut line: Other| async move {
        line.stream().await;
        for byte in b"2: stream: Slow FOUND\0" {
            line.say(&[*byte]).await;
            line.stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(judged_by(play, limits()).await, Ok(Verdict::Infected { signature: "Slow".to_owned() }));
}

#[tokio::test]
async fn what_is_no_answer_to_this_scan_is_no_verdict() {
    for answer in [
        &b"1: stream: OK\0"[..],
        b"3: stream: OK\0",
        b"stream: OK\0",
        b"HTTP/1.1 200 OK\0",
        b"\0",
        b"2: stream: O\xff\0",
    ] {
        let play = move |mut line: Other| async move {
            line.stream().await;
            line.say(answer).await;
        };
        let judged = judged_by(play, limits()).await;
        assert!(matches!(judged, Err(ScanError::Protocol(_))), "{judged:?}");
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_for_ever() {
    let play = |mut line: Other| async move {
        line.stream().await;
        loop {
            line.say(&[b'x'; 512]).await;
            if line.stream.write_all(b"x").await.is_err() {
                return;
            }
        }
    };
    let judged = judged_by(play, limits()).await;
    assert!(matches!(&judged, Err(ScanError::Protocol(what)) if what.contains("1024")), "{judged:?}");
}

#[tokio::test]
async fn infected_is_believed_before_the_end_and_clean_is_not() {
    for (answer, is_believed) in [("stream: Early FOUND", true), ("stream: OK", false)] {
        let play = move |mut line: Other| async move {
            line.piece().await;
            line.answer(answer).await;
            pending::<()>().await;
        };
        let double = play.start().await;
        let session = Session::open(&double.address, limits()).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        sender.try_send(big(5)).unwrap();
        // The sender stays: the stream has no end.
        match session.scan(&mut receiver).await {
            Ok((Verdict::Infected { .. }, kept)) => assert!(is_believed && kept.is_none(), "{answer}"),
            Err(ScanError::Protocol(_)) => assert!(!is_believed, "{answer}"),
            other => panic!("{answer}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn an_answer_counts_though_clamd_closes_while_more_is_sent() {
    let play = |mut line: Other| async move {
        line.piece().await;
        line.answer("INSTREAM size limit exceeded. ERROR").await;
        // Unread bytes are left behind, so that the other side is cut off.
    };
    let double = play.start().await;
    let judged =
        judged(&double, limits(), vec![big(4 << 20); 16]).await.map(|(verdict, kept)| (verdict, kept.is_some()));
    let what = "INSTREAM size limit exceeded".to_owned();
    assert_eq!(judged, Ok((Verdict::LimitsExceeded { what }, false)));
}

#[tokio::test]
async fn a_connection_that_ends_has_no_verdict() {
    let before = |mut line: Other| async move { drop(line.piece().await) };
    let after = |mut line: Other| async move { drop(line.stream().await) };
    let within = |mut line: Other| async move {
        line.stream().await;
        line.say(b"2: stream: OK").await;
    };
    for judged in
        [judged_by(before, limits()).await, judged_by(after, limits()).await, judged_by(within, limits()).await]
    {
        assert!(matches!(judged, Err(ScanError::Unavailable(_))), "{judged:?}");
    }
}

#[tokio::test]
async fn every_wait_has_an_end() {
    let silent = |mut line: Other| async move {
        line.stream().await;
        pending::<()>().await;
    };
    let unjudged = judged_by(silent, Limits { answer: SHORT, ..limits() }).await;
    assert_eq!(unjudged, Err(ScanError::TimedOut { step: "come to a verdict", within: SHORT }));

    let deaf = |line: Other| async move {
        let _kept = line;
        pending::<()>().await;
    };
    let double = deaf.start().await;
    let judged = judged(&double, Limits { write: SHORT, ..limits() }, vec![big(4 << 20); 16]).await.map(drop);
    assert_eq!(judged, Err(ScanError::TimedOut { step: "take what it was sent", within: SHORT }));

    let mute = Double::start(|line| async move {
        let _kept = line;
        pending::<()>().await;
    });
    let opened = Session::open(&mute.await.address, Limits { connect: SHORT, ..limits() }).await.map(drop);
    assert_eq!(opened, Err(ScanError::TimedOut { step: "say that it is there", within: SHORT }));
}

#[tokio::test]
async fn an_upload_that_sends_nothing_gives_the_scanner_up() {
    let double = Double::sound().await;
    let session = Session::open(&double.address, Limits { feed: SHORT, ..limits() }).await.unwrap();
    let (sender, mut receiver) = mpsc::channel(1);
    sender.try_send(big(5)).unwrap();
    let judged = session.scan(&mut receiver).await.map(drop);
    assert_eq!(judged, Err(ScanError::Starved { within: SHORT }));
}

#[tokio::test]
async fn another_server_in_its_place_is_told_from_clamd() {
    for greeting in ["HTTP/1.1 400 Bad Request\r\n\0", "2: ClamAV 1.4.6\0", "1: PONG\0", "\0"] {
        let double = Double::start(move |mut line| async move { line.say(greeting.as_bytes()).await });
        let opened = Session::open(&double.await.address, limits()).await.map(drop);
        assert!(matches!(opened, Err(ScanError::Protocol(_))), "{greeting:?}: {opened:?}");
    }
    let nobody = Address { host: "127.0.0.1".to_owned(), port: 1 };
    assert!(matches!(Session::open(&nobody, limits()).await.map(drop), Err(ScanError::Unavailable(_))));
}

#[tokio::test]
async fn a_session_is_used_again_only_where_and_while_clamd_keeps_it() {
    let (double, other) = (Double::sound().await, Double::sound().await);
    let session = Session::open(&double.address, limits()).await.unwrap().again(&double.address).await.unwrap();
    assert_eq!(double.opened(), 1);
    assert!(session.again(&other.address).await.is_none());
    let old = Session::open(&double.address, Limits { idle: Duration::ZERO, ..limits() }).await.unwrap();
    assert!(old.again(&double.address).await.is_none());
    let gone = Session::open(&double.address, limits()).await.unwrap();
    let address = double.address.clone();
    drop(double);
    assert!(gone.again(&address).await.is_none());
}
