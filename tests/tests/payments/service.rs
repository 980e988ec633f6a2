//! Tests of the payment service and its reconciler on real databases, against a faulty gateway. An
//! order is charged once or not at all, and in the end every agent knows which.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge_idc::metrics::Metrics;
use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::end::ServiceEnd;
use bridge_idc::payments::gateway::toss::Toss;
use bridge_idc::payments::service::{PaymentLimits, Payments};
use bridge_idc::payments::store::PaymentLedger as _;
use bridge_idc::payments::{ChargeRequest, Payment};
use bridge_protocol::audit::entry::Event;
use bridge_protocol::domain::{KeyDigest, OrderId, PaymentId, PaymentState, RefundState};
use bridge_protocol::wire::order::Refusal;
use bridge_runtime::audit_log::Closer;
use bridge_runtime::shutdown::Shutdown;
use bridge_tests::testkit::sandbox::{Mischief, Rates, SECRET_KEY, Sandbox};
use bridge_tests::testkit::{audits, tlog};
use tempfile::TempDir;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::database::{Database, connect, postgres, sqlite};
use crate::shop::{self, Shop, TOTAL, batch, commit_one, order_id, order_of, refund};

/// Short times, so that a request that hangs ends soon. They are long enough for a commit and a
/// call of the gateway on a slow machine.
const LIMITS: PaymentLimits = PaymentLimits {
    calls_max: 64,
    doubts_max: 64,
    timeout: Duration::from_secs(2),
    margin: Duration::from_secs(3),
    retry_first: Duration::from_millis(20),
    retry_max: Duration::from_millis(500),
    alarm_after: Duration::from_secs(60),
};

/// An agent's payments, without its tunnel.
struct PaymentService {
    payments: Arc<Payments<Toss>>,
    shutdown: Shutdown,
    reconciler: Option<JoinHandle<()>>,
    log: PathBuf,
    key: String,
    closer: Option<Closer>,
    _dir: TempDir,
}

impl PaymentService {
    async fn start(database: &Database, sandbox: &Sandbox) -> Self {
        let toss = Toss::new(&sandbox.url(), SECRET_KEY.as_bytes(), LIMITS.timeout).unwrap();
        let ledger: Arc<Ledger> = Arc::new(connect(database.url()).await);
        let dir = tempfile::tempdir().unwrap();
        let (config, log, closer) = audits::open(dir.path()).unwrap();
        let key = log.verifier().to_string();
        let payments = Arc::new(Payments::new(ledger, toss, LIMITS, Arc::new(Metrics::default()), log));
        let (shutdown, reconciler, closer) = (Shutdown::new(), None, Some(closer));
        Self { payments, shutdown, reconciler, log: config.dir, key, closer, _dir: dir }
    }

    /// Closes the log, so that nothing can be logged any more.
    async fn close_log(&mut self) {
        if let Some(closer) = self.closer.take() {
            closer.close().await.unwrap();
        }
    }

    /// Closes the log and returns the outcomes in it, with their keys.
    async fn concluded(mut self) -> Vec<(KeyDigest, String)> {
        self.close_log().await;
        if !self.log.join("checkpoint").exists() {
            return Vec::new(); // Nothing was logged.
        }
        let entries = audits::entries(&tlog::check(&self.log, &self.key).unwrap()).unwrap();
        let ended = entries.into_iter().map(|entry| match entry.event {
            Event::PaymentCommitted(ended) => (ended.key, ended.outcome.to_string()),
            other => panic!("{other:?}"),
        });
        ended.collect()
    }

    fn reconcile(mut self) -> Self {
        self.reconciler = Some(tokio::spawn(self.payments.clone().reconcile(self.shutdown.clone())));
        self
    }

    async fn pay(&self, asked: &ChargeRequest) -> Payment {
        match self.payments.pay(asked, None).await {
            ServiceEnd::Stands { payment, .. } => payment,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for PaymentService {
    fn drop(&mut self) {
        if let Some(reconciler) = &self.reconciler {
            reconciler.abort();
        }
    }
}

/// Returns a request to charge for this order, under a key of the order.
fn pay(shop: &Shop, order: OrderId) -> ChargeRequest {
    shop::pay(shop, &format!("pay {order}"), order)
}

async fn shop(database: &Database) -> Shop {
    Shop::open(&database.ledger, "acme", &[("A", 1_000_000)]).await
}

async fn order(database: &Database, shop: &Shop) -> OrderId {
    let key = order_id().to_string();
    let request = shop.place(&key, &[("A", 1)]);
    commit_one(&database.ledger, request.clone()).await;
    order_of(&request)
}

/// Waits until the payment meets a condition, and returns it.
async fn until(ledger: &Ledger, id: PaymentId, stands: impl Fn(&Payment) -> bool) -> Payment {
    loop {
        let payment = ledger.payment(id).await.unwrap().unwrap();
        if stands(&payment) {
            return payment;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the number of payments in the large test. `BRIDGE_PAYMENTS` can set it, for example to
/// the number in the promise.
fn count() -> usize {
    std::env::var("BRIDGE_PAYMENTS").ok().and_then(|count| count.parse().ok()).unwrap_or(400)
}

async fn every_order_is_charged_once_or_not_at_all(database: Database, seed: u64) {
    let rates =
        Rates { seed, decline: 50, hang_before: 25, hang_after: 25, fail_after: 200, fail_before: 20 };
    println!("seed {seed}");
    let sandbox = Sandbox::start(rates).await.unwrap();
    let shop = shop(&database).await;
    let mut orders = Vec::new();
    for chunk in 0..count().div_ceil(500) {
        let size = (count() - chunk * 500).min(500);
        let requests: Vec<_> = (0..size).map(|n| shop.place(&format!("{chunk}-{n}"), &[("A", 1)])).collect();
        orders.extend(requests.iter().map(order_of));
        assert!(database.ledger.commit(&batch(requests), None).await.outage.is_none());
    }
    // Two agents may take rows from each other. Every caller sends its request twice under one key,
    // to either agent.
    let agents = [
        PaymentService::start(&database, &sandbox).await.reconcile(),
        PaymentService::start(&database, &sandbox).await.reconcile(),
    ];
    let mut callers = JoinSet::new();
    for (n, order) in orders.iter().enumerate() {
        for agent in [n % 2, (n + 1) % 2] {
            let (payments, asked) = (agents[agent].payments.clone(), pay(&shop, *order));
            callers.spawn(async move { payments.pay(&asked, None).await });
        }
    }
    while let Some(end) = callers.join_next().await {
        assert!(matches!(end.unwrap(), ServiceEnd::Stands { .. }));
    }
    while !database.ledger.payments(true, 1).await.unwrap().is_empty() {
        sleep(Duration::from_millis(50)).await;
    }

    let charges = sandbox.charges();
    assert!(charges.iter().all(|charge| charge.charged <= 1), "an order was charged twice");
    let charged: HashMap<String, i64> = charges
        .iter()
        .filter(|charge| charge.charged == 1)
        .map(|charge| (charge.order.clone(), charge.amount))
        .collect();
    let payments = database.ledger.payments(false, i64::MAX).await.unwrap();
    assert_eq!(payments.len(), orders.len(), "each order has one payment, though two requests came");
    for payment in &payments {
        let moved = charged.get(&payment.charge.order.to_string());
        match payment.state {
            PaymentState::Paid => assert_eq!(moved, Some(&TOTAL), "{payment:?}"),
            PaymentState::Declined | PaymentState::NotPaid => assert_eq!(moved, None, "{payment:?}"),
            _ => panic!("in doubt: {payment:?}"),
        }
    }
    let sums = database.ledger.payment_sums().await.unwrap();
    assert_eq!((sums.charged, sums.payments), (charged.values().sum(), charged.len() as i64));
    assert!(sums.payments > 0 && sums.payments < payments.len() as i64, "some payments were declined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_and_gateway_agree_to_the_last_unit_in_sqlite() {
    every_order_is_charged_once_or_not_at_all(sqlite().await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_and_gateway_agree_to_the_last_unit_in_postgres() {
    every_order_is_charged_once_or_not_at_all(postgres("agree").await, 2).await;
}

#[tokio::test]
async fn a_late_payment_or_refund_is_refused_before_it_begins() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let asked = pay(&shop, order(&database, &shop).await);
    let late = agent.payments.pay(&asked, Some(Instant::now())).await;
    assert_eq!(late, ServiceEnd::Refused(Refusal::Late));
    let payment = agent.pay(&asked).await;
    assert_eq!(payment.state, PaymentState::Paid, "the key is free, because nothing had begun");
    let asked = refund(&shop, "r1", &payment, 1_000);
    let late = agent.payments.refund(&asked, Some(Instant::now())).await;
    assert_eq!(late, ServiceEnd::Refused(Refusal::Late));
    let in_time = Some(Instant::now() + Duration::from_secs(3_600));
    assert!(matches!(agent.payments.refund(&asked, in_time).await, ServiceEnd::Stands { .. }));
}

#[tokio::test]
async fn a_decline_is_told_at_once_and_a_good_answer_as_well() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    assert_eq!(agent.pay(&pay(&shop, order(&database, &shop).await)).await.state, PaymentState::Paid);
    sandbox.next([Mischief::Decline]);
    let declined = agent.pay(&pay(&shop, order(&database, &shop).await)).await;
    assert_eq!(declined.state, PaymentState::Declined);
    assert_eq!(declined.code.unwrap().as_str(), "REJECT_CARD_COMPANY");
}

#[tokio::test]
async fn what_an_agent_that_died_had_begun_is_found_by_another() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let shop = shop(&database).await;
    for (asked_before, mischief) in [Mischief::HangBefore, Mischief::HangAfter].into_iter().enumerate() {
        let dying = PaymentService::start(&database, &sandbox).await;
        let asked = pay(&shop, order(&database, &shop).await);
        sandbox.next([mischief]);
        let gateway_hangs = async {
            while sandbox.charges().len() == asked_before {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // The agent dies after the gateway has the request, and before it gets an answer.
        tokio::select! {
            biased;
            () = gateway_hangs => {}
            end = dying.payments.pay(&asked, None) => panic!("the gateway hangs: {end:?}"),
        }
        drop(dying);
        let other = PaymentService::start(&database, &sandbox).await.reconcile();
        let id = asked.charge.payment;
        until(&database.ledger, id, |payment| payment.state == PaymentState::Paid).await;
        drop(other);
    }
    assert!(sandbox.charges().iter().all(|charge| charge.charged == 1));
}

#[tokio::test]
async fn an_order_that_was_cancelled_meanwhile_is_never_charged_again() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let order = order(&database, &shop).await;
    sandbox.next([Mischief::HangBefore]);
    let payment = agent.pay(&pay(&shop, order)).await;
    assert_eq!(payment.state, PaymentState::Unknown);
    commit_one(&database.ledger, shop.cancel("c", order)).await;
    let agent = agent.reconcile();
    let id = payment.charge.payment;
    until(&database.ledger, id, |payment| payment.asks >= 3).await;
    assert_eq!(sandbox.charges()[0].charged, 0, "the gateway charged without a confirmation");
    sandbox.set_status(&order.to_string(), "EXPIRED");
    let ended = until(&database.ledger, id, |payment| !payment.state.is_open()).await;
    assert_eq!((ended.state, ended.code.unwrap().as_str()), (PaymentState::NotPaid, "EXPIRED"));
    drop(agent);
}

#[tokio::test]
async fn money_that_moved_for_a_cancelled_order_goes_back_by_itself() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let order = order(&database, &shop).await;
    sandbox.next([Mischief::FailAfter]);
    let payment = agent.pay(&pay(&shop, order)).await;
    commit_one(&database.ledger, shop.cancel("c", order)).await;
    // The refund's first answer is lost as well: first comes the look-up, then the refund.
    sandbox.next([Mischief::Fine, Mischief::FailAfter]);
    let agent = agent.reconcile();
    let id = payment.charge.payment;
    let ended = until(&database.ledger, id, |payment| payment.state == PaymentState::Refunded).await;
    assert_eq!((ended.refunds.len(), ended.refunds[0].automatic), (1, true));
    let books = &sandbox.charges()[0];
    assert_eq!((books.charged, books.cancels.as_slice()), (1, [TOTAL].as_slice()));
    drop(agent);
}

#[tokio::test]
async fn a_refund_without_answer_is_asked_again_and_made_once() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await.reconcile());
    let payment = agent.pay(&pay(&shop, order(&database, &shop).await)).await;
    sandbox.next([Mischief::HangAfter, Mischief::FailAfter]);
    let asked = refund(&shop, "r", &payment, 1_000);
    let ServiceEnd::Stands { payment, refund: Some(id), replayed: false, logged: false } =
        agent.payments.refund(&asked, None).await
    else {
        panic!("the service refused the refund")
    };
    let of = |payment: &Payment| payment.refunds.iter().find(|refund| refund.refund == id).unwrap().state;
    assert_eq!(of(&payment), RefundState::Unknown);
    let too_much = agent.payments.refund(&refund(&shop, "r2", &payment, TOTAL), None).await;
    assert_eq!(too_much, ServiceEnd::Refused(Refusal::RefundTooLarge), "a refund in doubt counts");
    let ended =
        until(&database.ledger, payment.charge.payment, |payment| of(payment) == RefundState::Done).await;
    assert_eq!((ended.state, ended.refunded), (PaymentState::PartiallyRefunded, 1_000));
    assert_eq!(sandbox.charges()[0].cancels, [1_000]);
    sandbox.next([Mischief::Decline]);
    let asked = refund(&shop, "r3", &payment, 1_000);
    let ServiceEnd::Stands { payment, refund: Some(id), .. } = agent.payments.refund(&asked, None).await
    else {
        panic!("the service refused the refund")
    };
    let refused = payment.refunds.iter().find(|refund| refund.refund == id).unwrap();
    assert_eq!(refused.state, RefundState::Refused);
}

#[tokio::test]
async fn a_hint_is_believed_only_as_far_as_the_gateway_says_so() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let order = order(&database, &shop).await;
    assert!(
        !agent.payments.hint(order).await.unwrap(),
        "a hint about an order without a payment was accepted"
    );
    sandbox.next([Mischief::HangAfter]);
    let payment = agent.pay(&pay(&shop, order)).await;
    assert_eq!(payment.state, PaymentState::Unknown);
    for _ in 0..3 {
        agent.payments.hint(order).await.unwrap();
    }
    let id = payment.charge.payment;
    assert_eq!(database.ledger.payment(id).await.unwrap().unwrap().state, PaymentState::Unknown);
    let agent = agent.reconcile();
    until(&database.ledger, id, |payment| payment.state == PaymentState::Paid).await;
    assert!(!agent.payments.hint(order).await.unwrap(), "a hint about a known payment was accepted");
}

async fn what_nobody_waits_for_is_logged(database: Database) {
    let sandbox = Sandbox::start(Rates::default()).await.unwrap();
    let (shop, agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await.reconcile());
    let paid = pay(&shop, order(&database, &shop).await);
    sandbox.next([Mischief::FailAfter]);
    let payment = agent.pay(&paid).await;
    assert_eq!(payment.state, PaymentState::Unknown);
    let id = payment.charge.payment;
    until(&database.ledger, id, |payment| payment.state == PaymentState::Paid).await;

    let given_back = refund(&shop, "r", &payment, 1_000);
    sandbox.next([Mischief::FailAfter]);
    assert!(matches!(agent.payments.refund(&given_back, None).await, ServiceEnd::Stands { .. }));
    until(&database.ledger, id, |payment| payment.refunded == 1_000).await;

    // This payment gets its answer. Its automatic refund answers no request, so no outcome of it is
    // logged.
    let cancelled = pay(&shop, order(&database, &shop).await);
    let payment = agent.pay(&cancelled).await;
    assert_eq!(payment.state, PaymentState::Paid);
    commit_one(&database.ledger, shop.cancel("c", payment.charge.order)).await;
    let id = payment.charge.payment;
    until(&database.ledger, id, |payment| payment.state == PaymentState::Refunded).await;

    let logged =
        [(paid.key, "paid"), (given_back.key, "done"), (cancelled.key, "paid"), (cancelled.key, "refunded")];
    assert_eq!(agent.concluded().await, logged.map(|(key, outcome)| (key, outcome.to_owned())));
}

#[tokio::test]
async fn an_unattended_outcome_is_logged_under_its_requests_key_on_sqlite() {
    Box::pin(what_nobody_waits_for_is_logged(sqlite().await)).await;
}

#[tokio::test]
async fn an_unattended_outcome_is_logged_under_its_requests_key_on_postgres() {
    Box::pin(what_nobody_waits_for_is_logged(postgres("logged").await)).await;
}

#[tokio::test]
async fn what_cannot_be_logged_is_not_concluded_before_it_can_be() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, mut agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let asked = pay(&shop, order(&database, &shop).await);
    sandbox.next([Mischief::FailAfter]);
    let id = agent.pay(&asked).await.charge.payment;
    agent.close_log().await;
    let agent = agent.reconcile();
    let still = until(&database.ledger, id, |payment| payment.asks >= 2).await;
    assert_eq!(still.state, PaymentState::Unknown, "the conclusion was committed without a log entry");
    drop(agent);
    let other = PaymentService::start(&database, &sandbox).await.reconcile();
    until(&database.ledger, id, |payment| payment.state == PaymentState::Paid).await;
    assert_eq!(other.concluded().await, [(asked.key, "paid".to_owned())]);
}

#[tokio::test]
async fn a_payment_stands_as_paid_nowhere_before_that_is_in_the_log() {
    let (database, sandbox) = (sqlite().await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, mut agent) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let logged = pay(&shop, order(&database, &shop).await);
    assert_eq!(agent.pay(&logged).await.state, PaymentState::Paid);
    let unlogged = pay(&shop, order(&database, &shop).await);
    agent.close_log().await;
    assert_eq!(
        agent.pay(&unlogged).await.state,
        PaymentState::Unknown,
        "the caller got an answer that was not logged"
    );
    let stands = database.ledger.payment(unlogged.charge.payment).await.unwrap().unwrap();
    assert_eq!(stands.state, PaymentState::Confirming, "a look-up shows an outcome that was not logged");
    assert_eq!(agent.concluded().await, [(logged.key, "paid".to_owned())]);
}

/// Subtracts two hours from times of every payment, as if two hours had passed.
async fn two_hours_later(database: &Database, columns: &[&str]) {
    for column in columns {
        let sql = format!("UPDATE payments SET {column} = {column} - 7200000000");
        database.run(&sql, &sql).await;
    }
}

async fn what_reaches_the_gateway_late_is_charged_late(database: Database) {
    let sandbox = Sandbox::start(Rates::default()).await.unwrap();
    let (shop, first) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let asked = pay(&shop, order(&database, &shop).await);
    sandbox.next([Mischief::Held]);
    assert_eq!(first.pay(&asked).await.state, PaymentState::Unknown);
    two_hours_later(&database, &["created_at", "confirm_until"]).await;
    let agents = [
        PaymentService::start(&database, &sandbox).await.reconcile(),
        PaymentService::start(&database, &sandbox).await.reconcile(),
    ];
    let (id, order) = (asked.charge.payment, asked.charge.order);
    let given_up = until(&database.ledger, id, |payment| !payment.state.is_open()).await;
    assert_eq!((given_up.state, given_up.code.unwrap().as_str()), (PaymentState::NotPaid, "NO_TRACE"));
    sandbox.let_go();
    for agent in &agents {
        agent.payments.hint(order).await.unwrap();
    }
    let ended = until(&database.ledger, id, |payment| payment.state == PaymentState::Returned).await;
    assert_eq!((ended.refunds.len(), ended.refunds[0].automatic), (1, true));
    let books = &sandbox.charges()[0];
    assert_eq!(
        (books.charged, books.cancels.as_slice()),
        (1, [TOTAL].as_slice()),
        "the money goes back once, although two agents work"
    );
    let again = first.pay(&asked).await;
    assert_eq!(again.state, PaymentState::Returned);
    let mut logged = Vec::new();
    for agent in agents {
        logged.extend(agent.concluded().await.into_iter().map(|(key, outcome)| {
            assert_eq!(key, asked.key);
            outcome
        }));
    }
    logged.sort_unstable();
    assert_eq!(logged, ["charged_late", "not_paid", "returned"], "each step is in the log once");
}

#[tokio::test]
async fn a_charge_after_giving_up_is_late_and_is_refunded_on_sqlite() {
    Box::pin(what_reaches_the_gateway_late_is_charged_late(sqlite().await)).await;
}

#[tokio::test]
async fn a_charge_after_giving_up_is_late_and_is_refunded_on_postgres() {
    Box::pin(what_reaches_the_gateway_late_is_charged_late(postgres("late").await)).await;
}

#[tokio::test]
async fn an_old_payment_is_kept_while_another_agent_may_be_requesting_it() {
    let (database, sandbox) = (postgres("on_its_way").await, Sandbox::start(Rates::default()).await.unwrap());
    let (shop, first) = (shop(&database).await, PaymentService::start(&database, &sandbox).await);
    let asked = pay(&shop, order(&database, &shop).await);
    let (id, order) = (asked.charge.payment, asked.charge.order);
    // The second request is on its way when the other agent asks about the payment.
    sandbox.next([Mischief::FailBefore, Mischief::Fine, Mischief::Held]);
    assert_eq!(first.pay(&asked).await.state, PaymentState::Unknown);
    let first = first.reconcile();
    while sandbox.held() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    two_hours_later(&database, &["created_at"]).await;
    let other = PaymentService::start(&database, &sandbox).await.reconcile();
    assert!(other.payments.hint(order).await.unwrap(), "the hint made nothing due");
    until(&database.ledger, id, |payment| {
        assert!(payment.state.is_open(), "{:?}", payment.state);
        payment.asks >= 3
    })
    .await;
    sandbox.let_go();
    other.payments.hint(order).await.unwrap();
    let ended = until(&database.ledger, id, |payment| !payment.state.is_open()).await;
    assert_eq!((ended.state, ended.refunds.len()), (PaymentState::Paid, 0));
    drop(first);
}
