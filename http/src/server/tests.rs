//! The server on real sockets: what is too slow, too large or too long is cut.

use std::future::Future;

use actix_web::web;
use futures_util::{
    future::{Either, join, select},
    stream::pending,
};
use prometheus::{IntGauge, TextEncoder};
use somaagent_actors::{
    conversation::StreamMode,
    policy::{Policy, PolicySettings},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::*;
use crate::{limits::Slot, settings::LimitSettings, sse, testing::dark};

/// Serves with `settings` while `client` works; answers what it found.
async fn served<T, F: Future<Output = T>>(settings: DoorSettings, client: impl FnOnce(SocketAddr) -> F) -> T {
    served_by(Registry::new(), settings, |door| door, client).await
}

/// The same, by a door that was changed and counts in `registry`.
async fn served_by<T, F: Future<Output = T>>(
    registry: Registry,
    settings: DoorSettings,
    change: impl FnOnce(Door) -> Door,
    client: impl FnOnce(SocketAddr) -> F,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| unreachable!("{error}"));
    let settings = DoorSettings { workers: 1, ..settings };
    let serving =
        serve(&settings, change(dark(&registry)), &registry, listener).unwrap_or_else(|error| unreachable!("{error}"));
    let work = timeout(Duration::from_mins(1), client(serving.address));
    match select(Box::pin(work), serving.server).await {
        Either::Left((Ok(found), server)) => {
            drop(server);
            found
        }
        _ => unreachable!("the server ended, or the client got no answer"),
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap_or_else(|error| unreachable!("{error}"))
}

/// Everything the server sends until it closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _closed_or_reset = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn send(stream: &mut TcpStream, text: &str) {
    // The server may have closed already; what it said is what counts.
    let _closed = stream.write_all(text.as_bytes()).await;
}

const HEAD: &str = "POST /v1/session/message HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";

#[actix_web::test]
async fn a_body_that_is_too_large_is_answered_before_the_connection_closes() {
    let answer = served(DoorSettings::default(), async |address| {
        let mut stream = connect(address).await;
        let body = "x".repeat(2 << 20);
        send(&mut stream, &format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len())).await;
        rest(&mut stream).await
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
}

#[actix_web::test]
async fn a_body_without_a_length_is_counted_while_it_is_read() {
    let settings = DoorSettings { body_limit_bytes: 64, ..DoorSettings::default() };
    let answer = served(settings, async |address| {
        let mut stream = connect(address).await;
        let chunk = format!("28\r\n{}\r\n", "x".repeat(40));
        send(
            &mut stream,
            &format!("{HEAD}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"),
        )
        .await;
        rest(&mut stream).await
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[actix_web::test]
async fn a_slow_head_is_cut() {
    let settings = DoorSettings { header_timeout_ms: 100, ..DoorSettings::default() };
    let answer = served(settings, async |address| {
        let mut stream = connect(address).await;
        send(&mut stream, "GET /healthz HTTP/1.1\r\nHost: 127.").await;
        rest(&mut stream).await
    });
    let answer = answer.await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[actix_web::test]
async fn a_slow_body_is_cut() {
    let settings = DoorSettings { body_timeout_ms: 100, ..DoorSettings::default() };
    let answer = served(settings, async |address| {
        let mut stream = connect(address).await;
        send(&mut stream, &format!("{HEAD}Content-Length: 20\r\n\r\n{{\"message\"")).await;
        rest(&mut stream).await
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request-timeout"), "{answer}");
}

#[actix_web::test]
async fn an_idle_connection_is_cut() {
    let settings = DoorSettings { keep_alive_ms: 100, ..DoorSettings::default() };
    let answer = served(settings, async |address| {
        let mut stream = connect(address).await;
        send(&mut stream, "GET /v1/runtime-config HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
        rest(&mut stream).await
    });
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[actix_web::test]
async fn a_reader_of_the_older_protocol_gets_no_chunks() {
    // A reply whose length nobody knows beforehand, for it is compressed on its way.
    let asked = |version: &str, connection: &str| {
        format!(
            "GET /openapi.json HTTP/{version}\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\nConnection: {connection}\r\n\r\n"
        )
    };
    let answers = served(DoorSettings::default(), async move |address| {
        let mut answers = Vec::new();
        for (version, connection) in [("1.0", "keep-alive"), ("1.1", "close")] {
            let mut stream = connect(address).await;
            send(&mut stream, &asked(version, connection)).await;
            answers.push(rest(&mut stream).await.to_lowercase());
        }
        answers
    });
    let [older, newer] = &answers.await[..] else { unreachable!() };
    assert!(older.starts_with("http/1.0 200 ") && !older.contains("keep-alive"), "{older}");
    assert!(older.contains("content-encoding: gzip") && !older.contains("transfer-encoding"), "{older}");
    assert!(newer.contains("transfer-encoding: chunked"), "{newer}");
}

#[actix_web::test]
async fn accepted_sockets_send_at_once_and_give_up_on_a_dead_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| unreachable!("{error}"));
    let address = listener.local_addr().unwrap_or_else(|error| unreachable!("{error}"));
    let stream = connect(address).await;
    tune(&stream, Duration::from_secs(30));
    assert_eq!(stream.nodelay().ok(), Some(true));
    #[cfg(target_os = "linux")]
    assert_eq!(SockRef::from(&stream).tcp_user_timeout().ok(), Some(Some(Duration::from_secs(30))));
}

#[actix_web::test]
async fn requests_are_counted_by_route_and_status() {
    let registry = Registry::new();
    let door = Shared::new(&DoorSettings::default(), dark(&registry), &registry).unwrap_or_else(|_| unreachable!());
    let app = actix_web::test::init_service(app(&door)).await;
    for uri in ["/healthz", "/v1/sessions/7/state", "/nothing/7"] {
        actix_web::test::call_service(&app, crate::testing::request(actix_web::http::Method::GET, uri).to_request())
            .await;
    }
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default();
    for line in [
        r#"http_requests_total{method="GET",route="/healthz",status="200"} 1"#,
        r#"http_requests_total{method="GET",route="/v1/sessions/{session_id}/state",status="404"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"http_requests_total{method="POST",route="/v1/session/message",status="500"} 0"#,
        "http_streams_open 0",
        "http_requests_in_flight 0",
        "http_requests_shed_total 0",
        r#"gateway_rate_limit_results_total{result="limited"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[actix_web::test]
async fn the_end_waits_for_a_request_under_way() {
    let registry = Registry::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| unreachable!("{error}"));
    let serving = serve(&DoorSettings::default(), dark(&registry), &registry, listener)
        .unwrap_or_else(|error| unreachable!("{error}"));
    let address = serving.address;
    let ended = Box::pin(async move {
        let mut stream = connect(address).await;
        send(&mut stream, &format!("{HEAD}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")).await;
        // The server is at it before it is told to end: it asks for the body.
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).await.unwrap_or_else(|error| unreachable!("{error}"));
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        let client = async {
            sleep(Duration::from_millis(100)).await;
            send(&mut stream, "{}").await;
            rest(&mut stream).await
        };
        join(client, serving.stop.stop()).await.0
    });
    let answer = match select(ended, serving.server).await {
        Either::Left((ended, _)) => ended,
        Either::Right((_, ended)) => ended.await,
    };
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
}

#[actix_web::test]
async fn a_full_door_sheds_and_opens_again() {
    let limits = LimitSettings { max_in_flight: 1, ..LimitSettings::default() };
    let settings = DoorSettings { limits, ..DoorSettings::default() };
    // Whoever needs a decision waits for one that says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| unreachable!("{error}"));
    let opa_url = silent.local_addr().ok().map(|address| format!("http://{address}"));
    let opa = PolicySettings { opa_url, opa_timeout_seconds: 60.0, ..PolicySettings::default() };
    let policy = Policy::from_settings(&opa).unwrap_or_else(|error| unreachable!("{error}"));
    let registry = Registry::new();
    let counted = registry.clone();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    let answers = served_by(
        registry,
        settings,
        |door| Door { policy, ..door },
        async move |address| {
            let mut first = connect(address).await;
            send(&mut first, &get("/v1/runtime-config")).await;
            while metric(&counted, "http_requests_in_flight") != Some(1.0) {
                sleep(Duration::from_millis(5)).await;
            }
            let shed = asked(address, &get("/")).await;
            let unread = asked(address, &format!("{HEAD}Connection: close\r\nContent-Length: 2\r\n\r\n")).await;
            let probe = asked(address, &get("/healthz")).await;
            drop(silent);
            let first = rest(&mut first).await;
            [first, shed, unread, probe, asked(address, &get("/")).await]
        },
    );
    let answers = answers.await;
    for (answer, status) in answers.iter().zip(["502", "503", "503", "200", "200"]) {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
    assert!(
        answers[1].contains("overloaded") && answers[1].to_lowercase().contains("retry-after: 1"),
        "{}",
        answers[1]
    );
}

#[actix_web::test]
async fn a_server_that_stops_leaves_no_stream_open() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap_or_else(|error| unreachable!("{error}"));
    let address = listener.local_addr().unwrap_or_else(|error| unreachable!("{error}"));
    let gauge = IntGauge::new("g", "g").unwrap_or_else(|error| unreachable!("{error}"));
    let open = gauge.clone();
    let endless = move || {
        let slot = Slot::of(&open);
        async move { sse::respond(Uuid::nil(), pending(), StreamMode::Full, Duration::from_hours(1), slot) }
    };
    let server = HttpServer::new(move || App::new().route("/", web::get().to(endless.clone())))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap_or_else(|error| unreachable!("{error}"))
        .run();
    let handle = server.handle();
    let reader = Box::pin(async {
        let mut stream = connect(address).await;
        send(&mut stream, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap_or_else(|error| unreachable!("{error}"));
        assert_eq!((&begun[..], gauge.get()), (&b"HTTP/1.1 200"[..], 1));
        handle.stop(false).await;
        rest(&mut stream).await
    });
    let stopped = timeout(Duration::from_mins(1), join(reader, server)).await;
    assert!(stopped.is_ok_and(|(_, ended)| ended.is_ok()));
    let left = timeout(Duration::from_mins(1), async {
        while gauge.get() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(left.await.is_ok(), "{} streams are open", gauge.get());
}

/// Sends this over a connection of its own, which is closed behind the answer; the answer.
async fn asked(address: SocketAddr, text: &str) -> String {
    let mut stream = connect(address).await;
    send(&mut stream, text).await;
    rest(&mut stream).await
}

/// The value of a metric.
fn metric(registry: &Registry, name: &str) -> Option<f64> {
    let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[actix_web::test]
async fn bodies_that_never_come_keep_nobody_out() {
    let limits = LimitSettings { max_in_flight: 1, max_bodies: 4, max_bodies_each: 3, ..LimitSettings::default() };
    let registry = Registry::new();
    let counted = registry.clone();
    let awaited = async move |count: f64| {
        while metric(&counted, "http_bodies_awaited") != Some(count)
            || metric(&counted, "http_requests_in_flight") != Some(0.0)
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let settings = DoorSettings { limits, ..DoorSettings::default() };
    let answers = served_by(
        registry,
        settings,
        |door| door,
        async |address| {
            let mut slow = Vec::new();
            for count in 1..=3_u8 {
                let mut stream = connect(address).await;
                send(&mut stream, &format!("{HEAD}Connection: close\r\nContent-Length: 13\r\n\r\n{{\"mess")).await;
                awaited(count.into()).await;
                slow.push(stream);
            }
            let config = "GET /v1/runtime-config HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
            let other = asked(address, config).await;
            let quick = asked(address, &format!("{HEAD}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}")).await;
            let fourth =
                asked(address, &format!("{HEAD}Connection: close\r\nContent-Length: 13\r\n\r\n{{\"mess")).await;
            // One goes on, one goes away.
            let mut first = slow.remove(0);
            send(&mut first, "age\":1}").await;
            let first = rest(&mut first).await;
            drop(slow.pop());
            awaited(1.0).await;
            [other, quick, fourth, first]
        },
    );
    let [other, quick, fourth, first] = answers.await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    assert!(quick.starts_with("HTTP/1.1 422 "), "a body that is here needs not be waited for: {quick}");
    assert!(fourth.starts_with("HTTP/1.1 429 ") && fourth.contains("too-many-bodies"), "{fourth}");
    assert!(fourth.to_lowercase().contains("retry-after: 1"), "{fourth}");
    assert!(first.starts_with("HTTP/1.1 422 "), "{first}");
}
