//! Slot of a request on its way to the order link's owner: its count in the backlog, and its
//! credit.

use bridge_protocol::order_link::fair_share::BrandIndex;

use super::backlog::CountedRequest;
use super::credits::Credit;

/// Slot of one request.
#[derive(Debug)]
pub struct Slot {
    counted: CountedRequest,
    /// Credit of the request. It outlives the slot.
    credit: Option<Credit>,
}

impl Slot {
    /// Makes a slot without a credit.
    pub(super) fn new(counted: CountedRequest) -> Self {
        Self { counted, credit: None }
    }

    /// Returns the brand of the request.
    pub(super) fn brand(&self) -> BrandIndex {
        self.counted.brand()
    }

    /// Adds the credit of the request.
    pub(super) fn set_credit(&mut self, credit: Option<Credit>) {
        self.credit = credit;
    }

    /// Takes the credit of the request, which is held until the request is answered.
    pub(super) fn take_credit(&mut self) -> Option<Credit> {
        self.credit.take()
    }
}
