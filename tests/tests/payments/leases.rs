//! For how long a row is one agent's: as long as its calls of the gateway may take, and its own work with it. The gateway here
//! looks at that while it is being asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bridge_idc::config::LedgerUrl;
use bridge_idc::payment::gateway::{Answer, Found, Gateway, NoProof};
use bridge_idc::payment::service::{End, Limits, Payments};
use bridge_idc::payment::{Charge, GiveBack, PayAsked};
use bridge_runtime::shutdown::Shutdown;
use bridge_runtime::telemetry::metrics::Metrics;
use bridge_tests::audits;
use tokio::sync::mpsc;

use crate::database::{Database, connect, postgres, sqlite};
use crate::shop::{Shop, commit_one, order_of, pay, refund};

/// Far apart, so that a time says which of them went into it.
const LIMITS: Limits = Limits {
    calls_max: 4,
    doubts_max: 4,
    timeout: Duration::from_secs(1_000),
    margin: Duration::from_secs(500),
    retry_first: Duration::from_secs(100_000),
    retry_max: Duration::from_secs(200_000),
    alarm_after: Duration::from_secs(100_000),
};

/// In which table, and for how much longer, the row is this agent's that the gateway is asked about.
type Seen = (&'static str, Duration);

/// A gateway that tells nothing, or that it has charged, and looks how long the row that it is asked about is held.
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
                include_str!("../../../bridge-idc/src/ledger/payments/postgres/clock.sql")
            }
            LedgerUrl::Sqlite(_) => include_str!("../../../bridge-idc/src/ledger/payments/sqlite/clock.sql"),
        };
        let now = crate::database::value(&self.url, clock).await;
        let held = Duration::from_micros(u64::try_from(held_until - now).unwrap_or(0));
        self.seen.send((table, held)).unwrap();
    }
}

impl Gateway for Watching {
    async fn confirm(&self, _: &Charge) -> Answer {
        self.look("payments").await;
        if self.charges { Answer::Done } else { Answer::Unknown(NoProof::TimedOut) }
    }

    async fn find(&self, _: &Charge) -> Found {
        self.look("payments").await;
        Found::Unknown(NoProof::TimedOut)
    }

    async fn give_back(&self, _: &GiveBack) -> Answer {
        self.look("refunds").await;
        Answer::Unknown(NoProof::TimedOut)
    }
}

/// An agent's payments over that gateway, and what the gateway sees.
struct Agent {
    payments: Arc<Payments<Watching>>,
    seen: mpsc::UnboundedReceiver<Seen>,
    asked: PayAsked,
    shop: Shop,
    _log: bridge_runtime::audit_log::Closer,
}

impl Agent {
    async fn start(database: &Database, log: &Path, charges: bool) -> Self {
        let (tell, seen) = mpsc::unbounded_channel();
        let gateway = Watching { charges, url: database.url().clone(), seen: tell };
        let (_, log, closer) = audits::open(log).unwrap();
        let ledger = Arc::new(connect(database.url()).await);
        let payments = Arc::new(Payments::new(ledger, gateway, LIMITS, Arc::new(Metrics::idc()), log));
        let shop = Shop::open(&database.ledger, "acme", &[("A", 1)]).await;
        let order = shop.place("k", &[("A", 1)]);
        commit_one(&database.ledger, order.clone()).await;
        let asked = pay(&shop, "p", order_of(&order));
        Self { payments, seen, asked, shop, _log: closer }
    }

    /// The row that the gateway is asked about next is held for more than so many calls of it, with what is kept for the rest.
    async fn is_held(&mut self, table: &str, calls: u32) {
        let (of, held) = self.seen.recv().await.unwrap();
        // The margin is far longer than this test: what has passed since the row was taken does not count.
        assert!(of == table && held > LIMITS.timeout * calls, "{of}: {held:?}");
        assert!(held <= LIMITS.timeout * calls + LIMITS.margin, "{of}: {held:?}");
    }
}

/// So that what is in doubt is asked about now.
const DUE: [&str; 2] = [
    "UPDATE payments SET next_ask_at = 0 WHERE next_ask_at IS NOT NULL",
    "UPDATE refunds SET next_ask_at = 0 WHERE next_ask_at IS NOT NULL",
];

async fn a_payment_is_held(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&database, dir.path(), false).await;
    assert!(matches!(agent.payments.pay(&agent.asked).await, End::Stands { .. }));
    agent.is_held("payments", 1).await;
    database.run(DUE[0], DUE[0]).await;
    let reconciler = tokio::spawn(agent.payments.clone().reconcile(Shutdown::new()));
    agent.is_held("payments", 2).await;
    reconciler.abort();
}

async fn a_refund_is_held(database: Database) {
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(&database, dir.path(), true).await;
    let End::Stands { payment, .. } = agent.payments.pay(&agent.asked).await else { panic!("it stands") };
    agent.is_held("payments", 1).await;
    let asked = refund(&agent.shop, "r", &payment, 1_000);
    assert!(matches!(agent.payments.refund(&asked).await, End::Stands { .. }));
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
