//! A thread of its own for a relay, so that the load it shares a machine with does not become jitter.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A running relay; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct RelayThread {
    /// Dropped to end the relay.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RelayThread {
    /// The runtime that a relay's sockets belong to.
    ///
    /// # Errors
    /// When the system refuses it.
    pub(crate) fn runtime() -> io::Result<Runtime> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    }

    /// Runs `relay` on a thread of this name, until it ends or this is dropped.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn start<R: Future>(
        name: &str,
        runtime: Runtime,
        relay: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<RelayThread> {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // Only a socket that cannot be set up ends it early; who uses the line then says what it misses.
                    _ = relay() => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(RelayThread { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the relay, and returns when it has ended.
    pub(crate) fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was already printed; there is nothing to add to it here.
            let _ended = thread.join();
        }
    }
}

impl Drop for RelayThread {
    fn drop(&mut self) {
        self.end();
    }
}
