//! The load generator: concurrent callers that replay a [`Plan`] as a careful storefront would.
//!
//! A caller takes the next step and posts it on its own keep-alive connection. If the outcome is
//! open (202, 503, an order in progress, a lost connection), it repeats the request under the same
//! idempotency key until it knows the outcome or gives up. It reads as little of an answer as
//! possible, because it shares the CPU with the server that it measures.

mod outcome;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::testkit::histogram::Histogram;
use crate::testkit::http::{CallError, Client};
use crate::testkit::plan::{Plan, Step};

pub use outcome::{Outcome, Report, Settled, Tally};
use outcome::{Reading, read};

/// The server, and the number and patience of the callers.
#[derive(Clone, Debug)]
pub struct Options {
    /// The storefront listener of a cloud agent.
    pub storefront: SocketAddr,
    /// The brand's bearer token.
    pub token: String,
    /// Number of callers that post at the same time.
    pub callers: usize,
    /// Time after which a step's outcome is left open.
    pub patience: Duration,
    /// Title of the progress bar. If it is empty, or there is no terminal, there is no bar.
    pub title: String,
}

/// Replays `plan` to its end.
pub async fn replay(plan: &Arc<Plan>, options: &Options) -> Report {
    replay_watched(plan, options, watch::Sender::new(0)).await
}

/// Replays `plan`, and reports how many steps are settled so far. Faults depend on that progress,
/// not on time.
pub async fn replay_watched(plan: &Arc<Plan>, options: &Options, progress: watch::Sender<usize>) -> Report {
    let pace = Pace { started: Instant::now(), moments: Vec::new() };
    run(plan, options, pace, progress).await
}

/// Replays `plan` at the pace of a launch. A step begins at its moment, or later if all callers are
/// busy. Its latency counts from that moment.
pub async fn replay_paced(
    plan: &Arc<Plan>,
    options: &Options,
    pace: Pace,
    progress: watch::Sender<usize>,
) -> Report {
    run(plan, options, pace, progress).await
}

async fn run(plan: &Arc<Plan>, options: &Options, pace: Pace, progress: watch::Sender<usize>) -> Report {
    let started = pace.started;
    let board = Arc::new(Board {
        next: AtomicUsize::new(0),
        settled: plan.steps.iter().map(|_| OnceLock::new()).collect(),
        changed: Notify::new(),
        bar: if options.title.is_empty() {
            ProgressBar::hidden()
        } else {
            bar(plan.steps.len(), &options.title)
        },
        progress,
        pace,
    });
    let mut callers = JoinSet::new();
    for _ in 0..options.callers {
        let caller = Caller {
            client: Client::new(options.storefront),
            token: options.token.clone(),
            patience: options.patience,
            plan: Arc::clone(plan),
            board: Arc::clone(&board),
            latency: Histogram::default(),
        };
        callers.spawn(caller.run());
    }
    let mut latency = Histogram::default();
    callers.join_all().await.iter().for_each(|counted| latency.merge(counted));
    let took = started.elapsed();
    board.bar.finish_and_clear();
    let open = Settled { outcome: Outcome::Unknown, replayed: false, attempts: 0 };
    let settled = board.settled.iter().map(|cell| cell.get().unwrap_or(&open).clone()).collect();
    Report { plan: Arc::clone(plan), settled, latency, took }
}

/// Start times of a plan's steps.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The moments count from this time.
    pub started: Instant,
    /// One moment for each step, in their order. A step without a moment begins as soon as a caller
    /// is free.
    pub moments: Vec<Duration>,
}

/// State that all callers of a run share.
struct Board {
    next: AtomicUsize,
    settled: Vec<OnceLock<Settled>>,
    /// Notified for every settled step. A caller that waits for a step then looks again.
    changed: Notify,
    bar: ProgressBar,
    /// Number of settled steps, for observers.
    progress: watch::Sender<usize>,
    pace: Pace,
}

impl Board {
    /// Waits for a step's moment, and returns it.
    async fn moment(&self, step: usize) -> Instant {
        let Some(moment) = self.pace.moments.get(step) else { return Instant::now() };
        let due = self.pace.started + *moment;
        sleep(due.saturating_duration_since(Instant::now())).await;
        due
    }

    /// Waits for the outcome of a step that another caller has taken.
    async fn wait_for(&self, step: usize) -> &Settled {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registered before the check, because a notification between the check and the wait
            // would be lost.
            changed.as_mut().enable();
            if let Some(settled) = self.settled[step].get() {
                return settled;
            }
            changed.await;
        }
    }
}

struct Caller {
    client: Client,
    token: String,
    patience: Duration,
    plan: Arc<Plan>,
    board: Arc<Board>,
    latency: Histogram,
}

impl Caller {
    async fn run(mut self) -> Histogram {
        let (plan, board) = (Arc::clone(&self.plan), Arc::clone(&self.board));
        let orders = format!("/v1/{}/orders", plan.brand);
        loop {
            let index = board.next.fetch_add(1, Ordering::Relaxed);
            let Some(step) = plan.steps.get(index) else { return self.latency };
            let due = board.moment(index).await;
            let settled = match step {
                Step::Place(place) => {
                    let settled = self.settle(&orders, &place.key, place.body.clone()).await;
                    self.latency.record(due.elapsed());
                    settled
                }
                Step::Cancel { key, of } => match &board.wait_for(*of).await.outcome {
                    Outcome::Placed { order } => {
                        self.settle(&format!("{orders}/{order}/cancel"), key, Bytes::new()).await
                    }
                    _ => Settled { outcome: Outcome::NothingToCancel, replayed: false, attempts: 0 },
                },
            };
            // No other caller took this step, so the cell is empty.
            let _only_once = board.settled[index].set(settled);
            board.changed.notify_waiters();
            board.bar.inc(1);
            board.progress.send_modify(|settled| *settled += 1);
        }
    }

    /// Posts until the outcome is known or the time is over.
    async fn settle(&mut self, path: &str, key: &str, body: Bytes) -> Settled {
        let give_up = Instant::now() + self.patience;
        let (mut attempts, mut maybe_done) = (0, false);
        loop {
            attempts += 1;
            let call = self.client.post(path, Some(&self.token), Some(key), body.clone());
            let (pause, problem) = match tokio::time::timeout(self.patience, call).await {
                Ok(Ok(answer)) => match read(&answer) {
                    Reading::Known(outcome) => {
                        // If an earlier attempt of this call may have committed, a replayed answer
                        // belongs to this run.
                        let replayed = !maybe_done && answer.header("idempotency-replayed") == Some("true");
                        return Settled { outcome, replayed, attempts };
                    }
                    Reading::Open => {
                        maybe_done = true;
                        (answer.retry_after(), None)
                    }
                    Reading::NotNow(problem) => (answer.retry_after(), Some(problem)),
                },
                Ok(Err(CallError::Connect(..))) => (None, Some("unreachable".to_owned())),
                Ok(Err(_)) | Err(_) => {
                    maybe_done = true;
                    (None, None)
                }
            };
            let pause = pause.unwrap_or_else(|| Duration::from_millis(20) * attempts.min(50));
            if Instant::now() + pause >= give_up {
                let outcome = match problem {
                    Some(problem) if !maybe_done => Outcome::Refused { problem },
                    _ => Outcome::Unknown,
                };
                return Settled { outcome, replayed: false, attempts };
            }
            sleep(pause).await;
        }
    }
}

/// Makes a progress bar on standard error for `steps` steps. ` {msg}` is the text of
/// [`ProgressBar::set_message`].
#[must_use]
pub fn bar(steps: usize, title: &str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix:>24} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}{msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    // indicatif draws nothing if standard error is no terminal. Ten times a second is enough for a
    // person.
    ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr_with_hz(10))
        .with_style(style)
        .with_prefix(title.to_owned())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::testkit::generated;

    /// Starts a storefront that answers each request with the next of `answers`, and then always
    /// with the last.
    async fn scripted(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("bound");
        let served = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    // Requests in these tests are small enough to arrive in one read.
                    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                        let answer = answers[served.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)];
                        if answer.is_empty() || stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    async fn replay_at(storefront: SocketAddr, plan: Plan, callers: usize) -> Report {
        let patience = Duration::from_millis(500);
        let options = Options { storefront, token: "t".to_owned(), callers, patience, title: String::new() };
        replay(&Arc::new(plan), &options).await
    }

    const CREATED: &str = "HTTP/1.1 201 Created\r\nlocation: /v1/hot/orders/o-1\r\ncontent-length: 0\r\n\r\n";
    const REPLAYED: &str = "HTTP/1.1 201 Created\r\nlocation: /v1/hot/orders/o-1\r\nidempotency-replayed: true\r\ncontent-length: 0\r\n\r\n";
    const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n";
    const LATER: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
    const CANCELLED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn what_is_open_is_asked_again_until_it_is_known() {
        let storefront = scripted(&[LATER, ACCEPTED, "", REPLAYED]).await;
        let report = replay_at(storefront, generated::hot(1, 1), 1).await;
        let [Settled { outcome: Outcome::Placed { order }, replayed: false, attempts: 4 }] =
            &report.settled[..]
        else {
            panic!("{:?}", report.settled)
        };
        assert_eq!(order, "o-1");
        assert_eq!(report.latency.count(), 1);
    }

    #[tokio::test]
    async fn a_first_answer_that_says_so_is_counted_as_replayed() {
        let report = replay_at(scripted(&[REPLAYED]).await, generated::hot(1, 10), 3).await;
        let expected = Tally { placed: 10, committed: 10, replayed: 10, ..Tally::default() };
        assert_eq!(report.tally(), expected);
    }

    #[tokio::test]
    async fn a_paced_step_begins_at_its_moment_and_waits_count() {
        let storefront = scripted(&[CREATED]).await;
        let patience = Duration::from_secs(20);
        let options =
            Options { storefront, token: "t".to_owned(), callers: 2, patience, title: String::new() };
        let started = Instant::now();
        let moments = vec![Duration::ZERO, Duration::from_millis(120)];
        let progress = watch::Sender::new(0);
        let plan = Arc::new(generated::hot(1, 2));
        let report =
            replay_paced(&plan, &options, Pace { started, moments: moments.clone() }, progress).await;
        assert!(report.took >= Duration::from_millis(120), "{:?}", report.took);
        // A step's latency includes the time since it was due.
        let started = started.checked_sub(Duration::from_secs(3)).expect("the machine is up for long");
        let report = replay_paced(&plan, &options, Pace { started, moments }, watch::Sender::new(0)).await;
        assert!(report.latency.quantile(0) >= Duration::from_secs(2), "{:?}", report.latency.quantile(0));
    }

    #[tokio::test]
    async fn an_open_outcome_is_unknown_and_an_untried_one_is_refused() {
        let report = replay_at(scripted(&[ACCEPTED]).await, generated::hot(1, 1), 1).await;
        assert_eq!(report.settled[0].outcome, Outcome::Unknown);
        let report = replay_at(scripted(&[LATER]).await, generated::hot(1, 1), 1).await;
        assert_eq!(report.settled[0].outcome, Outcome::Refused { problem: "503".to_owned() });
    }

    #[tokio::test]
    async fn a_cancellation_waits_for_its_order() {
        let storefront = scripted(&[ACCEPTED, CREATED, CANCELLED]).await;
        let mut plan = generated::hot(1, 1);
        plan.steps.push(Step::Cancel { key: "c".to_owned(), of: 0 });
        let report = replay_at(storefront, plan, 2).await;
        assert_eq!(report.settled[1].outcome, Outcome::Cancelled);
        assert_eq!(report.tally().cancelled, 1);
    }
}
