//! Tests that a conclusion is logged before it is committed. The log's disk may hang: meanwhile no
//! lock of the ledger is held, and a conclusion of somebody else counts.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bridge_idc::config::LedgerUrl;
use bridge_idc::metrics::Metrics;
use bridge_idc::orders::store::Ledger;
use bridge_idc::payments::audit::{Beside, Log, Operator};
use bridge_idc::payments::end::ServiceEnd;
use bridge_idc::payments::gateway::{ChargeStatus, Gateway, GatewayAnswer, NoProof};
use bridge_idc::payments::service::{Environment, Payments};
use bridge_idc::payments::store::{Attempt, OperatorDecision, PaymentLedger as _, ResolveResult};
use bridge_idc::payments::{Charge, GiveBack, Payment, operator};
use bridge_protocol::audit::Event;
use bridge_protocol::audit::entry::Word;
use bridge_protocol::domain::{PaymentState, ReasonCode, RefundId, RefundState};
use bridge_runtime::audit_log::{AuditError, CommandSocketError};
use tokio::sync::{Notify, Semaphore};

use crate::database::{Database, connect, postgres, sqlite};
use crate::leases::{DUE, LIMITS};
use crate::shop::{Shop, commit_one, order_of, pay, refund};

/// A log whose disk answers only after `answers` gets a permit, and the outcomes that it got.
struct Hanging {
    outcomes: Mutex<Vec<String>>,
    asked: Notify,
    answers: Semaphore,
}

impl Log for Hanging {
    fn append(&self, event: Event) -> Pin<Box<dyn Future<Output = Result<(), AuditError>> + Send + '_>> {
        let Event::PaymentCommitted(ended) = event else { panic!("{event:?}") };
        self.outcomes.lock().unwrap().push(ended.outcome.to_string());
        self.asked.notify_one();
        Box::pin(async {
            self.answers.acquire().await.unwrap().forget();
            Ok(())
        })
    }
}

impl Beside for Hanging {
    fn append(
        &self,
        event: Event,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandSocketError>> + Send + '_>> {
        self.outcomes.lock().unwrap().push(event.kind().to_owned());
        self.asked.notify_one();
        Box::pin(async {
            self.answers.acquire().await.unwrap().forget();
            Ok(())
        })
    }
}

impl Hanging {
    fn new() -> Self {
        Self { outcomes: Mutex::default(), asked: Notify::new(), answers: Semaphore::new(0) }
    }

    /// Waits until the log hangs, does `work`, and lets the log answer.
    async fn meanwhile(&self, work: impl Future<Output = ()>) {
        self.asked.notified().await;
        work.await;
        self.answers.add_permits(1);
    }

    fn outcomes(&self) -> Vec<String> {
        self.outcomes.lock().unwrap().clone()
    }
}

struct Site {
    ledger: Ledger,
    log: Hanging,
}

impl Environment for Site {
    type Ledger = Ledger;

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn log(&self) -> &dyn Log {
        &self.log
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn back_off(&self, _: u32, _: Duration, _: Duration) -> Duration {
        Duration::ZERO
    }
}

/// A gateway that does not answer at first, and its later answer about the payment.
struct Late {
    shows: ChargeStatus,
    answers: Arc<AtomicBool>,
}

impl Late {
    fn answer(&self) -> GatewayAnswer {
        let answers = self.answers.load(Ordering::Relaxed);
        if answers { GatewayAnswer::Done } else { GatewayAnswer::Unknown(NoProof::TimedOut) }
    }
}

impl Gateway for Late {
    async fn confirm(&self, _: &Charge) -> GatewayAnswer {
        self.answer()
    }

    async fn find(&self, _: &Charge) -> ChargeStatus {
        self.shows.clone()
    }

    async fn find_given_back(&self, _: &Charge) -> Result<Vec<i64>, NoProof> {
        Err(NoProof::TimedOut)
    }

    async fn give_back(&self, _: &GiveBack) -> GatewayAnswer {
        self.answer()
    }
}

/// An agent's payments, one of which is in doubt.
struct Doubt {
    database: Database,
    answers: Arc<AtomicBool>,
    payments: Payments<Late, Site>,
    shop: Shop,
    payment: Payment,
}

impl Doubt {
    async fn of(database: Database, shows: ChargeStatus) -> Self {
        let site = Site { ledger: connect(database.url()).await, log: Hanging::new() };
        let answers = Arc::new(AtomicBool::new(false));
        let gateway = Late { shows, answers: answers.clone() };
        let payments = Payments::at(site, gateway, LIMITS, Arc::new(Metrics::default()));
        let shop = Shop::open(&database.ledger, "acme", &[("A", 1)]).await;
        let order = shop.place("k", &[("A", 1)]);
        commit_one(&database.ledger, order.clone()).await;
        let ServiceEnd::Stands { payment, .. } = payments.pay(&pay(&shop, "p", order_of(&order)), None).await
        else {
            panic!("the service refused the payment")
        };
        assert_eq!(payment.state, PaymentState::Unknown);
        Self { database, answers, payments, shop, payment }
    }

    fn log(&self) -> &Hanging {
        &self.payments.site().log
    }

    async fn read(&self) -> Payment {
        self.database.ledger.payment(self.payment.charge.payment).await.unwrap().unwrap()
    }

    /// Makes the agent ask about the payment now.
    async fn is_asked_about(&self) {
        self.database.run(DUE[0], DUE[0]).await;
        for due in self.payments.take_due(4).await.unwrap().payments {
            self.payments.ask_about(due).await;
        }
    }

    /// Makes the agent request the refund again now.
    async fn is_asked_for_again(&self) {
        self.database.run(DUE[1], DUE[1]).await;
        for due in self.payments.take_due(4).await.unwrap().refunds {
            self.payments.ask_for_refund(due).await;
        }
    }

    /// Checks that another session can lock every row of the payment, and that no transaction is
    /// open.
    async fn nothing_is_held(&self) {
        let take = "BEGIN; SELECT 1 FROM orders FOR UPDATE NOWAIT; SELECT 1 FROM payments FOR UPDATE NOWAIT; \
                    SELECT 1 FROM refunds FOR UPDATE NOWAIT; ROLLBACK";
        self.database.run(take, "BEGIN IMMEDIATE; ROLLBACK").await;
        if let LedgerUrl::Postgres(_) = self.database.url() {
            let open = "SELECT count(*) FROM pg_stat_activity \
                        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
            assert_eq!(self.database.count(open).await, 0, "a transaction was open while the log hung");
        }
    }

    /// Resolves a refund by an operator's decision. `work` runs while the decision is being logged,
    /// before its commit. Returns the result.
    async fn is_said_meanwhile(
        &self,
        refund: RefundId,
        word: &Hanging,
        work: impl Future<Output = ()>,
    ) -> ResolveResult {
        let reason = ReasonCode::new("TICKET_4711").unwrap();
        let verdict =
            OperatorDecision { moved: false, amount: None, reason: &reason, request_lasts: Duration::ZERO };
        let operator = Operator { audit: word, who: Word::of("dba"), reason: &reason, refund: Some(refund) };
        let (order, id) = (self.payment.charge.order, self.payment.charge.payment);
        let said = operator::resolve(&self.database.ledger, order, id, verdict, &operator);
        let (said, ()) = tokio::join!(said, word.meanwhile(work));
        said.unwrap().resolved
    }

    /// Ends the doubt by another operator's decision, which is committed at once.
    async fn is_ended_by_hand(&self, moved: bool) {
        let reason = ReasonCode::new("TICKET_4711").unwrap();
        let verdict =
            OperatorDecision { moved, amount: None, reason: &reason, request_lasts: Duration::ZERO };
        let (order, id) = (self.payment.charge.order, self.payment.charge.payment);
        let ledger = &self.database.ledger;
        let Attempt::ToLog(said) = ledger.resolve_payment(order, id, verdict, None).await.unwrap() else {
            panic!("the decision was committed before it was logged")
        };
        let resolved = ledger.resolve_payment(order, id, verdict, Some(&said)).await.unwrap();
        assert!(matches!(resolved, Attempt::Committed(ResolveResult::Stands(_))), "{resolved:?}");
    }
}

async fn nothing_is_held_while_the_log_hangs(database: Database) {
    let doubt = Doubt::of(database, ChargeStatus::Charged).await;
    let free = doubt.log().meanwhile(doubt.nothing_is_held());
    tokio::join!(doubt.is_asked_about(), free);
    assert_eq!(doubt.read().await.state, PaymentState::Paid);

    let asked = refund(&doubt.shop, "r", &doubt.read().await, 1_000);
    assert!(matches!(doubt.payments.refund(&asked, None).await, ServiceEnd::Stands { .. }));
    assert_eq!(doubt.read().await.refunds[0].state, RefundState::Unknown);
    doubt.answers.store(true, Ordering::Relaxed);
    let free = doubt.log().meanwhile(doubt.nothing_is_held());
    tokio::join!(doubt.is_asked_for_again(), free);
    assert_eq!(doubt.read().await.refunds[0].state, RefundState::Done);

    // This time the caller still waits and gets the answer.
    let asked = refund(&doubt.shop, "r2", &doubt.read().await, 1_000);
    let free = doubt.log().meanwhile(doubt.nothing_is_held());
    let (end, ()) = tokio::join!(doubt.payments.refund(&asked, None), free);
    assert!(matches!(end, ServiceEnd::Stands { logged: true, .. }), "{end:?}");
    assert_eq!(doubt.log().outcomes(), ["paid", "done", "done"], "each outcome is logged once");
}

#[tokio::test]
async fn nothing_of_the_ledger_is_held_while_the_log_hangs_on_sqlite() {
    Box::pin(nothing_is_held_while_the_log_hangs(sqlite().await)).await;
}

#[tokio::test]
async fn nothing_of_the_ledger_is_held_while_the_log_hangs_on_postgres() {
    Box::pin(nothing_is_held_while_the_log_hangs(postgres("log_hangs").await)).await;
}

/// A conclusion is logged, and meanwhile an operator ends the doubt. The conclusion is then decided
/// again, and the commit equals the log.
async fn what_is_concluded_meanwhile_counts(database: Database) {
    let doubt = Doubt::of(database, ChargeStatus::Charged).await;
    let ended = doubt.log().meanwhile(doubt.is_ended_by_hand(false));
    let late = async {
        ended.await;
        let unchanged = async { assert_eq!(doubt.read().await.state, PaymentState::NotPaid) };
        doubt.log().meanwhile(unchanged).await;
    };
    tokio::join!(doubt.is_asked_about(), late);
    let payment = doubt.read().await;
    assert_eq!((payment.state, payment.refunds.len()), (PaymentState::ChargedLate, 1));
    assert_eq!(doubt.log().outcomes(), ["paid", "charged_late"]);
}

#[tokio::test]
async fn what_is_concluded_while_the_log_hangs_is_decided_by_on_sqlite() {
    Box::pin(what_is_concluded_meanwhile_counts(sqlite().await)).await;
}

#[tokio::test]
async fn what_is_concluded_while_the_log_hangs_is_decided_by_on_postgres() {
    Box::pin(what_is_concluded_meanwhile_counts(postgres("log_hangs_meanwhile").await)).await;
}

#[tokio::test]
async fn a_log_with_an_uncommitted_end_gets_how_the_payment_stands() {
    let shows = ChargeStatus::NotCharged(ReasonCode::new("EXPIRED").unwrap());
    let doubt = Doubt::of(sqlite().await, shows).await;
    let ended = doubt.log().meanwhile(doubt.is_ended_by_hand(true));
    let right = async {
        ended.await;
        doubt.log().meanwhile(async {}).await;
    };
    tokio::join!(doubt.is_asked_about(), right);
    assert_eq!(doubt.read().await.state, PaymentState::Paid);
    assert_eq!(doubt.log().outcomes(), ["not_paid", "paid"]);
}

/// The agent requests the refund between an operator's check and the operator's decision.
async fn what_an_operator_says_is_decided_anew(database: Database) {
    let doubt = Doubt::of(database, ChargeStatus::Charged).await;
    doubt.log().answers.add_permits(2);
    doubt.is_asked_about().await;
    let asked = refund(&doubt.shop, "r", &doubt.read().await, 1_000);
    assert!(matches!(doubt.payments.refund(&asked, None).await, ServiceEnd::Stands { .. }));
    let refund = doubt.read().await.refunds[0].refund;
    let (word, over) = (Hanging::new(), "UPDATE refunds SET give_back_until = 1");

    doubt.database.run(over, over).await;
    let resolved = doubt.is_said_meanwhile(refund, &word, doubt.is_asked_for_again()).await;
    assert!(matches!(resolved, ResolveResult::OnItsWay(_)), "{resolved:?}");
    assert_eq!(doubt.read().await.refunds[0].state, RefundState::Unknown);

    doubt.database.run(over, over).await;
    doubt.answers.store(true, Ordering::Relaxed);
    let resolved = doubt.is_said_meanwhile(refund, &word, doubt.is_asked_for_again()).await;
    assert_eq!(resolved, ResolveResult::Known);
    let payment = doubt.read().await;
    assert_eq!((payment.refunds[0].state, payment.refunded), (RefundState::Done, 1_000));
    assert_eq!(word.outcomes(), ["payment-resolved"; 2], "both decisions are logged");
    assert_eq!(doubt.log().outcomes(), ["paid", "done"]);
}

#[tokio::test]
async fn an_operators_word_is_decided_anew_once_it_is_logged_on_sqlite() {
    Box::pin(what_an_operator_says_is_decided_anew(sqlite().await)).await;
}

#[tokio::test]
async fn an_operators_word_is_decided_anew_once_it_is_logged_on_postgres() {
    Box::pin(what_an_operator_says_is_decided_anew(postgres("said_meanwhile").await)).await;
}
