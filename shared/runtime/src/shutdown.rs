//! From a signal to an orderly end: one token that every part of an agent holds, and what systemd is told.
//!
//! The first SIGTERM or SIGINT starts the drain: no new work, what was begun is finished until a deadline. The second ends
//! the process at once, which loses nothing that was promised (P1, P2). What draining means is each part's own affair.
//!
//! SIGQUIT is a SIGTERM, as other servers have it. SIGHUP ends nothing: whatever can be read again is. Nor do SIGUSR1
//! and SIGUSR2, which log rotators send out of habit, and which would end a process that does not take them. And a part
//! without which the agent is none ends the process when it ends by itself: an agent that only looks alive is worse
//! than one that is started again.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::telemetry;

/// What a process exits with that a second signal ended, or a part of it: 1, failed, since it did not finish what it had begun.
const EXIT_NOT_DRAINED: i32 = 1;

/// Says whether this agent is coming to its end. Clones are the same token.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// When the drain has to be over; `None` until it starts.
    deadline: watch::Sender<Option<Instant>>,
    /// How often an operator has asked for everything to be read again.
    reloads: watch::Sender<u64>,
    /// The part that has ended by itself, if one has.
    lost: watch::Sender<Option<&'static str>>,
}

/// Hears whenever what can be read again is to be read again.
#[derive(Debug)]
pub struct Reloads(watch::Receiver<u64>);

impl Reloads {
    /// Waits for the next time. Several while nobody waited are one.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could ask.
            std::future::pending().await
        }
    }
}

impl Shutdown {
    /// A token for an agent that is to go on.
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

    /// From now on SIGTERM, SIGINT and SIGQUIT start the drain, with `drain_for` to finish it; SIGHUP has everybody
    /// read again; SIGUSR1 and SIGUSR2 do nothing.
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
                        tracing::info!(signal = "SIGHUP", "reading again what can be read again while it runs");
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

    /// Runs an agent from its start to its end; a part that is [lost](Self::lose) meanwhile ends the process.
    ///
    /// An agent that gives up its start, since an address is taken, drops its parts on its way out. They are not lost:
    /// its own end is seen first, and begins the drain.
    pub async fn through<T>(&self, agent: impl Future<Output = T>) -> T {
        let mut lost = self.lost.subscribe();
        tokio::select! {
            biased;
            ended = agent => {
                self.start(Duration::ZERO);
                ended
            }
            // It cannot close: this token holds a sender.
            Ok(part) = lost.wait_for(Option::is_some) => {
                tracing::error!(
                    part = part.unwrap_or_default(),
                    "a part without which this agent is none has ended by itself, and ends the process: it is to be started \
                     again. What was promised is kept; please report this with what stands above"
                );
                exit_not_drained();
            }
        }
    }

    /// Starts the drain. Starting it again changes nothing.
    pub fn start(&self, drain_for: Duration) {
        self.deadline.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + drain_for);
            first
        });
    }

    /// Whether the drain has started: new work is refused.
    pub fn is_draining(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Waits for the drain to start and gives the time by which it has to be over.
    pub async fn started(&self) -> Instant {
        let mut deadline = self.deadline.subscribe();
        loop {
            if let Some(deadline) = *deadline.borrow_and_update() {
                return deadline;
            }
            // It cannot close: this token holds a sender.
            let _open = deadline.changed().await;
        }
    }

    /// Waits for the deadline of the drain: what is not finished now is left as it is.
    pub async fn overdue(&self) {
        sleep_until(self.started().await).await;
    }

    /// Hears of each reload that is asked for from now on.
    pub fn reloads(&self) -> Reloads {
        Reloads(self.reloads.subscribe())
    }

    /// Has everybody who [listens](Self::reloads) read again.
    pub fn reload(&self) {
        self.reloads.send_modify(|reloads| *reloads += 1);
    }

    /// A part without which the agent is none: if it panics, or returns before the drain, the process ends (see
    /// [`Self::through`]). One that is dropped is ended by whoever dropped it.
    pub fn core<F: Future>(&self, part: &'static str, task: F) -> impl Future<Output = F::Output> + use<F> {
        let core = Core { shutdown: self.clone(), part };
        async move {
            let output = task.await;
            core.shutdown.lose(core.part);
            output
        }
    }

    /// A part without which the agent is none has ended: the process does as well, unless it drains anyway.
    pub fn lose(&self, part: &'static str) {
        if !self.is_draining() {
            self.lost.send_if_modified(|lost| lost.replace(part).is_none());
        }
    }
}

fn ignore(signal: &'static str) {
    tracing::info!(signal, "means nothing to this agent: SIGHUP has files read again, SIGTERM ends it");
}

/// Ends the process once its last line is written.
fn exit_not_drained() -> ! {
    telemetry::flush();
    std::process::exit(EXIT_NOT_DRAINED)
}

/// Notices a panic of what is [core](Shutdown::core), which drops it on its way.
struct Core {
    shutdown: Shutdown,
    part: &'static str,
}

impl Drop for Core {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shutdown.lose(self.part);
        }
    }
}

/// What systemd is told of a `Type=notify` service (sd_notify(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// It serves.
    Ready,
    /// It drains.
    Stopping,
}

/// Tells systemd, where there is one. A failure is logged and changes nothing else.
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

    /// Runs one test of this program once more, as a process that a signal may end.
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
            // Each would end a process that does not take it.
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

    /// Which part is lost when this one is core and ends as `end` has it.
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

    /// This test runs itself once more, as a process that is to end.
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

    /// The process ends with 1 if a part counts as lost, and so does this test.
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
                // The drop of an agent's parts takes a while, and they end meanwhile.
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
