//! Limits of a brand whose orders wait for rows that other sessions hold: another agent that takes
//! turns at a hot SKU, or a DBA's shell.

use super::*;
use crate::orders::planner::Action;

/// Interval at which the driver asks for limits, in milliseconds.
const STEP: u64 = 50;

/// Time of each batch, in milliseconds.
const COMMIT: u64 = 200;

/// A shop with shoes and socks, whose database commits one order at a time.
struct Shop {
    world: World,
    millis: u64,
    /// Batches under way, with the times of their ends.
    under_way: Vec<(u64, Attempt)>,
    /// True while a DBA holds the row of the shoes.
    is_held: bool,
    /// True if another agent has the row of the shoes when a committer wants it.
    is_shared: bool,
    orders: u64,
    /// Limits in the last message.
    limits: Vec<(String, u32)>,
}

impl Shop {
    fn new() -> Self {
        let price = Money::new(100, Currency::new("KRW").unwrap()).unwrap();
        let stock = ["SHOE", "SOCK"].map(|sku| ForSale {
            brand: brand(),
            sku: Sku::new(sku).unwrap(),
            price,
            units: 100_000,
        });
        let limits = OrderLimits {
            window_max: 4_096,
            committers: 1,
            batch_max: 1,
            batch_lines_max: 100,
            lines_max: 10,
            look_ups_at_once: 2,
        };
        let world = World {
            agent: OrderCore::new(limits, Keyring::for_tests(1)),
            ledger: MemoryLedger::new(stock),
            ..world()
        };
        Self {
            world,
            millis: 0,
            under_way: Vec::new(),
            is_held: false,
            is_shared: false,
            orders: 0,
            limits: Vec::new(),
        }
    }

    fn now(&self) -> UnixMicros {
        NOW.plus(Duration::from_millis(self.millis))
    }

    fn order(&mut self, sku: &str) {
        self.orders += 1;
        let key = format!("order-{:09}", self.orders);
        let envelope = self.world.envelope_of(&key, sku, 1);
        self.world.send(to_idc::Kind::Place(envelope));
    }

    fn handle(&mut self, input: Input) {
        let now = self.now();
        self.world.agent.handle(input, now, &mut rand::rng());
    }

    /// Returns the end of each request of a batch.
    fn ends(&mut self, attempt: &Attempt) -> Vec<RequestEnd> {
        let needs_shoes = |request: &Request| match &request.action {
            Action::Place(placement) => placement.terms.lines()[0].sku.as_str() == "SHOE",
            Action::Cancel { .. } => false,
        };
        let is_locked = self.is_held || (self.is_shared && attempt.awaited.is_none());
        let waits = attempt.batch.requests.iter().any(|request| is_locked && needs_shoes(request));
        if waits {
            return attempt.batch.requests.iter().map(|_| RequestEnd::Waits(shoe())).collect();
        }
        self.world.ledger.commit(&attempt.batch).into_iter().map(RequestEnd::Committed).collect()
    }

    /// Lets the time pass in which so many orders of these SKUs come each step.
    fn run(&mut self, steps: u64, orders: &[(&str, u64)]) {
        for _ in 0..steps {
            self.millis += STEP;
            self.world.agent.set_time(Duration::from_millis(self.millis));
            for (sku, count) in orders {
                (0..*count).for_each(|_| self.order(sku));
            }
            while let Some(at) = self.under_way.iter().position(|(ends, _)| *ends <= self.millis) {
                let (_, attempt) = self.under_way.swap_remove(at);
                let ends = self.ends(&attempt);
                let requests = attempt.batch.requests.into_iter().zip(ends).collect();
                let (committer, awaited) = (attempt.committer, attempt.awaited);
                self.handle(Input::Batch(AttemptEnd { committer, awaited, requests, outage: false }));
            }
            let now = self.now();
            while let Some(output) = self.world.agent.poll_output(now) {
                match output {
                    Output::Decapsulate { link, session } => {
                        self.handle(Input::Decapsulated { link, session: session.decapsulate() });
                    }
                    Output::Audit(_) => self.handle(Input::Audited(Ok(()))),
                    Output::Commit(attempt) => self.under_way.push((self.millis + COMMIT, attempt)),
                    _ => {}
                }
            }
            if let Some(grants) = self.world.agent.poll_grants(now, Duration::ZERO) {
                let limits = grants.brands.into_iter().map(|grant| (grant.brand, grant.outstanding));
                self.limits = limits.collect();
            }
        }
    }

    fn limit(&self) -> Option<u32> {
        self.limits.first().map(|(_, limit)| *limit)
    }
}

#[test]
fn a_hot_sku_that_two_agents_share_gets_its_limit() {
    let mut shop = Shop::new();
    shop.is_shared = true;
    shop.run(200, &[("SHOE", 2)]);
    assert!(shop.world.agent.held() > 300, "{} wait", shop.world.agent.held());
    assert_eq!(shop.limit(), Some(16));
}

#[test]
fn a_row_that_a_dba_holds_makes_no_limit() {
    let mut shop = Shop::new();
    shop.is_held = true;
    for _ in 0..100 {
        shop.run(4, &[("SHOE", 2)]);
        assert_eq!(shop.limit(), None);
    }
    shop.is_held = false;
    shop.run(4, &[("SHOE", 0)]);
    assert_eq!(shop.limit(), None, "the wait before the row was free does not count");
}

#[test]
fn orders_for_a_dbas_row_take_no_credit_from_the_brands_others() {
    let mut shop = Shop::new();
    shop.run(200, &[("SOCK", 1)]);
    assert_eq!(shop.limit(), Some(16));
    shop.is_held = true;
    // The held orders get behind the others at the committer, which has enough to do.
    shop.run(20, &[("SHOE", 2)]);
    shop.run(1_500, &[("SOCK", 0)]);
    assert_eq!(shop.world.agent.held(), 40);
    shop.run(200, &[("SOCK", 1)]);
    assert_eq!((shop.world.agent.held(), shop.limit()), (40, Some(16 + 40)));
}
