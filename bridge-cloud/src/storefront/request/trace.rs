//! The trace that a request belongs to (W3C Trace Context).

use bridge_protocol::domain::TraceParent;
use bridge_runtime::fields;
use http::{HeaderMap, HeaderName};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace that a request belongs to, if the storefront says one: `traceparent`, once and in its form. Another one is
/// ignored and not refused, as the standard wants it (W3C Trace Context, section 4.3).
pub(in crate::storefront) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(fields::single(headers, &TRACE_PARENT).ok()??.to_str().ok()?)
}
