//! What the sandbox tells unasked: that a payment's status changed, once, twice, late or out of order, as it is told.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use crate::testkit::http::Client;

/// Whom to tell, and how badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// The agent's listener.
    pub to: SocketAddr,
    /// Everything comes twice.
    #[serde(default)]
    pub duplicate: bool,
    /// Two and two change places.
    #[serde(default)]
    pub reorder: bool,
}

/// A change that is told.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) order: String,
    pub(super) payment_key: String,
    pub(super) status: String,
}

/// Tells what comes through the channel until it closes.
pub(super) async fn tell(webhooks: Webhooks, mut changes: mpsc::Receiver<Change>) {
    let mut client = Client::new(webhooks.to);
    while let Some(change) = changes.recv().await {
        let mut pair = vec![change];
        if webhooks.reorder {
            // A change that no other follows soon is told alone.
            let next = tokio::time::timeout(Duration::from_millis(50), changes.recv()).await;
            pair.extend(next.ok().flatten());
            pair.reverse();
        }
        for change in pair {
            let body = json!({
                "eventType": "PAYMENT_STATUS_CHANGED",
                "createdAt": "2026-11-24T12:00:00.000000",
                "data": { "orderId": change.order, "paymentKey": change.payment_key, "status": change.status },
            });
            for _ in 0..if webhooks.duplicate { 2 } else { 1 } {
                // Nobody may be listening: a webhook is a hint.
                let _lost = client.post("/", None, None, body.to_string().into()).await;
            }
        }
    }
}
