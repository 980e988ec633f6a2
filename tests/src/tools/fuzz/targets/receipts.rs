//! Receipts: only signed data is accepted, and only in the form in which it was signed.

use std::sync::LazyLock;

use bridge_protocol::domain::{Brand, Currency, KeyDigest, Money, OrderId, Outcome, Sku, UnixMicros};
use bridge_protocol::receipt::{Receipt, sign_batch, verify};
use bridge_protocol::wire::{frame, order};
use prost::Message as _;

use super::{NOW, demand, pinned, signer};
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// `receipt::verify`, on a receipt as an answer contains it.
pub(super) const TARGET: Target = Target { name: "receipts", corpus, change: mutate::protobuf, check };

/// Number of receipts in the batch. The tree is not full.
const BATCH: u8 = 7;

/// A batch of receipts.
pub(super) static SIGNED: LazyLock<Vec<order::Receipt>> = LazyLock::new(signed);

#[expect(clippy::expect_used, reason = "all of it is good")]
fn signed() -> Vec<order::Receipt> {
    let sku = Sku::new("SHOE-270").expect("a SKU");
    let price = Money::new(219_000, Currency::new("KRW").expect("a currency")).expect("a price");
    let outcomes =
        [Outcome::Placed, Outcome::PriceChanged { sku: sku.clone(), price }, Outcome::SoldOut { sku }];
    let receipt = |number: u8| Receipt {
        brand: Brand::new("shoes").expect("a brand"),
        key: KeyDigest::from_bytes(&[number; 32]).expect("a digest"),
        order: OrderId::new(NOW, [number; 10]),
        outcome: outcomes[usize::from(number) % outcomes.len()].clone(),
        position: i64::from(number),
        committed_at: UnixMicros::new(NOW.get() + i64::from(number)),
    };
    sign_batch(&(0..BATCH).map(receipt).collect::<Vec<_>>(), &signer())
}

fn corpus() -> Vec<Vec<u8>> {
    SIGNED.iter().map(order::Receipt::encode_to_vec).collect()
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let Ok(receipt) = frame::decode::<order::Receipt>(input.to_vec().into()) else {
        return Ok(Verdict::Refused);
    };
    demand(verify(&receipt, &[]).is_err(), "a receipt verified by nobody")?;
    if verify(&receipt, &pinned()).is_err() {
        return Ok(Verdict::Refused);
    }
    demand(SIGNED.contains(&receipt), "a receipt that nobody signed")?;
    Ok(Verdict::Accepted)
}
