//! Which pages may make a browser speak to the door.
//!
//! Without authentication the door trusts this machine. A browser on this machine runs pages of strangers, so two of their
//! ways in are shut: a page that sends requests here (its `Origin` or `Sec-Fetch-Site` says so), and a page whose own host
//! name was made to point here (its `Host` is not a name of this machine). With authentication on,
//! tokens decide, and only what relies on a cookie, which a browser adds by itself, must not come from a foreign page.

use std::net::IpAddr;

use actix_web::{
    Error, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{HOST, HeaderMap, HeaderValue, ORIGIN},
    },
    middleware::Next,
    web::Data,
};

use crate::{
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// Refuses what a foreign page may have sent.
pub(crate) async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let open = request.app_data::<Data<DoorSettings>>().is_none_or(|settings| !settings.require_auth);
    if open && let Err(code) = admit(request.method(), request.uri().host(), request.headers()) {
        let refused = HttpResponse::from_error(Problem::new(code));
        // Not `into_response`, which would forget which problem it was.
        let (request, _) = request.into_parts();
        return Ok(ServiceResponse::new(request, refused).map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

fn admit(method: &Method, target: Option<&str>, headers: &HeaderMap) -> Result<(), Code> {
    let mut hosts = headers.get_all(HOST);
    let host = hosts.next().and_then(|value| value.to_str().ok()).ok_or(Code::HostNotAllowed)?;
    if hosts.next().is_some() || !is_loopback(host_name(host)) || !target.is_none_or(is_loopback) {
        return Err(Code::HostNotAllowed);
    }
    if comes_from_elsewhere(method, headers, host) { Err(Code::OriginNotAllowed) } else { Ok(()) }
}

/// Whether a page that was not served here may have sent the request. One without `Host`, or with two, is taken for foreign.
pub(crate) fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST);
    match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) => comes_from_elsewhere(method, headers, host),
        _ => true,
    }
}

fn comes_from_elsewhere(method: &Method, headers: &HeaderMap, host: &str) -> bool {
    headers.get_all(ORIGIN).any(|origin| !is_same(origin, host)) || is_cross_site(method, headers)
}

/// The host without its port.
fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_loopback(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a page of `origin` was served under `host`. Either scheme will do: a proxy on this machine may add TLS.
fn is_same(origin: &HeaderValue, host: &str) -> bool {
    let authority = origin.to_str().ok().and_then(|text| {
        let plain = text.strip_prefix("http://");
        plain.or_else(|| text.strip_prefix("https://"))
    });
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Whether the browser says that a page of another origin sent the request (Fetch Metadata). Following a link to a page
/// here is allowed: it changes nothing, and the other page cannot read the answer.
fn is_cross_site(method: &Method, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let by_link = method == Method::GET && text("sec-fetch-mode") == "navigate" && text("sec-fetch-dest") == "document";
    matches!(text("sec-fetch-site"), "cross-site" | "same-site") && !by_link
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    fn admitted(method: &Method, given: &[(&'static str, &'static str)]) -> Result<(), Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        admit(method, None, &headers)
    }

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in ["localhost", "LOCALHOST:8010", "127.0.0.1:8010", "127.9.9.9", "[::1]:8010", "[::1]"] {
            assert_eq!(admitted(&Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example:8010",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:8010@evil.example",
            "0.0.0.0:8010",
            "10.0.0.1:8010",
            "[::]:8010",
            "localhost.",
            "",
        ] {
            assert_eq!(admitted(&Method::GET, &[("host", host)]), Err(Code::HostNotAllowed), "{host}");
        }
        assert_eq!(admitted(&Method::GET, &[]), Err(Code::HostNotAllowed));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(admitted(&Method::GET, &twice), Err(Code::HostNotAllowed));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        assert_eq!(admit(&Method::GET, Some("evil.example"), &headers), Err(Code::HostNotAllowed));
    }

    #[test]
    fn a_page_of_another_site_gets_nothing() {
        let host = ("host", "127.0.0.1:8010");
        for origin in ["http://127.0.0.1:8010", "https://127.0.0.1:8010"] {
            assert_eq!(admitted(&Method::POST, &[host, ("origin", origin)]), Ok(()), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "http://127.0.0.1:3000",
            "http://127.0.0.1",
            "http://localhost:8010",
            "null",
            "",
            "file://",
            "http://127.0.0.1:8010.evil.example",
        ] {
            let given = [host, ("origin", origin)];
            assert_eq!(admitted(&Method::POST, &given), Err(Code::OriginNotAllowed), "{origin}");
        }
    }

    #[test]
    fn the_browsers_own_word_counts() {
        let host = ("host", "127.0.0.1:8010");
        let from = |site| ("sec-fetch-site", site);
        let link = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        for site in ["same-origin", "none"] {
            assert_eq!(admitted(&Method::POST, &[host, from(site)]), Ok(()));
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(admitted(&Method::GET, &[host, from(site)]), Err(Code::OriginNotAllowed));
            assert_eq!(admitted(&Method::GET, &[host, from(site), link[0], link[1]]), Ok(()));
            assert_eq!(admitted(&Method::POST, &[host, from(site), link[0], link[1]]), Err(Code::OriginNotAllowed));
            let framed = [host, from(site), link[0], ("sec-fetch-dest", "iframe")];
            assert_eq!(admitted(&Method::GET, &framed), Err(Code::OriginNotAllowed));
        }
    }
}
