//! Secured connections between agents, behind three small traits. QUIC is the only transport so
//! far; the traits prepare for TLS over TCP.
//!
//! A transport returns connections whose peers have proved their identity, and carries lanes on
//! them as plain byte streams. `tunnel` above it handles frames and does not know the transport.
//! Only the files in this folder use quinn, rustls and webpki, and only here a peer is refused for
//! its identity.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::wire::lane::{Lane, PreambleError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Our certificate and our trust, parsed and checked.
pub(crate) mod credentials;

/// Refusals by either side, with advice.
pub(crate) mod refusal;

/// Verification of a peer's certificate.
pub(crate) mod peer_verifier;

/// The cryptography of every handshake.
mod provider;

/// TLS 1.3 as Bridge uses it.
pub(crate) mod tls;

/// Lanes over QUIC.
pub(crate) mod quic;

/// UDP sockets whose buffer sizes are requested and checked.
mod udp;

/// The key by which a restarted agent resets old connections.
mod reset_key;

/// The congestion controller.
mod floor;

pub(crate) use peer_verifier::VerifiedPeer;
pub(crate) use refusal::Refusal;

/// A future that a trait object can return.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Longest time between the end of a connection's lanes and the reason of its end.
const CUT_TIME: Duration = Duration::from_millis(500);

/// A way to reach peers and to be reached by them.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Connects, and authenticates both sides.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, Result<Arc<dyn Connection>, ConnectError>>;

    /// Waits for the next peer that connects; `None` after the transport is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Incoming>>>;

    /// Returns the listening addresses, with the port that the system chose if the configured port
    /// is 0.
    fn listening(&self) -> Vec<SocketAddr>;

    /// Closes the remaining connections and waits for a limited time until the peers know.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A peer that asks for a connection, before any work for it. Dropping it turns the peer away.
pub(crate) trait Incoming: Send {
    /// Returns the peer's address.
    fn from(&self) -> SocketAddr;

    /// Returns true if the peer has proved that it receives at this address.
    fn is_proved(&self) -> bool;

    /// Makes the peer prove its address and connect again.
    fn prove(self: Box<Self>);

    /// Drops it without an answer.
    fn ignore(self: Box<Self>);

    /// Returns the rest of the handshake. It runs when awaited, so a slow one delays no other.
    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Arc<dyn Connection>, ConnectError>>;
}

/// A connection to an authenticated peer. Dropping the last handle closes it.
pub(crate) trait Connection: Send + Sync + 'static {
    /// Returns the name of the transport: `quic`.
    fn transport(&self) -> &'static str;

    /// Returns the peer's verified identity.
    fn peer(&self) -> &VerifiedPeer;

    /// Returns the peer's current address. A QUIC peer may move.
    fn remote(&self) -> SocketAddr;

    /// Opens a lane. Only the dialler does this.
    fn open_lane(&self, lane: Lane) -> BoxFuture<'_, Result<LaneStream, LaneError>>;

    /// Waits for the next lane that the peer opens.
    fn accept_lane(&self) -> BoxFuture<'_, Result<LaneStream, LaneError>>;

    /// Closes it at once, and undelivered data is lost. `sentence` goes to the peer's log.
    fn close(&self, code: CloseCode, sentence: &str);

    /// Waits for its end.
    fn closed(&self) -> BoxFuture<'static, Closed>;

    /// Returns why a lane ended. Usually the connection has ended, and its reason may arrive a
    /// moment after the lane's last bytes. Returns `None` if the connection lives on.
    fn cut(&self) -> BoxFuture<'static, Option<Closed>> {
        let closed = self.closed();
        Box::pin(async { timeout(CUT_TIME, closed).await.ok() })
    }

    /// Returns the smoothed round-trip time.
    fn rtt(&self) -> Duration;
}

/// One lane as a pair of byte streams, after the preamble.
pub(crate) struct LaneStream {
    /// Name of the lane.
    pub(crate) lane: Lane,
    /// Bytes from the peer.
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Bytes to the peer.
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Reasons why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// We refused the peer.
    #[error("refused the peer: {0}")]
    Refused(Refusal),
    /// The peer refused us.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// The peer did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The connection broke during the handshake.
    #[error("the handshake broke off: {0}")]
    Broken(String),
    /// Something on this machine prevents it.
    #[error("{0}")]
    Local(String),
}

/// Reasons why a stream became no lane.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    /// Its first eight bytes are wrong.
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    /// It ended before its first eight bytes.
    #[error("a stream ended before its lane preamble")]
    Cut,
    /// The connection has ended.
    #[error("{0}")]
    Closed(Closed),
}

/// Reasons why a connection has ended.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Closed {
    /// The peer closed it.
    #[error("the peer closed the link: {sentence}")]
    ByPeer {
        /// The peer's code; `None` for a code of a later version.
        code: Option<CloseCode>,
        /// The peer's text.
        sentence: String,
    },
    /// The peer refused our certificate after our side of the handshake was complete. TLS 1.3
    /// allows a listener to do so.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// Nothing arrived for the idle timeout.
    #[error("nothing was heard from the peer for the idle timeout")]
    TimedOut,
    /// The peer has restarted and does not know this connection.
    #[error("the peer has restarted")]
    Reset,
    /// This side closed it.
    #[error("closed here")]
    Here,
    /// The transport failed.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Codes that an agent sends to its peer when it closes a connection. The numbers are part of the
/// wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// Orderly end.
    Done = 0,
    /// There is no common protocol version.
    Incompatible = 1,
    /// The peer broke the protocol.
    Violation = 2,
    /// The peer's certificate is no longer accepted.
    Identity = 3,
    /// The peer does not read the data sent to it.
    NotReading = 4,
    /// The link was not ready in time.
    TooSlow = 5,
    /// The peer holds or begins more links than it may.
    TooMany = 6,
}

impl CloseCode {
    /// Returns the number on the wire.
    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// Reads a number from the wire.
    pub(crate) fn from_number(number: u64) -> Option<Self> {
        let all = [
            Self::Done,
            Self::Incompatible,
            Self::Violation,
            Self::Identity,
            Self::NotReading,
            Self::TooSlow,
            Self::TooMany,
        ];
        all.into_iter().find(|code| u64::from(code.number()) == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_code_is_read_back_and_a_later_one_is_nothing() {
        for number in 0..7 {
            assert_eq!(CloseCode::from_number(number).map(|code| u64::from(code.number())), Some(number));
        }
        assert_eq!(CloseCode::from_number(7), None);
    }
}
