//! A peer that keeps none of the rules: QUIC or TLS over TCP with any certificate or none, any
//! protocol name, and any bytes on any lane.

use std::net::SocketAddr;
use std::sync::Arc;

use bridge_certs::Issued;
use bridge_protocol::wire::control::{Control, Hello};
use bridge_protocol::wire::frame::{self, CONTROL_FRAME_BYTES_MAX, FrameDecoder};
use bridge_protocol::wire::lane::{Lane, PREAMBLE_BYTES};
use bridge_protocol::wire::tcp::{
    ANCHOR_FRAME_BYTES_MAX, ANCHOR_PREAMBLE, Anchor, LINK_KEY_BYTES, LINK_KEY_LABEL, LinkKey, Ping, Pong,
    anchor,
};
use bridge_runtime::config::TransportChoice;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::agents::{DEADLINE, under_test};

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

    /// Dials an agent over the transport under test. TLS 1.3 lets a client finish before the server
    /// verifies it, so a refusal may show only in `end`. Returns `None` if it shows at once.
    pub(crate) async fn dial(&self, to: SocketAddr) -> Option<Connection> {
        match under_test() {
            TransportChoice::Tcp => Some(Connection::Tcp(self.anchor(to).await?)),
            _ => Some(Connection::Quic(self.dial_quic(to).await.ok()?)),
        }
    }

    /// Dials an agent over QUIC.
    pub(crate) async fn dial_quic(&self, to: SocketAddr) -> Result<quinn::Connection, ConnectionError> {
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        endpoint.connect_with(self.client_config(), to, "stranger").unwrap().await
    }

    /// Connects an anchor, and waits until the agent answers.
    async fn anchor(&self, to: SocketAddr) -> Option<TcpLink> {
        let connector = TlsConnector::from(Arc::new(self.client_tls()));
        let stream = TcpStream::connect(to).await.unwrap();
        let mut stream = connector.connect("stranger".try_into().unwrap(), stream).await.ok()?;
        let key =
            stream.get_ref().1.export_keying_material([0; LINK_KEY_BYTES], LINK_KEY_LABEL, None).unwrap();
        stream.write_all(&ANCHOR_PREAMBLE).await.ok()?;
        let max = ANCHOR_FRAME_BYTES_MAX;
        let ping = frame::to_bytes(&Anchor::from(Ping { number: 1 }), max).unwrap();
        stream.write_all(&ping).await.ok()?;
        stream.flush().await.ok()?;
        let mut anchor = AnchorStream { stream: stream.into(), decoder: FrameDecoder::new(max) };
        let first = loop {
            match anchor.next().await?.kind {
                Some(anchor::Kind::Pong(_)) => break None,
                Some(anchor::Kind::Close(close)) => break Some(close),
                _ => {}
            }
        };
        let (end, ended) = watch::channel(first.map(|close| Some((close.code, close.sentence))));
        let (silence, silent) = watch::channel(false);
        tokio::spawn(anchor.keep(end, silent));
        Some(TcpLink { key: LinkKey(key), to, connector, ended, silence })
    }

    /// Returns the stranger's configuration for dialling over QUIC.
    pub(crate) fn client_config(&self) -> quinn::ClientConfig {
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(self.client_tls()).unwrap()))
    }

    /// Returns the stranger's TLS configuration for dialling.
    pub(crate) fn client_tls(&self) -> rustls::ClientConfig {
        let builder = rustls::ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous));
        let mut tls = match self.certificate {
            Some(issued) => builder.with_client_auth_cert(chain(issued), key(issued)).unwrap(),
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = self.protocols();
        tls
    }

    /// Listens over the transport under test, and accepts every handshake.
    pub(crate) async fn listen(&self) -> SocketAddr {
        if under_test() == TransportChoice::Tcp {
            let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(self.server_tls()));
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    drop(acceptor.accept(stream).await);
                }
            });
            return address;
        }
        let endpoint = self.endpoint();
        let address = endpoint.local_addr().unwrap();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                drop(incoming.await);
            }
        });
        address
    }

    /// Listens over QUIC.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let crypto = QuicServerConfig::try_from(self.server_tls()).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        Endpoint::server(config, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    fn server_tls(&self) -> rustls::ServerConfig {
        let issued = self.certificate.expect("a listener has a certificate");
        let mut tls = rustls::ServerConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Credulous))
            .with_single_cert(chain(issued), key(issued))
            .unwrap();
        tls.alpn_protocols = self.protocols();
        tls
    }

    fn protocols(&self) -> Vec<Vec<u8>> {
        if self.alpn.is_empty() { Vec::new() } else { vec![self.alpn.to_vec()] }
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        Arc::new(CryptoProvider { kx_groups: vec![self.group], ..aws_lc_rs::default_provider() })
    }
}

/// A connection to an agent, without any rule.
pub(crate) enum Connection {
    Quic(quinn::Connection),
    Tcp(TcpLink),
}

/// A link over TCP. Its anchor answers pings until this is dropped.
pub(crate) struct TcpLink {
    pub(crate) key: LinkKey,
    to: SocketAddr,
    connector: TlsConnector,
    /// The agent's code and sentence, after the anchor has ended.
    ended: watch::Receiver<Option<Option<(u32, String)>>>,
    silence: watch::Sender<bool>,
}

struct AnchorStream {
    stream: TlsStream<TcpStream>,
    decoder: FrameDecoder,
}

impl AnchorStream {
    /// Answers pings until the end, or until nobody holds the link.
    async fn keep(
        mut self,
        end: watch::Sender<Option<Option<(u32, String)>>>,
        mut silent: watch::Receiver<bool>,
    ) {
        if end.borrow().is_some() {
            return;
        }
        let how = loop {
            let message = tokio::select! {
                message = self.next() => message,
                changed = silent.changed() => match changed {
                    // The connection stays, and says nothing.
                    Ok(()) => std::future::pending().await,
                    Err(_) => return,
                },
            };
            match message.map(|message| message.kind) {
                Some(Some(anchor::Kind::Close(close))) => break Some((close.code, close.sentence)),
                Some(_) => {}
                None => break None,
            }
        };
        end.send_replace(Some(how));
    }

    /// Returns the agent's next message, and answers its pings.
    async fn next(&mut self) -> Option<Anchor> {
        loop {
            if let Some(payload) = self.decoder.next_frame().unwrap() {
                let message: Anchor = frame::decode(payload).unwrap();
                if let Some(anchor::Kind::Ping(Ping { number })) = message.kind {
                    let pong = Anchor::from(Pong { number });
                    let bytes = frame::to_bytes(&pong, ANCHOR_FRAME_BYTES_MAX).unwrap();
                    self.stream.write_all(&bytes).await.ok()?;
                    self.stream.flush().await.ok()?;
                }
                return Some(message);
            }
            if self.stream.read_buf(self.decoder.buffer_mut()).await.ok()? == 0 {
                return None;
            }
        }
    }
}

impl Connection {
    /// Opens a stream with these first bytes. Over TCP the link's key follows the first eight.
    pub(crate) async fn open(&self, first: &[u8]) -> Stream {
        match self {
            Self::Quic(connection) => {
                let (mut send, recv) = connection.open_bi().await.unwrap();
                send.write_all(first).await.unwrap();
                Stream::of(send, recv)
            }
            Self::Tcp(link) => {
                let (preamble, rest) = first.split_at(PREAMBLE_BYTES);
                link.open(&[preamble, &link.key.0, rest].concat()).await
            }
        }
    }

    /// Waits for the end of the connection. Returns the agent's code and sentence, if it gave any.
    pub(crate) async fn end(&self) -> Option<(u32, String)> {
        match self {
            Self::Quic(connection) => {
                match timeout(DEADLINE, connection.closed()).await.expect("an end in time") {
                    ConnectionError::ApplicationClosed(close) => {
                        let code = u32::try_from(close.error_code.into_inner()).unwrap();
                        Some((code, String::from_utf8_lossy(&close.reason).into_owned()))
                    }
                    _ => None,
                }
            }
            Self::Tcp(link) => {
                let mut ended = link.ended.clone();
                let ended = timeout(DEADLINE, ended.wait_for(Option::is_some)).await.expect("an end in time");
                ended.ok().and_then(|ended| ended.clone()).flatten()
            }
        }
    }

    /// Returns the link over TCP.
    pub(crate) fn tcp(&self) -> &TcpLink {
        match self {
            Self::Tcp(link) => link,
            Self::Quic(_) => panic!("the connection is QUIC's"),
        }
    }
}

impl TcpLink {
    /// Answers no more pings, and keeps the connection.
    pub(crate) fn fall_silent(&self) {
        self.silence.send_replace(true);
    }

    /// Opens a connection beside the anchor, with these first bytes.
    pub(crate) async fn open(&self, first: &[u8]) -> Stream {
        let stream = TcpStream::connect(self.to).await.unwrap();
        let mut stream = self.connector.connect("stranger".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(first).await.unwrap();
        stream.flush().await.unwrap();
        let (recv, send) = tokio::io::split(stream);
        Stream::of(send, recv)
    }
}

/// A stream that the stranger opened or accepted.
pub(crate) struct Stream {
    pub(crate) send: Box<dyn AsyncWrite + Send + Unpin>,
    recv: Box<dyn AsyncRead + Send + Unpin>,
    decoder: FrameDecoder,
}

impl Stream {
    fn of(
        send: impl AsyncWrite + Send + Unpin + 'static,
        recv: impl AsyncRead + Send + Unpin + 'static,
    ) -> Self {
        let decoder = FrameDecoder::new(CONTROL_FRAME_BYTES_MAX);
        Self { send: Box::new(send), recv: Box::new(recv), decoder }
    }

    pub(crate) async fn open(connection: &Connection, first: &[u8]) -> Self {
        connection.open(first).await
    }

    pub(crate) async fn accept(connection: &quinn::Connection) -> Self {
        let (send, mut recv) = connection.accept_bi().await.unwrap();
        recv.read_exact(&mut [0; 8]).await.unwrap();
        Self::of(send, recv)
    }

    /// Writes these bytes at once.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) {
        self.send.write_all(bytes).await.unwrap();
        self.send.flush().await.unwrap();
    }

    pub(crate) async fn write(&mut self, message: impl Into<Control>) {
        let bytes = frame::to_bytes(&message.into(), CONTROL_FRAME_BYTES_MAX).unwrap();
        self.write_all(&bytes).await;
    }

    /// Returns the next control message, or `None` after the connection has ended.
    pub(crate) async fn read(&mut self) -> Option<Control> {
        loop {
            if let Some(payload) = self.decoder.next_frame().unwrap() {
                return Some(frame::decode(payload).unwrap());
            }
            let read = timeout(DEADLINE, self.recv.read_buf(self.decoder.buffer_mut())).await;
            if read.expect("bytes in time").ok()? == 0 {
                return None;
            }
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
