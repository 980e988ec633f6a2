//! Orderly stop of an agent: a token that every part holds, signals, and messages to systemd.
//!
//! The first SIGTERM or SIGINT starts the drain: no new work is taken, and pending work is finished
//! until a deadline. The second one ends the process at once, which breaks no promise (P1, P2).
//! Each part decides how it drains.
//!
//! SIGQUIT counts as SIGTERM, as in other servers. SIGHUP makes the agent read its files again.
//! SIGUSR1 and SIGUSR2 do nothing: log rotators often send them, and they would end a process
//! without a handler. If an essential part ends unexpectedly, the process ends too: an agent that
//! only looks alive is worse than one that is restarted.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::telemetry;

/// Exit code after a second signal or the loss of a part. It is 1, because pending work was not
/// finished.
const EXIT_NOT_DRAINED: i32 = 1;

/// The state of an agent's shutdown. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// Deadline of the drain; `None` until it starts.
    deadline: watch::Sender<Option<Instant>>,
    /// Number of reload requests by operators.
    reloads: watch::Sender<u64>,
    /// Essential part that ended unexpectedly, if any.
    lost: watch::Sender<Option<&'static str>>,
}

/// Receiver of reload requests.
#[derive(Debug)]
pub struct Reloads(watch::Receiver<u64>);

impl Reloads {
    /// Waits for the next request. Requests that came while nobody waited count as one.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // No sender is left.
            std::future::pending().await
        }
    }
}

impl Shutdown {
    /// Makes the token of a running agent.
    #[expect(
        clippy::new_without_default,
        reason = "a second token beside the agent's own would be a mistake"
    )]
    pub fn new() -> Self {
        Self {
            deadline: watch::Sender::new(None),
            reloads: watch::Sender::new(0),
            lost: watch::Sender::new(None),
        }
    }

    /// Handles signals from now on. SIGTERM, SIGINT and SIGQUIT start the drain, which may take
    /// `drain_for`. SIGHUP requests a reload. SIGUSR1 and SIGUSR2 do nothing.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a signal handler.
    pub fn on_signals(&self, drain_for: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut user_1 = signal(SignalKind::user_defined1())?;
        let mut user_2 = signal(SignalKind::user_defined2())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                    _ = quit.recv() => "SIGQUIT",
                    _ = user_1.recv() => {
                        ignore("SIGUSR1");
                        continue;
                    }
                    _ = user_2.recv() => {
                        ignore("SIGUSR2");
                        continue;
                    }
                    _ = hang_up.recv() => {
                        tracing::info!(signal = "SIGHUP", "reading certificates, revocation lists and sealing keys again; every other setting is read at the next start");
                        shutdown.reload();
                        continue;
                    }
                };
                if shutdown.is_draining() {
                    tracing::warn!(
                        signal = name,
                        "a second signal: exiting without finishing what is under way"
                    );
                    exit_not_drained();
                }
                tracing::info!(
                    signal = name,
                    ?drain_for,
                    "draining: no new work, what is under way is finished"
                );
                tell_systemd(ServiceState::Stopping);
                shutdown.start(drain_for);
            }
        });
        Ok(())
    }

    /// Runs an agent from its start to its end. A part that is [lost](Self::lose) meanwhile ends
    /// the process.
    ///
    /// An agent that fails to start, for example because an address is in use, drops its parts.
    /// They do not count as lost: its own end is seen first and starts the drain.
    pub async fn through<T>(&self, agent: impl Future<Output = T>) -> T {
        let mut lost = self.lost.subscribe();
        tokio::select! {
            biased;
            ended = agent => {
                self.start(Duration::ZERO);
                ended
            }
            // The channel stays open, because this token holds a sender.
            Ok(part) = lost.wait_for(Option::is_some) => {
                tracing::error!(
                    part = part.unwrap_or_default(),
                    "an essential part of this agent has ended unexpectedly and ends the process, which must be started again. \
                     All promises are kept; please report this with the log lines above"
                );
                exit_not_drained();
            }
        }
    }

    /// Starts the drain. A second call has no effect.
    pub fn start(&self, drain_for: Duration) {
        self.deadline.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + drain_for);
            first
        });
    }

    /// Returns true after the drain has started. New work is then refused.
    pub fn is_draining(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Waits for the start of the drain and returns its deadline.
    pub async fn started(&self) -> Instant {
        let mut deadline = self.deadline.subscribe();
        loop {
            if let Some(deadline) = *deadline.borrow_and_update() {
                return deadline;
            }
            // The channel stays open, because this token holds a sender.
            let _open = deadline.changed().await;
        }
    }

    /// Waits for the deadline of the drain. Unfinished work is then abandoned.
    pub async fn overdue(&self) {
        sleep_until(self.started().await).await;
    }

    /// Returns a receiver of later reload requests.
    pub fn reloads(&self) -> Reloads {
        Reloads(self.reloads.subscribe())
    }

    /// Requests a reload from all [receivers](Self::reloads).
    pub fn reload(&self) {
        self.reloads.send_modify(|reloads| *reloads += 1);
    }

    /// Wraps an essential part. If it panics, or returns before the drain, the process ends (see
    /// [`Self::through`]). Dropping it is no loss.
    pub fn core<F: Future>(&self, part: &'static str, task: F) -> impl Future<Output = F::Output> + use<F> {
        let watch = self.watch(part);
        async move {
            let output = task.await;
            watch.shutdown.lose(watch.part);
            output
        }
    }

    /// Wraps a piece of essential work that ends by itself, such as one commit. Others wait for its
    /// result, so if it panics, the process ends (see [`Self::through`]).
    pub fn work<F: Future>(&self, part: &'static str, task: F) -> impl Future<Output = F::Output> + use<F> {
        let watch = self.watch(part);
        async move {
            let output = task.await;
            drop(watch);
            output
        }
    }

    /// Returns a value that essential work on a thread of its own holds. If a panic drops it, the
    /// process ends (see [`Self::through`]).
    pub fn watch(&self, part: &'static str) -> PanicWatch {
        PanicWatch { shutdown: self.clone(), part }
    }

    /// Reports that an essential part has ended. The process ends too, unless it is draining.
    pub fn lose(&self, part: &'static str) {
        if !self.is_draining() {
            self.lost.send_if_modified(|lost| lost.replace(part).is_none());
        }
    }
}

fn ignore(signal: &'static str) {
    tracing::info!(signal, "means nothing to this agent: SIGHUP has files read again, SIGTERM ends it");
}

/// Ends the process after its log lines are written.
fn exit_not_drained() -> ! {
    telemetry::flush();
    std::process::exit(EXIT_NOT_DRAINED)
}

/// Detects a panic of an [essential part](Shutdown::core), which drops it.
#[derive(Debug)]
pub struct PanicWatch {
    shutdown: Shutdown,
    part: &'static str,
}

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shutdown.lose(self.part);
        }
    }
}

/// Messages to systemd about a `Type=notify` service (sd_notify(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// The agent serves.
    Ready,
    /// The agent drains.
    Stopping,
}

/// Sends a message to systemd if it started the agent. A failure is only logged.
pub fn tell_systemd(state: ServiceState) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = notify(&socket, state)
    {
        tracing::warn!(%error, ?state, "systemd could not be told: check NotifyAccess= in the unit");
    }
}

fn notify(socket: &OsStr, state: ServiceState) -> io::Result<()> {
    // A leading @ stands for the zero byte of an abstract socket.
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let message = match state {
        ServiceState::Ready => "READY=1",
        ServiceState::Stopping => "STOPPING=1",
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(|_sent| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_who_holds_the_token_hears_of_the_drain_once() {
        let shutdown = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.started().await }
        });
        assert!(!shutdown.is_draining());
        shutdown.start(Duration::from_secs(60));
        let deadline = waiting.await.unwrap();
        assert!(shutdown.is_draining());
        shutdown.start(Duration::from_secs(1));
        assert_eq!(shutdown.started().await, deadline, "a second start must not move the deadline");
    }

    #[tokio::test]
    async fn a_drain_without_time_is_overdue_at_once() {
        let shutdown = Shutdown::new();
        shutdown.start(Duration::ZERO);
        shutdown.overdue().await;
    }

    /// Runs one test of this program in another process, which a signal may end.
    fn as_a_process(test: &str, variable: &str, value: &str) -> std::process::Output {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap());
        let name = format!("shutdown::tests::{test}");
        process.args(["--exact", &name]).env(variable, value).output().unwrap()
    }

    #[tokio::test]
    async fn a_signal_to_end_starts_the_drain_and_any_other_ends_nothing() {
        use rustix::process::{Signal, getpid, kill_process};
        const ENDED_BY: &str = "BRIDGE_TEST_IS_ENDED_BY";
        if let Some(end) = std::env::var_os(ENDED_BY) {
            let shutdown = Shutdown::new();
            shutdown.on_signals(Duration::from_secs(60)).unwrap();
            // Each of these signals would end a process that has no handler.
            for other in [Signal::USR1, Signal::USR2] {
                kill_process(getpid(), other).unwrap();
            }
            assert!(!shutdown.is_draining());
            kill_process(getpid(), if end == "SIGQUIT" { Signal::QUIT } else { Signal::TERM }).unwrap();
            shutdown.started().await;
            return;
        }
        for end in ["SIGTERM", "SIGQUIT"] {
            let test = "a_signal_to_end_starts_the_drain_and_any_other_ends_nothing";
            let ended = as_a_process(test, ENDED_BY, end);
            assert!(ended.status.success(), "{end}: {ended:?}");
        }
    }

    #[tokio::test]
    async fn a_hang_up_has_everybody_read_again_and_ends_nothing() {
        let shutdown = Shutdown::new();
        shutdown.on_signals(Duration::from_secs(60)).unwrap();
        let mut reloads = [shutdown.reloads(), shutdown.reloads()];
        let this = rustix::process::getpid();
        for _ in 0..2 {
            rustix::process::kill_process(this, rustix::process::Signal::HUP).unwrap();
            for reloads in &mut reloads {
                reloads.next().await;
            }
        }
    }

    /// Returns the lost part, if there is one, after an essential part ended like `end`.
    async fn lost(
        shutdown: &Shutdown,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Option<&'static str> {
        let task = tokio::spawn(shutdown.core("the part", end));
        let _however_it_ended = task.await;
        *shutdown.lost.borrow()
    }

    #[tokio::test]
    async fn a_core_part_that_returns_or_panics_is_lost() {
        assert_eq!(lost(&Shutdown::new(), async {}).await, Some("the part"));
        assert_eq!(lost(&Shutdown::new(), async { panic!("planted") }).await, Some("the part"));
        let waiting = async {
            tokio::task::yield_now().await;
            panic!("planted, after a wait")
        };
        assert_eq!(lost(&Shutdown::new(), waiting).await, Some("the part"));
    }

    #[tokio::test]
    async fn a_core_part_that_ends_in_the_drain_is_not_lost() {
        let shutdown = Shutdown::new();
        drop(shutdown.core("the part", async {}));
        let task = tokio::spawn(shutdown.core("the part", std::future::pending::<()>()));
        tokio::task::yield_now().await;
        task.abort();
        let _aborted = task.await;
        assert_eq!(*shutdown.lost.borrow(), None);
        shutdown.start(Duration::from_secs(60));
        assert_eq!(lost(&shutdown, async {}).await, None);
    }

    #[tokio::test]
    async fn essential_work_that_panics_is_lost_and_may_end_otherwise() {
        let lost = async |shutdown: &Shutdown, work: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let _however_it_ended = tokio::spawn(shutdown.work("a commit", work)).await;
            *shutdown.lost.borrow()
        };
        let waiting = async {
            tokio::task::yield_now().await;
            panic!("planted, after a wait")
        };
        assert_eq!(lost(&Shutdown::new(), Box::pin(async {})).await, None);
        assert_eq!(lost(&Shutdown::new(), Box::pin(async { panic!("planted") })).await, Some("a commit"));
        assert_eq!(lost(&Shutdown::new(), Box::pin(waiting)).await, Some("a commit"));
    }

    #[tokio::test]
    async fn a_panic_on_a_thread_that_is_watched_is_a_loss() {
        for (panics, expected) in [(false, None), (true, Some("the opening"))] {
            let shutdown = Shutdown::new();
            let watch = shutdown.watch("the opening");
            let thread = tokio::task::spawn_blocking(move || {
                let _watch = watch;
                assert!(!panics, "planted");
            });
            assert_eq!(thread.await.is_err(), panics);
            assert_eq!(*shutdown.lost.borrow(), expected);
        }
    }

    /// The test runs itself again in another process, which must end.
    #[tokio::test]
    async fn a_lost_part_ends_the_process_with_1() {
        const AS_THE_PROCESS: &str = "BRIDGE_TEST_LOSES_A_PART";
        if std::env::var_os(AS_THE_PROCESS).is_some() {
            let shutdown = Shutdown::new();
            tokio::spawn(shutdown.core("the part", async {}));
            return shutdown.through(std::future::pending()).await;
        }
        let ended = as_a_process("a_lost_part_ends_the_process_with_1", AS_THE_PROCESS, "1");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    }

    /// If a part counted as lost, the process would exit with 1, and this test would fail.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_agent_that_gives_up_its_start_loses_no_part() {
        for _ in 0..100 {
            let shutdown = Shutdown::new();
            let agent = async {
                let (queue, mut work) = tokio::sync::mpsc::channel::<()>(1);
                let ends_with_its_queue = async move { while work.recv().await.is_some() {} };
                tokio::spawn(shutdown.core("the part", ends_with_its_queue));
                tokio::task::yield_now().await;
                drop(queue);
                // An agent's parts are dropped slowly, and they end meanwhile.
                while shutdown.lost.borrow().is_none() {
                    std::thread::yield_now();
                }
                Err::<(), _>("the address is taken")
            };
            assert_eq!(shutdown.through(agent).await, Err("the address is taken"));
            assert!(shutdown.is_draining());
        }
    }

    #[test]
    fn systemd_hears_of_readiness_on_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str(), ServiceState::Ready).unwrap();
        let mut message = [0; 32];
        let length = systemd.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
    }
}
