#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use actix_web::http::header::{HeaderName, HeaderValue};

use super::*;

const TRUSTED: &str = "10.0.0.0/8, 192.168.7.7,fd00::/8";

fn found(kind: ProxyHeaders, peer: &str, given: &[(&'static str, &str)]) -> Client {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let trusted = TrustedProxies::parse(TRUSTED, kind).unwrap();
    Client::find(&trusted, Some(SocketAddr::new(peer.parse().unwrap(), 4711)), &headers)
}

fn address(kind: ProxyHeaders, peer: &str, given: &[(&'static str, &str)]) -> String {
    found(kind, peer, given).address.unwrap().to_string()
}

#[test]
fn the_client_is_the_nearest_address_that_is_not_trusted() {
    for (peer, list, client) in [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:4711", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::1]:80", "2001:db8::1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2,192.168.7.7", "203.0.113.9"),
        // What is farther away than somebody who is not trusted is that one's invention.
        ("10.0.0.1", "10.0.0.5, 198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "127.0.0.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        // What cannot be read ends the walk.
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.999, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.9,\u{e9}", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9;10.0.0.2", "10.0.0.1"),
    ] {
        assert_eq!(address(ProxyHeaders::XForwarded, peer, &[("x-forwarded-for", list)]), client, "{peer}: {list}");
    }
    let twice = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.9, 10.0.0.2")];
    assert_eq!(address(ProxyHeaders::XForwarded, "10.0.0.1", &twice), "203.0.113.9");
}

#[test]
fn only_the_headers_that_the_proxies_write_are_read() {
    let both = [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=198.51.100.1;host=evil.example;proto=https"),
        ("x-real-ip", "192.0.2.1"),
    ];
    let by_x = found(ProxyHeaders::XForwarded, "10.0.0.1", &both);
    assert_eq!((by_x.address, by_x.scheme), ("203.0.113.9".parse().ok(), None));
    assert_eq!(by_x.host(&HeaderMap::new()), None);
    assert_eq!(address(ProxyHeaders::Forwarded, "10.0.0.1", &both), "198.51.100.1");
}

#[test]
fn the_standard_header_is_read_with_its_quotations() {
    for (text, client) in [
        ("for=203.0.113.9", "203.0.113.9"),
        ("For=\"203.0.113.9:4711\";proto=http;by=10.0.0.1", "203.0.113.9"),
        ("for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
        ("for=203.0.113.9, for=10.0.0.2;by=\"_a,b;for=9.9.9.9\"", "203.0.113.9"),
        ("for=10.0.0.5, for=203.0.113.9", "203.0.113.9"),
        ("for=\"203.0.113\\.9\"", "203.0.113.9"),
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("for=203.0.113.9;for=198.51.100.1", "10.0.0.1"),
        ("for=203.0.113.9;host=\"a", "10.0.0.1"),
        ("for=\"203.0.113.9\"x", "10.0.0.1"),
        ("203.0.113.9", "10.0.0.1"),
        ("for =203.0.113.9", "10.0.0.1"),
        ("", "10.0.0.1"),
    ] {
        assert_eq!(address(ProxyHeaders::Forwarded, "10.0.0.1", &[("forwarded", text)]), client, "{text}");
    }
}

#[test]
fn scheme_and_host_are_a_trusted_proxys_word_or_nobodys() {
    let told = |kind, peer, given: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("inner:8010"));
        let client = found(kind, peer, given);
        (client.scheme, client.host(&headers).map(str::to_owned))
    };
    let inner = Some("inner:8010".to_owned());
    let outer = Some("soma.example".to_owned());
    let x = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "http, HTTPS"),
        ("x-forwarded-host", "evil.example, soma.example"),
    ];
    assert_eq!(told(ProxyHeaders::XForwarded, "203.0.113.1", &x), (None, inner.clone()));
    assert_eq!(told(ProxyHeaders::XForwarded, "10.0.0.1", &x), (Some(Scheme::Https), outer.clone()));
    assert_eq!(told(ProxyHeaders::XForwarded, "10.0.0.1", &x[1..]), (Some(Scheme::Https), outer.clone()));
    let rubbish = [("x-forwarded-proto", "javascript"), ("x-forwarded-host", "")];
    assert_eq!(told(ProxyHeaders::XForwarded, "10.0.0.1", &rubbish), (None, inner.clone()));
    // The outermost trusted proxy knows how the client came; what the client says of itself is farther away.
    let chain = "for=1.1.1.1;proto=http;host=evil.example, for=203.0.113.9;proto=https;host=soma.example, for=10.0.0.2;proto=http;host=inner";
    let standard = [("forwarded", chain)];
    assert_eq!(told(ProxyHeaders::Forwarded, "10.0.0.1", &standard), (Some(Scheme::Https), outer));
    assert_eq!(told(ProxyHeaders::Forwarded, "203.0.113.1", &standard), (None, inner));
}

#[test]
fn a_request_that_names_two_hosts_names_none() {
    let mut headers = HeaderMap::new();
    assert_eq!(own_host(&headers), None);
    headers.append(HOST, HeaderValue::from_static("a"));
    assert_eq!(own_host(&headers), Some("a"));
    headers.append(HOST, HeaderValue::from_static("b"));
    assert_eq!(own_host(&headers), None);
}

#[test]
fn a_list_of_proxies_that_cannot_be_meant_is_refused() {
    for list in ["proxy.example", "10.0.0.0/33", "10.0.0.1;10.0.0.2", "0.0.0.0/0", "::/0"] {
        assert!(TrustedProxies::parse(list, ProxyHeaders::XForwarded).is_err(), "{list}");
    }
    assert!(!TrustedProxies::parse("", ProxyHeaders::XForwarded).unwrap().has("127.0.0.1".parse().unwrap()));
}
