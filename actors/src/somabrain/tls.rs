//! How the server proves who it is, and how this client does.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder, Identity};

use super::settings::{BrainSettings, SettingsError};

/// Lays the TLS settings over a client to be built.
pub(super) fn apply(mut client: ClientBuilder, settings: &BrainSettings) -> Result<ClientBuilder, SettingsError> {
    if let Some(file) = &settings.tls_ca {
        let unusable = |_| SettingsError::Tls("tls_ca", "holds no certificates in PEM");
        let certificates = Certificate::from_pem_bundle(&read("tls_ca", file)?).map_err(unusable)?;
        if certificates.is_empty() {
            return Err(SettingsError::Tls("tls_ca", "holds no certificates in PEM"));
        }
        // Alone: whoever names an authority of their own does not want to trust all the others.
        client = client.tls_certs_only(certificates);
    }
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(certificate), Some(key)) => {
            let mut pem = read("tls_cert", certificate)?;
            pem.push(b'\n');
            pem.extend(read("tls_key", key)?);
            let unusable = |_| SettingsError::Tls("tls_cert", "and brain.tls_key are no certificate and key in PEM");
            client = client.identity(Identity::from_pem(&pem).map_err(unusable)?);
        }
        (Some(_), None) => return Err(SettingsError::Tls("tls_key", "is missing: brain.tls_cert needs it")),
        (None, Some(_)) => return Err(SettingsError::Tls("tls_cert", "is missing: brain.tls_key needs it")),
        (None, None) => {}
    }
    if !settings.verify_ssl {
        client = client.tls_danger_accept_invalid_certs(true);
    }
    Ok(client)
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, SettingsError> {
    std::fs::read(file).map_err(|error| SettingsError::TlsFile(key, error))
}

#[cfg(test)]
mod tests;
