//! A separate thread for a relay, so that other load on the machine does not become jitter.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// A running relay. It ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct RelayThread {
    /// Dropped to end the relay.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RelayThread {
    /// Makes the runtime for a relay's sockets.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses the runtime.
    pub(crate) fn runtime() -> io::Result<Runtime> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    }

    /// Runs `relay` on a thread of this name, until it ends or this value is dropped.
    ///
    /// # Errors
    ///
    /// Fails if the system refuses a thread.
    pub(crate) fn start<R: Future>(
        name: &str,
        runtime: Runtime,
        relay: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<RelayThread> {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // The relay ends early only if a socket cannot be set up. The user of the line
                    // then notices it.
                    _ = relay() => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(RelayThread { stop: Some(stop), thread: Some(thread) })
    }

    /// Ends the relay, and waits for its end.
    pub(crate) fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been printed.
            let _ended = thread.join();
        }
    }
}

impl Drop for RelayThread {
    fn drop(&mut self) {
        self.end();
    }
}
