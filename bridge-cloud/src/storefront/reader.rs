//! One serving thread's view of the replica, kept current by a task beside the requests.

use std::cell::{Ref, RefCell};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::replica::update::Update;
use crate::replica::view::View;

/// A view, and whoever waits for it to come further. It never leaves its thread.
#[derive(Default)]
pub(super) struct Reader {
    view: RefCell<View>,
    moved: Notify,
}

impl Reader {
    /// What is served now. Not to be held across an await.
    pub(super) fn view(&self) -> Ref<'_, View> {
        self.view.borrow()
    }

    /// Takes updates until nobody sends any more. Between two of them requests have their turn.
    pub(super) async fn keep_current(&self, mut inbox: mpsc::Receiver<Update>) {
        while let Some(update) = inbox.recv().await {
            self.view.borrow_mut().apply(update);
            self.moved.notify_waiters();
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the view is at `seq`, or the time is over.
    pub(super) async fn reach(&self, seq: u64, patience: Duration) {
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
