//! Responses to writes and questions that are refused, by this agent or by the data centre.

use std::time::Duration;

use bridge_protocol::domain::OrderId;
use bridge_protocol::wire::order::Refusal;

use crate::admission::NotAdmitted;
use crate::storefront::problem::{Kind, Problem};
use crate::storefront::request::extractors::unknown_order;

/// Time after which an unknown outcome may be asked about, or a key in progress tried again.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Returns the problem for a key whose first request has no answer yet.
pub(in crate::storefront) fn in_progress(again_after: Duration) -> Problem {
    let detail = "wait for its answer, or ask again with the same key";
    Problem::new(Kind::InProgress, detail).retry_after(again_after)
}

pub(in crate::storefront) fn unavailable(refused: NotAdmitted) -> Problem {
    let kind = match refused {
        NotAdmitted::NoLink | NotAdmitted::NoAuditLog => Kind::Unavailable,
        NotAdmitted::Full | NotAdmitted::OutOfCredit(_) => Kind::Busy,
        NotAdmitted::Draining => Kind::ShuttingDown,
    };
    let problem = Problem::new(kind, format!("{refused}; nothing happened, try again"));
    let problem = problem.retry_after(refused.retry_after());
    match refused {
        NotAdmitted::OutOfCredit(out) => problem.out_of_credit(out),
        _ => problem,
    }
}

/// Returns the problem for a question that nobody could answer. It says nothing about the order.
pub(in crate::storefront) fn not_told() -> Problem {
    let detail = "the data centre cannot be reached, so the state is not known now; ask again";
    Problem::new(Kind::Unavailable, detail).retry_after(NotAdmitted::NoLink.retry_after())
}

pub(in crate::storefront) fn refused(refusal: Refusal, order: OrderId) -> Problem {
    match refusal {
        Refusal::Busy => unavailable(NotAdmitted::Full),
        Refusal::Late => {
            let detail = "it waited for longer than it may take effect; nothing happened, try again";
            Problem::new(Kind::Busy, detail).retry_after(NotAdmitted::Full.retry_after())
        }
        Refusal::DatabaseDown | Refusal::SessionUnknown | Refusal::UnknownKey => {
            unavailable(NotAdmitted::NoLink)
        }
        Refusal::KeyReused => Problem::new(Kind::KeyReused, "use a new key for a new request"),
        Refusal::NotFound => unknown_order(),
        Refusal::UnknownBrand => {
            Problem::new(Kind::UnknownBrand, "the data centre does not know this brand yet")
        }
        Refusal::OrderNotPayable => {
            let detail = "it was cancelled, was never placed, costs nothing, or was charged too late once; no money moved";
            Problem::new(Kind::OrderNotPayable, detail)
        }
        Refusal::WrongAmount => {
            let detail = "amount and currency must be the order's total; no money moved";
            Problem::new(Kind::WrongAmount, detail)
        }
        Refusal::AlreadyPaid => {
            Problem::new(Kind::AlreadyPaid, "the order has been paid; no money moved now")
        }
        Refusal::PaymentInProgress => {
            let detail = "a payment of this order has not ended; ask about that one, and come back then";
            Problem::new(Kind::PaymentInProgress, detail).retry_after(ASK_AGAIN_AFTER)
        }
        Refusal::RefundTooLarge => {
            let detail =
                "it is more than what is left of this payment, or of another currency; no money moved";
            Problem::new(Kind::RefundTooLarge, detail)
        }
        Refusal::EnvelopeRejected | Refusal::Invalid | Refusal::Failed | Refusal::Unspecified => {
            tracing::error!(%order, ?refusal, "the data centre refused a request that this agent accepted");
            let detail =
                "nothing happened; an operator finds the reason in the data centre's log by the order's id";
            Problem::new(Kind::NotCommitted, detail).order(order)
        }
    }
}
