#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use somaagent_test_services::papers::Papers;
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

use super::{
    addresses::{Networks, Reach, is_open},
    fetching::{External, Fetched, Patience},
    place::Place,
    resolving::Lookup,
    *,
};
use crate::loopback::{Play, Server};

const PATIENCE: Patience =
    Patience { connect: Duration::from_secs(10), silence: Duration::from_secs(20), whole: Duration::from_secs(40) };

const NOT_LISTED: &str = "files are not fetched from this host";
const NOT_HERE: &str = "files are fetched by https, from names and at the usual port only";
const CLOSED: &str = "files are not fetched from where this host is";

fn list(hosts: &[&str]) -> Vec<String> {
    hosts.iter().map(|host| (*host).to_owned()).collect()
}

fn networks(text: &str) -> Networks {
    Networks::parse(text).unwrap()
}

/// What is said of a URL, or which host is asked, and whether every open address of it will do.
fn read(url: &str, hosts: &[&str], nets: &str) -> String {
    match Place::read(url, &list(hosts), &networks(nets)) {
        Ok(place) if place.reach == Reach::Open => place.host,
        Ok(place) => format!("{} in the networks", place.host),
        Err(error) => error.to_string(),
    }
}

/// Addresses are listed here, too: it is not the list that keeps them out.
const LISTED: &[&str] = &[
    "files.example",
    ".cdn.example",
    "xn--bcher-kva.example",
    "localhost",
    "metadata.google.internal",
    "127.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "169.254.169.254",
    "8.8.8.8",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[fd00:ec2::254]",
];

const SPACES: &str = "the URL must not hold spaces, control characters or backslashes";
const NONE: &str = "the URL is none";
const SCHEME: &str = "the URL must start with https:// and a host";
const NAMED: &str = "the URL must not hold a user name or password";

/// URLs, and what is said of them.
const URLS: &[(&str, &str)] = &[
    ("https://files.example/a", "files.example"),
    ("HTTPS://FILES.EXAMPLE/a?b=c#d", "files.example"),
    ("https://files.example:443/a", "files.example"),
    ("https://files.example./a", "files.example"),
    ("https://ｆｉｌｅｓ.example/a", "files.example"),
    ("https://files。example/a", "files.example"),
    ("https://files%2Eexample/a", "files.example"),
    ("https://bücher.example/a", "xn--bcher-kva.example"),
    ("https://a.b.cdn.example/", "a.b.cdn.example"),
    ("https://files.example/@evil.example", "files.example"),
    ("https://localhost/", "localhost"),
    ("https://localhost./", "localhost"),
    // Names that only look like one of the list.
    ("https://files.example.evil/", NOT_LISTED),
    ("https://evil-files.example/", NOT_LISTED),
    ("https://evilcdn.example/", NOT_LISTED),
    ("https://cdn.example/", NOT_LISTED),
    ("https://a.files.example/", NOT_LISTED),
    ("https://filеs.example/", NOT_LISTED),
    ("https://xn--fils-43d.example/", NOT_LISTED),
    ("https://evil.example/files.example", NOT_LISTED),
    ("https://evil.example?files.example", NOT_LISTED),
    ("https://evil.example#@files.example/", NOT_LISTED),
    ("https://evil.example/#@files.example", NOT_LISTED),
    ("https://evil.example?@files.example", NOT_LISTED),
    ("https://files.example%00.evil/", NONE),
    ("https://files.example%20.evil/", NONE),
    ("https://files.example../", "the URL has no host"),
    // Somebody else's words before the host.
    ("https://files.example@evil.example/", NAMED),
    ("https://files.example:pass@evil.example/", NAMED),
    ("https://evil.example@files.example/", NAMED),
    ("https://@files.example/", NAMED),
    ("https://:@files.example/", NAMED),
    ("https://files.example:443@169.254.169.254/", NAMED),
    // What is left out by some who read it, and not by others.
    ("https://evil.example\\@files.example/", SPACES),
    ("https:\\\\files.example/", SPACES),
    ("https://files.example\\.evil.example/", SPACES),
    ("https://files.example\t/", SPACES),
    ("https://fi\nles.example/", SPACES),
    ("https://files.example/a b", SPACES),
    (" https://files.example/", SPACES),
    ("https://files.example/\r\nHost: evil.example", SPACES),
    ("https://files.example\u{2028}/", SPACES),
    ("https://files.example/\u{0}", SPACES),
    ("https://files.example\u{3000}/", SPACES),
    // Other schemes, or none.
    ("gopher://files.example/_x", SCHEME),
    ("file:///etc/passwd", SCHEME),
    ("file://files.example/etc/passwd", SCHEME),
    ("ftp://files.example/a", SCHEME),
    ("data:text/plain,tea", SCHEME),
    ("javascript:alert(1)", SCHEME),
    ("blob:https://files.example/1", SCHEME),
    ("dict://files.example:11211/stat", SCHEME),
    ("unix:///run/docker.sock", SCHEME),
    ("jar:https://files.example!/", SCHEME),
    ("https:files.example", SCHEME),
    ("https:/files.example", SCHEME),
    ("https:///files.example", SCHEME),
    ("//files.example/a", NONE),
    ("files.example", NONE),
    ("", NONE),
    ("https://", NONE),
    ("https://#", NONE),
    // Other ports and no TLS.
    ("http://files.example/", NOT_HERE),
    ("http://files.example:443/", NOT_HERE),
    ("https://files.example:80/", NOT_HERE),
    ("https://files.example:22/", NOT_HERE),
    ("https://files.example:8443/", NOT_HERE),
    ("https://files.example:0/", NOT_HERE),
    ("https://files.example:65536/", NONE),
    ("https://files.example:-1/", NONE),
    ("https://files.example:443:22/", NONE),
    // Addresses, however they are written.
    ("https://127.0.0.1/", NOT_HERE),
    ("https://127.0.0.1./", NOT_HERE),
    ("https://127.1/", NOT_HERE),
    ("https://127.0.1/", NOT_HERE),
    ("https://2130706433/", NOT_HERE),
    ("https://0x7f000001/", NOT_HERE),
    ("https://0x7f.1/", NOT_HERE),
    ("https://0x7f.0x0.0x0.0x1/", NOT_HERE),
    ("https://017700000001/", NOT_HERE),
    ("https://0177.0.0.1/", NOT_HERE),
    ("https://0177.0.0.01/", NOT_HERE),
    ("https://127.0.0.0x1/", NOT_HERE),
    ("https://１２７.０.０.１/", NOT_HERE),
    ("https://①②⑦.⓪.⓪.①/", NOT_HERE),
    ("https://127。0。0。1/", NOT_HERE),
    ("https://%31%32%37.0.0.1/", NOT_HERE),
    ("https://0/", NOT_HERE),
    ("https://0.0.0.0/", NOT_HERE),
    ("https://10.1/", NOT_HERE),
    ("https://169.254.169.254/latest/meta-data/", NOT_HERE),
    ("https://0xa9fea9fe/", NOT_HERE),
    ("https://2852039166/", NOT_HERE),
    ("https://0251.0376.0251.0376/", NOT_HERE),
    ("https://8.8.8.8/", NOT_HERE),
    ("https://[::1]/", NOT_HERE),
    ("https://[0:0:0:0:0:0:0:1]/", NOT_HERE),
    ("https://[::]/", NOT_HERE),
    ("https://[::ffff:127.0.0.1]/", NOT_HERE),
    ("https://[::ffff:7f00:1]/", NOT_HERE),
    ("https://[::127.0.0.1]/", NOT_HERE),
    ("https://[64:ff9b::127.0.0.1]/", NOT_HERE),
    ("https://[fd00:ec2::254]/", NOT_HERE),
    ("https://256.0.0.1/", NONE),
    ("https://127.0.0.1.1/", NONE),
    ("https://4294967296/", NONE),
    ("https://[fe80::1%25eth0]/", NONE),
    ("https://[fe80::1%eth0]/", NONE),
    ("https://[::1/", NONE),
    ("https://1.2.3.4.nip.io/", NOT_LISTED),
];

#[test]
fn of_every_url_is_judged_what_will_be_asked() {
    for (url, expected) in URLS {
        assert_eq!(read(url, LISTED, ""), *expected, "{url:?}");
    }
    let long = format!("https://files.example/{}", "a".repeat(4096));
    assert_eq!(read(&long, LISTED, ""), "the URL is too long");
    assert_eq!(read("https://files.example/", &[], ""), NOT_LISTED, "no list is no host");
    for entry in ["", ".", "..", "example", ".files.example", "files"] {
        assert_eq!(read("https://files.example/", &[entry], ""), NOT_LISTED, "{entry:?}");
    }
    assert_eq!(read("https://10.0.0.1/", &[".0.1", ".1"], "10.0.0.0/8"), NOT_LISTED, "an address is below no name");
}

#[test]
fn in_an_operators_networks_addresses_ports_and_http_are_let_in() {
    let nets = "127.0.0.0/8, fd00::/8";
    for (url, expected) in [
        ("http://127.0.0.1:8080/a", "127.0.0.1 in the networks"),
        ("http://2130706433/a", "127.0.0.1 in the networks"),
        ("https://[fd00:ec2::254]/", "[fd00:ec2::254] in the networks"),
        ("http://files.example/", "files.example in the networks"),
        ("https://files.example:8443/", "files.example in the networks"),
        ("https://files.example/", "files.example"),
        ("http://127.0.0.2/", NOT_LISTED),
        ("http://10.0.0.1/", NOT_HERE),
        ("https://8.8.8.8/", NOT_HERE),
        ("https://169.254.169.254/", NOT_HERE),
        ("http://[::1]/", NOT_HERE),
        ("http://[::ffff:127.0.0.1]/", NOT_HERE),
    ] {
        assert_eq!(read(url, LISTED, nets), expected, "{url}");
    }
    for bad in ["10.0.0.0/33", "files.example", "0.0.0.0/0", "::/0", "10.0.0.0-10.1.0.0"] {
        assert!(Networks::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn only_what_everybody_can_reach_is_open() {
    for (address, expected) in [
        ("8.8.8.8", true),
        ("1.1.1.1", true),
        ("9.255.255.255", true),
        ("11.0.0.0", true),
        ("100.63.255.255", true),
        ("100.128.0.0", true),
        ("172.15.255.255", true),
        ("172.32.0.0", true),
        ("192.0.1.0", true),
        ("223.255.255.255", true),
        ("0.0.0.0", false),
        ("0.1.2.3", false),
        ("10.0.0.0", false),
        ("10.255.255.255", false),
        ("100.64.0.0", false),
        ("100.100.100.200", false),
        ("100.127.255.255", false),
        ("127.0.0.1", false),
        ("127.255.255.254", false),
        ("168.63.129.16", false),
        ("169.254.169.254", false),
        ("169.254.170.2", false),
        ("172.16.0.0", false),
        ("172.31.255.255", false),
        ("192.0.0.192", false),
        ("192.0.2.1", false),
        ("192.88.99.1", false),
        ("192.168.255.255", false),
        ("198.18.0.0", false),
        ("198.19.255.255", false),
        ("198.51.100.1", false),
        ("203.0.113.1", false),
        ("224.0.0.1", false),
        ("239.255.255.255", false),
        ("240.0.0.0", false),
        ("255.255.255.255", false),
        ("2606:4700:4700::1111", true),
        ("2a00:1450:4001::", true),
        ("64:ff9b::808:808", true),
        ("::", false),
        ("::1", false),
        ("::8.8.8.8", false),
        ("::ffff:8.8.8.8", false),
        ("::ffff:127.0.0.1", false),
        ("64:ff9b::7f00:1", false),
        ("64:ff9b::169.254.169.254", false),
        ("64:ff9b::10.0.0.1", false),
        ("64:ff9b:1::808:808", false),
        ("100::1", false),
        ("2001::808:808", false),
        ("2001:10::1", false),
        ("2001:db8::1", false),
        ("2002:7f00:1::", false),
        ("2002:808:808::1", false),
        ("3fff::1", false),
        ("5f00::1", false),
        ("fc00::1", false),
        ("fd00:ec2::254", false),
        ("fe80::1", false),
        ("fec0::1", false),
        ("ff02::1", false),
        ("ffff::1", false),
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(is_open(address), expected, "{address}");
        assert_eq!(networks("").allow(Reach::Open, address), expected, "{address}");
        assert!(!networks("").allow(Reach::Networks, address), "{address}");
        assert!(networks(&address.to_string()).allow(Reach::Networks, address), "{address}");
    }
}

/// Looks names up in this list, the first time in its first entry, the next time in the next.
fn answering(answers: &'static [&'static [&'static str]]) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let lookup: Lookup = Arc::new(move |_| {
        let turn = count.fetch_add(1, Ordering::SeqCst);
        let found = answers[turn.min(answers.len() - 1)].iter().map(|text| text.parse().unwrap()).collect();
        async move { io::Result::Ok(found) }.boxed()
    });
    (lookup, asked)
}

fn external(nets: &str, answers: &'static [&'static [&'static str]], patience: Patience) -> External {
    External::with(networks(nets), &answering(answers).0, patience).unwrap()
}

async fn all(mut file: Fetched) -> Result<Vec<u8>, ExternalError> {
    let mut bytes = Vec::new();
    while let Some(more) = file.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

async fn outcome(external: &External, hosts: &[&str], url: &str) -> String {
    let fetched = match external.open(&list(hosts), url).await {
        Ok(file) => all(file).await,
        Err(error) => Err(error),
    };
    fetched.map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The port of a server.
fn port(server: &Server) -> u16 {
    server.url.rsplit(':').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_means_nothing_else_afterwards() {
    let server = Server::start(|_| Play::raw(200, "", "tea")).await;
    let other = TcpListener::bind(("127.0.0.2", port(&server))).await.unwrap();
    let (lookup, asked) = answering(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1", "127.0.0.2"]]);
    let external = External::with(networks("127.0.0.1"), &lookup, PATIENCE).unwrap();
    let url = format!("http://files.example:{}/a", port(&server));
    let get = async || outcome(&external, &["files.example"], &url).await;
    assert_eq!((get().await.as_str(), asked.load(Ordering::SeqCst)), ("tea", 1), "it is asked where was looked");
    assert_eq!((get().await.as_str(), asked.load(Ordering::SeqCst)), (CLOSED, 2), "it means something else now");
    assert_eq!((get().await.as_str(), asked.load(Ordering::SeqCst)), (CLOSED, 3), "one good address is not enough");
    assert_eq!(server.seen().len(), 1);
    assert!(other.accept().now_or_never().is_none(), "nobody connected where it must not");
}

#[tokio::test]
async fn a_name_with_an_address_that_not_everybody_reaches_is_not_asked() {
    for found in [&["127.0.0.1"][..], &["10.0.0.1"], &["169.254.169.254"], &["::1"], &["8.8.8.8", "fd00::1"]] {
        let answers: &'static [&'static [&'static str]] = Box::leak(Box::new([found]));
        let said = outcome(&external("", answers, PATIENCE), &["files.example"], "https://files.example/a").await;
        assert_eq!(said, CLOSED, "{found:?}");
    }
    // What an operator lets in does not let in what is open, where only the former will do.
    let within = external("10.0.0.0/8", &[&["8.8.8.8"]], PATIENCE);
    assert_eq!(outcome(&within, &["files.example"], "http://files.example/").await, CLOSED);
}

#[tokio::test]
async fn what_leads_elsewhere_is_looked_at_like_the_first() {
    let server = Server::start(|request| {
        let path = request.split(' ').nth(1).unwrap();
        let to = |to: &str| Play::raw(302, &format!("location: {to}\r\n"), "");
        match path {
            "/tea" => Play::raw(200, "", "tea"),
            "/one" => to("/tea"),
            "/two" => to("/one"),
            "/three" => to("/two"),
            "/four" => to("/three"),
            "/loop" => to("/loop"),
            "/metadata" => to("http://169.254.169.254/latest/meta-data/"),
            "/loopback" => to("http://127.0.0.9/"),
            "/decimal" => to("http://2130706441/"),
            "/ten" => to("http://10.0.0.1/"),
            "/name" => to("https://localhost/"),
            "/slashes" => to("//localhost/"),
            "/other" => to("https://evil.example/"),
            "/file" => to("file:///etc/passwd"),
            "/gopher" => to("gopher://files.example/"),
            "/user" => to("http://user@127.0.0.1/"),
            "/nowhere" => Play::raw(302, "", ""),
            _ => Play::raw(404, "", "nothing"),
        }
    })
    .await;
    let hosts = ["127.0.0.1", "127.0.0.9", "10.0.0.1", "localhost", "169.254.169.254"];
    let external = external("127.0.0.1/32", &[&["127.0.0.9"]], PATIENCE);
    let nowhere = "a file was not fetched from 127.0.0.1: the answer leads nowhere";
    for (path, expected) in [
        ("/tea", "tea"),
        ("/three", "tea"),
        ("/four", nowhere),
        ("/loop", nowhere),
        ("/nowhere", nowhere),
        ("/file", nowhere),
        ("/gopher", nowhere),
        ("/user", nowhere),
        ("/metadata", NOT_HERE),
        ("/loopback", NOT_HERE),
        ("/decimal", NOT_HERE),
        ("/ten", NOT_HERE),
        ("/name", CLOSED),
        ("/slashes", CLOSED),
        ("/other", NOT_LISTED),
        ("/none", "a file was not fetched from 127.0.0.1: the answer had status 404"),
    ] {
        let found = outcome(&external, &hosts, &format!("{}{path}", server.url)).await;
        assert_eq!(found, expected, "{path}");
    }
}

#[tokio::test]
async fn whoever_is_silent_slow_or_breaks_off_is_given_up() {
    let server = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/hang" => Play::Hang,
        "/stall" => Play::Stall(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\ntea".to_vec()),
        "/short" => Play::Cut(b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\ntea".to_vec()),
        "/chunk" => Play::Cut(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntea\r\n".to_vec()),
        "/noise" => Play::Cut(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        _ => Play::Cut(Vec::new()),
    })
    .await;
    let silence = Duration::from_millis(300);
    let impatient = external("127.0.0.0/8", &[&["127.0.0.1"]], Patience { silence, ..PATIENCE });
    let hurried = external("127.0.0.0/8", &[&["127.0.0.1"]], Patience { whole: silence, ..PATIENCE });
    let get = async |external: &External, path: &str| {
        let said = outcome(external, &["127.0.0.1"], &format!("{}{path}", server.url)).await;
        said.strip_prefix("a file was not fetched from 127.0.0.1: ").map(str::to_owned).unwrap_or(said)
    };
    assert_eq!(get(&impatient, "/hang").await, "nothing came any more");
    assert_eq!(get(&impatient, "/stall").await, "nothing came any more");
    assert_eq!(get(&hurried, "/hang").await, "it took too long");
    assert_eq!(get(&hurried, "/stall").await, "it took too long");
    let patient = external("127.0.0.0/8", &[&["127.0.0.1"]], PATIENCE);
    for path in ["/short", "/chunk", "/noise", "/nothing"] {
        let said = get(&patient, path).await;
        assert!(said.starts_with("it broke off: "), "{path}: {said}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = outcome(&patient, &["127.0.0.1"], &format!("http://{closed}/?key=secret")).await;
    assert!(said.starts_with("a file was not fetched from 127.0.0.1: nobody was reached: "), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test]
async fn a_file_comes_as_it_is_and_the_request_tells_nothing_of_whoever_asks() {
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03+IM\x04\0\x14\xf5j\x1f\x03\0\0\0";
    let server = Server::start(move |_| {
        let head = format!(
            "HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ncontent-type: Text/Plain; charset=x\r\nset-cookie: a=b\r\n\
             content-disposition: attachment; filename=\"n.txt\"\r\ncontent-length: {}\r\n\r\n",
            gzip.len()
        );
        Play::Cut([head.as_bytes(), &gzip[..]].concat())
    })
    .await;
    let external = external("127.0.0.0/8", &[&["127.0.0.1"]], PATIENCE);
    for _ in 0..2 {
        let url = format!("{}/a/t%C3%A4%2Fb.txt?key=secret#part", server.url);
        let file = external.open(&list(&["127.0.0.1"]), &url).await.unwrap();
        assert_eq!((file.name.as_deref(), file.mime.as_deref()), (Some("tä/b.txt"), Some("Text/Plain; charset=x")));
        assert_eq!(file.disposition.as_deref(), Some(&b"attachment; filename=\"n.txt\""[..]));
        assert_eq!(
            (file.source.url.as_str(), file.source.host.as_str()),
            (url.split('#').next().unwrap(), "127.0.0.1")
        );
        assert_eq!(file.length, Some(gzip.len() as u64));
        assert_eq!(Bytes::from(all(file).await.unwrap()), Bytes::from_static(gzip), "nothing is unpacked");
    }
    let last = server.last().to_lowercase();
    let mut heads: Vec<&str> = last.trim_end().lines().skip(1).filter(|line| !line.starts_with("host: ")).collect();
    heads.sort_unstable();
    assert_eq!(heads, ["accept-encoding: identity", "accept: */*", "user-agent: somaagent01"]);
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_asked_nothing() {
    let (papers, mut tasks) = (Papers::new().unwrap(), JoinSet::new());
    let (certificate, key) = papers.server.clone();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.into())).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/a?key=secret", listener.local_addr().unwrap().port());
    tasks.spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(socket).await else { return };
        let heard = stream.read(&mut [0; 64]).await.unwrap_or_default();
        assert_eq!(heard, 0, "it was asked");
    });
    let external = external("127.0.0.0/8", &[&["127.0.0.1"]], PATIENCE);
    let said = outcome(&external, &["127.0.0.1"], &url).await;
    assert!(said.starts_with("a file was not fetched from 127.0.0.1: nobody was reached: "), "{said}");
    assert!(said.contains("certificate") && !said.contains("secret"), "{said}");
    tasks.join_next().await.unwrap().unwrap();
}
