//! What the serving threads share, and what each of them has for itself.

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
use tokio::sync::RwLock;

use crate::body_mark::BodyMarks;
use crate::config::StorefrontConfig;
use crate::metrics::Metrics;
use crate::order_link::{KeysWatch, OrderLink};
use crate::seal::Sealer;

/// What all serving threads share.
pub struct Storefront {
    /// The brands that are served, by name.
    pub brands: HashMap<String, Shop>,
    /// Limits.
    pub config: StorefrontConfig,
    /// How long a catalogue answer may be used again without asking.
    pub max_age: Duration,
    /// How long a read waits for the position that it asks for.
    pub min_seq_wait: Duration,
    /// The way to the IDC.
    pub link: OrderLink,
    /// What is sent and answered is in it first.
    pub audit: AuditLog,
    /// The way of payments there.
    pub payments: OrderLink,
    /// The keys to seal to.
    pub sealing: KeysWatch,
    /// The IDC keys that may sign a receipt.
    pub pinned: Vec<NoteVerifier>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether the agent is ending.
    pub shutdown: Shutdown,
}

/// One brand's shop.
pub struct Shop {
    /// Its name.
    pub brand: Brand,
    /// As the order link knows it.
    pub index: BrandIndex,
    /// The bearer token its storefront shows.
    pub token: Secret,
    /// What it sells in.
    pub currency: Currency,
}

/// One serving thread's view: what is shared, and its own sealer and verifier.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Storefront>,
    pub(crate) sealer: Sealer,
    /// The same for all threads: a request may come again on another one.
    pub(crate) marks: BodyMarks,
    /// Its way into the audit log.
    pub(crate) audit: Batcher,
    /// Locked by its own thread alone, and never across an await.
    pub(crate) receipts: Mutex<Verifier>,
    /// Read by each write under way, whether or not its caller is still there: the thread ends after the last of them.
    pub(crate) under_way: Arc<RwLock<()>>,
}
