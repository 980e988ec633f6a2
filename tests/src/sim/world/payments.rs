//! A data centre's payments: the agents' real core, service and reconciler over the model of the
//! database. Each request is a task that advances statement by statement.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bridge_idc::metrics::Metrics;
use bridge_idc::orders::store::model::{PaymentColumns, RefundColumns};
use bridge_idc::payments::audit::Operator;
use bridge_idc::payments::core::{Output, PaymentCore, ServiceRequest};
use bridge_idc::payments::end::ServiceEnd;
use bridge_idc::payments::operator;
use bridge_idc::payments::reconcile::Due;
use bridge_idc::payments::service::{PaymentLimits, Payments};
use bridge_idc::payments::store::{OperatorDecision, ResolveResult};
use bridge_protocol::audit::entry::Word;
use bridge_protocol::audit::{Entry, Event as Logged};
use bridge_protocol::domain::{OrderId, PaymentId, RefundId};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::{Reply as Sent, Token};
use bridge_protocol::wire::order::ToIdc;

use super::super::dice::Dice;
use super::super::options::Sabotage;
use super::super::reference::bank::{Bank, BankReply, Id};
use super::super::reference::{Key, Order};
use super::clocks::Host;
use super::gateway::{GatewayCall, GatewayHandle, GatewayReply, SimulatedEnvironment, code};
use super::lines::PAYMENTS;
use super::payers::{PayAttempt, PayWrite};
use super::{Event, World, note};

/// Interval between two searches for due payments, until the faults end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Most rounds of queries in a schedule. More mean that something is asked about forever.
const LOOKS_MAX: u32 = 10_000;

/// Rounds in which payers try to learn their outcome, after the last fault.
const ROUNDS_TO_FIND_OUT: u32 = 12;

/// Most times that an operator reports one refund by hand. The last command is not killed.
const SAID_MAX: u32 = 6;

/// Longest time, in milliseconds, that an operator's command waits for the log. It is longer than a
/// refund request is under way.
const BESIDE_WITHIN: u64 = 10_000;

/// Most simultaneous queries of a data centre to the gateway about payments in doubt.
const DOUBTS_MAX: usize = 8;

/// The service of one process.
pub(super) type Service = Rc<Payments<GatewayHandle, SimulatedEnvironment>>;

/// State of all payments.
pub(super) struct PaymentWorld {
    pub(super) bank: Bank,
    pub(super) outside: GatewayHandle,
    pub(super) limits: PaymentLimits,
    metrics: Arc<Metrics>,
    began: Instant,
    tasks: BTreeMap<u64, PaymentTask>,
    tasks_made: u64,
    /// Requests of tasks that have no answer yet.
    pub(super) open_asks: BTreeSet<u64>,
    /// Requests that reach the gateway after their task has given up, with the time of arrival.
    pub(super) held_up: Vec<(Duration, GatewayCall)>,
    /// Chances in 10,000 that the gateway declines a charge, and that it refuses a refund.
    pub(super) declines: u32,
    pub(super) refuses_refunds: u32,
    /// True if an operator resolves doubts by hand.
    pub(super) operator: bool,
    /// Chance in 10,000, at each step of an operator's command, that the command is killed.
    operator_dies: u32,

    pub(super) writes: Vec<PayWrite>,
    pub(super) attempts: Vec<PayAttempt>,
    /// The attempt for which each id of a payment or a refund was made.
    pub(super) made_for: BTreeMap<Id, usize>,
    /// Ids of attempts whose callers were told that nothing happened.
    pub(super) denied: BTreeSet<Id>,
    /// Durable entries of the data centres' logs: the key, and the outcome or `received`.
    pub(super) logged: BTreeSet<(Key, String)>,
    pub(super) finding_out: bool,
    /// Refunds that an operator resolved as not done.
    pub(super) said_refused: BTreeSet<Id>,
    /// Orders that the comparison after a restore named, and those of them whose money a DBA
    /// settled by hand.
    pub(super) named: BTreeSet<Order>,
    pub(super) settled: BTreeSet<Order>,
}

/// A task that is under way at a data centre.
struct PaymentTask {
    idc: usize,
    /// Number of the agent's process.
    life: u32,
    kind: Kind,
    work: Pin<Box<dyn Future<Output = TaskResult>>>,
}

/// Origin of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The agent, for a request.
    Asked,
    /// The agent, to resolve a doubt.
    Doubt,
    /// An operator's command beside the agent. It continues when the agent's process ends.
    Operator,
}

/// Result of a task.
enum TaskResult {
    Served(Token, ServiceEnd),
    Took(Due),
    /// An operator's command has ended; true if it came too soon.
    Spoke(bool),
    Nothing,
}

impl PaymentWorld {
    pub(super) fn new(dice: &mut Dice, sabotage: Option<Sabotage>) -> Self {
        let limits = PaymentLimits {
            calls_max: 256,
            doubts_max: DOUBTS_MAX,
            timeout: dice.millis(200..=1_500),
            margin: dice.millis(500..=3_000),
            retry_first: dice.millis(100..=1_000),
            retry_max: dice.millis(30_000..=600_000),
            alarm_after: Duration::from_secs(86_400),
        };
        Self {
            bank: Bank::default(),
            outside: GatewayHandle::new(dice.fork()),
            limits,
            metrics: Arc::new(Metrics::default()),
            began: Instant::now(),
            tasks: BTreeMap::new(),
            tasks_made: 0,
            open_asks: BTreeSet::new(),
            held_up: Vec::new(),
            declines: [0, 300, 3_000][dice.index(3)],
            refuses_refunds: [0, 300, 3_000][dice.index(3)],
            operator: dice.happens(5_000) || sabotage == Some(Sabotage::SpeakTooSoon),
            operator_dies: [0, 100, 600][dice.index(3)],
            writes: Vec::new(),
            attempts: Vec::new(),
            made_for: BTreeMap::new(),
            denied: BTreeSet::new(),
            logged: BTreeSet::new(),
            finding_out: false,
            said_refused: BTreeSet::new(),
            named: BTreeSet::new(),
            settled: BTreeSet::new(),
        }
    }

    /// Returns the number of tasks of a data centre that resolve doubts.
    fn doubts(&self, idc: usize) -> usize {
        self.tasks.values().filter(|task| task.idc == idc && task.kind == Kind::Doubt).count()
    }
}

impl World {
    /// Makes the service of a new process.
    pub(super) fn open_payments(&mut self, idc: usize) {
        let (ledger, outside, began) =
            (self.ledger.clone(), self.payment_world.outside.clone(), self.payment_world.began);
        let site = SimulatedEnvironment { ledger, outside: outside.clone(), began };
        let service =
            Payments::at(site, outside, self.payment_world.limits, self.payment_world.metrics.clone());
        self.idcs[idc].service = Some(Rc::new(service));
        self.idcs[idc].payment_core = PaymentCore::new(self.idc_limits.window_max);
        let life = self.idcs[idc].life;
        self.after(LOOK_EVERY, Event::Look { idc, life });
    }

    /// Ends the tasks of a killed process. A COMMIT that is under way may still be done.
    pub(super) fn close_payments(&mut self, idc: usize) {
        let of_agent = |task: &PaymentTask| task.idc == idc && task.kind != Kind::Operator;
        let orphans = self.payment_world.tasks.iter().filter(|(_, task)| of_agent(task));
        for id in Vec::from_iter(orphans.map(|(id, _)| *id)) {
            self.kill_task(id);
        }
    }

    /// Ends a task in the middle. A COMMIT that is under way may still be done.
    fn kill_task(&mut self, id: u64) {
        let commits = self.dice.happens(5_000);
        self.tell_ledger_the_time();
        self.ledger.set_commits_orphans(commits);
        self.payment_world.tasks.remove(&id);
        self.check_effects();
    }

    /// Handles a message on a payment lane.
    pub(super) fn payment_comes(&mut self, idc: usize, link: LinkId, message: ToIdc) {
        let keys = self.keys.folders[idc].ring.clone();
        let here = &mut self.idcs[idc];
        here.payment_core.set_time(self.now);
        here.payment_core.handle_message(link, message, &keys, |order| here.agent.is_writing(order));
        self.do_payment_core_outputs(idc);
    }

    /// Carries out the core's outputs.
    pub(super) fn do_payment_core_outputs(&mut self, idc: usize) {
        while let Some(output) = self.idcs[idc].payment_core.poll_output() {
            match output {
                Output::Ask(token, asked, coming) => {
                    let asked = self.brand_of(asked);
                    let until = self.idcs[idc].payment_core.until(token);
                    let until = until.map(|until| self.payment_world.began + until);
                    let Some(service) = self.idcs[idc].service.clone() else { continue };
                    let work =
                        async move { TaskResult::Served(token, service.serve(asked, coming, until).await) };
                    self.begin_task(idc, Kind::Asked, work);
                }
                Output::Send(Sent { link, message, .. }) => {
                    self.check_payment_answer(&message);
                    self.send_answer(link, PAYMENTS, &message);
                }
            }
        }
    }

    /// Returns the request unchanged. The sabotage replaces the brand of a refund by the brand of
    /// its payment.
    fn brand_of(&self, mut asked: ServiceRequest) -> ServiceRequest {
        if self.sabotage == Some(Sabotage::LetAnotherBrandRefund)
            && let ServiceRequest::Refund(refund) = &mut asked
            && let Some(payment) = self.ledger.payment_row(&refund.payment.as_uuid())
            && let Some(brand) = self.shop.brands().iter().find(|brand| brand.as_str() == payment.brand)
        {
            refund.brand = brand.clone();
        }
        asked
    }

    /// Tells the core that the log has advanced with the orders.
    pub(super) fn tell_payment_core_of_log(&mut self, idc: usize) {
        if self.idcs[idc].payment_core.holds_back() {
            let here = &mut self.idcs[idc];
            here.payment_core.handle_log(|order| here.agent.log_is_behind(order));
            self.do_payment_core_outputs(idc);
        }
    }

    fn begin_task(&mut self, idc: usize, kind: Kind, work: impl Future<Output = TaskResult> + 'static) {
        self.payment_world.tasks_made += 1;
        let (id, life) = (self.payment_world.tasks_made, self.idcs[idc].life);
        self.payment_world.tasks.insert(id, PaymentTask { idc, life, kind, work: Box::pin(work) });
        self.run_payment_task(id);
    }

    /// Runs a task until it waits.
    pub(super) fn run_payment_task(&mut self, id: u64) {
        let (fate, cancels) = (self.fate(), self.dice.happens(self.fault_rates.statement_cancelled));
        let Some(task) = self.payment_world.tasks.get_mut(&id) else { return };
        if task.kind == Kind::Operator && self.dice.happens(self.payment_world.operator_dies) {
            self.counts.operators_killed += 1;
            note!(self, "an operator's command is killed");
            return self.kill_task(id);
        }
        self.ledger.set_now(self.now, fate, cancels);
        self.payment_world.outside.set_now(self.now);
        let before = self.ledger.ends();
        let polled = task.work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let (idc, life) = (task.idc, task.life);
        self.check_effects();
        if self.ledger.ends().late > before.late {
            let delay = self.dice.millis(1..=40);
            self.after(delay, Event::LateCommits);
        }
        let asked = self.payment_world.outside.take_asked();
        let asks = !asked.is_empty();
        for (ask, what) in asked {
            match what {
                GatewayCall::Log(event) => self.log_payment(id, ask, *event),
                what => self.ask_gateway(id, ask, what),
            }
        }
        match polled {
            Poll::Ready(out) => {
                self.payment_world.tasks.remove(&id);
                self.task_ends(idc, life, out);
            }
            Poll::Pending if asks => {}
            Poll::Pending => {
                let delay = match self.ledger.pauses_until() {
                    Some(until) => until.saturating_sub(self.now),
                    None if self.ledger.waited() => self.dice.micros(500..=5_000),
                    None => self.dice.micros(20..=600),
                };
                self.after(delay, Event::PaymentTask(id));
            }
        }
    }

    /// Passes an answer to the task that asked.
    pub(super) fn replied(&mut self, task: u64, ask: u64, reply: GatewayReply) {
        // A later second answer is dropped: its request is no longer open.
        if self.payment_world.tasks.contains_key(&task) && self.payment_world.open_asks.remove(&ask) {
            self.payment_world.outside.reply(ask, reply);
            self.run_payment_task(task);
        }
    }

    fn task_ends(&mut self, idc: usize, life: u32, out: TaskResult) {
        let lives = self.idcs[idc].life == life;
        match out {
            TaskResult::Spoke(too_soon) => self.counts.told_to_wait += u64::from(too_soon),
            // The process that started the task has ended.
            _ if !lives => {}
            TaskResult::Served(token, end) => {
                let here = &mut self.idcs[idc];
                here.payment_core.handle_end(token, end, |order| here.agent.log_is_behind(order));
                self.do_payment_core_outputs(idc);
            }
            TaskResult::Took(due) => self.ask_about(idc, due),
            TaskResult::Nothing => {}
        }
    }

    /// Starts the agent's search for due payments and refunds.
    pub(super) fn look(&mut self, idc: usize, life: u32) {
        if self.idcs[idc].life != life || !self.idcs[idc].up {
            return;
        }
        if self.now < self.faults_until {
            self.after(LOOK_EVERY, Event::Look { idc, life });
        }
        let room = DOUBTS_MAX.saturating_sub(self.payment_world.doubts(idc));
        let Some(service) = self.idcs[idc].service.clone().filter(|_| room > 0) else { return };
        self.begin_task(idc, Kind::Asked, async move {
            TaskResult::Took(service.take_due(room).await.unwrap_or_default())
        });
    }

    fn ask_about(&mut self, idc: usize, due: Due) {
        let Some(service) = self.idcs[idc].service.clone() else { return };
        let asks_for_refunds = !due.refunds.is_empty();
        for due in due.refunds {
            self.counts.doubts += 1;
            let service = service.clone();
            self.begin_task(idc, Kind::Doubt, async move {
                service.ask_for_refund(due).await;
                TaskResult::Nothing
            });
        }
        for due in due.payments {
            self.counts.doubts += 1;
            let service = service.clone();
            self.begin_task(idc, Kind::Doubt, async move {
                service.ask_about(due).await;
                TaskResult::Nothing
            });
        }
        for due in due.refused {
            self.counts.looks_at_refused += 1;
            let service = service.clone();
            self.begin_task(idc, Kind::Doubt, async move {
                service.look_at_refused(due).await;
                TaskResult::Nothing
            });
        }
        // An operator may resolve the same refunds while requests for them are under way.
        if asks_for_refunds && self.payment_world.operator && self.dice.happens(6_000) {
            self.resolve_doubts();
        }
    }

    /// Schedules hints about an order's payment, from the gateway or forged.
    pub(super) fn hint_later(&mut self, order: OrderId) {
        for _ in 0..self.dice.index(3) {
            let delay = self.dice.millis(1..=3_000);
            self.after(delay, Event::Hint(order));
        }
    }

    pub(super) fn hint(&mut self, order: OrderId) {
        let idc = self.dice.index(self.idcs.len());
        if !self.idcs[idc].up {
            return;
        }
        let Some(service) = self.idcs[idc].service.clone() else { return };
        self.counts.hints += 1;
        self.begin_task(idc, Kind::Asked, async move {
            // The sender of a hint gets no result.
            let _hinted = service.hint(order).await;
            TaskResult::Nothing
        });
    }

    /// Sends an entry about a payment to the disk, which may be full.
    fn log_payment(&mut self, task: u64, ask: u64, event: Logged) {
        let fails = self.dice.happens(self.fault_rates.audit_fails);
        let is_operator = self.payment_world.tasks.get(&task).is_some_and(|task| task.kind == Kind::Operator);
        let delay = match is_operator && self.dice.happens(3_000) {
            true => self.dice.millis(0..=BESIDE_WITHIN),
            false => self.dice.micros(100..=2_000),
        };
        self.payment_world.open_asks.insert(ask);
        self.after(delay, Event::PaymentLogged { task, ask, event: Box::new(event), fails });
    }

    pub(super) fn payment_logged(&mut self, task: u64, ask: u64, event: Logged, fails: bool) {
        let Some(PaymentTask { idc, .. }) = self.payment_world.tasks.get(&task) else { return };
        let idc = *idc;
        let unsaid =
            self.sabotage == Some(Sabotage::ResolveUnsaid) && matches!(event, Logged::PaymentResolved(_));
        if !self.idcs[idc].up {
            // If no agent runs, the command opens the log itself.
            self.recover_log(idc);
        }
        if !fails && !unsaid {
            let entry = Entry::new(self.clock(Host::Idc(idc)), event);
            self.idcs[idc].log.add(&entry);
            match &entry.event {
                Logged::PaymentReceived(carried) => {
                    self.payment_world.logged.insert((*carried.key.as_bytes(), "received".to_owned()));
                }
                Logged::PaymentCommitted(ended) => {
                    self.payment_world
                        .logged
                        .insert((*ended.key.as_bytes(), ended.outcome.as_str().to_owned()));
                }
                Logged::PaymentResolved(said) => {
                    let key = self.key_of_said(&said.payment, said.refund.as_ref());
                    self.payment_world.logged.extend(key.map(|key| (key, said.outcome.as_str().to_owned())));
                }
                _ => {}
            }
        }
        let durable = !fails || self.sabotage == Some(Sabotage::PayUnlogged);
        self.replied(task, ask, GatewayReply::Logged(durable));
    }

    /// Returns the key of the request that an operator's decision is about. For an automatic
    /// refund, it is the key of the payment.
    fn key_of_said(&self, payment: &Word, refund: Option<&Word>) -> Option<Key> {
        let refund = refund.and_then(|refund| refund.as_str().parse::<RefundId>().ok());
        let of_refund = refund.and_then(|refund| self.key_of(refund.as_bytes()));
        of_refund.or_else(|| self.key_of(payment.as_str().parse::<PaymentId>().ok()?.as_bytes()))
    }

    /// Runs until every payer knows its outcome and no money is in the wrong place. A payer's
    /// further request may itself come to be in doubt.
    pub(super) fn end_payments(&mut self) {
        self.settle_payments();
        for _ in 0..ROUNDS_TO_FIND_OUT {
            if self.violation.is_some() || self.all_payers_know() {
                break;
            }
            self.find_out_payers();
            self.run_until_quiet();
            self.settle_payments();
        }
        if !self.all_payers_know() {
            self.violate("LIVENESS", "a payer cannot find out what became of its money".to_owned());
        }
        self.return_by_hand();
    }

    /// Advances the time until nothing is in doubt: due payments are queried, and requests that
    /// were held up arrive.
    pub(super) fn settle_payments(&mut self) {
        for _ in 0..LOOKS_MAX {
            self.run_until_quiet();
            let comes = self.payment_world.held_up.iter().map(|(comes, _)| *comes).min();
            let due = self.ledger.next_due();
            let Some(next) = due.into_iter().chain(comes).min().filter(|_| self.violation.is_none()) else {
                return;
            };
            self.now = self.now.max(next);
            let now = self.now;
            let come = Vec::from_iter(self.payment_world.held_up.extract_if(.., |(comes, _)| *comes <= now));
            for (_, what) in come {
                self.at_the_bank(&what);
            }
            if self.payment_world.operator && self.dice.happens(1_000) {
                self.resolve_doubts();
            }
            if !self.payment_world.writes.is_empty() && self.dice.happens(500) {
                self.check_put_back();
            }
            let idc = self.dice.index(self.idcs.len());
            self.look(idc, self.idcs[idc].life);
        }
        self.violate("LIVENESS", "something is asked about for ever".to_owned());
    }

    /// Lets an operator resolve all doubts with the help of the gateway's staff.
    pub(super) fn resolve_doubts(&mut self) {
        let payments = self.ledger.payments().into_iter().filter(|row| row.state == "unknown");
        for row in Vec::from_iter(payments) {
            let moved = self.payment_world.bank.is_charged(&row.payment_key);
            if let (Ok(order), Ok(id)) = (OrderId::from_uuid(row.order), PaymentId::from_uuid(row.payment)) {
                self.resolve(order, id, None, (moved, None));
            }
        }
        let refunds = self.ledger.refunds().into_iter().filter(|row| row.state == "unknown");
        for row in Vec::from_iter(refunds) {
            let moved = self.payment_world.bank.answered(row.refund.as_bytes()) == Some(BankReply::Done);
            self.resolve_refund(&row, (moved, None));
        }
    }

    /// Settles automatic refunds that the gateway refused. The gateway's staff refunds by hand, and
    /// an operator reports it.
    pub(super) fn return_by_hand(&mut self) {
        let refused = self.ledger.refunds().into_iter().filter(|row| row.automatic && row.state == "refused");
        self.payment_world.refuses_refunds = 0;
        for row in Vec::from_iter(refused) {
            let Some(payment) = self.ledger.payment_row(&row.payment) else { continue };
            if self.payment_world.settled.contains(payment.order.as_bytes()) {
                continue;
            }
            let key = *row.refund.as_bytes();
            if self.payment_world.bank.give_back_by_hand(key, &payment.payment_key, row.amount) {
                self.says_until_it_is_so(&row, &payment, None);
            } else if self.dice.happens(5_000) {
                // A part was refunded in another way. The shop asks for the rest,
                self.asks_for_the_rest(&payment);
            } else {
                // or the rest is refunded by hand as well.
                self.run_until_quiet();
                self.returns_the_rest(&row, &payment);
            }
            self.run_until_quiet();
        }
    }

    /// Refunds the rest of a payment by hand, as a refund of its own.
    fn returns_the_rest(&mut self, row: &RefundColumns, payment: &PaymentColumns) {
        let left = payment.amount - self.payment_world.bank.back(&payment.payment_key);
        let refunds = self.ledger.refunds().into_iter();
        let nth = refunds.filter(|other| other.payment == row.payment && other.automatic).count();
        let Ok(id) = PaymentId::from_uuid(row.payment) else { return };
        let key = *RefundId::automatic(id, u32::try_from(nth).unwrap_or(u32::MAX)).as_bytes();
        if left > 0 && self.payment_world.bank.give_back_by_hand(key, &payment.payment_key, left) {
            self.says_until_it_is_so(row, payment, Some(left));
        }
    }

    /// Lets an operator report a refund by hand. A command that was killed is given again.
    fn says_until_it_is_so(&mut self, row: &RefundColumns, payment: &PaymentColumns, amount: Option<i64>) {
        let back = self.payment_world.bank.back(&payment.payment_key);
        for time in 1..=SAID_MAX {
            if time == SAID_MAX {
                self.payment_world.operator_dies = 0;
            }
            self.resolve_refund(row, (true, amount));
            self.run_until_quiet();
            if self.ledger.payment_row(&row.payment).is_some_and(|payment| payment.refunded == back) {
                return;
            }
        }
    }

    fn resolve_refund(&mut self, row: &RefundColumns, said: (bool, Option<i64>)) {
        let Some(payment) = self.ledger.payment_row(&row.payment) else { return };
        let ids = (
            OrderId::from_uuid(payment.order),
            PaymentId::from_uuid(row.payment),
            RefundId::from_uuid(row.refund),
        );
        if let (Ok(order), Ok(id), Ok(refund)) = ids {
            if !said.0 {
                self.payment_world.said_refused.insert(*refund.as_bytes());
            }
            self.resolve(order, id, Some(refund), said);
        }
    }

    /// Runs an operator's command which says if money moved, and how much of a refused refund. The
    /// command rehearses, writes to the log of some data centre's host, and commits. Other events
    /// happen between these steps, and the command may be killed.
    fn resolve(
        &mut self,
        order: OrderId,
        id: PaymentId,
        refund: Option<RefundId>,
        (moved, amount): (bool, Option<i64>),
    ) {
        let idc = self.dice.index(self.idcs.len());
        let (ledger, outside) = (self.ledger.clone(), self.payment_world.outside.clone());
        let request_lasts = self.payment_world.limits.request_lasts();
        self.counts.resolved_by_hand += 1;
        note!(self, "an operator says of {id}, refund {refund:?}: moved {moved}");
        self.begin_task(idc, Kind::Operator, async move {
            let reason = code("TICKET_4711");
            let verdict = OperatorDecision { moved, amount, reason: &reason, request_lasts };
            let operator =
                Operator { audit: &outside, who: Word::of("uid:1000/op"), reason: &reason, refund };
            let said = operator::resolve(&ledger, order, id, verdict, &operator).await;
            // A command without effect leaves the doubt open: the gateway is queried again, and the
            // operator looks again.
            TaskResult::Spoke(said.is_ok_and(|said| matches!(said.resolved, ResolveResult::OnItsWay(_))))
        });
    }
}
