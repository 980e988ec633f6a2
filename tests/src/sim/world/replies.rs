//! Answers as a caller sees them: the storefront's statuses without HTTP.

use bridge_cloud::admission::NotAdmitted;
use bridge_protocol::order_link::sender::{CallerAnswer, Rejected};
use bridge_protocol::wire::order::Refusal;

use super::super::reference::{Row, State};

/// An answer to a caller.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CallerReply {
    /// 201, 200 or 409 with a verified receipt.
    Receipt {
        /// The outcome that the receipt certifies.
        receipt: Row,
        /// True if the outcome is that of an earlier attempt.
        replayed: bool,
    },
    /// 200: the state of the order.
    State(State),
    /// 404 to a question.
    NotFound,
    /// 200 with `unknown`: ask again.
    Pending,
    /// An error that says for certain that nothing happened.
    Nothing(NoEffect),
    /// 422: the key belongs to another request.
    KeyReused,
    /// 422: an attempt under this key with another body is not settled yet.
    KeyTaken,
    /// 409: an attempt under this key is in progress.
    InProgress,
    /// 202: the outcome is unknown; the caller must ask.
    Unknown,
    /// The connection broke.
    Lost,
}

/// The reason why nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoEffect {
    NobodyThere,
    NotAdmitted(NotAdmitted),
    QueueFull,
    NoSealingKey,
    NotLogged,
    NotSent,
    Refused(Refusal),
}

impl CallerReply {
    /// Returns true if nothing of the request was taken, because the cloud agent or a data centre
    /// turned it away.
    pub(super) fn says_not_taken(&self) -> bool {
        match self {
            Self::Nothing(NoEffect::Refused(refusal)) => {
                matches!(refusal, Refusal::Busy | Refusal::DatabaseDown)
            }
            Self::Nothing(NoEffect::NotSent | NoEffect::QueueFull) | Self::InProgress | Self::KeyTaken => {
                true
            }
            _ => false,
        }
    }

    pub(super) fn rejected(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Full => Self::Nothing(NoEffect::QueueFull),
            Rejected::InProgress => Self::InProgress,
            Rejected::KeyReused => Self::KeyTaken,
        }
    }

    /// Converts an answer of the order link that is neither a receipt nor a state.
    pub(super) fn answer(answer: CallerAnswer, asked: bool) -> Self {
        match answer {
            CallerAnswer::Refused(Refusal::KeyReused) => Self::KeyReused,
            CallerAnswer::Refused(Refusal::NotFound) if asked => Self::NotFound,
            CallerAnswer::Refused(refusal) | CallerAnswer::InTheWay(refusal, _) => {
                Self::Nothing(NoEffect::Refused(refusal))
            }
            CallerAnswer::NotSent => Self::Nothing(NoEffect::NotSent),
            CallerAnswer::Pending => Self::Pending,
            CallerAnswer::Unknown
            | CallerAnswer::State(_)
            | CallerAnswer::Settled(_)
            | CallerAnswer::Payment(_) => Self::Unknown,
        }
    }
}
