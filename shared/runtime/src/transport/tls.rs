//! TLS 1.3 for both sides: mutual, one provider, no tickets, no 0-RTT, post-quantum unless
//! configured otherwise.
//!
//! Every handshake gets a configuration of its own. So each has its own [`VerdictSlot`], and new
//! certificates and revocation lists apply from the next handshake on. There is no session
//! resumption: a resumed session would skip the certificate check and let a revoked agent back in.

use std::sync::{Arc, OnceLock};

use bridge_protocol::domain::identity::SpiffeId;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, version,
};
use tokio::sync::watch;

use super::ConnectError;
use super::credentials::Credentials;
use super::peer_verifier::{PeerSide, PeerVerifier, VerifiedPeer};
use super::provider::provider_for;
use super::refusal::Refusal;
use crate::config::PostQuantum;
use crate::telemetry::metrics::RefusalReason;

/// Application protocol (RFC 7301) that both sides must name.
pub(crate) const ALPN: &[u8] = b"bridge/1";

/// Slot for a handshake's verdict on the peer. It stays empty if the handshake does not get that
/// far.
pub(crate) type VerdictSlot = Arc<OnceLock<Result<VerifiedPeer, Refusal>>>;

/// Makes the configuration of each handshake, with the credentials of that moment.
#[derive(Debug, Clone)]
pub(crate) struct TlsConfigs {
    /// Our certificate and trust, with their later changes.
    pub(crate) credentials: watch::Receiver<Arc<Credentials>>,
    /// Peers that may link; empty for all.
    pub(crate) allow: Arc<[SpiffeId]>,
    /// Requirement on the key exchange.
    pub(crate) post_quantum: PostQuantum,
}

impl TlsConfigs {
    /// Returns the configuration of one handshake that we start. The verdict on the peer goes to
    /// the slot.
    pub(super) fn client(&self, slot: VerdictSlot) -> Result<ClientConfig, ConnectError> {
        client_config(self.judge(), self.post_quantum, slot).map_err(unusable)
    }

    /// Returns the configuration of one handshake that a peer starts.
    pub(super) fn server(&self, slot: VerdictSlot) -> Result<ServerConfig, ConnectError> {
        server_config(self.judge(), self.post_quantum, slot).map_err(unusable)
    }

    fn judge(&self) -> PeerVerifier {
        PeerVerifier::new(self.credentials.borrow().clone(), self.allow.clone())
    }
}

/// Returns the error for a configuration that rustls or quinn does not take.
pub(super) fn unusable(error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Local(format!("the TLS configuration cannot be used: {error}"))
}

fn client_config(
    judge: PeerVerifier,
    post_quantum: PostQuantum,
    slot: VerdictSlot,
) -> Result<ClientConfig, Error> {
    let certified = judge.credentials().certified.clone();
    let verifier = Arc::new(AgentVerifier { judge, slot });
    let mut config = ClientConfig::builder_with_provider(provider_for(post_quantum))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // Agents are identified by their SPIFFE ID. A host name in the clear would only inform an
    // eavesdropper.
    config.enable_sni = false;
    Ok(config)
}

fn server_config(
    judge: PeerVerifier,
    post_quantum: PostQuantum,
    slot: VerdictSlot,
) -> Result<ServerConfig, Error> {
    let certified = judge.credentials().certified.clone();
    let verifier = Arc::new(AgentVerifier { judge, slot });
    let mut config = ServerConfig::builder_with_provider(provider_for(post_quantum))
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Verifies the peer in a handshake, on either side, and leaves the verdict in the slot.
#[derive(Debug)]
struct AgentVerifier {
    judge: PeerVerifier,
    slot: VerdictSlot,
}

impl AgentVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: PeerSide,
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).cloned().collect();
        let verdict = self.judge.judge(&chain, side, now);
        let answer = verdict.as_ref().map(drop).map_err(|refusal| alert_for(refusal.reason).into());
        // A handshake asks once. If it asked twice, the first verdict would stay, and the second
        // could only refuse.
        let _first_stands = self.slot.set(verdict);
        answer
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, &algorithms)
    }
}

/// Returns the error from which rustls makes the alert for the peer.
fn alert_for(reason: RefusalReason) -> CertificateError {
    match reason {
        RefusalReason::Expired => CertificateError::Expired,
        RefusalReason::NotYetValid => CertificateError::NotValidYet,
        RefusalReason::Revoked => CertificateError::Revoked,
        RefusalReason::UnknownCa => CertificateError::UnknownIssuer,
        RefusalReason::StaleCrl => CertificateError::ExpiredRevocationList,
        RefusalReason::WrongRole | RefusalReason::NotAllowed => {
            CertificateError::ApplicationVerificationFailure
        }
        _ => CertificateError::BadEncoding,
    }
}

impl ServerCertVerifier for AgentVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end_entity, intermediates, PeerSide::Server, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for AgentVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, PeerSide::Client, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
