//! Comparison of two servers' answers: status, every header, every byte of the body.
//!
//! A server that leaves out a header, or sends it in another form, does less work for a read.
//! Headers of one moment (`Date`, `Age`) must be present with any value. Headers about the server
//! or its connection are optional. Nothing else may differ.

use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, HeaderName, SERVER};
use http::{HeaderMap, StatusCode};

use crate::testkit::http::HttpAnswer as Got;

/// Optional headers, with any value.
const OF_ITS_OWN: [HeaderName; 2] = [CONNECTION, SERVER];
/// Headers with another value at another moment.
const OF_THE_MOMENT: [HeaderName; 2] = [DATE, AGE];

/// Returns the differences of an answer from the expected one. `headers` are those that a server
/// does not add by itself.
pub(super) fn differences(headers: &HeaderMap, body: &[u8], got: &Got) -> Vec<String> {
    let mut wrong = Vec::new();
    if got.status != StatusCode::OK {
        wrong.push(format!("the status is {}", got.status));
    }
    if got.body != body {
        wrong.push(format!("the body has {} bytes and other ones than those {}", got.body.len(), body.len()));
    }
    // A server that sends its body in chunks frames it in another way.
    if got.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok())
        != Some(body.len())
    {
        wrong.push(format!("content-length is {:?}", got.headers.get(CONTENT_LENGTH)));
    }
    if !got.headers.contains_key(DATE) {
        wrong.push("there is no date".to_owned());
    }
    let by_itself = [CONTENT_LENGTH, DATE];
    let judged = |name: &&HeaderName| !OF_ITS_OWN.contains(name) && !by_itself.contains(name);
    for name in headers.keys().filter(judged) {
        let values = |headers: &HeaderMap| headers.get_all(name).iter().cloned().collect::<Vec<_>>();
        let (expected, values) = (values(headers), values(&got.headers));
        if values.len() != expected.len() || (values != expected && !OF_THE_MOMENT.contains(name)) {
            wrong.push(format!("{name} is {values:?} in place of {expected:?}"));
        }
    }
    let more = got.headers.keys().filter(judged).filter(|name| !headers.contains_key(*name));
    wrong.extend(more.map(|name| format!("{name} is one header more")));
    wrong
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
    use http::header::{ACCEPT_RANGES, ETAG, VARY};

    use super::*;

    const BODY: &[u8] = b"{}";

    fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        let lines = lines.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        lines.collect()
    }

    fn expected() -> HeaderMap {
        headers(&[(ETAG, "\"e\""), (VARY, "accept-encoding"), (AGE, "0")])
    }

    /// Returns the differences of an answer that is as expected except for `change`.
    fn after(change: impl FnOnce(&mut Got)) -> Vec<String> {
        let mut headers = expected();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(BODY.len()));
        headers.insert(DATE, HeaderValue::from_static("now"));
        let mut got = Got { status: StatusCode::OK, headers, body: Bytes::from_static(BODY) };
        change(&mut got);
        differences(&expected(), BODY, &got)
    }

    #[test]
    fn answers_that_differ_in_date_and_server_name_are_alike() {
        let wrong = after(|got| {
            for (name, value) in [(DATE, "then"), (AGE, "7"), (SERVER, "nginx"), (CONNECTION, "keep-alive")] {
                got.headers.insert(name, HeaderValue::from_static(value));
            }
        });
        assert_eq!(wrong, Vec::<String>::new());
    }

    #[test]
    fn a_header_that_is_missing_other_or_more_is_named() {
        let named = |change: fn(&mut Got)| after(change).join("; ");
        assert!(named(|got| drop(got.headers.remove(ETAG))).starts_with("etag is []"));
        assert!(
            named(|got| drop(got.headers.insert(ETAG, HeaderValue::from_static("\"f\"")))).contains("etag")
        );
        assert!(
            named(|got| assert!(got.headers.append(ETAG, HeaderValue::from_static("\"e\""))))
                .contains("etag")
        );
        assert!(
            named(|got| drop(got.headers.remove(AGE))).starts_with("age is []"),
            "also one of the moment"
        );
        assert_eq!(named(|got| drop(got.headers.remove(DATE))), "there is no date");
        let ranges = HeaderValue::from_static("bytes");
        assert_eq!(
            after(|got| drop(got.headers.insert(ACCEPT_RANGES, ranges))),
            ["accept-ranges is one header more"]
        );
    }

    #[test]
    fn another_status_body_or_framing_is_named() {
        let count = |change: fn(&mut Got)| after(change).len();
        assert_eq!(count(|got| got.status = StatusCode::NOT_MODIFIED), 1);
        assert_eq!(count(|got| got.body = Bytes::from_static(b"[]")), 1);
        assert_eq!(count(|got| drop(got.headers.remove(CONTENT_LENGTH))), 1);
    }
}
