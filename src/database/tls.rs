//! TLS with the server of the database: whether the line may be without it, and what stands in its way.

use std::net::IpAddr;

use rustls::CertificateError;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// What to do for a line that others cannot read or change, as advice.
pub(crate) const GUARD: &str = "name sslmode=verify-full in SA01_DB_DSN, and in sslrootcert the file of the server's authority or `system`: docs/access.md";

/// What the driver says of a server that has no TLS.
const NONE_THERE: &str = "server does not support TLS";

/// Whether the server is on this machine, so that nobody is in between.
pub(crate) fn is_here(server: &PgConnectOptions) -> bool {
    let host = server.get_host();
    server.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether somebody in between can have the line go without TLS although nobody asked for that. Who names `disable` did.
pub(super) fn is_left_to_chance(server: &PgConnectOptions) -> bool {
    !is_here(server) && matches!(server.get_ssl_mode(), PgSslMode::Allow | PgSslMode::Prefer)
}

/// What to do about a connection that TLS keeps from being opened; `None` if it is not that.
pub(crate) fn advice(error: &sqlx::Error) -> Option<&'static str> {
    let inner = match error {
        sqlx::Error::Tls(inner) => inner.downcast_ref::<rustls::Error>(),
        sqlx::Error::Io(error) => Some(error.get_ref()?.downcast_ref::<rustls::Error>()?),
        _ => return None,
    };
    Some(match inner {
        Some(rustls::Error::InvalidCertificate(certificate)) => of_certificate(certificate),
        Some(rustls::Error::AlertReceived(_)) => {
            "the server ended it and says in its log why: sslcert and sslkey name the certificate that it may ask for"
        }
        None if matches!(error, sqlx::Error::Tls(told) if told.to_string() == NONE_THERE) => {
            "the server has no TLS: set ssl = on there; sslmode=disable goes without, in a network that nobody else reaches"
        }
        _ => "see the server's log; sslmode=disable goes without TLS, in a network that nobody else reaches",
    })
}

const fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "sslrootcert must name the file of the authority that signed the server's certificate, or `system`"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "SA01_DB_DSN must name the server as its certificate does (subjectAltName); sslmode=verify-ca does not look at the name"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "the server needs a certificate that is valid today; or a clock is wrong"
        }
        _ => {
            "the server needs a certificate of version 3 that is not its authority's own; sslmode=require takes most others"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_server_is_here_on_a_socket_and_on_loopback() {
        let server = |host: &str| PgConnectOptions::new_without_pgpass().host(host);
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "/run/postgresql"] {
            assert!(is_here(&server(host)), "{host}");
        }
        assert!(is_here(&server("db.example").socket("/run/postgresql")));
        for host in ["db.example", "10.0.0.1", "2001:db8::1", "localhost.example"] {
            assert!(!is_here(&server(host)), "{host}");
        }
    }

    #[test]
    fn only_a_line_elsewhere_that_nobody_decided_on_is_left_to_chance() {
        let server = |host: &str, mode| PgConnectOptions::new_without_pgpass().host(host).ssl_mode(mode);
        assert!(is_left_to_chance(&server("db.example", PgSslMode::Prefer)));
        assert!(is_left_to_chance(&server("db.example", PgSslMode::Allow)));
        assert!(!is_left_to_chance(&server("127.0.0.1", PgSslMode::Prefer)));
        for decided in [PgSslMode::Disable, PgSslMode::Require, PgSslMode::VerifyCa, PgSslMode::VerifyFull] {
            assert!(!is_left_to_chance(&server("db.example", decided)), "{decided:?}");
        }
    }

    #[test]
    fn what_keeps_tls_from_working_is_told_apart_from_a_server_that_is_away() {
        let by_line = |error: rustls::Error| sqlx::Error::Io(io::Error::new(io::ErrorKind::InvalidData, error));
        let of = |error: CertificateError| advice(&by_line(rustls::Error::InvalidCertificate(error)));
        assert!(of(CertificateError::UnknownIssuer).is_some_and(|told| told.contains("sslrootcert")));
        assert!(of(CertificateError::NotValidForName).is_some_and(|told| told.contains("must name the server")));
        assert!(of(CertificateError::Expired).is_some_and(|told| told.contains("clock")));
        assert!(of(CertificateError::BadEncoding).is_some_and(|told| told.contains("version 3")));
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA);
        assert!(advice(&by_line(alert)).is_some_and(|told| told.contains("sslcert")));
        assert!(advice(&sqlx::Error::Tls(NONE_THERE.into())).is_some_and(|told| told.contains("ssl = on")));
        assert!(advice(&sqlx::Error::Tls("odd".into())).is_some_and(|told| told.contains("server's log")));
        for away in [io::ErrorKind::ConnectionRefused.into(), io::Error::other("odd")] {
            assert_eq!(advice(&sqlx::Error::Io(away)), None);
        }
        assert_eq!(advice(&sqlx::Error::PoolTimedOut), None);
    }
}
