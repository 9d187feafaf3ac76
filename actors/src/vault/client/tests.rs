#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use somaagent_test_services::{
    papers::Papers,
    vault::{Mood, Vault as Server},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

use super::*;

const TOKEN: &str = "hvs.canary-token";

fn settings(addr: &str) -> VaultSettings {
    VaultSettings {
        addr: Some(addr.to_owned()),
        token: Some(TOKEN.into()),
        timeout_seconds: 20.0,
        ..VaultSettings::default()
    }
}

async fn server() -> (Server, Vault) {
    let server = Server::start(TOKEN).await.unwrap();
    server.keep("secret/team/gateway", &[("jwt", "canary-secret"), ("other", "x")]);
    let vault = Vault::new(settings(&server.url())).unwrap();
    (server, vault)
}

async fn fault(vault: &Vault) -> VaultError {
    let error = vault.read("secret", "team/gateway").await.unwrap_err();
    assert!(!format!("{error} {error:?} {vault:?}").contains("canary"), "{error:?}");
    error
}

#[tokio::test]
async fn the_fields_of_a_secret_are_read() {
    let (server, vault) = server().await;
    let fields = vault.read("secret", "team/gateway").await.unwrap();
    assert_eq!(fields["jwt"].expose_secret(), "canary-secret");
    assert_eq!((fields.len(), server.calls()), (2, vec!["GET /v1/secret/data/team/gateway".to_owned()]));
    assert_eq!(vault.read("secret", "team/else").await.unwrap_err(), VaultError::Absent);
    assert!(!VaultError::Absent.is_passing());
}

#[tokio::test]
async fn each_fault_has_its_kind_and_tells_nothing_secret() {
    let (server, vault) = server().await;
    for (mood, kind, is_passing) in [
        (Mood::Failing(503), VaultError::Unavailable(503), true),
        (Mood::Failing(500), VaultError::Unavailable(500), true),
        (Mood::Failing(429), VaultError::Unavailable(429), true),
        (Mood::Failing(403), VaultError::Refused(403), false),
        (Mood::Failing(400), VaultError::Refused(400), false),
        (Mood::Babbling, VaultError::Odd, true),
        (Mood::Flooding, VaultError::TooLong, true),
    ] {
        server.set_mood(mood);
        assert_eq!((fault(&vault).await, kind.is_passing()), (kind, is_passing), "{mood:?}");
    }
    server.set_mood(Mood::Dropping);
    assert!(matches!(fault(&vault).await, VaultError::Unreachable(_)));
    server.set_mood(Mood::Silent);
    let impatient = VaultSettings { timeout_seconds: 0.1, ..settings(&server.url()) };
    assert!(matches!(fault(&Vault::new(impatient).unwrap()).await, VaultError::Unreachable(_)));
    server.set_mood(Mood::Well);
    server.ban(TOKEN);
    assert_eq!(fault(&vault).await, VaultError::Refused(403), "the token has ended");
    server.down().await;
    assert!(matches!(fault(&vault).await, VaultError::Unreachable(_)));
    server.up().await.unwrap();
    server.admit(TOKEN, 0, false);
    assert!(vault.read("secret", "team/gateway").await.is_ok(), "nothing has to be started again");
}

#[tokio::test]
async fn a_token_is_not_carried_to_where_vault_sends() {
    let (server, vault) = server().await;
    let (other, _) = self::server().await;
    // Another port; another name of this machine, and so another host; the same server.
    let sent = [other.url(), format!("http://localhost:{}", other.address().port()), server.url()];
    for (to, status) in sent.into_iter().flat_map(|to| [301, 302, 307, 308].map(|status| (to.clone(), status))) {
        let before = server.calls().len();
        server.send_to(status, &to);
        let error = fault(&vault).await;
        assert_eq!((&error, error.is_passing()), (&VaultError::Redirected(status), true), "{to}");
        let told = error.to_string();
        assert!(told.contains("redirects") && told.contains("VAULT_ADDR") && !told.contains(&to), "{told}");
        assert_eq!((server.calls().len(), other.calls().len()), (before + 1, 0), "{to}");
    }
    server.set_mood(Mood::Well);
    assert!(vault.read("secret", "team/gateway").await.is_ok(), "the node has become the active one");
}

#[tokio::test]
async fn the_token_of_a_file_is_that_of_now() {
    let (server, _) = server().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let with_file = VaultSettings { token: None, token_file: Some(file.path().to_owned()), ..settings(&server.url()) };
    let vault = Vault::new(with_file).unwrap();
    assert!(vault.read("secret", "team/gateway").await.is_ok());
    for unusable in ["", "\n", "two words", "hvs.canary\n\nmore", "hvs.\u{e4}"] {
        std::fs::write(&file, unusable).unwrap();
        assert_eq!(fault(&vault).await, VaultError::Token("it holds no token".to_owned()), "{unusable:?}");
    }
    std::fs::write(&file, "hvs.new").unwrap();
    assert_eq!(fault(&vault).await, VaultError::Refused(403));
    server.admit("hvs.new", 0, false);
    assert!(vault.read("secret", "team/gateway").await.is_ok());
    drop(file);
    assert!(matches!(fault(&vault).await, VaultError::Token(_)));
}

/// A server with these papers before `target`.
async fn with_tls(papers: &Papers, target: std::net::SocketAddr, tasks: &mut JoinSet<()>) -> String {
    let (certificate, key) = papers.server.clone();
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.into()], PrivateKeyDer::Pkcs8(key.into())).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tasks.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut outside) = acceptor.accept(socket).await else { continue };
            let mut inside = TcpStream::connect(target).await.unwrap();
            drop(copy_bidirectional(&mut outside, &mut inside).await);
        }
    });
    url
}

#[tokio::test]
async fn the_token_goes_only_to_a_server_that_somebody_vouches_for() {
    let (server, _) = server().await;
    let (papers, other, mut tasks) = (Papers::new().unwrap(), Papers::new().unwrap(), JoinSet::new());
    let url = with_tls(&papers, server.address(), &mut tasks).await;
    let read = async |settings: VaultSettings| {
        let vault = Vault::new(settings).unwrap();
        vault.read("secret", "team/gateway").await.map(drop)
    };
    let with_ca = |papers: &Papers| VaultSettings { ca_cert: Some(papers.file("ca")), ..settings(&url) };
    for settings in [settings(&url), with_ca(&other)] {
        assert!(matches!(read(settings).await, Err(VaultError::Unreachable(_))));
    }
    assert_eq!(server.calls(), [""; 0], "it was not even asked");
    assert_eq!(read(with_ca(&papers)).await, Ok(()));
    assert_eq!(read(VaultSettings { skip_verify: true, ..settings(&url) }).await, Ok(()));
    let no_pem = VaultSettings { ca_cert: Some("/dev/null".into()), ..settings(&url) };
    assert!(matches!(Vault::new(no_pem), Err(VaultError::Client(_))));
}
