//! Secured connections between agents, over QUIC and over TCP, behind three small traits.
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
use bridge_protocol::wire::tcp::LinkKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::telemetry::metrics::TransportKind;

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
mod quic;

/// Lanes over TCP.
mod tcp;

/// Links over QUIC that a link over TCP may replace.
mod live_quic;

/// The transports that the configuration asks for, as one.
pub(crate) mod transports;

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

/// Queue of the peers that connect, over all transports.
type Arrivals = mpsc::Sender<Box<dyn Incoming>>;

/// Longest time between the end of a connection's lanes and the reason of its end.
const CUT_TIME: Duration = Duration::from_millis(500);

/// Timeout of a handshake that we begin: three round trips across the world with one lost packet.
/// One of them proves our address.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Timeout of a handshake that a peer begins. It takes one round trip less, and occupies a place
/// meanwhile.
const ACCEPT_TIME: Duration = Duration::from_secs(3);

/// Longest wait at the end until the peers know that their connections are closed.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// Interval that is below the usual shortest timeouts of NAT and firewalls.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(3);

/// Signs of life in a row that must be lost before an idle link counts as dead.
const KEEP_ALIVES_IN_IDLE_TIMEOUT: u32 = 3;

/// Returns the interval of the signs of life on a connection with this idle timeout.
fn keep_alive_interval(idle_timeout: Duration) -> Duration {
    KEEP_ALIVE_MAX.min(idle_timeout / KEEP_ALIVES_IN_IDLE_TIMEOUT)
}

/// A way to reach peers and to be reached by them. Peers that connect go into a queue that all
/// transports share.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Connects, and authenticates both sides.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, Result<Arc<dyn Connection>, ConnectError>>;

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

    /// Makes it come again later. It gets no answer now.
    fn wait(self: Box<Self>);

    /// Drops it without an answer.
    fn ignore(self: Box<Self>);

    /// Returns the rest of the handshake. It runs when awaited, so a slow one delays no other.
    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Admitted, ConnectError>>;
}

/// Result of a handshake that a peer began.
pub(crate) enum Admitted {
    /// A new connection, for a link.
    Link(Arc<dyn Connection>),
    /// A lane, which has joined its link. Only over TCP, where a lane has a handshake of its own.
    Lane,
}

/// A connection to an authenticated peer. Dropping the last handle closes it.
pub(crate) trait Connection: Send + Sync + 'static {
    /// Returns its transport.
    fn transport(&self) -> TransportKind;

    /// Returns the peer's verified identity.
    fn peer(&self) -> &VerifiedPeer;

    /// Returns the peer's current address. A QUIC peer may move.
    fn remote(&self) -> SocketAddr;

    /// Opens lanes, and returns them in the same order. Only the dialler does this.
    fn open_lanes(&self, lanes: Vec<Lane>) -> BoxFuture<'_, Result<Vec<LaneStream>, LaneError>>;

    /// Waits for the next lane that the peer opens. The control lane is the first.
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

    /// Returns its packets since its beginning, if the transport counts them.
    fn packets(&self) -> Option<Packets> {
        None
    }

    /// Returns the key of a link over QUIC, for [`Self::replace`].
    fn quic_key(&self) -> Option<LinkKey> {
        None
    }

    /// Makes the peer end its side of another link, which this link over TCP replaces.
    fn replace(&self, _quic: LinkKey) {}
}

/// Packets of a connection since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packets {
    /// Datagrams that came from the peer.
    pub(crate) received: u64,
    /// Packets that were sent.
    pub(crate) sent: u64,
    /// Packets of them that were lost.
    pub(crate) lost: u64,
}

/// Reasons why the transports cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The reset key cannot be kept in the state directory.
    #[error("cannot keep the QUIC reset key in the state directory: {0}")]
    ResetKey(std::io::Error),
    /// A listening address cannot be bound.
    #[error("cannot listen on {protocol} {address}: {error}")]
    Listen {
        /// UDP or TCP.
        protocol: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
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
