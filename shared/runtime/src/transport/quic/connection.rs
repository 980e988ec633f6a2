//! One QUIC connection, and the meaning of its errors.

use std::net::SocketAddr;
use std::time::Duration;

use bridge_protocol::wire::lane::{Lane, PREAMBLE_BYTES};
use bridge_protocol::wire::tcp::{LINK_KEY_BYTES, LINK_KEY_LABEL, LinkKey};
use quinn::{ConnectionError, RecvStream, SendStream, TransportErrorCode, VarInt};

use crate::telemetry::metrics::TransportKind;
use crate::transport::live_quic::LiveQuicLink;
use crate::transport::refusal::printable;
use crate::transport::tls::VerdictSlot;
use crate::transport::{
    BoxFuture, CloseCode, Closed, ConnectError, Connection, HANDSHAKE_TIME, LaneError, LaneStream, Packets,
    Refusal, VerifiedPeer,
};

/// A QUIC connection with a verified peer.
pub(super) struct QuicConnection {
    pub(super) quic: quinn::Connection,
    pub(super) peer: VerifiedPeer,
    /// Its entry in the register, if the peer dialled.
    pub(super) _live: Option<LiveQuicLink>,
}

impl Connection for QuicConnection {
    fn transport(&self) -> TransportKind {
        TransportKind::Quic
    }

    fn peer(&self) -> &VerifiedPeer {
        &self.peer
    }

    fn remote(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    fn open_lanes(&self, lanes: Vec<Lane>) -> BoxFuture<'_, Result<Vec<LaneStream>, LaneError>> {
        Box::pin(async move {
            let mut open = Vec::new();
            for lane in lanes {
                open.push(self.open(lane).await?);
            }
            Ok(open)
        })
    }

    fn accept_lane(&self) -> BoxFuture<'_, Result<LaneStream, LaneError>> {
        Box::pin(async {
            let (send, mut recv) =
                self.quic.accept_bi().await.map_err(|error| LaneError::Closed(closed(error)))?;
            let mut preamble = [0; PREAMBLE_BYTES];
            if recv.read_exact(&mut preamble).await.is_err() {
                return Err(self.lane_cut().await);
            }
            Ok(lane_stream(Lane::from_preamble(preamble)?, send, recv))
        })
    }

    fn close(&self, code: CloseCode, sentence: &str) {
        self.quic.close(VarInt::from_u32(code.number()), sentence.as_bytes());
    }

    fn closed(&self) -> BoxFuture<'static, Closed> {
        let quic = self.quic.clone();
        Box::pin(async move { closed(quic.closed().await) })
    }

    fn rtt(&self) -> Duration {
        self.quic.rtt()
    }

    fn quic_key(&self) -> Option<LinkKey> {
        link_key(&self.quic)
    }

    fn packets(&self) -> Option<Packets> {
        let stats = self.quic.stats();
        let (received, path) = (stats.udp_rx.datagrams, stats.path);
        Some(Packets { received, sent: path.sent_packets, lost: path.lost_packets })
    }
}

/// Returns the key of a link.
pub(super) fn link_key(quic: &quinn::Connection) -> Option<LinkKey> {
    let mut key = LinkKey([0; LINK_KEY_BYTES]);
    quic.export_keying_material(&mut key.0, LINK_KEY_LABEL, b"").ok().map(|()| key)
}

impl QuicConnection {
    async fn open(&self, lane: Lane) -> Result<LaneStream, LaneError> {
        let (mut send, recv) = self.quic.open_bi().await.map_err(|error| LaneError::Closed(closed(error)))?;
        if send.write_all(&lane.preamble()).await.is_err() {
            return Err(self.lane_cut().await);
        }
        Ok(lane_stream(lane, send, recv))
    }

    async fn lane_cut(&self) -> LaneError {
        self.cut().await.map_or(LaneError::Cut, LaneError::Closed)
    }
}

fn lane_stream(lane: Lane, send: SendStream, recv: RecvStream) -> LaneStream {
    let priority = match lane {
        Lane::Control => 1,
        Lane::Order(_) | Lane::Payment => 0,
        // A bootstrap fills the line for seconds. Orders must not wait for it.
        Lane::Feed => -1,
    };
    // It fails only on a closed stream, and then the first write fails too.
    let _closed_already = send.set_priority(priority);
    LaneStream { lane, reader: Box::new(recv), writer: Box::new(send) }
}

/// TLS alerts travel as QUIC transport errors 0x100 to 0x1ff (RFC 9001 section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    u8::try_from(u64::from(code).checked_sub(0x100)?).ok()
}

/// Returns why a handshake failed. The slot has our own verdict, if it was the cause.
pub(super) fn connect_error(error: ConnectionError, slot: &VerdictSlot) -> ConnectError {
    if let Some(Err(refusal)) = slot.get() {
        return ConnectError::Refused(refusal.clone());
    }
    if let ConnectionError::TransportError(ours) = &error
        && let Some(code) = alert(ours.code)
    {
        return ConnectError::Refused(Refusal::by_our_alert(code, &ours.reason));
    }
    match closed(error) {
        Closed::RefusedByPeer(refusal) => ConnectError::RefusedByPeer(refusal),
        Closed::TimedOut => ConnectError::NoAnswer(HANDSHAKE_TIME),
        other => ConnectError::Broken(other.to_string()),
    }
}

fn closed(error: ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => Closed::ByPeer {
            code: CloseCode::from_number(close.error_code.into_inner()),
            sentence: printable(&String::from_utf8_lossy(&close.reason)),
        },
        ConnectionError::ConnectionClosed(close) => {
            let said = String::from_utf8_lossy(&close.reason);
            match alert(close.error_code) {
                Some(code) => Closed::RefusedByPeer(Refusal::by_peers_alert(code, &said)),
                None => {
                    Closed::Broken(format!("the peer gave up: {} {}", close.error_code, printable(&said)))
                }
            }
        }
        ConnectionError::TimedOut => Closed::TimedOut,
        ConnectionError::Reset => Closed::Reset,
        ConnectionError::LocallyClosed => Closed::Here,
        other => Closed::Broken(other.to_string()),
    }
}
