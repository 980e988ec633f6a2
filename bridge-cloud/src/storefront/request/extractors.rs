//! Values in a request's path, query and head, and authentication.

use axum::extract::{FromRequestParts, Path};
use bridge_protocol::domain::{IdempotencyKey, OrderId};
use bridge_protocol::order_link::credits::CreditClass;
use bridge_runtime::fields;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq as _;

use crate::storefront::problem::{Kind, Problem};
use crate::storefront::state::{Shop, Worker};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const BRIDGE_CLASS: HeaderName = HeaderName::from_static("bridge-class");

/// Variable parts of a path.
pub(in crate::storefront) struct InPath<T>(pub(in crate::storefront) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = Path::from_request_parts(parts, state).await;
        let not_text = |_| Problem::new(Kind::NoSuchPath, "the percent escapes of the path are not UTF-8");
        read.map(|Path(parts)| Self(parts)).map_err(not_text)
    }
}

/// Query of a `Location` to ask at.
#[derive(Deserialize)]
pub(in crate::storefront) struct AskBy {
    /// Digest of the idempotency key, from the `Location`.
    pub(in crate::storefront) key: Option<String>,
}

impl Worker {
    /// Authenticates the caller: the brand must be served here, and the token must be the brand's.
    pub(in crate::storefront) fn authenticate(
        &self,
        brand: &str,
        headers: &HeaderMap,
    ) -> Result<&Shop, Problem> {
        let shop = self.shared.brands.get(brand);
        let shop = shop.ok_or_else(|| Problem::new(Kind::UnknownBrand, "check the brand in the path"))?;
        let shown = single(headers, &header::AUTHORIZATION)?;
        match shown.and_then(|value| bearer(value.as_bytes())) {
            Some(token) if bool::from(token.ct_eq(shop.token.expose())) => Ok(shop),
            _ => Err(Problem::new(Kind::Unauthorized, "send `Authorization: Bearer <the brand's token>`")),
        }
    }
}

/// Returns the token of `Authorization: Bearer TOKEN`. RFC 9110 section 11.4 allows any number of
/// blanks before it.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii_start())
}

/// Returns the value of a field with a single value, if it is there.
pub(in crate::storefront) fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Problem> {
    let twice = |_twice| Problem::new(Kind::BadRequest, format!("`{name}` appears more than once"));
    fields::single(headers, name).map_err(twice)
}

pub(in crate::storefront) fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let detail = "send one `Idempotency-Key` header of 1 to 255 printable ASCII characters";
    let bad = || Problem::new(Kind::BadIdempotencyKey, detail);
    let value = fields::single(headers, &IDEMPOTENCY_KEY).map_err(|_twice| bad())?.ok_or_else(bad)?;
    IdempotencyKey::parse(value.as_bytes()).map_err(|_| bad())
}

/// Returns the class of an order. Any value but `bulk` is that of an ordinary one, so that a later
/// release may have more classes.
pub(in crate::storefront) fn order_class(headers: &HeaderMap) -> Result<CreditClass, Problem> {
    let is_bulk = single(headers, &BRIDGE_CLASS)?.is_some_and(|class| class.as_bytes() == b"bulk");
    Ok(if is_bulk { CreditClass::Bulk } else { CreditClass::Order })
}

pub(in crate::storefront) fn order_id(text: &str) -> Result<OrderId, Problem> {
    text.parse().map_err(|_| unknown_order())
}

pub(in crate::storefront) fn unknown_order() -> Problem {
    Problem::new(Kind::UnknownOrder, "check the order's id; an order is found in its own brand's shop only")
}
