//! The way of a write to the data centre and back. It is logged before it is sent, and its answer
//! is logged before the caller gets it.

use std::future::Future;
use std::sync::{Arc, PoisonError};

use axum::response::Response;
use bridge_protocol::domain::{PaymentId, TraceParent};
use bridge_protocol::order_link::sender::{BodyMark, CallerAnswer, Rejected};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::wire::order::to_idc;
use bridge_runtime::clock;
use tokio::sync::RwLock;

use super::refusals::unavailable;
use crate::admission::{self, NotAdmitted};
use crate::order_link::{CarryResult, Slot};
use crate::storefront::audit::{self, WriteResult};
use crate::storefront::problem::Problem;
use crate::storefront::state::Worker;

/// Carries a write of an order to the data centre and back. It is logged before it is sent, and its
/// answer is logged before the caller gets it. `sealed` is the sealed order, if there is one. It is
/// kept until the answer, because it may have to be sealed again.
pub(in crate::storefront) async fn carry(
    worker: Arc<Worker>,
    slot: Slot,
    header: Header,
    kind: to_idc::Kind,
    body: BodyMark,
    sealed: Option<admission::AdmittedOrder>,
    trace: Option<TraceParent>,
) -> Result<Response, Problem> {
    let under_way = worker.under_way.clone();
    let way = async move {
        let shared = &worker.shared;
        let logged = audit::sent(&worker.audit, &header, None, kind).await;
        let logged = logged.map_err(|_| worker.not_admitted(NotAdmitted::NoAuditLog))?;
        let mut carried = shared.link.carry(slot, header.order, logged.into_kind(), body, trace).await;
        while let Ok(CarryResult::SealAgain(waiting)) = carried {
            let again = match &sealed {
                Some(admitted) => worker.seal_again(admitted).await,
                None => None,
            };
            carried = waiting.sealed(again).await;
        }
        drop(sealed);
        let answer = carried.map(|carried| match carried {
            CarryResult::Ended(answer) => answer,
            CarryResult::SealAgain(_) => CallerAnswer::Unknown,
        });
        let heard = worker.hear(&header, answer);
        let answer = audit::answered(&worker.audit, &header, heard).await;
        worker.respond(&header, answer)
    };
    to_its_end(under_way, way).await
}

/// Runs a write in its own task, so that a dropped connection or a shutdown cannot lose its audit
/// entry. The agent waits for the task before it ends.
async fn to_its_end<T: Send + 'static>(
    under_way: Arc<RwLock<()>>,
    way: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let under_way = under_way.read_owned().await;
    let way = tokio::spawn(async move {
        let answer = way.await;
        drop(under_way);
        answer
    });
    // The task ends early only with the process. Then the outcome is unknown.
    way.await.unwrap_or_else(|_| Err(unavailable(NotAdmitted::Draining)))
}

/// Does the same for a payment or a refund: it is logged before it is sent, and its answer is
/// logged before the caller gets it.
pub(in crate::storefront) async fn carry_payment(
    worker: Arc<Worker>,
    slot: Slot,
    header: Header,
    payment: PaymentId,
    kind: to_idc::Kind,
    body: BodyMark,
    trace: Option<TraceParent>,
) -> Result<Result<CallerAnswer, Rejected>, Problem> {
    let under_way = worker.under_way.clone();
    let way = async move {
        let shared = &worker.shared;
        let logged = audit::sent(&worker.audit, &header, Some(payment), kind).await;
        let logged = logged.map_err(|_| unavailable(NotAdmitted::NoAuditLog))?;
        let answer = shared.payments.submit(slot, header.order, logged.into_kind(), body, trace).await;
        Ok(audit::payment_answered(&worker.audit, &header, payment, answer).await)
    };
    to_its_end(under_way, way).await
}

impl Worker {
    pub(in crate::storefront) fn seal(
        &self,
        admitted: &admission::AdmittedOrder,
    ) -> Result<crate::seal::SealedOrder, Problem> {
        self.sealer.seal(admitted, clock::now(), &mut rand::rng()).map_err(|error| {
            tracing::warn!(%error, "refused an order: nothing to seal to");
            unavailable(NotAdmitted::NoLink)
        })
    }

    /// Seals an order to the preferred key and logs that it is sent. Returns `None` if one of them
    /// fails.
    async fn seal_again(&self, admitted: &admission::AdmittedOrder) -> Option<to_idc::Kind> {
        let sealed = self.seal(admitted).ok()?;
        self.shared.metrics.orders_sealed_again.inc();
        let kind = to_idc::Kind::Place(sealed.into_envelope());
        Some(audit::sent(&self.audit, admitted.header(), None, kind).await.ok()?.into_kind())
    }

    /// Interprets an answer. A receipt counts only if it verifies and belongs to this request.
    fn hear(&self, header: &Header, answer: Result<CallerAnswer, Rejected>) -> WriteResult {
        let Ok(CallerAnswer::Settled(settled)) = answer else { return WriteResult::Other(answer) };
        let Some(wire) = &settled.receipt else { return WriteResult::Distrusted("there is none".to_owned()) };
        let verified = self.receipts.lock().unwrap_or_else(PoisonError::into_inner).verify(wire);
        match verified {
            Ok(verified)
                if verified.receipt().brand == header.brand && verified.receipt().key == header.key =>
            {
                WriteResult::Settled(settled, verified)
            }
            Ok(_) => WriteResult::Distrusted("it is another request's".to_owned()),
            Err(error) => WriteResult::Distrusted(error.to_string()),
        }
    }
}
