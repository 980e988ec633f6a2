//! Marks that show if two requests under one key are the same, while the first one is pending.
//!
//! A digest of a name and a phone number can be reversed, so none is made here. While a request is
//! pending, 64 bits of SipHash are kept. Their key is drawn at the start of the process and written
//! nowhere. The data centre makes the final decision.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use bridge_protocol::domain::{Money, OrderId, PaymentId, PersonalData};
use bridge_protocol::order_link::sender::BodyMark;

/// Makes the marks of one process. Its clones make the same marks.
#[derive(Clone, Default)]
pub struct BodyMarks(RandomState);

impl BodyMarks {
    /// Returns the mark of an order: of its encoded terms and its personal data.
    pub fn of_order(&self, terms: &[u8], personal: &PersonalData) -> BodyMark {
        let mut hasher = self.0.build_hasher();
        hasher.write(b"place");
        hasher.write_usize(terms.len());
        hasher.write(terms);
        for (field, value) in personal.iter() {
            let value = value.expose().as_bytes();
            hasher.write_u8(field as u8);
            hasher.write_usize(value.len());
            hasher.write(value);
        }
        BodyMark(hasher.finish())
    }

    /// Returns the mark of a cancellation.
    pub fn of_cancellation(&self, order: OrderId) -> BodyMark {
        BodyMark(self.0.hash_one(("cancel", order)))
    }

    /// Returns the mark of a payment.
    pub fn of_payment(&self, order: OrderId, amount: Money, payment_key: &str) -> BodyMark {
        BodyMark(self.0.hash_one(("pay", order, amount, payment_key)))
    }

    /// Returns the mark of a refund.
    pub fn of_refund(&self, order: OrderId, payment: PaymentId, amount: Money, reason: &str) -> BodyMark {
        BodyMark(self.0.hash_one(("refund", order, payment, amount, reason)))
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::UnixMicros;

    use super::*;

    #[test]
    fn two_bodies_are_told_apart_and_two_processes_tell_them_differently() {
        let marks = BodyMarks::default();
        let order = OrderId::new(UnixMicros::new(1), [1; 10]);
        assert_eq!(marks.clone().of_cancellation(order), marks.of_cancellation(order));
        assert_ne!(marks.of_cancellation(order), BodyMarks::default().of_cancellation(order));
        let personal = |bytes: &[u8]| PersonalData::from_bytes(bytes).unwrap();
        let (kim, lee) = (personal(b"\x01\0\0\0\x03kim"), personal(b"\x01\0\0\0\x03lee"));
        assert_eq!(marks.of_order(b"terms", &kim), marks.of_order(b"terms", &kim));
        assert_ne!(marks.of_order(b"terms", &kim), marks.of_order(b"terms", &lee));
        assert_ne!(marks.of_order(b"terms", &kim), marks.of_order(b"term", &kim));
    }
}
