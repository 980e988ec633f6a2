//! A request's body, within its limits of size and time.

use axum::body::Body;
use bridge_runtime::fields;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use zeroize::Zeroizing;

use super::extractors::single;
use crate::storefront::connection::uploads;
use crate::storefront::problem::{Kind, Problem};
use crate::storefront::state::Worker;

impl Worker {
    /// Reads a body within its limits of size and time, before anything parses it.
    pub(in crate::storefront) async fn read_body(
        &self,
        headers: &HeaderMap,
        mut body: Body,
    ) -> Result<Zeroizing<Vec<u8>>, Problem> {
        let config = &self.shared.config;
        let media_type = single(headers, &header::CONTENT_TYPE)?;
        let media_type = media_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !is_json(media_type) {
            let detail = "send `Content-Type: application/json`, and the body in UTF-8";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail));
        }
        let mut codings = fields::members(headers, &header::CONTENT_ENCODING);
        if !codings.all(|coding| coding.eq_ignore_ascii_case(b"identity")) {
            let detail = "send the body as it is, without `Content-Encoding`";
            return Err(Problem::new(Kind::UnsupportedMediaType, detail).takes_no_coding());
        }
        let max = config.body_max.bytes();
        let too_large = || Problem::new(Kind::BodyTooLarge, format!("at most {max} bytes are accepted"));
        let announced = body.size_hint().upper();
        let announced = announced.map(|announced| usize::try_from(announced).unwrap_or(usize::MAX));
        if announced.is_some_and(|announced| announced > max) {
            return Err(too_large());
        }
        // All memory is reserved first: a growing buffer leaves copies that are not zeroised.
        let mut read = Zeroizing::new(Vec::with_capacity(announced.unwrap_or(max)));
        let collect = async {
            while let Some(frame) = body.frame().await {
                let incomplete = |error| match uploads::is_given_up(error) {
                    true => Problem::new(Kind::BodyTooSlow, "its connection was needed for another caller"),
                    false => {
                        Problem::new(Kind::BodyIncomplete, "the connection was cut or its framing broke")
                    }
                };
                if let Ok(data) = frame.map_err(incomplete)?.into_data() {
                    if read.len() + data.len() > max {
                        return Err(too_large());
                    }
                    read.extend_from_slice(&data);
                }
            }
            Ok(())
        };
        let too_slow =
            |_| Problem::new(Kind::BodyTooSlow, format!("it is waited for {:?}", config.body_timeout));
        tokio::time::timeout(config.body_timeout, collect).await.map_err(too_slow)??;
        Ok(read)
    }
}

/// Returns true if a media type is JSON in UTF-8, the only encoding of JSON between systems (RFC
/// 8259 section 8.1).
fn is_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let is_utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, charset)) if name.trim().eq_ignore_ascii_case("charset") => {
            let charset = charset.trim().trim_matches('"');
            ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
        }
        _ => true,
    };
    kind.eq_ignore_ascii_case("application/json") && parts.all(is_utf_8)
}
