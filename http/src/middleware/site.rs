//! Which hosts are served, and which pages may make a browser speak to the door.
//!
//! Without authentication the door trusts this machine, and a proxy on it may bring in others: what one says to be another
//! machine's is refused, whether it is trusted or not. A browser on this machine runs pages of strangers, so two of their
//! ways in are shut: a page that sends requests here (its `Origin` or `Sec-Fetch-Site` says so), and a page whose own host
//! name was made to point here (its `Host` is not a name of this machine, whatever a proxy's headers say: such a page can
//! write them). With authentication on, tokens decide, and only what relies on a cookie, which a browser adds by itself, must
//! not come from a foreign page; the hosts that are served are those of the settings.

use std::net::IpAddr;

use actix_web::{
    Error, HttpMessage, HttpRequest,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{HeaderMap, HeaderValue, ORIGIN},
    },
    middleware::Next,
    web::Data,
};

use super::refused;
use crate::{
    client::{Client, Scheme, TrustedProxies, own_host},
    problem::{Code, Problem},
    routes::is_probe,
    settings::{DoorSettings, Named},
};

/// Whom the door serves.
pub(crate) struct Site {
    /// Whether nobody has to prove who they are.
    open: bool,
    proxies: TrustedProxies,
    /// The names that are served with authentication; empty: any.
    hosts: Vec<String>,
    /// Origins whose pages may use the door, each by its name.
    friends: Vec<String>,
    /// Whether they may do so by a cookie.
    credentials: bool,
}

impl Site {
    /// A site as `settings` describe it. What of them cannot be read was refused with the configuration, and trusts nobody.
    pub(crate) fn new(settings: &DoorSettings) -> Self {
        let friends = match settings.cors.origins() {
            Ok(Named::These(origins)) => origins,
            _ => Vec::new(),
        };
        Self {
            open: !settings.require_auth,
            proxies: settings.proxies().unwrap_or_default(),
            hosts: settings.hosts(),
            friends,
            credentials: settings.cors.credentials,
        }
    }

    fn admit(&self, request: &ServiceRequest, client: &Client) -> Result<(), Code> {
        let (method, headers, target) = (request.method(), request.headers(), request.uri().host());
        if self.open {
            if !client.is_here(headers) {
                return Err(Code::AddressNotAllowed);
            }
            return admit(method, target, headers, client, self.is_of_friend(headers));
        }
        // Who asks whether the process is well does so by whatever address it has.
        let named = client.host(headers).map(host_name);
        let served = self.hosts.is_empty() || is_probe(request.path()) || named.is_some_and(|name| self.serves(name));
        if served && target.is_none_or(|name| self.hosts.is_empty() || self.serves(name)) {
            Ok(())
        } else {
            Err(Code::Misdirected)
        }
    }

    /// Whether a page sent the request that the settings name.
    fn is_of_friend(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(ORIGIN);
        match (origins.next(), origins.next()) {
            (Some(origin), None) => self.friends.iter().any(|friend| friend.as_bytes() == origin.as_bytes()),
            _ => false,
        }
    }

    fn serves(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
    }
}

/// Finds out where a request comes from, and refuses what is for another host or may be of a foreign page.
pub(crate) async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let Some(site) = request.app_data::<Data<Site>>() else {
        let problem = Problem::new(Code::Internal).caused_by("the door does not know whom it serves");
        return Ok(refused(request, problem).map_into_right_body());
    };
    let client = Client::find(&site.proxies, request.peer_addr(), request.headers());
    let admitted = site.admit(&request, &client);
    request.extensions_mut().insert(client);
    match admitted {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(code) => Ok(refused(request, code.into()).map_into_right_body()),
    }
}

fn admit(
    method: &Method,
    target: Option<&str>,
    headers: &HeaderMap,
    client: &Client,
    of_friend: bool,
) -> Result<(), Code> {
    let host = own_host(headers).ok_or(Code::HostNotAllowed)?;
    let asked = client.host(headers).unwrap_or_default();
    if ![host, asked].into_iter().map(host_name).chain(target).all(is_loopback) {
        return Err(Code::HostNotAllowed);
    }
    if !of_friend && comes_from_elsewhere(method, headers, asked, client.scheme) {
        return Err(Code::OriginNotAllowed);
    }
    Ok(())
}

/// Whether a page that was not served here, and may not use a cookie, may have sent the request. One without `Host`, or with
/// two, is taken for foreign.
pub(crate) fn is_foreign(request: &HttpRequest) -> bool {
    let (client, headers) = (Client::of(request), request.headers());
    let site = request.app_data::<Data<Site>>();
    if site.is_some_and(|site| site.credentials && site.is_of_friend(headers)) {
        return false;
    }
    let host = client.host(headers);
    host.is_none_or(|host| comes_from_elsewhere(request.method(), headers, host, client.scheme))
}

fn comes_from_elsewhere(method: &Method, headers: &HeaderMap, host: &str, scheme: Option<Scheme>) -> bool {
    headers.get_all(ORIGIN).any(|origin| !is_same(origin, host, scheme)) || is_cross_site(method, headers)
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

/// Whether a page of `origin` was served under `host`. Where no trusted proxy says which scheme the client spoke, either will
/// do: one that is not known here may add TLS.
fn is_same(origin: &HeaderValue, host: &str, scheme: Option<Scheme>) -> bool {
    let parts = origin.to_str().ok().and_then(|text| {
        let (scheme, authority) = text.split_once("://")?;
        Some((Scheme::parse(scheme)?, authority))
    });
    parts.is_some_and(|(theirs, authority)| {
        let bare = |text| without_default_port(text, theirs);
        scheme.is_none_or(|ours| ours == theirs) && bare(authority).eq_ignore_ascii_case(bare(host))
    })
}

/// Browsers leave the port of the scheme out; some proxies write it.
fn without_default_port(authority: &str, scheme: Scheme) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port == scheme.default_port() => name,
        _ => authority,
    }
}

/// Whether the browser says that a page of another origin sent the request (Fetch Metadata). Following a link to a page
/// here is allowed: it changes nothing, and the other page cannot read the answer.
fn is_cross_site(method: &Method, headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    let by_link = method == Method::GET && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    is_of_another_page(headers) && !by_link
}

/// Whether the browser says that a page of another origin made it send the request, if only by a link.
pub(crate) fn is_of_another_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    matches!(site, Some("cross-site" | "same-site"))
}

#[cfg(test)]
mod tests {
    use actix_web::{
        http::header::{HOST, HeaderName},
        test::TestRequest,
    };

    use super::*;

    fn admitted(method: &Method, given: &[(&'static str, &'static str)]) -> Result<(), Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        admit(method, None, &headers, &Client::default(), false)
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
        assert_eq!(
            admit(&Method::GET, Some("evil.example"), &headers, &Client::default(), false),
            Err(Code::HostNotAllowed)
        );
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

    #[test]
    fn a_page_is_the_same_by_scheme_name_and_port() {
        for (origin, host, scheme, same) in [
            ("https://soma.example", "soma.example", None, true),
            ("http://soma.example", "soma.example", None, true),
            ("https://soma.example", "SOMA.example:443", Some(Scheme::Https), true),
            ("https://soma.example:443", "soma.example", Some(Scheme::Https), true),
            ("http://soma.example", "soma.example", Some(Scheme::Https), false),
            ("https://soma.example", "soma.example:80", None, false),
            ("https://soma.example:8443", "soma.example", None, false),
            ("https://soma.example.evil.example", "soma.example", None, false),
            ("ftp://soma.example", "soma.example", None, false),
        ] {
            assert_eq!(is_same(&HeaderValue::from_static(origin), host, scheme), same, "{origin} {host} {scheme:?}");
        }
    }

    fn guarded(hosts: &str) -> Site {
        let proxies = "10.0.0.1".to_owned();
        let settings = DoorSettings {
            require_auth: true,
            trusted_proxies: proxies,
            allowed_hosts: hosts.to_owned(),
            ..DoorSettings::default()
        };
        Site::new(&settings)
    }

    fn asked(site: &Site, peer: &str, uri: &str, given: &[(&str, &str)]) -> Result<(), Code> {
        let peer = std::net::SocketAddr::new(peer.parse().unwrap_or_else(|_| unreachable!()), 1);
        let request = given
            .iter()
            .fold(TestRequest::with_uri(uri).peer_addr(peer), |request, header| request.append_header(*header));
        let request = request.to_srv_request();
        site.admit(&request, &Client::find(&site.proxies, request.peer_addr(), request.headers()))
    }

    #[test]
    fn with_authentication_the_hosts_of_the_settings_are_served() {
        let (any, some) = (guarded(""), guarded("soma.example, [2001:db8::1]"));
        let inner = ("host", "10.0.0.9:8010");
        for host in ["soma.example", "SOMA.example:8443", "[2001:db8::1]:80"] {
            assert_eq!(asked(&some, "192.0.2.1", "/v1/sessions", &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "soma.example.evil.example", "localhost", "", "soma.example:x"] {
            assert_eq!(asked(&some, "192.0.2.1", "/", &[("host", host)]), Err(Code::Misdirected), "{host}");
            assert_eq!(asked(&any, "192.0.2.1", "/", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(asked(&some, "192.0.2.1", "/", &[]), Err(Code::Misdirected));
        let twice = [("host", "soma.example"), ("host", "soma.example")];
        assert_eq!(asked(&some, "192.0.2.1", "/", &twice), Err(Code::Misdirected));
        let absolute = "http://evil.example/";
        assert_eq!(asked(&some, "192.0.2.1", absolute, &[("host", "soma.example")]), Err(Code::Misdirected));
        // A proxy's word counts if it is trusted.
        let forwarded = [inner, ("x-forwarded-host", "soma.example")];
        assert_eq!(asked(&some, "10.0.0.1", "/", &forwarded), Ok(()));
        assert_eq!(asked(&some, "192.0.2.1", "/", &forwarded), Err(Code::Misdirected));
        // Probes use addresses.
        assert_eq!(asked(&some, "192.0.2.1", "/readyz", &[inner]), Ok(()));
        assert_eq!(asked(&some, "192.0.2.1", "/readyz/../v1/sessions", &[inner]), Err(Code::Misdirected));
    }

    #[test]
    fn without_authentication_what_may_be_another_machines_is_refused() {
        let host = ("host", "localhost:8010");
        let lists = ["127.0.0.1", "::1", "127.0.0.1, [::1]:4711", "::ffff:127.0.0.1", ""];
        let here = lists.map(|list| ("x-forwarded-for", list)).into_iter().chain([
            ("x-real-ip", "127.0.0.9"),
            ("forwarded", "for=127.0.0.1;proto=https, for=\"[::1]:80\""),
            ("via", "1.1 proxy"),
        ]);
        let lists = ["203.0.113.9", "127.0.0.1, 203.0.113.9", "203.0.113.9, 127.0.0.1", "unknown", "2001:db8::1"];
        let elsewhere = lists.map(|list| ("x-forwarded-for", list)).into_iter().chain([
            ("x-real-ip", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9"),
            ("forwarded", "for=127.0.0.1, for=_hidden"),
            ("forwarded", "proto=https"),
            ("forwarded", "for=\"127.0.0.1"),
        ]);
        let told: Vec<_> = here
            .map(|header| (header, Ok(())))
            .chain(elsewhere.map(|header| (header, Err(Code::AddressNotAllowed))))
            .collect();
        for trusted in ["", "127.0.0.1"] {
            let settings = DoorSettings { trusted_proxies: trusted.to_owned(), ..DoorSettings::default() };
            let site = Site::new(&settings);
            for (header, expected) in &told {
                assert_eq!(asked(&site, "127.0.0.1", "/", &[host, *header]), *expected, "{header:?} {trusted}");
            }
            assert_eq!(asked(&site, "192.0.2.1", "/", &[host]), Err(Code::AddressNotAllowed));
        }
        let nowhere = TestRequest::with_uri("/").append_header(host).to_srv_request();
        let client = Client::find(&TrustedProxies::default(), None, nowhere.headers());
        assert_eq!(Site::new(&DoorSettings::default()).admit(&nowhere, &client), Err(Code::AddressNotAllowed));
    }

    #[test]
    fn without_authentication_no_header_makes_a_foreign_name_ours() {
        let settings = DoorSettings { trusted_proxies: "127.0.0.1".to_owned(), ..DoorSettings::default() };
        let site = Site::new(&settings);
        for given in [
            [("host", "evil.example"), ("x-forwarded-host", "localhost")],
            [("host", "localhost"), ("x-forwarded-host", "evil.example")],
        ] {
            assert_eq!(asked(&site, "127.0.0.1", "/readyz", &given), Err(Code::HostNotAllowed), "{given:?}");
        }
        let both = [("host", "localhost:8010"), ("x-forwarded-host", "127.0.0.1")];
        assert_eq!(asked(&site, "127.0.0.1", "/", &both), Ok(()));
    }
}
