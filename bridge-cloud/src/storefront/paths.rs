//! Paths of writes and of their states, for the router and the OpenAPI document.

pub(super) const PLACE: &str = "/v1/{brand}/orders";
pub(super) const READ: &str = "/v1/{brand}/orders/{order}";
pub(super) const CANCEL: &str = "/v1/{brand}/orders/{order}/cancel";
pub(super) const PAY: &str = "/v1/{brand}/orders/{order}/payments";
pub(super) const PAYMENT: &str = "/v1/{brand}/orders/{order}/payments/{payment}";
pub(super) const REFUND: &str = "/v1/{brand}/orders/{order}/payments/{payment}/refunds";
