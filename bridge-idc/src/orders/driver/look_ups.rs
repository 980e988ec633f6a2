//! Look-ups of orders beside everything else, gathered: what is asked while the database answers is asked together next.
//!
//! A crowd that asks how its orders stand costs the database two statements a few hundred questions, and not two a question.

use std::sync::Arc;

use bridge_protocol::order_link::receiver::Token;
use bridge_protocol::wire::order::{Refusal, State};
use tokio::sync::{Mutex, mpsc};

use crate::orders::core::Input;
use crate::orders::store::{Ledger, LedgerError, Question};

/// Questions that are looked up or wait for the next look-up. The core keeps the rest.
pub const AT_ONCE: usize = 512;

/// Most look-ups under way. Each has a connection, so one goes on while the other waits for its own.
const LOOK_UPS_MAX: usize = 2;

/// Most questions of one look-up.
const QUESTIONS_MAX: usize = AT_ONCE / LOOK_UPS_MAX;

/// Starts the look-ups and returns the sender of their questions. Each question is answered by an [`Input::LookedUp`]. The look-ups end
/// when the sender is dropped.
pub(super) fn start(ledger: &Arc<Ledger>, results: &mpsc::Sender<Input>) -> mpsc::Sender<(Token, Question)> {
    let (asks, asked) = mpsc::channel(AT_ONCE);
    let asked = Arc::new(Mutex::new(asked));
    // Payments, the feed and webhooks find the other half of the connections.
    for _ in 0..(ledger.shared_connections() / 2).clamp(1, LOOK_UPS_MAX) {
        tokio::spawn(look_up(ledger.clone(), asked.clone(), results.clone()));
    }
    asks
}

async fn look_up(
    ledger: Arc<Ledger>,
    asked: Arc<Mutex<mpsc::Receiver<(Token, Question)>>>,
    results: mpsc::Sender<Input>,
) {
    let mut gathered = Vec::new();
    while asked.lock().await.recv_many(&mut gathered, QUESTIONS_MAX).await > 0 {
        let (tokens, questions): (Vec<Token>, Vec<Question>) = gathered.drain(..).unzip();
        let answers = answers(&ledger, &questions).await;
        for (token, found) in tokens.into_iter().zip(answers) {
            if results.send(Input::LookedUp { token, found }).await.is_err() {
                return;
            }
        }
    }
}

/// Returns an answer for each question. If the database refuses all of them together, asks each by itself, because it may refuse one
/// brand alone.
async fn answers(ledger: &Ledger, questions: &[Question]) -> Vec<Result<Option<State>, Refusal>> {
    match ledger.look_up_all(questions).await {
        Ok(states) => states.into_iter().map(Ok).collect(),
        Err(error) if questions.len() > 1 && error.may_be_one_request_s() => {
            let mut answers = Vec::with_capacity(questions.len());
            for Question { brand, order, key } in questions {
                let found = ledger.look_up(brand, *order, *key).await;
                answers.push(found.map_err(|error| refusal(&error)));
            }
            answers
        }
        Err(error) => vec![Err(refusal(&error)); questions.len()],
    }
}

fn refusal(error: &LedgerError) -> Refusal {
    tracing::error!(%error, "look orders up");
    // Everybody's connections are busy, or the database is gone, which whoever commits finds out.
    if error.is_for_want_of_a_connection() { Refusal::Busy } else { Refusal::DatabaseDown }
}
