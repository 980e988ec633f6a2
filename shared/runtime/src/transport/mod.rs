//! Secured connections between agents, behind three small traits. QUIC is the one transport there is; the traits are there for
//! TLS over TCP, which is to come beside it.
//!
//! A transport hands out connections whose peer has proved who it is, and carries lanes on them as plain byte streams;
//! `tunnel` above it speaks frames and never learns what carries them. Only the files in this folder name quinn, rustls
//! and webpki, and they are the only place where a peer is refused for who it is.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::wire::lane::{Lane, PreambleError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Who may be who: certificates, trust, revocation, as parsed and checked material.
pub(crate) mod credentials;

/// Why a peer is refused, or refused us, and what to do about it.
pub(crate) mod refusal;

/// Judging a peer's certificate.
pub(crate) mod peer_verifier;

/// The cryptography of every handshake.
mod provider;

/// TLS 1.3 as Bridge uses it.
pub(crate) mod tls;

/// Lanes over QUIC.
pub(crate) mod quic;

/// UDP sockets with buffers that were asked for and checked.
mod udp;

/// The key that lets a restarted agent tell its peers so.
mod reset_key;

/// The congestion controller.
mod floor;

pub(crate) use peer_verifier::VerifiedPeer;
pub(crate) use refusal::Refusal;

/// A future that a trait object can return.
pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How long the reason of a connection's end may stay behind the end of its lanes.
const CUT_TIME: Duration = Duration::from_millis(500);

/// One way to reach a peer and to be reached.
pub(crate) trait Transport: Send + Sync + 'static {
    /// Connects, proves who we are and learns who the peer is.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, Result<Arc<dyn Connection>, ConnectError>>;

    /// The next peer that connects; `None` once the transport is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Box<dyn Incoming>>>;

    /// Where this transport listens, with the port the system chose where 0 was configured.
    fn listening(&self) -> Vec<SocketAddr>;

    /// Closes what is left and waits, bounded, until the peers have been told.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A peer that asks for a connection. Nothing was spent on it yet. Dropping it turns it away.
pub(crate) trait Incoming: Send {
    /// Where from.
    fn from(&self) -> SocketAddr;

    /// Whether the address is its own: what it is sent there, it has received.
    fn is_proved(&self) -> bool;

    /// Has it prove that, and connect again.
    fn prove(self: Box<Self>);

    /// Leaves it without an answer.
    fn ignore(self: Box<Self>);

    /// The rest of the handshake, which runs when it is awaited, so that a slow one holds up no other.
    fn handshake(self: Box<Self>) -> BoxFuture<'static, Result<Arc<dyn Connection>, ConnectError>>;
}

/// A connection to a peer that has proved who it is. Dropping the last handle closes it.
pub(crate) trait Connection: Send + Sync + 'static {
    /// What carries it: `quic`.
    fn transport(&self) -> &'static str;

    /// Who the peer has proved to be.
    fn peer(&self) -> &VerifiedPeer;

    /// The peer's address now; a QUIC peer may move.
    fn remote(&self) -> SocketAddr;

    /// Opens a lane; the dialler's part.
    fn open_lane(&self, lane: Lane) -> BoxFuture<'_, Result<LaneStream, LaneError>>;

    /// Waits for the next lane that the peer opens.
    fn accept_lane(&self) -> BoxFuture<'_, Result<LaneStream, LaneError>>;

    /// Ends it at once: what was not delivered yet is lost. `sentence` reaches the peer's log.
    fn close(&self, code: CloseCode, sentence: &str);

    /// Waits for its end.
    fn closed(&self) -> BoxFuture<'static, Closed>;

    /// Why a lane ended or broke: mostly since the connection does, whose reason may be a moment behind the lane's last
    /// bytes. `None` if the connection lives on.
    fn cut(&self) -> BoxFuture<'static, Option<Closed>> {
        let closed = self.closed();
        Box::pin(async { timeout(CUT_TIME, closed).await.ok() })
    }

    /// The smoothed round-trip time.
    fn rtt(&self) -> Duration;
}

/// One lane as a pair of byte streams, behind the preamble.
pub(crate) struct LaneStream {
    /// Which lane.
    pub(crate) lane: Lane,
    /// From the peer.
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// To the peer.
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// We refused the peer.
    #[error("refused the peer: {0}")]
    Refused(Refusal),
    /// The peer refused us.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// Nobody answered.
    #[error("no answer within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The connection broke during the handshake.
    #[error("the handshake broke off: {0}")]
    Broken(String),
    /// Something on this machine prevents it.
    #[error("{0}")]
    Local(String),
}

/// Why a stream became no lane.
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

/// Why a connection has ended.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Closed {
    /// The peer closed it.
    #[error("the peer closed the link: {sentence}")]
    ByPeer {
        /// What it meant by it; `None` for a code that a later version added.
        code: Option<CloseCode>,
        /// What it said.
        sentence: String,
    },
    /// The peer refused our certificate after our side of the handshake was complete, as TLS 1.3 lets a listener do.
    #[error("refused by the peer: {0}")]
    RefusedByPeer(Refusal),
    /// Nothing was heard for the idle timeout.
    #[error("nothing was heard from the peer for the idle timeout")]
    TimedOut,
    /// The peer has restarted and knows nothing of this connection.
    #[error("the peer has restarted")]
    Reset,
    /// This side closed it.
    #[error("closed here")]
    Here,
    /// The transport failed.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// What an agent tells its peer when it closes a connection; the numbers are part of the wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// All is done, an orderly end.
    Done = 0,
    /// No protocol version in common.
    Incompatible = 1,
    /// What the peer sent is not the protocol.
    Violation = 2,
    /// The peer's certificate is no longer good enough.
    Identity = 3,
    /// The peer does not read what it is sent.
    NotReading = 4,
    /// The link was not up within its time.
    TooSlow = 5,
    /// The peer holds or begins more links than it may.
    TooMany = 6,
}

impl CloseCode {
    /// The code as it travels.
    pub(crate) fn number(self) -> u32 {
        self as u32
    }

    /// Reads a code that travelled.
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
