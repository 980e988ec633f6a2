//! Metrics of bridge-cloud, with the closed lists of their labels.

use std::sync::Arc;

use bridge_protocol::domain::Brand;
use bridge_runtime::labels;
use bridge_runtime::telemetry::Labelled;
use bridge_runtime::telemetry::metrics::{self as telemetry, entered};
use bridge_runtime::telemetry::shared::SharedMetrics;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

labels! {
    /// Path of a request.
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
        /// Any other path.
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
    /// Reason why this agent closed a connection of the storefront.
    ConnectionEnd as "reason" {
        /// It had no request.
        Idle = "idle",
        /// Its caller did not take an answer.
        Stalled = "stalled",
        /// Another connection needed its place.
        NoRoom = "no_room",
    }
}

labels! {
    /// State of a data centre's agent, as a cloud agent sees it.
    AgentStanding as "standing" {
        /// It is linked and reports no obstacle that stops orders.
        TakesOrders = "takes_orders",
        /// It was linked or is expected, and no link to it takes requests.
        Away = "away",
        /// Its database does not work.
        Database = "database",
        /// Its audit log cannot be written.
        AuditLog = "audit_log",
        /// Its database refuses the requests of some brand.
        Brand = "brand",
        /// Its database reports no changes of the catalogue.
        Catalogue = "catalogue",
        /// Its audit log cannot be published.
        AuditUnpublished = "audit_unpublished",
        /// It reports an obstacle that this version does not know.
        Other = "other",
    }
}

/// Limits of the brands of the configuration. A brand without a limit is not in a scrape.
#[derive(Debug, Clone, Default)]
pub struct CreditGauges(Family<[(&'static str, String); 1], Gauge>);

impl CreditGauges {
    /// Sets the limit of a brand.
    pub fn set(&self, brand: &Brand, limit: Option<u32>) {
        let label = [("brand", brand.as_str().to_owned())];
        match limit {
            Some(limit) => {
                self.0.get_or_create(&label).set(limit.into());
            }
            None => {
                self.0.remove(&label);
            }
        }
    }
}

/// The instruments of one agent. Counting is an atomic addition. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    /// Instruments of links, the audit log and files, and the registry of all.
    pub runtime: Arc<telemetry::Metrics>,
    /// Metrics that both agents have.
    pub shared: SharedMetrics,
    /// Agents of the data centre by state. An agent can be in several states.
    idc_agents: Labelled<AgentStanding, Gauge>,
    /// Orders and cancellations that a brand may have outstanding.
    pub credits: CreditGauges,
    /// Rows that the replica serves.
    pub catalogue_rows: Gauge,
    /// Seconds since the replica was known to equal its source.
    pub catalogue_age_seconds: Gauge,
    /// Buckets in which the replica differed from its source. A bootstrap followed.
    pub catalogue_drifted: Counter,
    /// Snapshots of the replica that could not be written. Each is tried again.
    pub catalogue_snapshot_errors: Counter,
    /// Answers to the storefront.
    pub responses: Labelled<(Route, StatusClass), Counter>,
    /// Connections of the storefront that this agent closed, by reason.
    pub connections_closed: Labelled<ConnectionEnd, Counter>,
    /// Streams of HTTP/2 that were reset because their caller took nothing of an answer.
    pub streams_stalled: Counter,
    /// Receipts with a wrong signature or content.
    pub receipts_rejected: Counter,
    /// Orders that were sealed again because no link opened their key.
    pub orders_sealed_again: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut runtime = telemetry::Metrics::default();
        let registry = runtime.registry();
        let shared = SharedMetrics::entered(registry);
        let catalogue_age_seconds: Gauge = Gauge::default();
        let age = "Since the replica was last known to equal its source";
        registry.register_with_unit("catalogue_age", age, Unit::Seconds, catalogue_age_seconds.clone());
        let mut counter = |name, help| entered(registry, name, help);
        let catalogue_drifted =
            counter("catalogue_drifted", "Buckets in which the replica did not equal its source");
        let catalogue_snapshot_errors =
            counter("catalogue_snapshot_errors", "Snapshots of the replica that could not be written");
        let streams_stalled = counter(
            "storefront_streams_stalled",
            "Streams of HTTP/2 that were reset, because their caller took nothing of an answer",
        );
        let receipts_rejected = counter("receipts_rejected", "Receipts with a wrong signature or content");
        let orders_sealed_again = counter("orders_sealed_again", "Orders sealed again to another key");
        let agents = "Agents of the data centre by state: away, taking orders, or with an obstacle";
        let closed = "Connections of the storefront that were closed here";
        let credits = "Orders and cancellations that a brand may have outstanding, while there is a limit";
        Self {
            shared,
            idc_agents: entered(registry, "idc_agents", agents),
            credits: CreditGauges(entered(registry, "credits", credits)),
            catalogue_rows: entered(registry, "catalogue_rows", "Rows that the replica serves"),
            catalogue_age_seconds,
            catalogue_drifted,
            catalogue_snapshot_errors,
            responses: entered(registry, "storefront_responses", "Answers to the storefront"),
            connections_closed: entered(registry, "storefront_connections_closed", closed),
            streams_stalled,
            receipts_rejected,
            orders_sealed_again,
            runtime: Arc::new(runtime),
        }
    }
}

impl Metrics {
    /// Sets the number of the data centre's agents in each state.
    pub fn set_idc_agents(&self, count: impl Fn(AgentStanding) -> usize) {
        for standing in AgentStanding::ALL {
            self.idc_agents.of(*standing).set(i64::try_from(count(*standing)).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_there_from_the_start_with_zero() {
        let text = Metrics::default().runtime.encode();
        assert!(text.contains("bridge_links_refused_total{reason=\"wrong_role\"} 0\n"), "{text}");
        assert!(text.contains("bridge_links_refused_total{reason=\"other\"} 0\n"), "{text}");
        assert!(text.contains("bridge_queue_limit{queue=\"commit\"} 0\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_brand_is_shown_while_it_has_a_limit() {
        let (metrics, brand) = (Metrics::default(), Brand::new("shoes").unwrap());
        metrics.credits.set(&brand, Some(40));
        assert!(metrics.runtime.encode().contains("bridge_credits{brand=\"shoes\"} 40\n"));
        metrics.credits.set(&brand, None);
        assert!(!metrics.runtime.encode().contains("shoes"));
    }

    #[test]
    fn a_pair_of_labels_counts_where_it_says() {
        let metrics = Metrics::default();
        metrics.responses.of((Route::OrderRead, http::StatusCode::NOT_FOUND.into())).inc();
        metrics.responses.of((Route::Other, StatusClass::ServerError)).inc_by(2);
        let text = metrics.runtime.encode();
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
}
