//! TLS handshakes over TCP, on both sides, and the meaning of their errors.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::wire::tcp::{LINK_KEY_BYTES, LINK_KEY_LABEL, LinkKey};
use rustls::pki_types::ServerName;
use rustls::{Error, PeerIncompatible};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::transport::refusal::alert;
use crate::transport::tls::{ALPN, TlsConfigs, VerdictSlot, unusable};
use crate::transport::{Closed, ConnectError, Refusal, VerifiedPeer};

/// Longest wait until a refused peer has read the alert.
const LINGER_TIME: Duration = Duration::from_millis(200);

/// Most reads meanwhile.
const LINGER_READS: usize = 64;

/// A TLS connection with a verified peer.
pub(super) struct Established {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) peer: VerifiedPeer,
}

/// Does the handshake of a connection that we began.
pub(super) async fn dial(tls: &TlsConfigs, stream: TcpStream) -> Result<Established, ConnectError> {
    let slot = VerdictSlot::default();
    let connector = TlsConnector::from(Arc::new(tls.client(slot.clone())?));
    // The name is not sent (no SNI) and not compared: peers are identified by their SPIFFE ID.
    let name = ServerName::try_from("bridge").map_err(unusable)?;
    match connector.connect(name, stream).await {
        Ok(stream) => established(stream.into(), &slot),
        Err(error) => Err(connect_error(&error, &slot)),
    }
}

/// Does the handshake of a connection that a peer began.
pub(super) async fn accept(tls: &TlsConfigs, stream: TcpStream) -> Result<Established, ConnectError> {
    let slot = VerdictSlot::default();
    let acceptor = TlsAcceptor::from(Arc::new(tls.server(slot.clone())?));
    match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => established(stream.into(), &slot),
        Err((error, stream)) => {
            linger(stream).await;
            Err(connect_error(&error, &slot))
        }
    }
}

fn established(stream: TlsStream<TcpStream>, slot: &VerdictSlot) -> Result<Established, ConnectError> {
    // Unlike QUIC, TLS over TCP lets a peer leave the protocol's name out.
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        let refusal = Refusal::by_our_alert(alert::NO_APPLICATION_PROTOCOL, "it names no protocol");
        return Err(ConnectError::Refused(refusal));
    }
    match slot.get() {
        Some(Ok(peer)) => Ok(Established { stream, peer: peer.clone() }),
        // rustls completes no handshake without the verifier's consent.
        _ => Err(ConnectError::Broken("the handshake ended without a verdict on the peer".to_owned())),
    }
}

impl Established {
    /// Returns the key of the link whose anchor this connection is.
    pub(super) fn link_key(&self) -> Result<LinkKey, ConnectError> {
        let key = [0; LINK_KEY_BYTES];
        let exported = match &self.stream {
            TlsStream::Client(stream) => stream.get_ref().1.export_keying_material(key, LINK_KEY_LABEL, None),
            TlsStream::Server(stream) => stream.get_ref().1.export_keying_material(key, LINK_KEY_LABEL, None),
        };
        exported.map(LinkKey).map_err(unusable)
    }
}

/// Waits shortly until the peer has closed. A socket that is closed with unread data resets the
/// connection, and the reset may overtake the alert with the reason.
pub(super) async fn linger(mut stream: TcpStream) {
    let drained = async {
        let mut unread = [0; 1_024];
        let _closed_already = stream.shutdown().await;
        for _ in 0..LINGER_READS {
            if !matches!(stream.read(&mut unread).await, Ok(1..)) {
                break;
            }
        }
    };
    let _slow = timeout(LINGER_TIME, drained).await;
}

/// Returns why a handshake failed. The slot has our own verdict, if it was the cause.
fn connect_error(error: &io::Error, slot: &VerdictSlot) -> ConnectError {
    if let Some(Err(refusal)) = slot.get() {
        return ConnectError::Refused(refusal.clone());
    }
    match tls_error(error) {
        Some(Error::AlertReceived(_)) | None => match closed(error) {
            Closed::RefusedByPeer(refusal) => ConnectError::RefusedByPeer(refusal),
            other => ConnectError::Broken(other.to_string()),
        },
        Some(ours) => ConnectError::Refused(Refusal::by_our_alert(alert_for(ours), &ours.to_string())),
    }
}

/// Returns why an established connection ended, by the error of a read or a write.
pub(super) fn closed(error: &io::Error) -> Closed {
    if let Some(Error::AlertReceived(code)) = tls_error(error) {
        return Closed::RefusedByPeer(Refusal::by_peers_alert(u8::from(*code), &format!("{code:?}")));
    }
    match error.kind() {
        io::ErrorKind::TimedOut => Closed::TimedOut,
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => gone(),
        _ => Closed::Broken(error.to_string()),
    }
}

/// The end of a connection without a word.
pub(super) fn gone() -> Closed {
    Closed::Broken("the other end is gone: the peer has stopped, or something between ended it".to_owned())
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Returns the alert that rustls sends for this error. Only those that show a reason differ.
fn alert_for(error: &Error) -> u8 {
    match error {
        Error::NoCertificatesPresented => alert::CERTIFICATE_REQUIRED,
        Error::NoApplicationProtocol => alert::NO_APPLICATION_PROTOCOL,
        Error::PeerIncompatible(
            PeerIncompatible::NoKxGroupsInCommon
            | PeerIncompatible::NamedGroupsExtensionRequired
            | PeerIncompatible::KeyShareExtensionRequired
            | PeerIncompatible::NoCipherSuitesInCommon,
        ) => alert::HANDSHAKE_FAILURE,
        Error::PeerIncompatible(_) => alert::PROTOCOL_VERSION,
        _ => alert::DECODE_ERROR,
    }
}
