//! TLS for the clients of the service: whom they trust.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, pem};
use rustls::{ClientConfig, RootCertStore};

/// A file of certificate authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, io::Error),
    /// It holds something that is no certificate.
    #[error("{0} holds a certificate that cannot be read")]
    Broken(String),
    /// It holds no certificate.
    #[error("{0} holds no PEM certificate")]
    Empty(String),
}

/// Which certificate authorities a client trusts.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// None, for clients that speak plain HTTP; saves reading the system's.
    Nobody,
    /// The system's and, beside them, those in a PEM file.
    System(Option<&'a Path>),
}

/// A TLS client configuration that offers the protocols in `alpn`, the most
/// wanted first.
///
/// A system without certificate authorities is no error: every TLS connection
/// then says that the certificate's authority is unknown.
///
/// # Errors
/// [`CaFileError`] where the PEM file cannot be used.
pub fn client_config(trust: Trust<'_>, alpn: &[&[u8]]) -> Result<ClientConfig, CaFileError> {
    let mut roots = RootCertStore::empty();
    if let Trust::System(ca_file) = trust {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            add_file(&mut roots, path)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), CaFileError> {
    let name = || path.display().to_string();
    let text = std::fs::read(path).map_err(|error| CaFileError::Unreadable(name(), error))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_: pem::Error| CaFileError::Broken(name()))?;
        roots
            .add(certificate)
            .map_err(|_| CaFileError::Broken(name()))?;
        found = true;
    }
    if found {
        Ok(())
    } else {
        Err(CaFileError::Empty(name()))
    }
}
