//! A request's id, in every response and every log line.

use bridge_runtime::fields;
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;

pub(in crate::storefront) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Sets a request's id on its response.
pub(in crate::storefront) fn name<B>(response: &mut http::Response<B>, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
}

/// Returns the storefront's own id for the request if it is short and plain, or else a random one.
pub(in crate::storefront) fn request_id(headers: &HeaderMap) -> String {
    let plain = |value: &str| {
        (1..=64).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let own = fields::single(headers, &REQUEST_ID).ok().flatten();
    let own = own.and_then(|value| value.to_str().ok()).filter(|value| plain(value));
    own.map_or_else(|| format!("{:016x}", rand::rng().random::<u64>()), str::to_owned)
}
