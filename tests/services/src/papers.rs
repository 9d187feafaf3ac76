//! Certificates for tests of TLS: an authority, and a server at `127.0.0.1` and a client that it vouches for.

use std::path::PathBuf;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// The common name of the client.
pub const CLIENT: &str = "client";

/// The papers, also as PEM files in a folder that goes with them.
#[derive(Debug)]
pub struct Papers {
    folder: TempDir,
    /// The authority's certificate, DER.
    pub authority: Vec<u8>,
    /// The server's certificate and key (PKCS #8), DER.
    pub server: (Vec<u8>, Vec<u8>),
}

impl Papers {
    /// Makes new ones.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let signed = |name: &str| {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new([name.to_owned()])?;
            params.distinguished_name.push(DnType::CommonName, name);
            anyhow::Ok((params.signed_by(&key, &authority)?, key))
        };
        let (server, server_key) = signed("127.0.0.1")?;
        let (client, client_key) = signed(CLIENT)?;
        let files = [
            ("ca", authority.pem()),
            ("cert", client.pem()),
            ("key", client_key.serialize_pem()),
            ("server", format!("{}{}", server_key.serialize_pem(), server.pem())),
        ];
        for (name, pem) in files {
            std::fs::write(folder.path().join(name), pem)?;
        }
        let server = (server.der().to_vec(), server_key.serialize_der());
        Ok(Self { authority: authority.der().to_vec(), folder, server })
    }

    /// The PEM file `ca`, `cert` or `key` (of the client), or `server` (its key and certificate).
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
