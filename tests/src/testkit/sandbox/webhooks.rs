//! The sandbox's webhooks: they say that a payment's status has changed. They may come twice or out
//! of order.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use crate::testkit::http::Client;

/// Receiver of the webhooks, and their faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    /// Address of the agent's listener.
    pub to: SocketAddr,
    /// If true, each webhook is sent twice.
    #[serde(default)]
    pub duplicate: bool,
    /// If true, the order of each pair of webhooks is reversed.
    #[serde(default)]
    pub reorder: bool,
}

/// A change to send.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) order: String,
    pub(super) payment_key: String,
    pub(super) status: String,
}

/// Sends the changes from the channel until it closes.
pub(super) async fn tell(webhooks: Webhooks, mut changes: mpsc::Receiver<Change>) {
    let mut client = Client::new(webhooks.to);
    while let Some(change) = changes.recv().await {
        let mut pair = vec![change];
        if webhooks.reorder {
            // A change without a soon successor is sent alone.
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
                // An error is ignored, because a webhook is only a hint.
                let _lost = client.post("/", None, None, body.to_string().into()).await;
            }
        }
    }
}
