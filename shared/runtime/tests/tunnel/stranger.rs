//! A peer that keeps none of the rules: QUIC with any certificate or none, any protocol name, and
//! any bytes on any lane.

use std::net::SocketAddr;
use std::sync::Arc;

use bridge_certs::Issued;
use bridge_protocol::wire::control::{Control, Hello};
use bridge_protocol::wire::frame::{self, CONTROL_FRAME_BYTES_MAX, FrameDecoder};
use bridge_protocol::wire::lane::Lane;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tokio::time::timeout;

use crate::agents::DEADLINE;

/// The stranger's certificate, protocol name and key exchange.
pub(crate) struct Stranger<'a> {
    pub(crate) certificate: Option<&'a Issued>,
    pub(crate) alpn: &'static [u8],
    pub(crate) group: &'static dyn SupportedKxGroup,
}

impl<'a> Stranger<'a> {
    /// Returns a stranger that keeps all rules until the test changes it.
    pub(crate) fn with(certificate: &'a Issued) -> Self {
        Self { certificate: Some(certificate), alpn: b"bridge/1", group: aws_lc_rs::kx_group::X25519MLKEM768 }
    }

    /// Dials an agent. TLS 1.3 lets a client finish before the server verifies it, so a refusal may
    /// show only in `closed()`.
    pub(crate) async fn dial(&self, to: SocketAddr) -> Result<Connection, ConnectionError> {
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.connect_with(self.client_config(), to, "stranger").unwrap().await
    }

    /// Returns the stranger's configuration for dialling.
    pub(crate) fn client_config(&self) -> quinn::ClientConfig {
        let builder = rustls::ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous));
        let mut tls = match self.certificate {
            Some(issued) => builder.with_client_auth_cert(chain(issued), key(issued)).unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![self.alpn.to_vec()];
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
    }

    /// Listens as an agent does.
    pub(crate) fn listen(&self) -> Endpoint {
        let issued = self.certificate.expect("a listener has a certificate");
        let mut tls = rustls::ServerConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Credulous))
            .with_single_cert(chain(issued), key(issued))
            .unwrap();
        tls.alpn_protocols = vec![self.alpn.to_vec()];
        let config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(CryptoProvider { kx_groups: vec![self.group], ..aws_lc_rs::default_provider() })
    }
}

/// A stream that the stranger opened or accepted.
pub(crate) struct Stream {
    pub(crate) send: SendStream,
    recv: RecvStream,
    decoder: FrameDecoder,
}

impl Stream {
    pub(crate) async fn open(connection: &Connection, first: &[u8]) -> Self {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(first).await.unwrap();
        Self { send, recv, decoder: FrameDecoder::new(CONTROL_FRAME_BYTES_MAX) }
    }

    pub(crate) async fn accept(connection: &Connection) -> Self {
        let (send, mut recv) = connection.accept_bi().await.unwrap();
        recv.read_exact(&mut [0; 8]).await.unwrap();
        Self { send, recv, decoder: FrameDecoder::new(CONTROL_FRAME_BYTES_MAX) }
    }

    pub(crate) async fn write(&mut self, message: impl Into<Control>) {
        let bytes = frame::to_bytes(&message.into(), CONTROL_FRAME_BYTES_MAX).unwrap();
        self.send.write_all(&bytes).await.unwrap();
    }

    /// Returns the next control message, or `None` after the connection has ended.
    pub(crate) async fn read(&mut self) -> Option<Control> {
        loop {
            if let Some(payload) = self.decoder.next_frame().unwrap() {
                return Some(frame::decode(payload).unwrap());
            }
            let mut bytes = [0; 1024];
            let read = timeout(DEADLINE, self.recv.read(&mut bytes)).await.expect("bytes in time").ok()??;
            self.decoder.buffer_mut().extend_from_slice(&bytes[..read]);
        }
    }
}

/// Returns a hello that announces this many order lanes.
pub(crate) fn hello(order_lanes: u32) -> Hello {
    Hello { order_lanes, ..Hello::of_this_build("stranger") }
}

/// Brings a link up as a dialler does. Returns the control lane and the order lanes.
pub(crate) async fn link(connection: &Connection, order_lanes: u8) -> (Stream, Vec<Stream>) {
    let mut control = Stream::open(connection, &Lane::Control.preamble()).await;
    control.write(hello(u32::from(order_lanes))).await;
    let mut orders = Vec::new();
    for index in 0..order_lanes {
        orders.push(Stream::open(connection, &Lane::Order(index).preamble()).await);
    }
    control.read().await.expect("a hello in return");
    (control, orders)
}

/// Waits for the end of the connection. Returns the agent's reason.
pub(crate) async fn end(connection: &Connection) -> ConnectionError {
    timeout(DEADLINE, connection.closed()).await.expect("an end in time")
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap()]
}

fn key(issued: &Issued) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap()
}

/// Accepts every certificate.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

impl ClientCertVerifier for Credulous {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
