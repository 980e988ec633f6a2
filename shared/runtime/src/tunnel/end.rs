//! Reasons for a link's end, and the code that its peer gets.

use bridge_protocol::wire::frame::FrameError;

use crate::telemetry::metrics::RefusalReason;
use crate::transport::{self, CloseCode};

/// Reasons for a link's end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The peer closed it.
    #[error("the peer closed the link: {0}")]
    ByPeer(String),
    /// Nothing arrived for the idle timeout.
    #[error("nothing was heard from the peer for the idle timeout")]
    TimedOut,
    /// The peer has restarted.
    #[error("the peer has restarted")]
    PeerRestarted,
    /// The network or the transport failed.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The peer broke the protocol.
    #[error("{0}")]
    Violation(String),
    /// More data waited for the peer than a link may hold.
    #[error("the peer does not read what it is sent")]
    NotReading,
    /// The peer's certificate is no longer accepted.
    #[error("the peer is no longer accepted: {sentence}")]
    Identity {
        /// Reason for the metric.
        reason: RefusalReason,
        /// The fault, and the remedy.
        sentence: String,
    },
    /// A link over the other transport took its place.
    #[error("moved to the other transport: {0}")]
    Moved(String),
    /// The peer began another link while this one was silent.
    #[error("the peer was silent here and has begun another link")]
    Replaced,
    /// This agent closed it.
    #[error("closed by this agent")]
    Here,
}

impl LinkEnd {
    /// Returns the code for the audit log.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::ByPeer(_) => "by-peer",
            Self::TimedOut => "timed-out",
            Self::PeerRestarted => "peer-restarted",
            Self::Broken(_) => "broken",
            Self::Violation(_) => "violation",
            Self::NotReading => "not-reading",
            Self::Identity { reason, .. } => reason.as_str(),
            Self::Moved(_) => "moved",
            Self::Replaced => "replaced",
            Self::Here => "here",
        }
    }

    pub(super) fn close_code(&self) -> CloseCode {
        match self {
            Self::Violation(_) => CloseCode::Violation,
            Self::NotReading => CloseCode::NotReading,
            Self::Identity { .. } => CloseCode::Identity,
            Self::ByPeer(_)
            | Self::TimedOut
            | Self::PeerRestarted
            | Self::Broken(_)
            | Self::Moved(_)
            | Self::Replaced
            | Self::Here => CloseCode::Done,
        }
    }
}

impl From<transport::Closed> for LinkEnd {
    fn from(closed: transport::Closed) -> Self {
        match closed {
            transport::Closed::ByPeer { sentence, .. } => Self::ByPeer(sentence),
            transport::Closed::RefusedByPeer(refusal) => Self::ByPeer(refusal.sentence),
            transport::Closed::TimedOut => Self::TimedOut,
            transport::Closed::Reset => Self::PeerRestarted,
            transport::Closed::Here => Self::Here,
            transport::Closed::Broken(why) => Self::Broken(why),
        }
    }
}

impl From<FrameError> for LinkEnd {
    fn from(error: FrameError) -> Self {
        Self::Violation(error.to_string())
    }
}
