//! Tests of leases: an agent holds a row as long as its calls of the gateway and its own work may
//! take. The gateway of these tests reads the lease while it is called.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bridge_idc::config::LedgerUrl;
use bridge_idc::metrics::Metrics;
use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::audit::{Log, LogFirst, conclude_payment};
use bridge_idc::payments::end::ServiceEnd;
use bridge_idc::payments::gateway::{ChargeStatus, Gateway, GatewayAnswer, NoProof};
use bridge_idc::payments::service::{Environment, PaymentLimits, Payments};
use bridge_idc::payments::store::ReportedOutcome;
use bridge_idc::payments::{Charge, ChargeRequest, GiveBack};
use bridge_runtime::audit_log::AuditLog;
use bridge_runtime::shutdown::Shutdown;
use bridge_tests::testkit::audits;
use tokio::sync::mpsc;

use crate::database::{Database, connect, postgres, sqlite};
use crate::shop::{Shop, commit_one, order_of, pay, refund};

/// Limits that differ widely, so that a lease shows which of them it contains.
pub(crate) const LIMITS: PaymentLimits = PaymentLimits {
    calls_max: 4,
    doubts_max: 4,
    timeout: Duration::from_secs(1_000),
    margin: Duration::from_secs(500),
    retry_first: Duration::from_secs(100_000),
    retry_max: Duration::from_secs(200_000),
    alarm_after: Duration::from_secs(100_000),
};

/// The table of the leased row, and the rest of its lease, at a call of the gateway.
type Seen = (&'static str, Duration);

/// A gateway that charges or gives no answer. At each call it reads the lease of the row.
struct Watching {
    charges: bool,
    url: LedgerUrl,
    seen: mpsc::UnboundedSender<Seen>,
}

impl Watching {
    async fn look(&self, table: &'static str) {
        let sql = match table {
            "payments" => "SELECT next_ask_at FROM payments",
            _ => "SELECT next_ask_at FROM refunds",
        };
        let held_until: i64 = crate::database::value(&self.url, sql).await;
        let clock = match &self.url {
            LedgerUrl::Postgres(_) => {
                include_str!("../../../bridge-idc/src/payments/store/postgres/clock.sql")
            }
            LedgerUrl::Sqlite(_) => include_str!("../../../bridge-idc/src/payments/store/sqlite/clock.sql"),
        };
        let now = crate::database::value(&self.url, clock).await;
        let held = Duration::from_micros(u64::try_from(held_until - now).unwrap_or(0));
        self.seen.send((table, held)).unwrap();
    }
}

impl Gateway for Watching {
    async fn confirm(&self, _: &Charge) -> GatewayAnswer {
        self.look("payments").await;
        if self.charges { GatewayAnswer::Done } else { GatewayAnswer::Unknown(NoProof::TimedOut) }
    }

    async fn find(&self, _: &Charge) -> ChargeStatus {
        self.look("payments").await;
        ChargeStatus::Unknown(NoProof::TimedOut)
    }

    async fn find_given_back(&self, _: &Charge) -> Result<Vec<i64>, NoProof> {
        Err(NoProof::TimedOut)
    }

    async fn give_back(&self, _: &GiveBack) -> GatewayAnswer {
        self.look("refunds").await;
        GatewayAnswer::Unknown(NoProof::TimedOut)
    }
}

/// An agent's payments with that gateway, and the leases that the gateway read.
struct WatchedPayments {
    payments: Arc<Payments<Watching>>,
    seen: mpsc::UnboundedReceiver<Seen>,
    asked: ChargeRequest,
    shop: Shop,
    _log: bridge_runtime::audit_log::Closer,
}

impl WatchedPayments {
    async fn start(database: &Database, log: &Path, charges: bool) -> Self {
        let (tell, seen) = mpsc::unbounded_channel();
        let gateway = Watching { charges, url: database.url().clone(), seen: tell };
        let (_, log, closer) = audits::open(log).unwrap();
        let ledger = Arc::new(connect(database.url()).await);
        let payments = Arc::new(Payments::new(ledger, gateway, LIMITS, Arc::new(Metrics::default()), log));
        let shop = Shop::open(&database.ledger, "acme", &[("A", 1)]).await;
        let order = shop.place("k", &[("A", 1)]);
        commit_one(&database.ledger, order.clone()).await;
        let asked = pay(&shop, "p", order_of(&order));
        Self { payments, seen, asked, shop, _log: closer }
    }

    /// Checks that the lease at the next call has time for `calls` calls and for the agent's own
    /// work.
    async fn is_held(&mut self, table: &str, calls: u32) {
        let (of, held) = self.seen.recv().await.unwrap();
        // The margin is far longer than this test, so the time since the lease began does not
        // matter.
        assert!(of == table && held > LIMITS.timeout * calls, "{of}: {held:?}");
        assert!(held <= LIMITS.timeout * calls + LIMITS.margin, "{of}: {held:?}");
    }
}

/// Statements that make doubts about payments and refunds due.
pub(crate) const DUE: [&str; 2] = [
    "UPDATE payments SET next_ask_at = 0 WHERE next_ask_at IS NOT NULL",
    "UPDATE refunds SET next_ask_at = 0 WHERE next_ask_at IS NOT NULL",
];

async fn a_payment_is_held(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = WatchedPayments::start(&database, dir.path(), false).await;
    assert!(matches!(agent.payments.pay(&agent.asked, None).await, ServiceEnd::Stands { .. }));
    agent.is_held("payments", 1).await;
    database.run(DUE[0], DUE[0]).await;
    let reconciler = tokio::spawn(agent.payments.clone().reconcile(Shutdown::new()));
    agent.is_held("payments", 2).await;
    reconciler.abort();
}

async fn a_refund_is_held(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = WatchedPayments::start(&database, dir.path(), true).await;
    let ServiceEnd::Stands { payment, .. } = agent.payments.pay(&agent.asked, None).await else {
        panic!("the service refused the payment")
    };
    agent.is_held("payments", 1).await;
    let asked = refund(&agent.shop, "r", &payment, 1_000);
    assert!(matches!(agent.payments.refund(&asked, None).await, ServiceEnd::Stands { .. }));
    agent.is_held("refunds", 1).await;
    database.run(DUE[1], DUE[1]).await;
    let reconciler = tokio::spawn(agent.payments.clone().reconcile(Shutdown::new()));
    agent.is_held("refunds", 2).await;
    reconciler.abort();
}

#[tokio::test]
async fn a_payment_is_one_agent_s_for_all_its_calls_on_sqlite() {
    a_payment_is_held(sqlite().await).await;
}

#[tokio::test]
async fn a_payment_is_one_agent_s_for_all_its_calls_on_postgres() {
    a_payment_is_held(postgres("lease_of_payment").await).await;
}

#[tokio::test]
async fn a_refund_is_one_agent_s_for_all_its_calls_on_sqlite() {
    a_refund_is_held(sqlite().await).await;
}

#[tokio::test]
async fn a_refund_is_one_agent_s_for_all_its_calls_on_postgres() {
    a_refund_is_held(postgres("lease_of_refund").await).await;
}

/// The site of a delayed agent. Between two readings of its clock more time passes than its own
/// work may take.
struct HeldUp {
    ledger: Ledger,
    log: AuditLog,
    began: Instant,
    looks: AtomicU32,
}

impl Environment for HeldUp {
    type Ledger = Ledger;

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn log(&self) -> &dyn Log {
        &self.log
    }

    fn now(&self) -> Instant {
        self.began + 2 * LIMITS.margin * self.looks.fetch_add(1, Ordering::Relaxed)
    }

    fn back_off(&self, _: u32, _: Duration, _: Duration) -> Duration {
        Duration::ZERO
    }
}

/// Another agent may have the row by then, or an operator may have decided that no money moved.
#[tokio::test]
async fn an_agent_that_was_held_up_for_too_long_asks_for_nothing() {
    let (database, dir) = (sqlite().await, tempfile::tempdir().unwrap());
    let (tell, mut seen) = mpsc::unbounded_channel();
    let gateway = Watching { charges: true, url: database.url().clone(), seen: tell };
    let (_, log, _closer) = audits::open(dir.path()).unwrap();
    let ledger = connect(database.url()).await;
    let site = HeldUp { ledger, log: log.clone(), began: Instant::now(), looks: AtomicU32::new(0) };
    let payments = Payments::at(site, gateway, LIMITS, Arc::new(Metrics::default()));
    let shop = Shop::open(&database.ledger, "acme", &[("A", 1)]).await;
    let order = shop.place("k", &[("A", 1)]);
    commit_one(&database.ledger, order.clone()).await;
    let ServiceEnd::Stands { payment, .. } = payments.pay(&pay(&shop, "p", order_of(&order)), None).await
    else {
        panic!("the service refused the payment")
    };
    assert!(seen.try_recv().is_err(), "the gateway was asked to charge");
    let (order, id, first) = (payment.charge.order, payment.charge.payment, LogFirst::new(&log));
    conclude_payment(&database.ledger, first, order, id, &ReportedOutcome::Done, None).await.unwrap();
    assert!(matches!(
        payments.refund(&refund(&shop, "r", &payment, 1_000), None).await,
        ServiceEnd::Stands { .. }
    ));
    assert!(seen.try_recv().is_err(), "the gateway was asked to give back");
    database.run(DUE[1], DUE[1]).await;
    let ask_for_refunds = async || {
        let due = payments.take_due(4).await.unwrap();
        assert_eq!(due.refunds.len(), 1);
        for due in due.refunds {
            payments.ask_for_refund(due).await;
        }
    };
    ask_for_refunds().await;
    assert!(seen.try_recv().is_err(), "the gateway was asked to give back once more");

    // A refund that is in doubt for long has been reported to an operator. So the agent pauses
    // before the next request, and in this pause the operator may call the refund refused.
    let soon = "SELECT count(*) FROM refunds WHERE next_ask_at < give_back_until";
    assert_eq!(database.count(soon).await, 1, "a young refund is not requested again soon");
    let old = "UPDATE refunds SET next_ask_at = 0, created_at = 0";
    database.run(old, old).await;
    ask_for_refunds().await;
    let later = "SELECT count(*) FROM refunds WHERE next_ask_at >= give_back_until + 60000000";
    assert_eq!(database.count(later).await, 1);
}
