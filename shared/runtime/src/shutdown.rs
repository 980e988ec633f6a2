//! From a signal to an orderly end: one token that every part of an agent holds, and what systemd is told.
//!
//! The first SIGTERM or SIGINT starts the drain: no new work, what was begun is finished until a deadline. The second ends
//! the process at once, which loses nothing that was promised (P1, P2). What draining means is each part's own affair.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What a process ended by a second signal exits with: 1, failed, since it did not finish what it had begun.
const EXIT_NOT_DRAINED: i32 = 1;

/// Says whether this agent is coming to its end. Clones are the same token.
#[derive(Clone, Debug)]
pub struct Shutdown {
    /// When the drain has to be over; `None` until it starts.
    deadline: watch::Sender<Option<Instant>>,
}

impl Shutdown {
    /// A token for an agent that is to go on.
    #[expect(
        clippy::new_without_default,
        reason = "a second token beside the agent's own would be a mistake"
    )]
    pub fn new() -> Self {
        Self { deadline: watch::Sender::new(None) }
    }

    /// From now on SIGTERM and SIGINT start the drain, with `drain_for` to finish it.
    pub fn on_signals(&self, drain_for: Duration) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if shutdown.is_draining() {
                    tracing::warn!(
                        signal = name,
                        "a second signal: exiting without finishing what is under way"
                    );
                    std::process::exit(EXIT_NOT_DRAINED);
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

    #[tokio::test]
    async fn a_signal_starts_the_drain() {
        let shutdown = Shutdown::new();
        shutdown.on_signals(Duration::from_secs(60)).unwrap();
        let this = rustix::process::getpid();
        rustix::process::kill_process(this, rustix::process::Signal::TERM).unwrap();
        shutdown.started().await;
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
