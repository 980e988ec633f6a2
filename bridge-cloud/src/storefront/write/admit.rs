//! Admission of writes by the current load and the state of the audit log.

use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::seal::sealing::Header;
use bridge_runtime::telemetry::shared::OrderOutcome;

use super::refusals::unavailable;
use crate::admission::{self, NotAdmitted};
use crate::storefront::problem::Problem;
use crate::storefront::state::Worker;

impl Worker {
    pub(in crate::storefront) fn admit_write(&self) -> Result<(), Problem> {
        let shared = &self.shared;
        admission::admit_write(self.load(), shared.queue_max, shared.shutdown.is_draining())
            .map_err(|refused| self.not_admitted(refused))
    }

    fn load(&self) -> admission::Load {
        let shared = &self.shared;
        let load = shared.link.load();
        // Requests that wait for the log have not reached the link yet.
        let queued = load.queued + shared.audit.waiting();
        admission::Load { queued, audit_writable: shared.audit.is_writable(), ..load }
    }

    pub(in crate::storefront) fn admit(
        &self,
        header: Header,
        request: OrderRequest,
    ) -> Result<admission::AdmittedOrder, Problem> {
        let shared = &self.shared;
        let load = self.load();
        admission::admit(header, request, load, shared.queue_max, shared.shutdown.is_draining())
            .map_err(|refused| self.not_admitted(refused))
    }

    pub(super) fn not_admitted(&self, refused: NotAdmitted) -> Problem {
        self.count(OrderOutcome::Refused);
        unavailable(refused)
    }

    pub(super) fn count(&self, outcome: OrderOutcome) {
        self.shared.metrics.shared.orders.of(outcome).inc();
    }

    pub(in crate::storefront) fn admit_payment(&self) -> Result<(), Problem> {
        let shared = &self.shared;
        admission::admit_write(
            admission::Load { audit_writable: shared.audit.is_writable(), ..shared.payments.load() },
            shared.payments_queue_max,
            shared.shutdown.is_draining(),
        )
        .map_err(unavailable)
    }
}
