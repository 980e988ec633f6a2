//! Every metric of both agents, with the closed lists of their labels.
//!
//! An agent makes one [`Metrics`] and hands it down; what only the other agent has is not shown. No label is free text, so
//! neither a brand's flood nor a stranger's input can grow the number of series, and no value of a person can get in.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::labelled::{Labelled, labels};
use super::lines;
use super::payments::PaymentMetrics;
use crate::expiry::{self, Expiry};

labels! {
    /// Why a link was refused, by either side.
    RefusalReason as "reason" {
        /// A cloud agent where an idc agent belongs, or the reverse.
        WrongRole = "wrong_role",
        /// Signed by a CA that is not ours.
        UnknownCa = "unknown_ca",
        /// The certificate's time is over.
        Expired = "expired",
        /// The certificate's time has not begun, or a clock is wrong.
        NotYetValid = "not_yet_valid",
        /// On the revocation list.
        Revoked = "revoked",
        /// The revocation list is too old to tell.
        StaleCrl = "stale_crl",
        /// None was shown.
        NoCertificate = "no_certificate",
        /// It is not an agent's certificate, or broken.
        BadCertificate = "bad_certificate",
        /// A good identity that `tunnel.allow` does not list.
        NotAllowed = "not_allowed",
        /// It speaks something else (ALPN).
        ForeignProtocol = "foreign_protocol",
        /// No key exchange in common, mostly one without ML-KEM.
        NoCommonGroup = "no_common_group",
        /// The handshake failed otherwise.
        Handshake = "handshake",
        /// The hello named no version in common.
        Version = "version",
        /// It broke the rules of lanes or frames.
        Protocol = "protocol",
        /// Its handshake was not finished when another one needed the room.
        Crowded = "crowded",
        /// It begins too many handshakes or links, one after the other.
        TooOften = "too_often",
        /// It holds as many links as a peer may.
        TooMany = "too_many",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// Which way something went.
    Direction as "direction" {
        /// To the peer.
        Sent = "sent",
        /// From the peer.
        Received = "received",
    }
}

labels! {
    /// Which of the storefront's paths was asked for.
    Route as "route" {
        /// `POST /v1/{brand}/orders`
        OrderPlace = "order_place",
        /// `GET /v1/{brand}/orders/{order}`
        OrderRead = "order_read",
        /// `POST /v1/{brand}/orders/{order}/cancel`
        OrderCancel = "order_cancel",
        /// `POST /v1/{brand}/orders/{order}/payments`
        PaymentPlace = "payment_place",
        /// `GET /v1/{brand}/orders/{order}/payments/{payment}`
        PaymentRead = "payment_read",
        /// `POST /v1/{brand}/orders/{order}/payments/{payment}/refunds`
        RefundPlace = "refund_place",
        /// `GET /v1/{brand}/products/{product}`
        ProductRead = "product_read",
        /// `GET /v1/{brand}/products`
        ProductList = "product_list",
        /// `GET /v1/{brand}/categories`
        CategoriesRead = "categories_read",
        /// `GET /v1/{brand}/stock`
        StockRead = "stock_read",
        /// No path of ours.
        Other = "other",
    }
}

labels! {
    /// The first digit of a status code.
    StatusClass as "status" {
        /// 1xx
        Informational = "1xx",
        /// 2xx
        Success = "2xx",
        /// 3xx
        Redirection = "3xx",
        /// 4xx
        ClientError = "4xx",
        /// 5xx
        ServerError = "5xx",
    }
}

impl From<http::StatusCode> for StatusClass {
    fn from(status: http::StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

labels! {
    /// Why a connection of the storefront was closed by this agent.
    ConnectionEnd as "reason" {
        /// It asked for nothing.
        Idle = "idle",
        /// Its caller did not take its answer.
        Stalled = "stalled",
        /// Another one needed its place.
        NoRoom = "no_room",
    }
}

labels! {
    /// How an order ended, or was answered meanwhile.
    OrderOutcome as "outcome" {
        /// Committed.
        Placed = "placed",
        /// Not enough stock for one of its lines.
        SoldOut = "sold_out",
        /// A price is no longer the ledger's.
        PriceChanged = "price_changed",
        /// It names what is not sold.
        UnknownSku = "unknown_sku",
        /// Refused before it was executed, for want of room or of a link.
        Refused = "refused",
        /// Its answer was lost or late.
        Unknown = "unknown",
        /// Its key had an answer already, which was given again.
        Replayed = "replayed",
        /// Its key came before with another body.
        KeyReused = "key_reused",
        /// Cancelled, its units given back.
        Cancelled = "cancelled",
    }
}

labels! {
    /// A bounded queue; each has a gauge of its depth and one of its limit.
    Queue as "queue" {
        /// Cloud: orders waiting for a link.
        Orders = "orders",
        /// Cloud: orders of unknown outcome, being asked about.
        Settling = "settling",
        /// Either: orders on a link and not yet answered.
        InFlight = "in_flight",
        /// IDC: orders waiting for their sealing session to be decapsulated.
        Unopened = "unopened",
        /// IDC: opened orders waiting for their commit.
        Commit = "commit",
        /// IDC: orders that wait for what somebody else holds in the database.
        Held = "held",
        /// IDC: questions about orders, waiting for their look-up.
        Questions = "questions",
        /// Cloud: payments waiting for a link.
        Payments = "payments",
        /// Either: payments on a link and not yet answered.
        PaymentsInFlight = "payments_in_flight",
    }
}

labels! {
    /// Why a sealed order could not be opened.
    EnvelopeRejection as "reason" {
        /// Not an envelope.
        Malformed = "malformed",
        /// A suite that is not on the list.
        UnknownSuite = "unknown_suite",
        /// Sealed to a key that this IDC does not have.
        UnknownKey = "unknown_key",
        /// Sealed to a key whose time is over.
        ExpiredKey = "expired_key",
        /// A record of a session that was never announced.
        UnknownSession = "unknown_session",
        /// Changed on its way, or bound to another order.
        NotAuthentic = "not_authentic",
        /// Opened, and its content broke the rules of an order.
        BadContent = "bad_content",
    }
}

labels! {
    /// What ends by itself.
    Expiring as "what" {
        /// The agent's own certificate.
        Certificate = "certificate",
        /// The certificate of the authority that is trusted.
        Ca = "ca",
        /// The revocation list.
        RevocationList = "revocation_list",
        /// The sealing keys: the last of them.
        SealingKey = "sealing_key",
    }
}

labels! {
    /// How an agent of the data centre stands, as a cloud agent sees it.
    AgentStanding as "standing" {
        /// It is linked, and says of nothing that keeps it from taking orders.
        TakesOrders = "takes_orders",
        /// It was linked or is expected, and no link to it takes requests.
        Away = "away",
        /// Its database does not work.
        Database = "database",
        /// Its audit log cannot be written.
        AuditLog = "audit_log",
        /// Its database refuses what a brand asks for.
        Brand = "brand",
        /// Its database tells nothing of the catalogue's changes.
        Catalogue = "catalogue",
        /// Its audit log cannot be published.
        AuditUnpublished = "audit_unpublished",
        /// Something is in its way that only a later version has a word for.
        Other = "other",
    }
}

labels! {
    /// Files that are read again while the agent runs.
    FilesReread as "files" {
        /// The agent's certificate and key, the authority's certificate, the revocation list.
        Certificates = "certificates",
        /// IDC: the keys' folder.
        Keys = "keys",
    }
}

/// The instruments of one agent. Counting is an atomic addition; share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,

    /// Both: links that carry traffic now.
    pub links_up: Gauge,
    /// Both: links that came up.
    pub links_opened: Counter,
    /// Both: links that went down after they were up.
    pub links_closed: Counter,
    /// Both: links that never came up, by reason.
    pub links_refused: Labelled<RefusalReason, Counter>,
    /// Both: frames on all lanes.
    pub frames: Labelled<Direction, Counter>,
    /// Both: bytes of those frames, their heads included.
    pub frame_bytes: Labelled<Direction, Counter>,
    /// Both: orders by outcome, as this agent saw it.
    pub orders: Labelled<OrderOutcome, Counter>,
    /// Both: what waits in each queue now.
    queue_depth: Labelled<Queue, Gauge>,
    /// Both: what fits into it; 0 for a queue of the other agent.
    queue_limit: Labelled<Queue, Gauge>,
    /// Both: sealing sessions begun (cloud) or decapsulated (IDC).
    pub seal_sessions: Counter,
    /// Both: entries of the audit log that are durable.
    pub audit_entries: Counter,
    /// Both: rounds of the audit log, each of which makes its entries durable with one fsync.
    pub audit_rounds: Counter,
    /// Both: seconds until the first of a kind ends by itself; NaN while none is known.
    expires: Labelled<Expiring, Gauge<f64, AtomicU64>>,
    /// Both: lines of the log that were left out, since nobody took them in time.
    log_lines_left_out: Counter,
    /// Both: 1 while what is on the disk is not in force, since it cannot be read or used.
    pub files_not_in_force: Labelled<FilesReread, Gauge>,
    /// Both: 1 while the audit log can be written, 0 while it cannot and nothing new is taken.
    pub audit_writable: Gauge,
    /// Both: 1 while the audit log can be published, 0 from a try that failed or hangs until one goes through.
    pub audit_publishable: Gauge,
    /// Both: entries of the audit log that are durable and under no checkpoint yet.
    audit_unpublished: Gauge,
    /// Both: tries to publish the audit log that failed, or took too long.
    pub audit_publish_errors: Counter,

    /// Both: the last number of the catalogue's change log that this agent knows (IDC) or serves (cloud).
    pub catalogue_position: Gauge,
    /// Both: bootstraps begun, each of which sends the whole catalogue to a replica.
    pub catalogue_bootstraps: Counter,

    /// Cloud: agents of the data centre by how they stand; one of them may stand in several ways.
    idc_agents: Labelled<AgentStanding, Gauge>,
    /// Cloud: rows that the replica serves.
    pub catalogue_rows: Gauge,
    /// Cloud: seconds since the replica was last known to equal its source.
    pub catalogue_age_seconds: Gauge,
    /// Cloud: buckets in which the replica was found not to equal its source; a bootstrap follows.
    pub catalogue_drifted: Counter,
    /// Cloud: snapshots of the replica that could not be written; each is tried again.
    pub catalogue_snapshot_errors: Counter,
    /// Cloud: answers to the storefront.
    pub responses: Labelled<(Route, StatusClass), Counter>,
    /// Cloud: connections of the storefront that were closed here, by reason.
    pub connections_closed: Labelled<ConnectionEnd, Counter>,
    /// Cloud: streams of HTTP/2 that were reset, since their caller took nothing of an answer.
    pub streams_stalled: Counter,
    /// Cloud: receipts whose signature or content was wrong.
    pub receipts_rejected: Counter,
    /// Cloud: orders that were sealed again, since no link opened what they were sealed to.
    pub orders_sealed_again: Counter,

    /// IDC: replicas that follow the catalogue on this agent now.
    pub catalogue_subscribers: Gauge,
    /// IDC: reads of the catalogue that its database did not answer; each is tried again.
    pub catalogue_read_errors: Counter,
    /// IDC: rows that break a rule of their kind, so that they count as gone for every replica until they are mended.
    pub catalogue_unreadable: Gauge,
    /// IDC: envelopes that could not be opened.
    pub envelopes_rejected: Labelled<EnvelopeRejection, Counter>,
    /// IDC: failures of the ledger's database, each of which is tried again or bisected.
    pub ledger_errors: Counter,
    batch_orders: Histogram,
    commit_seconds: Histogram,

    /// IDC: payments, refunds and their gateway.
    pub payments: PaymentMetrics,
}

impl Metrics {
    /// The instruments of bridge-cloud.
    pub fn cloud() -> Self {
        let mut metrics = Self::shared();
        let registry = &mut metrics.registry;
        let help = "Agents of the data centre by how they stand: each that is away or takes orders, and what is in its way";
        registry.register("idc_agents", help, metrics.idc_agents.clone());
        registry.register("catalogue_rows", "Rows that the replica serves", metrics.catalogue_rows.clone());
        let help = "Since the replica was last known to equal its source";
        registry.register_with_unit(
            "catalogue_age",
            help,
            Unit::Seconds,
            metrics.catalogue_age_seconds.clone(),
        );
        let help = "Buckets in which the replica did not equal its source";
        registry.register("catalogue_drifted", help, metrics.catalogue_drifted.clone());
        let help = "Snapshots of the replica that could not be written";
        registry.register("catalogue_snapshot_errors", help, metrics.catalogue_snapshot_errors.clone());
        registry.register("storefront_responses", "Answers to the storefront", metrics.responses.clone());
        let help = "Connections of the storefront that were closed here";
        registry.register("storefront_connections_closed", help, metrics.connections_closed.clone());
        let help = "Streams of HTTP/2 that were reset, since their caller took nothing of an answer";
        registry.register("storefront_streams_stalled", help, metrics.streams_stalled.clone());
        registry.register(
            "receipts_rejected",
            "Receipts with a wrong signature or content",
            metrics.receipts_rejected.clone(),
        );
        let help = "Orders sealed again to another key";
        registry.register("orders_sealed_again", help, metrics.orders_sealed_again.clone());
        metrics
    }

    /// The instruments of bridge-idc.
    pub fn idc() -> Self {
        let mut metrics = Self::shared();
        let registry = &mut metrics.registry;
        let help = "Replicas that follow the catalogue here";
        registry.register("catalogue_subscribers", help, metrics.catalogue_subscribers.clone());
        let help = "Reads of the catalogue that its database did not answer";
        registry.register("catalogue_read_errors", help, metrics.catalogue_read_errors.clone());
        let help = "Rows that cannot be read and are served nowhere; the log names them";
        registry.register("catalogue_unreadable", help, metrics.catalogue_unreadable.clone());
        registry.register(
            "envelopes_rejected",
            "Envelopes that could not be opened",
            metrics.envelopes_rejected.clone(),
        );
        registry.register(
            "ledger_errors",
            "Failures of the ledger's database, for one brand or for all",
            metrics.ledger_errors.clone(),
        );
        registry.register("batch_orders", "Orders in one transaction", metrics.batch_orders.clone());
        let help = "Time of one transaction, its commit included";
        registry.register_with_unit("commit", help, Unit::Seconds, metrics.commit_seconds.clone());
        metrics.payments.register(registry);
        metrics
    }

    /// How much waits in a queue now.
    pub fn set_queue_depth(&self, queue: Queue, depth: usize) {
        self.queue_depth.of(queue).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// How much fits into a queue.
    pub fn set_queue_limit(&self, queue: Queue, limit: usize) {
        self.queue_limit.of(queue).set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// What ends by itself, as it is known now.
    pub(crate) fn set_expiries(&self, expiries: &[Expiry], now: i64) {
        for what in Expiring::ALL {
            let left = expiry::first_left(expiries, *what, now);
            #[expect(clippy::cast_precision_loss, reason = "a time in seconds is far below 2^53")]
            self.expires.of(*what).set(left.map_or(f64::NAN, |left| left as f64));
        }
    }

    /// How many agents of the data centre stand so, for each way to stand.
    pub fn set_idc_agents(&self, count: impl Fn(AgentStanding) -> usize) {
        for standing in AgentStanding::ALL {
            self.idc_agents.of(*standing).set(i64::try_from(count(*standing)).unwrap_or(i64::MAX));
        }
    }

    /// How many entries of the audit log are durable and under no checkpoint yet.
    pub fn set_audit_unpublished(&self, entries: u64) {
        self.audit_unpublished.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// One transaction was committed: with so many orders, in such a time.
    pub fn batch_committed(&self, orders: usize, took: Duration) {
        self.batch_orders.observe(f64::from(u32::try_from(orders).unwrap_or(u32::MAX)));
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// The text of a scrape (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    fn shared() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("bridge"),
            links_up: Gauge::default(),
            links_opened: Counter::default(),
            links_closed: Counter::default(),
            links_refused: Labelled::default(),
            frames: Labelled::default(),
            frame_bytes: Labelled::default(),
            orders: Labelled::default(),
            queue_depth: Labelled::default(),
            queue_limit: Labelled::default(),
            seal_sessions: Counter::default(),
            audit_entries: Counter::default(),
            audit_rounds: Counter::default(),
            audit_writable: Gauge::default(),
            audit_publishable: Gauge::default(),
            expires: Labelled::default(),
            files_not_in_force: Labelled::default(),
            log_lines_left_out: lines::left_out(),
            audit_unpublished: Gauge::default(),
            audit_publish_errors: Counter::default(),
            catalogue_position: Gauge::default(),
            catalogue_bootstraps: Counter::default(),
            idc_agents: Labelled::default(),
            catalogue_rows: Gauge::default(),
            catalogue_age_seconds: Gauge::default(),
            catalogue_drifted: Counter::default(),
            catalogue_snapshot_errors: Counter::default(),
            catalogue_subscribers: Gauge::default(),
            catalogue_read_errors: Counter::default(),
            catalogue_unreadable: Gauge::default(),
            responses: Labelled::default(),
            connections_closed: Labelled::default(),
            streams_stalled: Counter::default(),
            receipts_rejected: Counter::default(),
            orders_sealed_again: Counter::default(),
            envelopes_rejected: Labelled::default(),
            ledger_errors: Counter::default(),
            // 1 to 4096, the largest batch there can be.
            batch_orders: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            // 0.25 ms, an SSD's fsync, to 2 s, where callers have given up.
            commit_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            payments: PaymentMetrics::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("links_up", "Links that carry traffic", metrics.links_up.clone());
        registry.register("links_opened", "Links that came up", metrics.links_opened.clone());
        registry.register("links_closed", "Links that went down", metrics.links_closed.clone());
        registry.register("links_refused", "Links that never came up", metrics.links_refused.clone());
        registry.register("frames", "Frames on all lanes", metrics.frames.clone());
        registry.register_with_unit(
            "frame",
            "Bytes of those frames",
            Unit::Bytes,
            metrics.frame_bytes.clone(),
        );
        registry.register("orders", "Orders by outcome", metrics.orders.clone());
        registry.register("queue_depth", "What waits in each bounded queue", metrics.queue_depth.clone());
        registry.register("queue_limit", "What fits into it", metrics.queue_limit.clone());
        let help = "Last change of the catalogue that is known or served";
        registry.register("catalogue_position", help, metrics.catalogue_position.clone());
        let help = "Bootstraps of a replica";
        registry.register("catalogue_bootstraps", help, metrics.catalogue_bootstraps.clone());
        registry.register("seal_sessions", "Sealing sessions", metrics.seal_sessions.clone());
        let help = "Entries of the audit log that are durable";
        registry.register("audit_entries", help, metrics.audit_entries.clone());
        let help = "Rounds of the audit log, one fsync each";
        registry.register("audit_rounds", help, metrics.audit_rounds.clone());
        let help = "1 while the audit log can be written";
        registry.register("audit_writable", help, metrics.audit_writable.clone());
        let help = "1 while the audit log can be published, 0 from a try that failed or hangs until one goes through";
        registry.register("audit_publishable", help, metrics.audit_publishable.clone());
        let help = "Until the first of its kind ends by itself; NaN while none is known";
        registry.register_with_unit("expires_in", help, Unit::Seconds, metrics.expires.clone());
        let help = "1 while what is on the disk is not in force, since it cannot be read or used";
        registry.register("files_not_in_force", help, metrics.files_not_in_force.clone());
        let help = "Lines of the log that were left out, since whoever reads it did not keep up";
        registry.register("log_lines_left_out", help, metrics.log_lines_left_out.clone());
        let help = "Entries of the audit log that are durable and under no checkpoint yet";
        registry.register("audit_unpublished", help, metrics.audit_unpublished.clone());
        let help = "Tries to publish the audit log that failed or took too long";
        registry.register("audit_publish_errors", help, metrics.audit_publish_errors.clone());
        metrics.set_expiries(&[], 0);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_there_from_the_start_with_zero() {
        let text = Metrics::cloud().encode();
        assert!(text.contains("bridge_links_refused_total{reason=\"wrong_role\"} 0\n"), "{text}");
        assert!(text.contains("bridge_links_refused_total{reason=\"other\"} 0\n"), "{text}");
        assert!(text.contains("bridge_queue_limit{queue=\"commit\"} 0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_pair_of_labels_counts_where_it_says() {
        let metrics = Metrics::cloud();
        metrics.responses.of((Route::OrderRead, http::StatusCode::NOT_FOUND.into())).inc();
        metrics.responses.of((Route::Other, StatusClass::ServerError)).inc_by(2);
        let text = metrics.encode();
        assert!(
            text.contains("bridge_storefront_responses_total{route=\"order_read\",status=\"4xx\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("bridge_storefront_responses_total{route=\"other\",status=\"5xx\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("bridge_storefront_responses_total{route=\"order_place\",status=\"4xx\"} 0\n"),
            "{text}"
        );
    }

    #[test]
    fn each_agent_shows_only_what_it_has() {
        let (cloud, idc) = (Metrics::cloud().encode(), Metrics::idc().encode());
        assert!(
            cloud.contains("bridge_storefront_responses") && !idc.contains("bridge_storefront_responses")
        );
        assert!(idc.contains("bridge_commit_seconds") && !cloud.contains("bridge_commit_seconds"));
    }

    #[test]
    fn a_commit_enters_both_histograms() {
        let metrics = Metrics::idc();
        metrics.batch_committed(64, Duration::from_millis(3));
        let text = metrics.encode();
        assert!(text.contains("bridge_batch_orders_sum 64.0\n"), "{text}");
        assert!(text.contains("bridge_batch_orders_bucket{le=\"32.0\"} 0\n"), "{text}");
        assert!(text.contains("bridge_commit_seconds_count 1\n"), "{text}");
    }
}
