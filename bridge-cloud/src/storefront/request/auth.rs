//! Authentication: a brand's storefront shows the brand's token.

use http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use super::extractors::single;
use crate::storefront::problem::{Kind, Problem};
use crate::storefront::state::{Shop, Worker};

impl Worker {
    /// Returns the shop of the caller. The brand must be served here, and the token must be its
    /// own.
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
