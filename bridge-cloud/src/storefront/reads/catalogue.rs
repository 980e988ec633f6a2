//! Catalogue reads: from a path to a prebuilt answer, without waiting.
//!
//! [`Catalogue::read`] shows a read's whole way. It runs before the router and handles only paths
//! of the catalogue. A hit costs two look-ups in the thread's own view, and a response with
//! existing headers.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bridge_runtime::clock;
use bridge_runtime::fields;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    LINK, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use http_body_util::Full;

use super::escape;
use super::query::{self, PageQuery, Products};
use super::thread_view::Reader;
use crate::metrics::Route;
use crate::replica::answer::{CachedAnswer, CompressedForms};
use crate::replica::listing::PageSize;
use crate::replica::view::{BrandView, View};
use crate::storefront::problem::{Kind, Problem};

const BRIDGE_SEQ: HeaderName = HeaderName::from_static("bridge-seq");
const BRIDGE_MIN_SEQ: HeaderName = HeaderName::from_static("bridge-min-seq");

/// Request fields on which a read's answer depends, for `Vary`. So a cache does not return the
/// answer to another request (RFC 9110 section 12.5.5).
pub(in crate::storefront) const READ_FIELDS: &str = "Accept-Encoding, Bridge-Min-Seq";

/// Most bytes of an answer with several products. A single product may be larger.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Time to come back while nothing is replicated yet.
const NOT_READY_RETRY_AFTER: Duration = Duration::from_secs(1);

/// One serving thread's access to the catalogue.
pub(in crate::storefront) struct Catalogue {
    reader: Rc<Reader>,
    cache_control: HeaderValue,
    seq: Numeral,
    age: Numeral,
}

/// A path of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::storefront) struct CataloguePath<'a> {
    brand: &'a str,
    what: CatalogueResource<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum CatalogueResource<'a> {
    Product(&'a str),
    Products,
    Categories,
    Stock,
}

impl<'a> CataloguePath<'a> {
    /// Reads a path. Returns `None` for one outside the catalogue. Percent escapes are not decoded
    /// yet.
    pub(in crate::storefront) fn parse(path: &'a str) -> Option<Self> {
        let (brand, rest) = path.strip_prefix("/v1/")?.split_once('/')?;
        let what = match rest.split_once('/') {
            None if rest == "products" => CatalogueResource::Products,
            None if rest == "categories" => CatalogueResource::Categories,
            None if rest == "stock" => CatalogueResource::Stock,
            Some(("products", product)) if !product.is_empty() && !product.contains('/') => {
                CatalogueResource::Product(product)
            }
            _ => return None,
        };
        Some(Self { brand, what }).filter(|_| !brand.is_empty())
    }

    /// Returns its label in the metrics.
    pub(in crate::storefront) fn route(&self) -> Route {
        match self.what {
            CatalogueResource::Product(_) => Route::ProductRead,
            CatalogueResource::Products => Route::ProductList,
            CatalogueResource::Categories => Route::CategoriesRead,
            CatalogueResource::Stock => Route::StockRead,
        }
    }
}

/// Returns the position that a read must reach, if it has one.
pub(in crate::storefront) fn min_seq(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let wrong = || {
        Problem::new(Kind::InvalidMinSeq, "`Bridge-Min-Seq` must be one whole number, as `Bridge-Seq` has it")
    };
    let Some(value) = fields::single(headers, &BRIDGE_MIN_SEQ).map_err(|_twice| wrong())? else {
        return Ok(None);
    };
    let digits = value.as_bytes().iter().all(u8::is_ascii_digit);
    let seq = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|_| digits);
    seq.ok_or_else(wrong).map(Some)
}

impl Catalogue {
    /// Makes the access over a thread's view.
    pub(in crate::storefront) fn new(reader: Rc<Reader>, max_age: Duration) -> Self {
        let cache_control = format!("public, max-age={}", max_age.as_secs());
        let cache_control = HeaderValue::try_from(cache_control);
        Self {
            reader,
            cache_control: cache_control.unwrap_or_else(|_| HeaderValue::from_static("no-cache")),
            seq: Numeral::default(),
            age: Numeral::default(),
        }
    }

    /// Returns true if the view has reached `seq`.
    pub(in crate::storefront) fn has_reached(&self, seq: u64) -> bool {
        self.reader.view().position().is_some_and(|position| position.seq >= seq)
    }

    /// Returns the view for callers that must wait for it.
    pub(in crate::storefront) fn reader(&self) -> Rc<Reader> {
        self.reader.clone()
    }

    /// Answers a read of a brand that is served here.
    pub(in crate::storefront) fn read(
        &self,
        place: &CataloguePath<'_>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        is_served: impl Fn(&str) -> bool,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let brand = escape::decode(place.brand).filter(|brand| is_served(brand));
        let brand = brand.ok_or_else(|| Problem::new(Kind::UnknownBrand, "check the brand in the path"))?;
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Problem::new(Kind::MethodNotAllowed, "see the `Allow` header"));
        }
        let view = self.reader.view();
        if view.position().is_none() || view.lacks(&brand) {
            let detail = "no data centre has published it to this agent so far";
            return Err(Problem::new(Kind::CatalogueNotReady, detail).retry_after(NOT_READY_RETRY_AFTER));
        }
        let nothing = BrandView::default();
        let brand_view = view.brand(&brand).unwrap_or(&nothing);
        let asked = ReadRequest { method, headers };
        let query = uri.query();
        match &place.what {
            CatalogueResource::Product(code) => {
                query::none(query)?;
                let found = escape::decode(code).and_then(|code| visible(brand_view, &code));
                let product = found.ok_or_else(|| {
                    Problem::new(Kind::UnknownProduct, "check the product's code in the path")
                })?;
                Ok(self.prebuilt(&view, asked, &product.answer))
            }
            CatalogueResource::Products => match query::products(query)? {
                Products::Batch(codes) => {
                    let body =
                        collect(&codes, |code| Some(visible(brand_view, code)?.answer.body().clone()))?;
                    Ok(self.composed(&view, asked, body))
                }
                Products::Page(page) => Ok(self.page(&view, brand_view, asked, &brand, &page)),
            },
            CatalogueResource::Categories => {
                query::none(query)?;
                match brand_view.tree() {
                    Some(tree) => Ok(self.prebuilt(&view, asked, tree)),
                    None => Ok(self.composed(&view, asked, br#"{"categories":[]}"#.to_vec())),
                }
            }
            CatalogueResource::Stock => {
                let skus = query::stock(query)?;
                if let [sku] = &skus[..]
                    && let Some(stock) = brand_view.stock(sku)
                {
                    return Ok(self.prebuilt(&view, asked, stock.answer()));
                }
                let body = collect(&skus, |sku| Some(brand_view.stock(sku)?.item.clone()))?;
                Ok(self.composed(&view, asked, body))
            }
        }
    }

    fn page(
        &self,
        view: &View,
        brand_view: &BrandView,
        asked: ReadRequest<'_>,
        brand: &str,
        query: &PageQuery<'_>,
    ) -> Response<Full<Bytes>> {
        let PageQuery { category, sort, sort_text, limit, behind } = query;
        let category = category.as_deref();
        let size = PageSize { products: *limit, bytes: ANSWER_BYTES_MAX };
        let page = brand_view.listing().page(category, *sort, behind.as_ref(), size, clock::now());
        let next = page.next.map(|place| place.cursor(category, *sort));
        let mut body = br#"{"items":["#.to_vec();
        for (index, product) in page.products.iter().enumerate() {
            body.extend_from_slice(if index == 0 { b"" } else { b"," });
            body.extend_from_slice(&product.summary);
        }
        // A cursor is base64url and needs no escape.
        let cursor = next.as_ref().map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
        body.extend_from_slice(format!("],\"next_cursor\":{cursor}}}").as_bytes());
        let mut response = self.composed(view, asked, body);
        if let Some(cursor) = next {
            let category = category.map(|category| format!("category={}&", escape::encode(category)));
            let sort = sort_text.map(|sort| format!("sort={sort}&"));
            let (category, sort) = (category.unwrap_or_default(), sort.unwrap_or_default());
            let link =
                format!("</v1/{brand}/products?{category}{sort}limit={limit}&cursor={cursor}>; rel=\"next\"");
            if let Ok(link) = HeaderValue::try_from(link) {
                response.headers_mut().insert(LINK, link);
            }
        }
        response
    }

    /// Returns an answer that is made for this request only.
    fn composed(&self, view: &View, asked: ReadRequest<'_>, body: Vec<u8>) -> Response<Full<Bytes>> {
        self.prebuilt(view, asked, &CachedAnswer::new(body))
    }

    /// Returns a prebuilt answer in a form that the caller accepts.
    fn prebuilt(&self, view: &View, asked: ReadRequest<'_>, answer: &CachedAnswer) -> Response<Full<Bytes>> {
        let (body, tag, encoding) = asked.form(answer);
        let is_known = fields::members(asked.headers, &IF_NONE_MATCH).any(|known| matches(known, tag));
        let mut response = Response::new(Full::default());
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else if *asked.method == Method::HEAD {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        } else {
            *response.body_mut() = Full::new(body.clone());
        }
        let headers = response.headers_mut();
        if !is_known {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if let Some(encoding) = encoding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
        }
        headers.insert(ETAG, tag.clone());
        headers.insert(CACHE_CONTROL, self.cache_control.clone());
        headers.insert(VARY, HeaderValue::from_static(READ_FIELDS));
        if let Some(position) = view.position() {
            headers.insert(BRIDGE_SEQ, self.seq.value(position.seq));
        }
        if let Some(fresh) = view.fresh() {
            headers.insert(AGE, self.age.value(fresh.age().as_secs()));
        }
        response
    }
}

/// Method and fields of a read.
#[derive(Clone, Copy)]
struct ReadRequest<'a> {
    method: &'a Method,
    headers: &'a HeaderMap,
}

impl ReadRequest<'_> {
    /// Returns the form that the caller prefers, or the smallest of equal ones, with its tag and
    /// the name of its coding.
    fn form(self, answer: &CachedAnswer) -> (&Bytes, &HeaderValue, Option<&'static str>) {
        let plain = (answer.body(), answer.tag(), None);
        let Some(CompressedForms { gzip, brotli }) = answer.packed() else { return plain };
        let liked = Codings::of(self.headers);
        let (mut best, mut form) = (liked.identity, plain);
        for (packed, name, weight) in [(brotli, "br", liked.brotli), (gzip, "gzip", liked.gzip)] {
            // Among equals, the first compressed form is the smallest.
            let is_better = weight > best || (weight == best && form.2.is_none());
            if let Some(packed) = packed.as_ref().filter(|_| weight > 0 && is_better) {
                (best, form) = (weight, (&packed.body, &packed.tag, Some(name)));
            }
        }
        form
    }
}

/// The caller's preference for each content coding, in thousandths (RFC 9110 section 12.5.3); 0 if
/// it is not accepted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Codings {
    brotli: u16,
    gzip: u16,
    /// Also 0 if it is not named. The caller gets it if no other form is accepted.
    identity: u16,
}

impl Codings {
    fn of(headers: &HeaderMap) -> Self {
        let (mut named, mut others) = ([None; 3], 0);
        for member in fields::members(headers, &ACCEPT_ENCODING) {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
            let weight = weight.map_or(1_000, thousandths);
            let is = |coding: &[u8]| name.eq_ignore_ascii_case(coding);
            match [is(b"br"), is(b"gzip") || is(b"x-gzip"), is(b"identity")].iter().position(|is| *is) {
                Some(which) => named[which] = Some(weight),
                None if name == b"*" => others = weight,
                None => {}
            }
        }
        let [brotli, gzip, identity] = named;
        let identity = identity.unwrap_or_default();
        Self { brotli: brotli.unwrap_or(others), gzip: gzip.unwrap_or(others), identity }
    }
}

/// Reads a weight (RFC 9110 section 12.4.2) in thousandths; 0 if it is malformed.
fn thousandths(weight: &[u8]) -> u16 {
    let (whole, fraction) = match weight {
        [whole] | [whole, b'.'] => (*whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (*whole, fraction),
        _ => return 0,
    };
    if !matches!(whole, b'0' | b'1') || !fraction.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let digits = fraction.iter().chain(std::iter::repeat(&b'0')).take(3);
    digits.fold(u16::from(whole - b'0'), |sum, digit| sum * 10 + u16::from(digit - b'0')).min(1_000)
}

/// Returns true if a tag of the caller equals this one by weak comparison (RFC 9110 section
/// 13.1.2).
fn matches(known: &[u8], tag: &HeaderValue) -> bool {
    known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes()
}

/// Returns a product if it may be shown now.
fn visible<'a>(brand: &'a BrandView, code: &str) -> Option<&'a crate::replica::answer::Product> {
    let product = brand.product(code)?;
    let always = product.visible == (i64::MIN, i64::MAX);
    (always || product.is_visible(clock::now())).then_some(product)
}

/// Returns `{"items": [found ones], "missing": [others]}`.
fn collect(codes: &[Cow<'_, str>], find: impl Fn(&str) -> Option<Bytes>) -> Result<Vec<u8>, Problem> {
    let (mut body, mut missing, mut first) = (br#"{"items":["#.to_vec(), Vec::new(), true);
    for code in codes {
        match find(code) {
            Some(item) if !first && body.len() + item.len() > ANSWER_BYTES_MAX => {
                let detail = format!("it has more than {ANSWER_BYTES_MAX} bytes: ask for fewer at a time");
                return Err(Problem::new(Kind::AnswerTooLarge, detail));
            }
            Some(item) => {
                body.extend_from_slice(if first { b"" } else { b"," });
                body.extend_from_slice(&item);
                first = false;
            }
            None => missing.push(code),
        }
    }
    body.extend_from_slice(br#"],"missing":"#);
    body.extend_from_slice(&serde_json::to_vec(&missing).unwrap_or_default());
    body.push(b'}');
    Ok(body)
}

/// A number as a header value, made again only when it changes.
struct Numeral(RefCell<(u64, HeaderValue)>);

impl Default for Numeral {
    fn default() -> Self {
        Self(RefCell::new((0, HeaderValue::from(0_u64))))
    }
}

impl Numeral {
    fn value(&self, number: u64) -> HeaderValue {
        let mut known = self.0.borrow_mut();
        if known.0 != number {
            *known = (number, HeaderValue::from(number));
        }
        known.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_catalogue_is_told_from_every_other() {
        let what = |path| CataloguePath::parse(path).map(|place| place.what);
        assert_eq!(what("/v1/tea/products"), Some(CatalogueResource::Products));
        assert_eq!(what("/v1/tea/products/A%2FB"), Some(CatalogueResource::Product("A%2FB")));
        assert_eq!(what("/v1/tea/categories"), Some(CatalogueResource::Categories));
        assert_eq!(what("/v1/tea/stock"), Some(CatalogueResource::Stock));
        for path in [
            "/v1/tea/orders",
            "/v1/tea/products/",
            "/v1/tea/products/A/B",
            "/v1/tea/products//",
            "/v1//products",
            "//v1/tea/products",
            "/v1/tea/%70roducts",
            "/v1/tea/stock/A",
            "/v1/products",
            "/",
            "",
        ] {
            assert_eq!(what(path), None, "{path}");
        }
    }

    #[test]
    fn a_coding_has_its_own_weight_on_any_header_line() {
        let weights = |lines: &[&'static str]| {
            let line = |line: &&'static str| (ACCEPT_ENCODING, HeaderValue::from_static(line));
            let Codings { brotli, gzip, identity } = Codings::of(&lines.iter().map(line).collect());
            (brotli, gzip, identity)
        };
        assert_eq!(weights(&["gzip, br"]), (1_000, 1_000, 0));
        assert_eq!(weights(&["GZIP;q=0.5", "br ; q=0.25"]), (250, 500, 0));
        assert_eq!(weights(&["gzip;q=0", "br;q=0.000"]), (0, 0, 0));
        assert_eq!(weights(&["*;q=0.1, gzip;q=0, identity;Q=1.000"]), (100, 0, 1_000));
        assert_eq!(weights(&["x-gzip", "*"]), (1_000, 1_000, 0));
        assert_eq!(weights(&["xgzip", "", "identity"]), (0, 0, 1_000));
        for wrong in ["gzip;q=2", "gzip;q=-1", "gzip;q=0.1234", "gzip;q=a", "gzip;q=", "gzip;q=1e0"] {
            assert_eq!(weights(&[wrong]), (0, 0, 0), "{wrong}");
        }
        assert_eq!(weights(&["gzip;q=1.5"]), (0, 1_000, 0));
    }

    #[test]
    fn the_callers_preferred_form_is_served_and_the_smallest_of_equals() {
        let answer = CachedAnswer::new(vec![b'a'; 100]);
        answer.pack(Some(vec![1; 20]), Some(vec![2; 10]));
        let form = |line: &'static str| {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(line))]);
            ReadRequest { method: &Method::GET, headers: &headers }.form(&answer).2
        };
        for (line, expected) in [
            ("gzip, br", Some("br")),
            ("gzip, br;q=0.9", Some("gzip")),
            ("*", Some("br")),
            ("br;q=0, *", Some("gzip")),
            ("gzip;q=0.5, identity", None),
            ("gzip, identity", Some("gzip")),
            ("gzip;q=0", None),
            ("", None),
        ] {
            assert_eq!(form(line), expected, "{line}");
        }
    }

    #[test]
    fn a_known_tag_is_found_in_any_list_of_them() {
        let tag = HeaderValue::from_static("\"abc\"");
        let known = |lines: &[&'static str]| {
            let line = |line: &&'static str| (IF_NONE_MATCH, HeaderValue::from_static(line));
            let headers: HeaderMap = lines.iter().map(line).collect();
            fields::members(&headers, &IF_NONE_MATCH).any(|known| matches(known, &tag))
        };
        assert!(known(&["\"abc\""]) && known(&["W/\"abc\""]) && known(&["\"x\", \"abc\""]) && known(&["*"]));
        assert!(known(&["\"zzz\"", "\"abc\""]) && known(&["\"a,b\",\"abc\""]));
        assert!(!known(&["\"ab\""]) && !known(&["abc"]) && !known(&[""]) && !known(&["\"x,\"abc\",y\""]));
    }

    #[test]
    fn what_is_asked_for_is_found_or_missing_in_its_order() {
        let codes = ["A", "\"", "B"].map(Cow::Borrowed);
        let found = collect(&codes, |code| (code != "\"").then(|| Bytes::from(format!("\"{code}\""))));
        assert_eq!(String::from_utf8(found.unwrap()).unwrap(), r#"{"items":["A","B"],"missing":["\""]}"#);
    }

    #[test]
    fn an_answer_of_several_items_is_bounded_and_a_single_item_not() {
        let codes = ["A", "B"].map(Cow::Borrowed);
        let item =
            |bytes: usize| collect(&codes, move |_| Some(vec![b' '; bytes].into())).map(|body| body.len());
        assert!(item(ANSWER_BYTES_MAX / 2 - 100).is_ok());
        assert_eq!(item(ANSWER_BYTES_MAX / 2 + 1).unwrap_err().kind(), Kind::AnswerTooLarge);
        assert!(collect(&codes[..1], |_| Some(vec![b' '; ANSWER_BYTES_MAX + 1].into())).is_ok());
    }
}
