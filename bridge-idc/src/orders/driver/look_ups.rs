//! Look-ups of orders beside the commits. Questions that arrive while the database answers are put
//! together into the next look-up.
//!
//! A few hundred questions then cost the database two statements, instead of two statements for
//! each question. If the database refuses them together, each brand's questions are looked up
//! apart, and then halves of one brand's questions. So a failure of one brand or order leaves the
//! others.

use std::sync::Arc;

use bridge_protocol::domain::Brand;
use bridge_protocol::order_link::receiver::Token;
use bridge_protocol::wire::order::{Refusal, State};
use bridge_runtime::shutdown::Shutdown;
use tokio::sync::{Mutex, mpsc};

use crate::orders::core::Input;
use crate::orders::store::{Ledger, LedgerError, Question, split};

/// Most questions that are in a look-up or wait for the next one. The core keeps the others.
pub const AT_ONCE: usize = 512;

/// Most look-ups under way. Each has its own connection, so one can run while another waits for a
/// connection.
const LOOK_UPS_MAX: usize = 2;

/// Most questions of one look-up.
const QUESTIONS_MAX: usize = AT_ONCE / LOOK_UPS_MAX;

/// Number of questions of one brand that the database refuses alone, with none answered, after
/// which the rest of that brand's questions is not looked up.
const REFUSED_MAX: usize = 3;

/// Look-up of orders, for the ledger and for tests.
trait LookUp {
    /// Looks up many orders. Each answer has the place of its question.
    fn look_up_all(
        &self,
        questions: &[Question],
    ) -> impl Future<Output = Result<Vec<Option<State>>, LedgerError>> + Send;

    /// True if every connection for look-ups is in use.
    fn is_every_connection_taken(&self) -> bool;
}

impl LookUp for Ledger {
    async fn look_up_all(&self, questions: &[Question]) -> Result<Vec<Option<State>>, LedgerError> {
        Ledger::look_up_all(self, questions).await
    }

    fn is_every_connection_taken(&self) -> bool {
        Ledger::is_every_connection_taken(self)
    }
}

/// Starts the look-ups and returns the sender of their questions. An [`Input::LookedUp`] answers
/// each question. The look-ups end when the sender is dropped. If one of them ends before, for
/// example with a panic, the agent ends.
pub(super) fn start(
    ledger: &Arc<Ledger>,
    results: &mpsc::Sender<Input>,
    shutdown: &Shutdown,
) -> mpsc::Sender<(Token, Question)> {
    // Look-ups use at most half of the shared connections. The rest stays for payments, the feed
    // and webhooks.
    let at_once = (ledger.shared_connections() / 2).clamp(1, LOOK_UPS_MAX);
    start_many(at_once, ledger, results, shutdown)
}

fn start_many<L: LookUp + Send + Sync + 'static>(
    at_once: usize,
    ledger: &Arc<L>,
    results: &mpsc::Sender<Input>,
    shutdown: &Shutdown,
) -> mpsc::Sender<(Token, Question)> {
    let (asks, asked) = mpsc::channel(AT_ONCE);
    let asked = Arc::new(Mutex::new(asked));
    for _ in 0..at_once {
        let look_up = look_up(ledger.clone(), asked.clone(), results.clone());
        tokio::spawn(shutdown.core("the look-ups of orders", look_up));
    }
    asks
}

async fn look_up(
    ledger: Arc<impl LookUp>,
    asked: Arc<Mutex<mpsc::Receiver<(Token, Question)>>>,
    results: mpsc::Sender<Input>,
) {
    let mut gathered = Vec::new();
    while asked.lock().await.recv_many(&mut gathered, QUESTIONS_MAX).await > 0 {
        let (tokens, questions): (Vec<Token>, Vec<Question>) = gathered.drain(..).unzip();
        let answers = answers(ledger.as_ref(), &questions).await;
        for (token, found) in tokens.into_iter().zip(answers) {
            if results.send(Input::LookedUp { token, found }).await.is_err() {
                return;
            }
        }
    }
}

/// Returns an answer for each question. If the database refuses questions together, looks up parts
/// of them, because it may refuse a single brand or order. If it does not answer at all, does not
/// look up again.
async fn answers(ledger: &impl LookUp, questions: &[Question]) -> Vec<Result<Option<State>, Refusal>> {
    let answers = questions.iter().map(|_| None).collect();
    let mut asking = Asking { questions, answers, refused: Vec::new(), gone: None };
    let mut waiting: Vec<Vec<usize>> = vec![(0..questions.len()).collect()];
    while let Some(mut places) = waiting.pop() {
        places.retain(|place| asking.is_worth_asking(*place));
        if places.is_empty() {
            continue;
        }
        let together: Vec<Question> = places.iter().map(|place| questions[*place].clone()).collect();
        match ledger.look_up_all(&together).await {
            Ok(states) => {
                let found = places.into_iter().zip(states);
                found.for_each(|(place, state)| asking.answers[place] = Some(state));
            }
            Err(error) if places.len() > 1 && error.may_be_one_request_s() => {
                let (first, second) = split(places, |place| asking.brand(place));
                waiting.extend([second, first]);
            }
            Err(error) => {
                let refusal = refusal(&error, ledger.is_every_connection_taken());
                asking.failed(places, &error, refusal);
            }
        }
    }
    asking.end()
}

/// Progress of the look-up of some questions. A place is an index into `questions`.
struct Asking<'a> {
    questions: &'a [Question],
    /// State of each order; `None` if the database did not answer.
    answers: Vec<Option<Option<State>>>,
    /// Places of questions that the database refused alone.
    refused: Vec<usize>,
    /// Refusal of all open questions, set once the database does not answer.
    gone: Option<Refusal>,
}

impl Asking<'_> {
    fn brand(&self, place: usize) -> &Brand {
        &self.questions[place].brand
    }

    /// Returns true if the database may answer this question.
    fn is_worth_asking(&self, place: usize) -> bool {
        self.gone.is_none() && !self.is_out(self.brand(place))
    }

    /// Returns true if the rest of this brand's questions is not looked up.
    fn is_out(&self, brand: &Brand) -> bool {
        let refused = self.refused.iter().filter(|place| self.brand(**place) == brand).count();
        let is_answered = || {
            let mut answers = self.answers.iter().enumerate();
            answers.any(|(place, answer)| answer.is_some() && self.brand(place) == brand)
        };
        refused >= REFUSED_MAX && !is_answered()
    }

    /// Handles a failed look-up whose parts would fail too. If the database does not answer, the
    /// refusal is that of all open questions.
    fn failed(&mut self, mut places: Vec<usize>, error: &LedgerError, refusal: Refusal) {
        tracing::error!(questions = places.len(), %error, "look orders up");
        if error.may_be_one_request_s() {
            self.refused.append(&mut places);
        } else {
            self.gone = Some(refusal);
        }
    }

    fn end(self) -> Vec<Result<Option<State>, Refusal>> {
        let refusal = self.gone.unwrap_or(Refusal::DatabaseDown);
        self.answers.into_iter().map(|answer| answer.ok_or(refusal)).collect()
    }
}

/// Returns the refusal for a look-up without an answer. The error is the same if no connection
/// became free and if the database gave no new one.
fn refusal(error: &LedgerError, is_every_connection_taken: bool) -> Refusal {
    let is_busy = error.is_for_want_of_a_connection() && is_every_connection_taken;
    if is_busy { Refusal::Busy } else { Refusal::DatabaseDown }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bridge_protocol::domain::{OrderId, UnixMicros};
    use bridge_protocol::order_link::LinkId;
    use bridge_protocol::order_link::receiver::{Received, Receiver};
    use bridge_protocol::wire::order::{Ask, ToIdc, to_idc};
    use bytes::Bytes;

    use super::*;
    use crate::orders::store::SqlState;

    /// Refuses look-ups with a question of this brand, or about an order with this last byte.
    /// Counts the look-ups.
    struct Refusing {
        brand: &'static str,
        order: u8,
        /// True if another session locks the tables after the first refusal.
        is_locked: bool,
        asked: AtomicUsize,
    }

    impl LookUp for Refusing {
        async fn look_up_all(&self, questions: &[Question]) -> Result<Vec<Option<State>>, LedgerError> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            let state = |code: &str| SqlState { code: code.to_owned(), constraint: None, denied: None };
            if self.is_locked && asked > 1 {
                return Err(LedgerError::Held(state("55P03")));
            }
            let is_bad = |question: &Question| {
                question.brand.as_str() == self.brand || question.order.as_bytes()[15] == self.order
            };
            if questions.iter().any(is_bad) {
                return Err(LedgerError::Denied(state("42501")));
            }
            let state = |question: &Question| {
                let order = Bytes::copy_from_slice(question.order.as_bytes());
                Some(State { order, ..State::default() })
            };
            Ok(questions.iter().map(state).collect())
        }

        fn is_every_connection_taken(&self) -> bool {
            false
        }
    }

    /// Gives no connection: because all are in use, or because the database is gone.
    struct WithoutConnection {
        is_every_connection_taken: bool,
    }

    impl LookUp for WithoutConnection {
        async fn look_up_all(&self, _: &[Question]) -> Result<Vec<Option<State>>, LedgerError> {
            Err(LedgerError::for_want_of_a_connection())
        }

        fn is_every_connection_taken(&self) -> bool {
            self.is_every_connection_taken
        }
    }

    #[tokio::test]
    async fn a_database_that_gives_no_connection_is_down_and_not_busy() {
        for (is_every_connection_taken, refusal) in [(false, Refusal::DatabaseDown), (true, Refusal::Busy)] {
            let answers = answers(&WithoutConnection { is_every_connection_taken }, &questions(2)).await;
            assert_eq!(answers, vec![Err(refusal); 6]);
        }
    }

    fn refusing(brand: &'static str, order: u8) -> Refusing {
        Refusing { brand, order, is_locked: false, asked: AtomicUsize::new(0) }
    }

    /// Returns this many questions of each of three brands in turn, each about its own order.
    fn questions(of_each: u8) -> Vec<Question> {
        let question = |number: u8| {
            let brand = Brand::new(["tea", "shoes", "hats"][usize::from(number % 3)]).unwrap();
            Question { brand, order: OrderId::new(UnixMicros::new(1), [number; 10]), key: None }
        };
        (0..3 * of_each).map(question).collect()
    }

    /// Returns the places of the questions without an answer, and the number of look-ups.
    async fn refused(ledger: &Refusing, questions: &[Question]) -> (Vec<usize>, usize) {
        let answers = answers(ledger, questions).await;
        assert_eq!(answers.len(), questions.len());
        let mut refused = Vec::new();
        for (place, (answer, question)) in answers.into_iter().zip(questions).enumerate() {
            match answer {
                Ok(state) => assert_eq!(state.unwrap().order, question.order.as_bytes().as_slice()),
                Err(_) => refused.push(place),
            }
        }
        (refused, ledger.asked.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_brand_that_is_denied_costs_the_others_few_look_ups() {
        let (refused, asked) = refused(&refusing("shoes", 255), &questions(80)).await;
        let of_shoes: Vec<usize> = (0..240).filter(|place| place % 3 == 1).collect();
        assert_eq!(refused, of_shoes);
        assert!(asked <= 20, "asked {asked} times");
    }

    #[tokio::test]
    async fn one_order_that_cannot_be_read_fails_alone() {
        let (refused, asked) = refused(&refusing("", 100), &questions(80)).await;
        assert_eq!(refused, [100]);
        assert!(asked <= 20, "asked {asked} times");
    }

    #[tokio::test]
    async fn tables_that_somebody_locks_in_between_are_asked_no_more() {
        let ledger = Refusing { is_locked: true, ..refusing("shoes", 255) };
        let answers = answers(&ledger, &questions(80)).await;
        assert!(answers.iter().all(|answer| *answer == Err(Refusal::DatabaseDown)));
        assert_eq!(ledger.asked.load(Ordering::Relaxed), 2);
    }

    /// Panics at the first look-up.
    struct Panicking;

    impl LookUp for Panicking {
        async fn look_up_all(&self, _questions: &[Question]) -> Result<Vec<Option<State>>, LedgerError> {
            panic!("planted")
        }

        fn is_every_connection_taken(&self) -> bool {
            false
        }
    }

    /// Returns the token of a question. Look-ups pass it on and do not read it.
    fn token() -> Token {
        let order = Bytes::copy_from_slice(questions(1)[0].order.as_bytes());
        let kind = Some(to_idc::Kind::Ask(Ask { brand: "tea".into(), order, key: None }));
        let message = ToIdc { request: 1, kind, sequence: 1, trace: None, remaining_millis: None };
        match Receiver::new(8).handle_message(LinkId(1), 0, message) {
            Received::Deliver(token, _) => token,
            other => panic!("{other:?}"),
        }
    }

    /// The test runs itself again in another process, which must end: without look-ups, every
    /// question would be refused for ever.
    #[tokio::test]
    async fn look_ups_that_panic_end_the_process_with_1() {
        const AS_THE_PROCESS: &str = "BRIDGE_TEST_LOSES_ITS_LOOK_UPS";
        if std::env::var_os(AS_THE_PROCESS).is_some() {
            let (shutdown, (results, mut ended)) = (Shutdown::new(), mpsc::channel(1));
            let asks = start_many(1, &Arc::new(Panicking), &results, &shutdown);
            drop(results);
            asks.send((token(), questions(1).remove(0))).await.unwrap();
            let agent = async {
                assert!(ended.recv().await.is_none(), "the look-up did not panic");
                tokio::task::yield_now().await;
            };
            return shutdown.through(agent).await;
        }
        let name = "orders::driver::look_ups::tests::look_ups_that_panic_end_the_process_with_1";
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        let ended = process.args(["--exact", name]).env(AS_THE_PROCESS, "1").output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    }
}
