//! The offers and the orders of the simulation: two brands, a few hot SKUs with too little stock,
//! many cold ones.

use std::collections::BTreeMap;

use bridge_idc::orders::store::memory::ForSale;
use bridge_idc::orders::store::model::ModelLaunch;
use bridge_protocol::domain::{
    Brand, Currency, Line, Money, OrderTerms, Personal, PersonalData, PersonalField, Quantity, Sku,
};
use bridge_protocol::wire::order::Terms;
use bytes::Bytes;
use prost::Message as _;

use super::dice::Dice;
use super::reference::{self, Launch, Offer};

const BRANDS: [&str; 2] = ["shoes", "tea"];
const CURRENCY: &str = "KRW";
const HOT_SKUS: usize = 3;
const COLD_SKUS: usize = 60;
/// Most lines of an order in the simulation.
pub(super) const LINES_MAX: usize = 4;

/// The offers of all brands.
pub(super) struct Shop {
    /// In the order of the ledger's rows, which are numbered from 1.
    pub(super) stock: Vec<Offer>,
    /// In the order of the ledger's rows, which are numbered from 1.
    pub(super) launches: Vec<Launch>,
    brands: Vec<Brand>,
}

/// An order's body, twice: as the caller sends it, and as an agent reads it.
pub(super) struct Body {
    pub(super) sent: reference::Body,
    /// The terms in the wire format.
    pub(super) bytes: Bytes,
    pub(super) personal: PersonalData,
}

impl Shop {
    /// Makes the offers. Their stock is enough for most of about `orders` orders, but not for all.
    /// The result is never `None`, because all names are valid.
    pub(super) fn open(dice: &mut Dice, orders: u64) -> Option<Self> {
        let mut stock = Vec::new();
        for brand in BRANDS {
            for number in 0..HOT_SKUS + COLD_SKUS {
                let hot = number < HOT_SKUS;
                let units = if hot { dice.between(0..=orders / 4) } else { dice.between(0..=orders / 10) };
                stock.push(Offer {
                    brand,
                    sku: format!("SKU-{number}"),
                    price: 1_000 + i64::try_from(number).ok()?,
                    units: i64::try_from(units).ok()?,
                });
            }
        }
        // In half of all schedules a launch sells the hot SKUs of the first brand.
        let mut launches = Vec::new();
        if dice.happens(5_000) {
            let rows = (1..=i64::try_from(HOT_SKUS).ok()?).collect();
            let units = i64::try_from(dice.between(1..=orders / 4 + 1)).ok().filter(|units| units % 2 == 0);
            launches.push(Launch { rows, limit: i64::try_from(dice.between(1..=4)).ok()?, units });
        }
        Some(Self {
            stock,
            launches,
            brands: BRANDS.iter().filter_map(|name| Brand::new(name).ok()).collect(),
        })
    }

    pub(super) fn brands(&self) -> &[Brand] {
        &self.brands
    }

    /// Returns the offers in the ledger's type.
    pub(super) fn for_sale(&self) -> impl Iterator<Item = ForSale> {
        let offer = |offer: &Offer| {
            let (brand, sku) = (Brand::new(offer.brand).ok()?, Sku::new(&offer.sku)?);
            Some(ForSale { brand, sku, price: won(offer.price)?, units: offer.units })
        };
        self.stock.iter().filter_map(offer)
    }

    /// Returns the launches in the ledger's type.
    pub(super) fn launched(&self) -> impl Iterator<Item = ModelLaunch> {
        self.launches.iter().map(|Launch { rows, limit, units }| ModelLaunch {
            sku_ids: rows.clone(),
            customer_limit: *limit,
            units: *units,
        })
    }

    /// Makes up an order. Most are right; a few have an old price or a SKU that is not sold.
    pub(super) fn body(&self, dice: &mut Dice, brand: usize) -> Option<Body> {
        let mut lines: Vec<reference::Line> = Vec::new();
        for _ in 0..dice.between(1..=3) {
            let number = match dice.happens(6_000) {
                true => dice.index(HOT_SKUS),
                false => HOT_SKUS + dice.index(COLD_SKUS),
            };
            let offer = self.stock.get(brand * (HOT_SKUS + COLD_SKUS) + number)?;
            let (mut unit_price, mut sku) = (offer.price, offer.sku.clone());
            if dice.happens(100) {
                unit_price += 1;
            } else if dice.happens(50) {
                sku = "NOT-SOLD".to_owned();
            }
            if lines.iter().all(|line| line.sku != sku) {
                let quantity = i64::try_from(dice.between(1..=2)).ok()?;
                lines.push(reference::Line { sku, quantity, unit_price });
            }
        }
        let shipping_fee = i64::try_from(dice.between(0..=3)).ok()? * 1_000;
        let total = lines.iter().map(|line| line.unit_price * line.quantity).sum::<i64>() + shipping_fee;
        let terms = reference::Terms {
            lines,
            currency: CURRENCY.to_owned(),
            shipping_fee,
            total,
            customer_reference: format!("c-{}", dice.between(1..=99)),
        };
        let mut personal = BTreeMap::new();
        personal.insert("customer_name", format!("n{}", dice.between(0..=9_999_999)));
        personal.insert("delivery_address", format!("a{}", dice.between(0..=99_999)));
        Body::of(reference::Body { terms, personal })
    }
}

impl Body {
    /// Converts a caller's body into the types of an agent.
    fn of(sent: reference::Body) -> Option<Self> {
        let line = |line: &reference::Line| {
            let (sku, quantity) = (Sku::new(&line.sku)?, Quantity::new(line.quantity)?);
            Some(Line { sku, quantity, unit_price: line.unit_price })
        };
        let reference::Terms { lines, shipping_fee, total, customer_reference, .. } = &sent.terms;
        let lines = lines.iter().filter_map(line).collect();
        let (fee, total) = (won(*shipping_fee)?, won(*total)?);
        let terms = OrderTerms::new(lines, fee, total, customer_reference.clone(), LINES_MAX).ok()?;
        let mut personal = PersonalData::default();
        for (column, value) in &sent.personal {
            let field = PersonalField::ALL.into_iter().find(|field| field.column() == *column)?;
            personal.set(field, Personal::new(value.clone()));
        }
        Some(Self { sent, bytes: Terms::from(&terms).encode_to_vec().into(), personal })
    }
}

fn won(amount: i64) -> Option<Money> {
    Money::new(amount, Currency::new(CURRENCY).ok()?)
}
