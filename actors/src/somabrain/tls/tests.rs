//! TLS with a real server on a loopback socket.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use somaagent_test_services::papers::Papers;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{RootCertStore, ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier},
};

use super::super::{
    connection::{Connection, Request},
    endpoint::Endpoint,
    exchange::Lost,
};
use super::*;

/// The file `name` of `papers`, as a setting holds it.
#[expect(clippy::unnecessary_wraps, reason = "what a setting holds")]
fn file(papers: &Papers, name: &str) -> Option<PathBuf> {
    Some(papers.file(name))
}

/// A server that answers every request with `{}`; with `strict`, only to clients the authority vouches for.
async fn serve(papers: &Papers, strict: bool, tasks: &mut JoinSet<()>) -> String {
    let config = ServerConfig::builder();
    let config = if strict {
        let mut roots = RootCertStore::empty();
        roots.add(papers.authority.clone().into()).unwrap();
        config.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
    } else {
        config.with_no_client_auth()
    };
    let (certificate, key) = papers.server.clone();
    let key = PrivateKeyDer::Pkcs8(key.into());
    let config = config.with_single_cert(vec![certificate.into()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tasks.spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            if stream.read(&mut [0; 4096]).await.is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    url
}

async fn reached(settings: BrainSettings) -> bool {
    let connection = Connection::new(&settings).unwrap();
    let headers = connection.headers(None, "r", None);
    let request = Request { endpoint: Endpoint::Health, target: None, headers, body: None };
    match connection.attempt(&request, Instant::now() + Duration::from_secs(10)).await {
        Ok(answer) => answer.status == 200,
        Err(Lost::Transport(_)) => false,
        Err(Lost::TimedOut) => panic!("no answer in time"),
    }
}

#[tokio::test]
async fn a_server_is_trusted_by_its_own_authority_or_unseen() {
    let (papers, mut tasks) = (Papers::new().unwrap(), JoinSet::new());
    let base_url = serve(&papers, false, &mut tasks).await;
    let settings = BrainSettings { base_url, ..BrainSettings::default() };
    assert!(!reached(settings.clone()).await, "nobody vouches for it");
    assert!(reached(BrainSettings { tls_ca: file(&papers, "ca"), ..settings.clone() }).await);
    let other = Papers::new().unwrap();
    assert!(!reached(BrainSettings { tls_ca: file(&other, "ca"), ..settings.clone() }).await, "another authority");
    assert!(reached(BrainSettings { verify_ssl: false, ..settings }).await);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let (papers, mut tasks) = (Papers::new().unwrap(), JoinSet::new());
    let base_url = serve(&papers, true, &mut tasks).await;
    let settings = BrainSettings { base_url, tls_ca: file(&papers, "ca"), ..BrainSettings::default() };
    assert!(!reached(settings.clone()).await, "it lets nobody in without one");
    let (tls_cert, tls_key) = (file(&papers, "cert"), file(&papers, "key"));
    assert!(reached(BrainSettings { tls_cert, tls_key, ..settings }).await);
}

#[test]
fn a_fault_names_the_setting_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let no_pem = folder.path().join("no.pem");
    std::fs::write(&no_pem, "canary").unwrap();
    let (file, absent) = (Some(no_pem), Some(folder.path().join("absent")));
    let none = BrainSettings::default();
    let cases = [
        (BrainSettings { tls_ca: file.clone(), ..none.clone() }, "brain.tls_ca holds no certificates"),
        (BrainSettings { tls_ca: absent, ..none.clone() }, "brain.tls_ca names a file that cannot be read"),
        (BrainSettings { tls_cert: file.clone(), ..none.clone() }, "brain.tls_key is missing"),
        (BrainSettings { tls_key: file.clone(), ..none.clone() }, "brain.tls_cert is missing"),
        (BrainSettings { tls_cert: file.clone(), tls_key: file, ..none }, "brain.tls_cert and brain.tls_key are"),
    ];
    for (settings, fault) in cases {
        let error = apply(reqwest::Client::builder(), &settings).unwrap_err().to_string();
        assert!(error.starts_with(fault) && !error.contains("canary"), "{error}");
    }
}
