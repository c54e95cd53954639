//! Authentication of name servers that are asked over TLS.

use std::sync::Arc;

use base64ct::{Base64, Encoding as _};
use ring::digest::{SHA256, digest};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring as provider, verify_tls12_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::TlsIdentity;

/// Number of sessions that are kept for a shorter handshake.
const SESSIONS: usize = 4;

/// Returns the settings for connections to a server with this identity. The `authorities` are those
/// of its certificate.
///
/// # Errors
/// None of the protocol's versions is supported, which is a defect of wontun.
pub(super) fn client_config(
    identity: &TlsIdentity,
    authorities: &Arc<RootCertStore>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(provider::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut config = match identity {
        TlsIdentity::Certificate(_) => {
            builder.with_root_certificates(Arc::clone(authorities)).with_no_client_auth()
        }
        TlsIdentity::KeyHash(hash) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KeyHashVerifier::new(*hash, &provider)))
            .with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

/// Returns the public authorities, as Mozilla lists them.
pub(super) fn public_authorities() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// Returns the reason for a failed connection, and the remedy if there is one.
pub(super) fn explain(error: &Error, identity: &TlsIdentity) -> String {
    let Error::InvalidCertificate(reason) = error else { return error.to_string() };
    match (reason, identity) {
        (CertificateError::UnknownIssuer, _) => {
            "no known authority has signed its certificate: if the server is \
             yours, give the hash of its public key, tls://ADDRESS#pin-sha256=HASH"
                .to_owned()
        }
        (
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            TlsIdentity::Certificate(ServerName::DnsName(name)),
        ) => format!("its certificate is for other names than {}: check the name after '#'", name.as_ref()),
        (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }, _) => {
            "its certificate is for names, not for its address: give one of them, tls://ADDRESS#NAME"
                .to_owned()
        }
        (CertificateError::Expired | CertificateError::ExpiredContext { .. }, _) => {
            "its certificate has expired, or the clock of this host is wrong".to_owned()
        }
        (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }, _) => {
            "its certificate is not valid yet, or the clock of this host is wrong".to_owned()
        }
        (CertificateError::Other(other), _) => other.to_string(),
        (_, _) => format!("its certificate is invalid: {reason}"),
    }
}

/// Error: the server has another key than the given one.
#[derive(Debug, thiserror::Error)]
#[error("its public key has the hash {0}, not the given one")]
struct OtherKey(String);

/// Authenticates a server by its public key alone (RFC 7858, section 4.2): the handshake's
/// signature proves that it has the private key.
#[derive(Debug)]
struct KeyHashVerifier {
    hash: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyHashVerifier {
    fn new(hash: [u8; 32], provider: &CryptoProvider) -> Self {
        Self { hash, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for KeyHashVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        let hash = digest(&SHA256, &key);
        if hash.as_ref() == self.hash {
            return Ok(ServerCertVerified::assertion());
        }
        let other = OtherKey(Base64::encode_string(hash.as_ref()));
        Err(CertificateError::Other(rustls::OtherError(Arc::new(other))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    /// A certificate's names, and its years.
    type Wanted<'text> = (&'text [&'text str], [i32; 2]);

    /// An authority, which certificates are checked against.
    struct Authority {
        issuer: CertifiedIssuer<'static, KeyPair>,
        known: Arc<RootCertStore>,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new([]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
            let mut known = RootCertStore::empty();
            known.add(issuer.der().clone()).unwrap();
            Self { issuer, known: Arc::new(known) }
        }

        /// Connects a client that expects `identity` to a server with a certificate of this
        /// authority. Returns the reason for which it fails. `{HASH}` in the identity is the hash
        /// of the server's key.
        fn connect(&self, identity: &str, (names, [from, to]): Wanted<'_>) -> Result<(), String> {
            let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
            let mut params = CertificateParams::new(names).unwrap();
            (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            let hash = digest(&SHA256, &rcgen::PublicKeyData::subject_public_key_info(&key));
            let identity = identity.replace("{HASH}", &Base64::encode_string(hash.as_ref()));
            let server: crate::config::TlsNameServer = format!("tls://192.0.2.1{identity}").parse().unwrap();

            let config = Arc::new(client_config(&server.identity, &self.known).unwrap());
            let name = match &server.identity {
                TlsIdentity::Certificate(name) => name.clone(),
                TlsIdentity::KeyHash(_) => server.address.ip().into(),
            };
            let mut client = ClientConnection::new(config, name).unwrap();
            let config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
                )
                .unwrap();
            let mut server_end = ServerConnection::new(Arc::new(config)).unwrap();
            while client.is_handshaking() {
                let mut bytes = Vec::new();
                client.write_tls(&mut bytes).unwrap();
                server_end.read_tls(&mut bytes.as_slice()).unwrap();
                server_end.process_new_packets().unwrap();
                let mut bytes = Vec::new();
                while server_end.wants_write() {
                    server_end.write_tls(&mut bytes).unwrap();
                }
                client.read_tls(&mut bytes.as_slice()).unwrap();
                client.process_new_packets().map_err(|error| explain(&error, &server.identity))?;
            }
            Ok(())
        }
    }

    #[test]
    fn certificates_are_for_the_name_or_address() {
        const NOW: [i32; 2] = [2000, 3000];
        let authority = Authority::new("one");
        let names = &["dns.example.com", "*.example.net", "192.0.2.1"][..];
        for identity in ["", "#dns.example.com", "#a.example.net"] {
            assert_eq!(authority.connect(identity, (names, NOW)), Ok(()), "{identity}");
        }
        for (identity, wanted, reason) in [
            ("#other.example.com", (names, NOW), "for other names than other.example.com"),
            ("", (&["dns.example.com", "192.0.2.2"][..], NOW), "not for its address"),
            ("", (names, [2000, 2001]), "has expired"),
            ("", (names, [2900, 3000]), "not valid yet"),
        ] {
            let error = authority.connect(identity, wanted).unwrap_err();
            assert!(error.contains(reason), "{identity}: {error}");
        }
        let unknown = Authority { known: Authority::new("another").known, ..authority };
        assert!(unknown.connect("", (names, NOW)).unwrap_err().contains("no known authority"));
    }

    #[test]
    fn a_hash_identifies_the_key_whatever_the_certificate_says() {
        let authority = Authority { known: Arc::new(RootCertStore::empty()), ..Authority::new("one") };
        let expired = (&["another.example.com"][..], [2000, 2001]);
        assert_eq!(authority.connect("#pin-sha256={HASH}", expired), Ok(()));
        let other = format!("#pin-sha256={}", Base64::encode_string(&[7; 32]));
        let error = authority.connect(&other, expired).unwrap_err();
        assert!(error.starts_with("its public key has the hash "), "{error}");
    }

    #[test]
    fn the_public_authorities_are_there() {
        assert!(public_authorities().len() > 50);
    }
}
