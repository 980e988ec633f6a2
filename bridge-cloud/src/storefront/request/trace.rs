//! Trace context of a request (W3C Trace Context).

use bridge_protocol::domain::TraceParent;
use bridge_runtime::fields;
use http::{HeaderMap, HeaderName};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns the trace context in `traceparent`, if it is there once and well-formed. A malformed one
/// is ignored and not refused, as the standard requires (W3C Trace Context, section 4.3).
pub(in crate::storefront) fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    TraceParent::parse(fields::single(headers, &TRACE_PARENT).ok()??.to_str().ok()?)
}
