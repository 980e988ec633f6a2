//! A shop for tests: its stock, and short calls that make requests.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};

use bridge_idc::catalogue::import::stock::{Imported, StockFile};
use bridge_idc::import_file::parts::WAIT;
use bridge_idc::orders::planner::{Action, Awaited, CustomerTag, Placement, Request};
use bridge_idc::orders::store::{Batch, BatchEnd, Committed, Ledger, RequestEnd, RequestOutcome};
use bridge_idc::payments::{Charge, ChargeRequest, GiveBackRequest, Payment};
use bridge_idc::vault::PersonalAtRest;
use bridge_protocol::domain::{
    Brand, Currency, IdempotencyKey, KeyDigest, Line, Money, OrderId, OrderTerms, Outcome, PaymentId,
    PaymentKey, Quantity, RefundId, Sku, UnixMicros,
};
use bridge_protocol::wire::order::Refusal;

/// A brand that sells in won.
pub(crate) struct Shop {
    pub(crate) brand: Brand,
}

/// Price of every SKU, in won.
pub(crate) const PRICE: i64 = 219_000;

impl Shop {
    /// Opens a shop with the given units of each SKU.
    pub(crate) async fn open(ledger: &Ledger, brand: &str, stock: &[(&str, i64)]) -> Self {
        let mut csv = "brand,sku,unit_price,currency,quantity\n".to_owned();
        for (sku, units) in stock {
            writeln!(csv, "{brand},{sku},{PRICE},KRW,{units}").unwrap();
        }
        import(ledger, &csv).await;
        Self { brand: Brand::new(brand).unwrap() }
    }

    /// Returns a request to place an order with these lines, under this key and with a new order
    /// id.
    pub(crate) fn place(&self, key: &str, lines: &[(&str, i64)]) -> Request {
        self.place_at(key, order_id(), PRICE, "KRW", lines)
    }

    /// Returns a request of this customer to place an order.
    pub(crate) fn place_for(&self, customer: &str, key: &str, lines: &[(&str, i64)]) -> Request {
        let mut request = self.place(key, lines);
        if let Action::Place(placement) = &mut request.action {
            placement.customer = tag(customer);
        }
        request
    }

    pub(crate) fn place_at(
        &self,
        key: &str,
        order: OrderId,
        unit_price: i64,
        currency: &str,
        lines: &[(&str, i64)],
    ) -> Request {
        let currency = Currency::new(currency).unwrap();
        let lines: Vec<Line> = lines
            .iter()
            .map(|(sku, units)| Line {
                sku: Sku::new(sku).unwrap(),
                quantity: Quantity::new(*units).unwrap(),
                unit_price,
            })
            .collect();
        let total = lines.iter().map(|line| line.unit_price * line.quantity.get()).sum::<i64>() + 3_000;
        let money = |amount| Money::new(amount, currency).unwrap();
        let terms = OrderTerms::new(lines, money(3_000), money(total), "c-8842".to_owned(), 2_000).unwrap();
        let (customer, personal) = (tag("c-8842"), personal(order));
        let action = Action::Place(Box::new(Placement { order, terms, customer, personal }));
        Request { brand: self.brand.clone(), key: self.key(key), fingerprint: [1; 32], action }
    }

    /// Returns a request to cancel an order, under this key.
    pub(crate) fn cancel(&self, key: &str, order: OrderId) -> Request {
        let action = Action::Cancel { order };
        Request { brand: self.brand.clone(), key: self.key(key), fingerprint: [2; 32], action }
    }

    pub(crate) fn key(&self, key: &str) -> KeyDigest {
        IdempotencyKey::parse(key.as_bytes()).unwrap().digest(&self.brand)
    }

    /// Returns `(available, sold)` of a SKU. Checks that the sums of every SKU of the shop add up.
    pub(crate) async fn stock(&self, ledger: &Ledger, sku: &str) -> (i64, i64) {
        let sums = ledger.stock_sums(&self.brand).await.unwrap();
        assert!(
            sums.iter().all(|sum| sum.initial == sum.available + sum.sold && sum.available >= 0),
            "{sums:?}"
        );
        let sum = sums.iter().find(|sum| sum.sku.as_str() == sku).unwrap();
        (sum.available, sum.sold)
    }
}

/// Returns the tag of a customer, as a keyed hash would be: 32 bytes, different for each one.
pub(crate) fn tag(customer: &str) -> CustomerTag {
    let mut bytes = [b'.'; 32];
    bytes[..customer.len()].copy_from_slice(customer.as_bytes());
    CustomerTag::from_bytes(bytes)
}

/// Imports a valid file.
pub(crate) async fn import(ledger: &Ledger, csv: &str) -> Imported {
    let file = StockFile::read(csv.as_bytes()).unwrap();
    ledger.import_stock(&file, WAIT, |_| {}).await.unwrap()
}

/// Commits requests as the agent does. A request that waits for a held row is committed again alone
/// until it is done.
pub(crate) async fn commit(ledger: &Ledger, requests: Vec<Request>) -> Vec<RequestOutcome> {
    let mut answers: Vec<Option<RequestOutcome>> = vec![None; requests.len()];
    let mut open: Vec<(Option<Awaited>, Vec<usize>)> = vec![(None, (0..requests.len()).collect())];
    while let Some((awaited, places)) = open.pop() {
        let again = places.iter().map(|place| requests[*place].clone()).collect();
        let BatchEnd { ends, outage } = ledger.commit(&batch(again), awaited.as_ref()).await;
        assert!(outage.is_none(), "{outage:?}");
        for (place, end) in places.into_iter().zip(ends) {
            match end {
                RequestEnd::Committed(committed) => answers[place] = Some(committed.answer().clone()),
                RequestEnd::Waits(on) => {
                    match open.iter_mut().find(|(known, _)| *known == Some(on.clone())) {
                        Some((_, places)) => places.push(place),
                        None => open.push((Some(on), vec![place])),
                    }
                }
                end => panic!("not committed: {end:?}"),
            }
        }
    }
    answers.into_iter().flatten().collect()
}

/// Returns the outcome of each request. Fails if one was not committed.
pub(crate) fn answers(BatchEnd { ends, outage }: BatchEnd) -> Vec<RequestOutcome> {
    assert!(outage.is_none(), "{outage:?}");
    let answer = |end| match end {
        RequestEnd::Committed(committed) => Committed::answer(&committed).clone(),
        end => panic!("not committed: {end:?}"),
    };
    ends.into_iter().map(answer).collect()
}

pub(crate) async fn commit_one(ledger: &Ledger, request: Request) -> RequestOutcome {
    commit(ledger, vec![request]).await.remove(0)
}

pub(crate) fn batch(requests: Vec<Request>) -> Batch {
    Batch { requests, at: now() }
}

/// Returns a new order id.
pub(crate) fn order_id() -> OrderId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&now().get().to_be_bytes());
    OrderId::new(now(), random)
}

/// Returns a time that is later at each call.
pub(crate) fn now() -> UnixMicros {
    static CLOCK: AtomicI64 = AtomicI64::new(1_795_343_485_000_000);
    UnixMicros::new(CLOCK.fetch_add(1, Ordering::Relaxed))
}

/// Returns made-up ciphertext, different for each order and with some fields missing.
pub(crate) fn personal(order: OrderId) -> PersonalAtRest {
    let field =
        |n: usize| (n % 3 != 2).then(|| [order.as_bytes().as_slice(), &[0, 0xff, b'"', n as u8]].concat());
    PersonalAtRest { key_version: 7, wrapped_key: vec![0xa5; 80], fields: std::array::from_fn(field) }
}

pub(crate) fn order_of(request: &Request) -> OrderId {
    match &request.action {
        Action::Place(placement) => placement.order,
        Action::Cancel { order } => *order,
    }
}

/// Returns a request's outcome, and true if the outcome is an earlier request's.
pub(crate) fn settled(answer: &RequestOutcome) -> (Outcome, bool) {
    match answer {
        RequestOutcome::Settled { receipt, replayed } => (receipt.outcome.clone(), *replayed),
        RequestOutcome::Refused(refusal) => panic!("refused: {refusal:?}"),
    }
}

pub(crate) fn is_placed(answer: &RequestOutcome) -> bool {
    settled(answer) == (Outcome::Placed, false)
}

pub(crate) fn sold_out(sku: &str) -> Outcome {
    Outcome::SoldOut { sku: Sku::new(sku).unwrap() }
}

pub(crate) fn refused(refusal: Refusal) -> RequestOutcome {
    RequestOutcome::Refused(refusal)
}

/// Total of an order of one unit, in won.
pub(crate) const TOTAL: i64 = PRICE + 3_000;

/// Returns an amount in won.
pub(crate) fn krw(amount: i64) -> Money {
    Money::new(amount, Currency::new("KRW").unwrap()).unwrap()
}

/// Returns a request to charge for an order, under this key.
pub(crate) fn pay(shop: &Shop, key: &str, order: OrderId) -> ChargeRequest {
    let payment = PaymentId::from_uuid(order_id().as_uuid()).unwrap();
    let payment_key = PaymentKey::new(&format!("tgen_{order}")).unwrap();
    let charge = Charge { payment, order, amount: krw(TOTAL), payment_key };
    ChargeRequest { brand: shop.brand.clone(), key: shop.key(key), fingerprint: [1; 32], charge }
}

/// Returns a request to refund an amount, under this key.
pub(crate) fn refund(shop: &Shop, key: &str, payment: &Payment, amount: i64) -> GiveBackRequest {
    GiveBackRequest {
        brand: shop.brand.clone(),
        key: shop.key(key),
        fingerprint: [2; 32],
        order: payment.charge.order,
        payment: payment.charge.payment,
        refund: RefundId::from_uuid(order_id().as_uuid()).unwrap(),
        amount: krw(amount),
        reason: "it came back".to_owned(),
    }
}
