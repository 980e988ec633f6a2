//! What is sold and what is ordered: two brands, few hot SKUs with too little stock, many cold ones.

use bridge_idc::ledger::memory::ForSale;
use bridge_protocol::domain::{
    Brand, Currency, Line, Money, OrderTerms, Personal, PersonalData, PersonalField, Quantity, Sku,
};
use bridge_protocol::wire::order::Terms;
use bytes::Bytes;
use prost::Message as _;

use super::dice::Dice;

const BRANDS: [&str; 2] = ["shoes", "tea"];
const HOT_SKUS: usize = 3;
const COLD_SKUS: usize = 60;
/// Lines an order has at most here.
pub(super) const LINES_MAX: usize = 4;

/// What is sold.
pub(super) struct Shop {
    /// In the order of the ledger's rows, which it numbers from 1.
    pub(super) stock: Vec<ForSale>,
    brands: Vec<Brand>,
}

/// An order's body: what a caller may send under its key.
pub(super) struct Body {
    pub(super) terms: OrderTerms,
    /// The terms as the wire has them.
    pub(super) bytes: Bytes,
    pub(super) personal: PersonalData,
}

impl Shop {
    /// Opens with stock for most, not for all, of about `orders` orders. `None` never happens: the names are good ones.
    pub(super) fn open(dice: &mut Dice, orders: u64) -> Option<Self> {
        let brands = BRANDS.iter().filter_map(|name| Brand::new(name).ok()).collect::<Vec<_>>();
        let won = Currency::new("KRW").ok()?;
        let mut stock = Vec::new();
        for brand in &brands {
            for number in 0..HOT_SKUS + COLD_SKUS {
                let hot = number < HOT_SKUS;
                let units = if hot { dice.between(0..=orders / 4) } else { dice.between(0..=orders / 10) };
                stock.push(ForSale {
                    brand: brand.clone(),
                    sku: Sku::new(&format!("SKU-{number}"))?,
                    price: Money::new(1_000 + i64::try_from(number).ok()?, won)?,
                    units: i64::try_from(units).ok()?,
                });
            }
        }
        Some(Self { stock, brands })
    }

    pub(super) fn brands(&self) -> &[Brand] {
        &self.brands
    }

    /// Makes up an order: mostly right, now and then with an old price or for a SKU that is not sold.
    pub(super) fn body(&self, dice: &mut Dice, brand: usize) -> Option<Body> {
        let won = Currency::new("KRW").ok()?;
        let mut lines: Vec<Line> = Vec::new();
        for _ in 0..dice.between(1..=3) {
            let number = match dice.happens(6_000) {
                true => dice.index(HOT_SKUS),
                false => HOT_SKUS + dice.index(COLD_SKUS),
            };
            let offer = self.stock.get(brand * (HOT_SKUS + COLD_SKUS) + number)?;
            let mut unit_price = offer.price.amount();
            let mut sku = offer.sku.clone();
            if dice.happens(100) {
                unit_price += 1;
            } else if dice.happens(50) {
                sku = Sku::new("NOT-SOLD")?;
            }
            if lines.iter().all(|line| line.sku != sku) {
                let quantity = Quantity::new(i64::try_from(dice.between(1..=2)).ok()?)?;
                lines.push(Line { sku, quantity, unit_price });
            }
        }
        let fee = 3_000;
        let total = lines.iter().map(|line| line.unit_price * line.quantity.get()).sum::<i64>() + fee;
        let terms = OrderTerms::new(
            lines,
            Money::new(fee, won)?,
            Money::new(total, won)?,
            format!("c-{}", dice.between(1..=999)),
            LINES_MAX,
        );
        let terms = terms.ok()?;
        let mut personal = PersonalData::default();
        personal.set(PersonalField::CustomerName, Personal::new(format!("n{}", dice.between(0..=9_999_999))));
        personal.set(PersonalField::DeliveryAddress, Personal::new(format!("a{}", dice.between(0..=99_999))));
        Some(Body { bytes: Terms::from(&terms).encode_to_vec().into(), terms, personal })
    }
}
