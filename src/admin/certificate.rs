//! The certificate of the page and its key, as text: the editor reads or makes it, and
//! `wontun-admin` uses it.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Maximum length of the certificate's chain and of the key in bytes.
const MAX_CHAIN: usize = 32 * 1024;
const MAX_KEY: usize = 16 * 1024;
/// Maximum number of certificates of a chain.
const MAX_CERTIFICATES: usize = 10;
/// Version of HTTP that browsers may choose.
const HTTP: &[u8] = b"http/1.1";

/// A certificate and its key, both as PEM; one text may be both.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedCertificate")]
pub struct CertificateText {
    chain: Zeroizing<String>,
    key: Zeroizing<String>,
}

#[derive(Deserialize)]
struct UncheckedCertificate {
    chain: Zeroizing<String>,
    key: Zeroizing<String>,
}

/// Error of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Too long.
    #[error("the certificate or its key is too long")]
    TooLong,
    /// No certificate.
    #[error("the file of the certificate has none: expected PEM, '-----BEGIN CERTIFICATE-----'")]
    NoCertificate,
    /// No key.
    #[error("the file of the key has none: expected PEM without a password, '-----BEGIN PRIVATE KEY-----'")]
    NoKey,
    /// They do not go together, or have an unknown kind.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(String),
}

impl TryFrom<UncheckedCertificate> for CertificateText {
    type Error = CertificateError;

    fn try_from(UncheckedCertificate { chain, key }: UncheckedCertificate) -> Result<Self, CertificateError> {
        Self::new(chain, key)
    }
}

impl CertificateText {
    /// Creates the text.
    ///
    /// # Errors
    /// [`CertificateError::TooLong`].
    pub(super) fn new(chain: Zeroizing<String>, key: Zeroizing<String>) -> Result<Self, CertificateError> {
        if chain.len() > MAX_CHAIN || key.len() > MAX_KEY {
            return Err(CertificateError::TooLong);
        }
        Ok(Self { chain, key })
    }

    /// Returns the settings for connections of browsers.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let chain = self.chain()?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| CertificateError::NoKey)?;
        let unusable = |error: rustls::Error| CertificateError::Unusable(error.to_string());
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(Arc::new(config))
    }

    /// Returns the SHA-256 of the certificate, as browsers show it.
    ///
    /// # Errors
    /// [`CertificateError::NoCertificate`].
    pub(super) fn fingerprint(&self) -> Result<Fingerprint, CertificateError> {
        let chain = self.chain()?;
        let certificate = chain.first().ok_or(CertificateError::NoCertificate)?;
        let bytes = digest(&SHA256, certificate).as_ref().try_into();
        bytes.map(Fingerprint).map_err(|_| CertificateError::NoCertificate)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let certificates = CertificateDer::pem_slice_iter(self.chain.as_bytes()).take(MAX_CERTIFICATES);
        let chain: Vec<_> =
            certificates.collect::<Result<_, _>>().map_err(|_| CertificateError::NoCertificate)?;
        if chain.is_empty() { Err(CertificateError::NoCertificate) } else { Ok(chain) }
    }
}

impl fmt::Debug for CertificateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateText(…)")
    }
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, byte) in self.0.iter().enumerate() {
            let colon = if number == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}
