//! State that the serving threads share, and the state that each has for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bridge_protocol::domain::{Brand, Currency};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::receipt::Verifier;
use bridge_runtime::audit_log::{AuditLog, Batcher};
use bridge_runtime::config::Secret;
use bridge_runtime::shutdown::Shutdown;
use foldhash::fast::RandomState;
use tokio::sync::RwLock;

use crate::body_mark::BodyMarks;
use crate::config::StorefrontConfig;
use crate::metrics::Metrics;
use crate::order_link::{KeysWatch, OrderLink};
use crate::seal::Sealer;

/// State that all serving threads share.
pub struct Storefront {
    /// Served brands by name.
    pub brands: HashMap<String, Shop, RandomState>,
    /// Limits.
    pub config: StorefrontConfig,
    /// Time in which a catalogue answer may be reused.
    pub max_age: Duration,
    /// Longest wait of a read for its position.
    pub min_seq_wait: Duration,
    /// The order link for orders.
    pub link: OrderLink,
    /// The audit log. Writes and answers are logged before they leave.
    pub audit: AuditLog,
    /// The order link for payments.
    pub payments: OrderLink,
    /// Keys to seal to.
    pub sealing: KeysWatch,
    /// Keys of the IDC agents that may sign a receipt.
    pub pinned: Vec<NoteVerifier>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// State of the agent's shutdown.
    pub shutdown: Shutdown,
}

/// One brand's shop.
pub struct Shop {
    /// Its name.
    pub brand: Brand,
    /// Its index in the order link.
    pub index: BrandIndex,
    /// Bearer token of its storefront.
    pub token: Secret,
    /// Its currency.
    pub currency: Currency,
}

/// One serving thread's state: the shared state, and its own sealer and verifier.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Storefront>,
    pub(crate) sealer: Sealer,
    /// The same for all threads, because a request may come again on another one.
    pub(crate) marks: BodyMarks,
    /// Its access to the audit log.
    pub(crate) audit: Batcher,
    /// Locked only by its own thread, and never across an await.
    pub(crate) receipts: Mutex<Verifier>,
    /// Held for reading by each pending write, with or without its caller. The thread ends after
    /// the last of them.
    pub(crate) under_way: Arc<RwLock<()>>,
}
