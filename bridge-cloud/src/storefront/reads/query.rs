//! Queries of catalogue reads, checked strictly: each parameter is known, appears at most once, and
//! is well-formed.
//!
//! A mistake names the parameter, and never repeats the caller's value.

use std::borrow::Cow;

use super::escape;
use crate::replica::listing::{Sort, SortKey};
use crate::storefront::problem::{Kind, Problem};

/// Most codes in one request, and most products on one page.
pub(in crate::storefront) const COUNT_MAX: usize = 100;

/// Products on a page without `limit`.
const LIMIT: usize = 20;

/// A query's parameters by name, not decoded.
struct Parameters<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Parameters<'a> {
    fn read(query: Option<&'a str>, known: &[&'static str]) -> Result<Self, Problem> {
        let mut found: Vec<(&'static str, &'a str)> = Vec::new();
        for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let Some(name) = known.iter().find(|known| **known == name) else {
                let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                return Err(bad(format!("it may have {} and nothing else", known.join(", "))));
            };
            if found.iter().any(|(before, _)| before == name) {
                return Err(bad(format!("`{name}` is there more than once")));
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Problem> {
        let decode = |value| escape::decode_value(value).filter(|value| !value.is_empty());
        let not_text = || bad(format!("`{name}` is empty, or its percent escapes are not UTF-8"));
        self.raw(name).map(|value| decode(value).ok_or_else(not_text)).transpose()
    }

    /// Returns texts between commas, without duplicates, in their order. A comma within a text must
    /// be escaped.
    fn texts(&self, name: &str) -> Result<Option<Vec<Cow<'a, str>>>, Problem> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let wrong = || bad(format!("`{name}` must be 1 to {COUNT_MAX} codes between commas, in UTF-8"));
        let mut texts = Vec::new();
        for text in value.split(',') {
            let text = escape::decode_value(text).filter(|text| !text.is_empty()).ok_or_else(wrong)?;
            if !texts.contains(&text) {
                texts.push(text);
            }
            if texts.len() > COUNT_MAX {
                return Err(wrong());
            }
        }
        Ok(Some(texts))
    }
}

/// Requested products.
pub(super) enum Products<'a> {
    /// Products by their codes.
    Batch(Vec<Cow<'a, str>>),
    /// A page of a list.
    Page(PageQuery<'a>),
}

/// A requested page of a list.
pub(super) struct PageQuery<'a> {
    pub(super) category: Option<Cow<'a, str>>,
    pub(super) sort: Sort,
    /// The order's name in the query, for the link to the next page.
    pub(super) sort_text: Option<&'a str>,
    pub(super) limit: usize,
    pub(super) behind: Option<SortKey>,
}

/// Reads the query of `/products`.
pub(super) fn products(query: Option<&str>) -> Result<Products<'_>, Problem> {
    let parameters = Parameters::read(query, &["product", "category", "sort", "limit", "cursor"])?;
    if let Some(products) = parameters.texts("product")? {
        if parameters.0.len() > 1 {
            return Err(bad("`product` names products by their codes, and goes with nothing else"));
        }
        return Ok(Products::Batch(products));
    }
    let sort_text = parameters.raw("sort");
    let sort = sort_text.map(|text| Sort::parse(text).ok_or(())).transpose();
    let sort = sort.map_err(|()| bad("`sort` must be newest, price, -price or name"))?.unwrap_or_default();
    let category = parameters.text("category")?;
    let limit = match parameters.raw("limit") {
        None => LIMIT,
        Some(text) => limit(text).ok_or_else(|| bad(format!("`limit` must be 1 to {COUNT_MAX}")))?,
    };
    let behind = match parameters.raw("cursor") {
        None => None,
        Some(text) => Some(SortKey::from_cursor(text, category.as_deref(), sort).ok_or_else(|| {
            bad("`cursor` must be the `next_cursor` of the page before, with the same `category` and `sort`")
        })?),
    };
    Ok(Products::Page(PageQuery { category, sort, sort_text, limit, behind }))
}

/// Reads the query of `/stock` and returns its SKUs.
pub(super) fn stock(query: Option<&str>) -> Result<Vec<Cow<'_, str>>, Problem> {
    let skus = Parameters::read(query, &["sku"])?.texts("sku")?;
    skus.ok_or_else(|| bad("`sku` must name the SKUs, between commas"))
}

/// Checks that a query has no parameter.
pub(super) fn none(query: Option<&str>) -> Result<(), Problem> {
    match query.unwrap_or_default() {
        "" => Ok(()),
        _ => Err(bad("this path takes no parameter")),
    }
}

fn limit(text: &str) -> Option<usize> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|limit| digits && (1..=COUNT_MAX).contains(limit))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(Kind::InvalidQuery, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_asked_for_once_however_often_it_stands_there() {
        let codes = |query: &'static str| stock(Some(query)).map(|codes| codes.join("|"));
        assert_eq!(codes("sku=B,A,B,%41,A%2CB,a").unwrap(), "B|A|A,B|a");
        let many = |count: usize, distinct: usize| {
            let codes: Vec<_> = (0..count).map(|index| format!("S{}", index % distinct)).collect();
            stock(Some(&format!("sku={}", codes.join(",")))).map(|codes| codes.len())
        };
        assert_eq!(many(5_000, COUNT_MAX).unwrap(), COUNT_MAX);
        assert_eq!(many(5_000, COUNT_MAX + 1).unwrap_err().kind(), Kind::InvalidQuery);
        for wrong in ["sku=", "sku=A,,B", "sku=A,", "sku=A&sku=B", "sku=%2", "sku=%FF"] {
            assert_eq!(codes(wrong).unwrap_err().kind(), Kind::InvalidQuery, "{wrong}");
        }
    }
}
