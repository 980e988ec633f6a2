//! What a caller makes of an answer: the storefront's statuses without HTTP.

use bridge_cloud::admission::NotAdmitted;
use bridge_protocol::order_link::sender::{CallerAnswer, Rejected};
use bridge_protocol::wire::order::Refusal;

use super::super::reference::{Row, State};

/// What a caller is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CallerReply {
    /// 201, 200 or 409 with a verified receipt.
    Receipt {
        /// What it certifies.
        receipt: Row,
        /// Whether it is an earlier attempt's.
        replayed: bool,
    },
    /// 200: how the order stands.
    State(State),
    /// 404 to a question.
    NotFound,
    /// 200 with `unknown`: ask again.
    Pending,
    /// Nothing happened, for certain.
    Nothing(NoEffect),
    /// 422: the key is another request's.
    KeyReused,
    /// 422: an attempt under this key with another body is not settled.
    KeyTaken,
    /// 409: an attempt under this key is in progress.
    InProgress,
    /// 202: it may or may not have happened; ask.
    Unknown,
    /// The connection broke.
    Lost,
}

/// Why nothing happened.
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
    /// Whether nothing of the request was taken, by the cloud agent itself or by a data centre that turned it away.
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

    /// Every answer but a receipt and a state, which are read first.
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
