//! Tells whether two requests under one key ask for the same, while the first one is under way.
//!
//! A digest of a name and a phone number can be reversed, so none exists here. What is kept for as long as a request is under
//! way is 64 bits of SipHash under a key that was drawn when the process started and is written nowhere. The last word is the
//! data centre's.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use bridge_protocol::domain::{Money, OrderId, PaymentId, PersonalData};
use bridge_protocol::order_link::sender::BodyMark;

/// Makes the marks of one process. Its copies make the same ones.
#[derive(Clone, Default)]
pub struct BodyMarks(RandomState);

impl BodyMarks {
    /// The mark of an order: of its encoded terms and of what is personal in it.
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

    /// The mark of a cancellation.
    pub fn of_cancellation(&self, order: OrderId) -> BodyMark {
        BodyMark(self.0.hash_one(("cancel", order)))
    }

    /// The mark of a payment.
    pub fn of_payment(&self, order: OrderId, amount: Money, payment_key: &str) -> BodyMark {
        BodyMark(self.0.hash_one(("pay", order, amount, payment_key)))
    }

    /// The mark of a refund.
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
