//! How the server of the database is reached, and how the connection to it is guarded.
//!
//! What is said of TLS means what it means to libpq (PostgreSQL documentation, "SSL Support"), where the driver alone would
//! take it otherwise: `require` with an authority asks that authority, `sslrootcert=system` is whom the system trusts, and on
//! Unix sockets there is no TLS. Where this program is stricter: an authority without an `sslmode` is asked, and nothing is read
//! from a home folder. `verify-full` without an authority takes the system's. `allow` is `prefer`.

use std::borrow::Cow;

use pem::Pem;
use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret;
use sqlx::postgres::{PgConnectOptions, PgSslMode as Mode};
use thiserror::Error;
use url::Url;

use super::DatabaseSettings;

/// The setting with the address.
const DSN: &str = "database.dsn";

/// The `sslrootcert` that stands for everybody whom the system trusts.
const SYSTEM: &str = "system";

/// What a DSN may ask for that is not done here, with the values that ask for nothing. Whoever asks for it is told, and not
/// left to believe that it is done.
const NOT_DONE: &[(&str, &[&str])] = &[
    ("channel_binding", &["disable", "prefer"]),
    ("gssencmode", &["disable", "prefer"]),
    ("require_auth", &[]),
    ("requirepeer", &[]),
    ("requiressl", &["0"]),
    ("ssl", &["false"]),
    ("ssl_min_protocol_version", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("sslcertmode", &["allow", "disable"]),
    ("sslcrl", &[]),
    ("sslcrldir", &[]),
    ("sslnegotiation", &["postgres"]),
];

/// The database cannot be reached as its settings say. No text of it repeats the DSN, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{key} {what}")]
pub struct DsnError {
    /// The setting that is at fault.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: Cow<'static, str>,
}

impl DsnError {
    fn of_dsn(what: impl Into<Cow<'static, str>>) -> Self {
        Self { key: DSN, what: what.into() }
    }
}

/// What is said of one matter of TLS.
struct Given {
    /// The setting that says so.
    key: &'static str,
    /// Its name in a DSN.
    name: &'static str,
    value: String,
}

impl Given {
    fn fault(&self, what: &str) -> DsnError {
        DsnError { key: self.key, what: format!("{}: {what}", self.name).into() }
    }
}

/// Whom the certificate of the server is shown to.
#[derive(Debug, PartialEq, Eq)]
enum Judge {
    /// Nobody: any will do.
    Nobody,
    /// Everybody whom the system trusts.
    System,
    /// Those of a file, alone.
    File,
}

impl DatabaseSettings {
    /// How a connection to the server is opened that the settings name; `None` if they name none. The files that they name
    /// are looked at.
    ///
    /// # Errors
    /// What is wrong with the settings; a checked configuration has no such fault, unless a file changed since.
    pub fn server(&self) -> Result<Option<PgConnectOptions>, DsnError> {
        let Some(dsn) = &self.dsn else { return Ok(None) };
        let dsn = dsn.expose_secret();
        let url = Url::parse(dsn).map_err(|_| DsnError::of_dsn("is not a URL"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(DsnError::of_dsn("must start with postgres:// or postgresql://"));
        }
        if url.cannot_be_a_base() {
            return Err(DsnError::of_dsn("names no server"));
        }
        let mut options: PgConnectOptions =
            dsn.parse().map_err(|_| DsnError::of_dsn("has a part that PostgreSQL does not know"))?;
        // The brackets of an address are the URL's.
        if let Some(address) = options.get_host().strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            let address = address.to_owned();
            options = options.host(&address);
        }
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            refuse_not_done(&url, Mode::Disable)?;
            return Ok(Some(options.ssl_mode(Mode::Disable)));
        }
        self.guarded(options, &url).map(Some)
    }

    /// The same with what the settings say of TLS.
    fn guarded(&self, options: PgConnectOptions, url: &Url) -> Result<PgConnectOptions, DsnError> {
        let given = |names: &[&'static str], key, setting: Option<&str>| {
            let named = said(url, names).map(|value| (DSN, value));
            let (key, value) = named.or_else(|| Some((key, setting?.to_owned())))?;
            Some(Given { key, name: names[0], value })
        };
        let asked = given(&["sslmode", "ssl-mode"], "database.sslmode", self.sslmode.as_deref());
        let root = given(&["sslrootcert", "ssl-root-cert", "ssl-ca"], "database.tls_ca", self.tls_ca.as_deref());
        let own = given(&["sslcert", "ssl-cert"], "database.tls_cert", self.tls_cert.as_deref());
        let key = given(&["sslkey", "ssl-key"], "database.tls_key", self.tls_key.as_deref());
        let mode = asked.as_ref().map(read_mode).transpose()?;
        let (mode, judge) = judged(mode, root.as_ref())?;
        refuse_not_done(url, mode)?;
        let options = match (&judge, &root) {
            (Judge::System, _) => options.ssl_root_cert_from_pem(of_system()?.into_bytes()),
            (Judge::File, Some(root)) => {
                check_authorities(root)?;
                options.ssl_root_cert(&root.value)
            }
            _ => options,
        };
        let options = if matches!(mode, Mode::Disable) { options } else { with_own(options, own, key)? };
        Ok(options.ssl_mode(mode))
    }
}

/// What the query of the DSN says last by one of these names, unless that is nothing.
fn said(url: &Url, names: &[&str]) -> Option<String> {
    let all = url.query_pairs().filter(|(name, value)| names.contains(&&**name) && !value.is_empty());
    all.last().map(|(_, value)| value.into_owned())
}

fn read_mode(given: &Given) -> Result<Mode, DsnError> {
    let known = "must be disable, allow, prefer, require, verify-ca or verify-full";
    given.value.parse().map_err(|_| given.fault(known))
}

/// The mode in force, and who judges the server in it.
fn judged(mode: Option<Mode>, root: Option<&Given>) -> Result<(Mode, Judge), DsnError> {
    match (mode, root) {
        (None | Some(Mode::VerifyFull), Some(root)) if root.value == SYSTEM => Ok((Mode::VerifyFull, Judge::System)),
        (_, Some(root)) if root.value == SYSTEM => Err(root
            .fault("is system, and authorities that vouch for everybody only help together with sslmode=verify-full")),
        (Some(Mode::VerifyFull), None) => Ok((Mode::VerifyFull, Judge::System)),
        (Some(Mode::VerifyFull), Some(_)) => Ok((Mode::VerifyFull, Judge::File)),
        (Some(Mode::VerifyCa), None) => Err(DsnError::of_dsn(
            "has sslmode=verify-ca and nobody to verify by: sslrootcert must name the file of an authority",
        )),
        (None | Some(Mode::VerifyCa | Mode::Require), Some(_)) => Ok((Mode::VerifyCa, Judge::File)),
        (Some(Mode::Disable), _) => Ok((Mode::Disable, Judge::Nobody)),
        (Some(Mode::Require), None) => Ok((Mode::Require, Judge::Nobody)),
        (None | Some(Mode::Allow | Mode::Prefer), _) => Ok((Mode::Prefer, Judge::Nobody)),
    }
}

fn refuse_not_done(url: &Url, mode: Mode) -> Result<(), DsnError> {
    for (name, harmless) in NOT_DONE {
        let Some(value) = said(url, &[name]) else { continue };
        // Both tell that nobody is in between.
        let is_done_otherwise = *name == "channel_binding" && matches!(mode, Mode::VerifyFull);
        if !is_done_otherwise && !harmless.contains(&value.as_str()) {
            let what = format!("has {name}, which is not done here: sslmode=verify-full keeps others out without it");
            return Err(DsnError::of_dsn(what));
        }
    }
    Ok(())
}

/// Everybody whom the system trusts, in PEM. One that cannot be read would keep the driver from reading the others.
fn of_system() -> Result<String, DsnError> {
    let is_readable = |certificate: &CertificateDer<'_>| RootCertStore::empty().add(certificate.clone()).is_ok();
    let found = rustls_native_certs::load_native_certs().certs.into_iter().filter(is_readable);
    let trusted: Vec<Pem> = found.map(|certificate| Pem::new("CERTIFICATE", certificate.to_vec())).collect();
    if trusted.is_empty() {
        let what =
            "asks for whom the system trusts, and it trusts nobody: sslrootcert must name the file of an authority";
        return Err(DsnError::of_dsn(what));
    }
    Ok(pem::encode_many(&trusted))
}

/// Whether a file holds authorities. The driver reads it again for every connection.
fn check_authorities(given: &Given) -> Result<(), DsnError> {
    let mut known = RootCertStore::empty();
    for certificate in certificates(given)? {
        known.add(certificate).map_err(|_| given.fault(&format!("{} holds what is no authority's", given.value)))?;
    }
    Ok(())
}

/// With the certificate by which the server knows this program, if there is one.
fn with_own(options: PgConnectOptions, own: Option<Given>, key: Option<Given>) -> Result<PgConnectOptions, DsnError> {
    match (own, key) {
        (Some(own), Some(key)) => {
            certificates(&own)?;
            PrivateKeyDer::from_pem_file(&key.value)
                .map_err(|error| unreadable(&key, "key without a password", error))?;
            Ok(options.ssl_client_cert(own.value).ssl_client_key(key.value))
        }
        (Some(own), None) => Err(own.fault("needs its key: sslkey is missing")),
        (None, Some(key)) => Err(key.fault("needs its certificate: sslcert is missing")),
        (None, None) => Ok(options),
    }
}

fn certificates(given: &Given) -> Result<Vec<CertificateDer<'static>>, DsnError> {
    let read = CertificateDer::pem_file_iter(&given.value).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.and_then(|found| if found.is_empty() { Err(PemError::NoItemsFound) } else { Ok(found) });
    found.map_err(|error| unreadable(given, "certificate", error))
}

fn unreadable(given: &Given, what: &str, error: PemError) -> DsnError {
    let file = &given.value;
    match error {
        PemError::Io(error) => given.fault(&format!("{file} cannot be read: {error}")),
        _ => given.fault(&format!("{file} holds no {what} in PEM")),
    }
}

#[cfg(test)]
mod tests;
