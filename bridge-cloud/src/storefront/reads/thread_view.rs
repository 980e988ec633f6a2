//! One serving thread's view of the replica, kept current by a task beside the requests.

use std::cell::{Ref, RefCell};
use std::time::Duration;

use bridge_protocol::domain::UnixMicros;
use bridge_runtime::clock;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::replica::update::Update;
use crate::replica::view::View;

/// Products that appear or disappear before requests get their turn. A launch may have thousands at
/// one moment.
const PRODUCTS_AT_ONCE: usize = 256;

/// Longest wait for a moment of the wall clock, because that clock may be changed.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A view, with the tasks that wait for its progress. It never leaves its thread.
#[derive(Default)]
pub(in crate::storefront) struct Reader {
    view: RefCell<View>,
    moved: Notify,
}

impl Reader {
    /// Returns the current view. Do not hold it across an await.
    pub(super) fn view(&self) -> Ref<'_, View> {
        self.view.borrow()
    }

    /// Applies updates until the sender is gone, and lists products at their moments. Requests get
    /// their turn in between.
    pub(in crate::storefront) async fn keep_current(&self, mut inbox: mpsc::Receiver<Update>) {
        loop {
            let due = self.view().next_due();
            let update = match due {
                Some(due) => timeout(until(due), inbox.recv()).await,
                None => Ok(inbox.recv().await),
            };
            let now = clock::now();
            match update {
                Ok(Some(update)) => {
                    self.view.borrow_mut().apply(update, now);
                    self.moved.notify_waiters();
                }
                Ok(None) => return,
                Err(_due) => {}
            }
            self.view.borrow_mut().turn(now, PRODUCTS_AT_ONCE);
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the view reaches `seq`, or the time is over.
    pub(in crate::storefront) async fn reach(&self, seq: u64, patience: Duration) {
        let reached = async {
            loop {
                let moved = self.moved.notified();
                if self.view().position().is_some_and(|position| position.seq >= seq) {
                    return;
                }
                moved.await;
            }
        };
        let _reached_or_not = timeout(patience, reached).await;
    }
}

fn until(due: UnixMicros) -> Duration {
    let micros = due.get().saturating_sub(clock::now().get());
    Duration::from_micros(u64::try_from(micros).unwrap_or_default()).min(WAIT_MAX)
}
