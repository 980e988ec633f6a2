//! Admission of writes by the current load and the state of the audit log.

use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::order_link::credits::CreditClass;
use bridge_protocol::order_link::sender::RequestClass;
use bridge_protocol::seal::sealing::Header;
use bridge_runtime::telemetry::shared::OrderOutcome;

use super::refusals::unavailable;
use crate::admission::{self, NotAdmitted};
use crate::order_link::{OrderLink, Slot};
use crate::storefront::problem::Problem;
use crate::storefront::state::{Shop, Worker};

impl Worker {
    /// Admits a cancellation of a brand's order, and returns its slot.
    pub(in crate::storefront) fn admit_cancellation(&self, shop: &Shop) -> Result<Slot, Problem> {
        let shared = &self.shared;
        let class = CreditClass::Cancellation;
        let slot = shared.link.slot_for(class, shop.index);
        admission::admit_write(self.load(&shared.link), slot.is_some(), shared.shutdown.is_draining())
            .and_then(|()| shared.link.pay(slot.ok_or(NotAdmitted::Full)?, class))
            .map_err(|refused| self.not_admitted(refused))
    }

    fn load(&self, link: &OrderLink) -> admission::Load {
        admission::Load { audit_writable: self.shared.audit.is_writable(), ..link.load() }
    }

    /// Returns the slot of a question of a brand.
    pub(in crate::storefront) fn question_slot(
        &self,
        link: &OrderLink,
        shop: &Shop,
    ) -> Result<Slot, Problem> {
        let slot = link.slot(RequestClass::Question, shop.index);
        slot.ok_or_else(|| unavailable(NotAdmitted::Full))
    }

    /// Refuses an order of a brand without a credit before its body is read and parsed. A flood is
    /// refused for the most part, so its refusals must take as little of the cores as they can.
    pub(in crate::storefront) fn check_credit(&self, shop: &Shop, class: CreditClass) -> Result<(), Problem> {
        self.shared.link.check(class, shop.index).map_err(|refused| self.not_admitted(refused))
    }

    /// Admits an order of this class, and returns it with its slot.
    pub(in crate::storefront) fn admit(
        &self,
        shop: &Shop,
        class: CreditClass,
        header: Header,
        request: OrderRequest,
    ) -> Result<(admission::AdmittedOrder, Slot), Problem> {
        let shared = &self.shared;
        let slot = shared.link.slot_for(class, shop.index);
        let (load, draining) = (self.load(&shared.link), shared.shutdown.is_draining());
        admission::admit(header, request, load, slot.is_some(), draining)
            .and_then(|admitted| Ok((admitted, shared.link.pay(slot.ok_or(NotAdmitted::Full)?, class)?)))
            .map_err(|refused| self.not_admitted(refused))
    }

    pub(super) fn not_admitted(&self, refused: NotAdmitted) -> Problem {
        self.count(OrderOutcome::Refused);
        unavailable(refused)
    }

    pub(super) fn count(&self, outcome: OrderOutcome) {
        self.shared.metrics.shared.orders.of(outcome).inc();
    }

    /// Admits a payment or a refund, and returns its slot.
    pub(in crate::storefront) fn admit_payment(&self, shop: &Shop) -> Result<Slot, Problem> {
        let shared = &self.shared;
        let slot = shared.payments.slot(RequestClass::Write, shop.index);
        admission::admit_write(self.load(&shared.payments), slot.is_some(), shared.shutdown.is_draining())
            .and_then(|()| slot.ok_or(NotAdmitted::Full))
            .map_err(unavailable)
    }
}
