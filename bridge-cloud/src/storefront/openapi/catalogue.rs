//! The paths of the catalogue.

use http::StatusCode;
use serde_json::{Value, json};

use super::super::problem::Kind;
use super::super::reads::query::COUNT_MAX;
use super::operation::{Operation, optional, schema, text};

pub(super) fn operations() -> Vec<Operation> {
    let page_or_batch = json!({"oneOf": [schema("ProductPage"), schema("ProductBatch")]});
    let mut product =
        read("/v1/{brand}/products/{product}", "readProduct", "A product", schema("Product"), vec![]);
    product.problems.push(Kind::UnknownProduct);
    let each_once = format!("Up to {COUNT_MAX} of them between commas, each answered once");
    let mut products = read(
        "/v1/{brand}/products",
        "listProducts",
        "A page of a list, or products by their codes",
        page_or_batch,
        vec![
            optional(
                "query",
                "product",
                &format!("Codes; it goes with no other parameter. {each_once}"),
                text(),
            ),
            optional("query", "category", "Products of this category and those below it", schema("Code")),
            optional(
                "query",
                "sort",
                "",
                json!({"type": "string", "enum": ["newest", "price", "-price", "name"], "default": "newest"}),
            ),
            optional(
                "query",
                "limit",
                "",
                json!({"type": "integer", "minimum": 1, "maximum": COUNT_MAX, "default": 20}),
            ),
            optional("query", "cursor", "The `next_cursor` of the page before", text()),
        ],
    );
    products.problems.push(Kind::AnswerTooLarge);
    products.header(StatusCode::OK, "Link", "The next page, as rel=next", text());
    let sku = json!({"name": "sku", "in": "query", "required": true, "schema": {"type": "string", "minLength": 1},
        "description": each_once});
    vec![
        product,
        products,
        read(
            "/v1/{brand}/categories",
            "readCategories",
            "The tree of categories",
            schema("Categories"),
            vec![],
        ),
        read("/v1/{brand}/stock", "readStock", "Units for sale", schema("StockList"), vec![sku]),
    ]
}

/// Makes a read: no token, and the replica's position and age in its answers.
fn read(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    body: Value,
    parameters: Vec<Value>,
) -> Operation {
    let mut operation = Operation::new("get", path, id, summary);
    operation.parameters.extend(parameters);
    operation.parameters.extend([
        optional(
            "header",
            "Bridge-Min-Seq",
            "Wait a moment for the replica to come to this position",
            json!({"type": "integer", "minimum": 0}),
        ),
        optional("header", "If-None-Match", "", text()),
    ]);
    operation.answer(StatusCode::OK, "From the replica", body);
    let not_modified = json!({"description": "It is as the caller knows it", "headers": {}});
    operation.responses.insert(StatusCode::NOT_MODIFIED.as_str().to_owned(), not_modified);
    for status in [StatusCode::OK, StatusCode::NOT_MODIFIED] {
        operation.header(status, "ETag", "Of this form of the body", text());
        operation.header(status, "Cache-Control", "", text());
        operation.header(status, "Vary", "What of the request it depends on", text());
        operation.header(status, "Bridge-Seq", "How far the replica is", json!({"type": "integer"}));
        operation.header(
            status,
            "Age",
            "Seconds since the replica was known to equal the database",
            json!({"type": "integer"}),
        );
    }
    operation.problems.extend([
        Kind::InvalidQuery,
        Kind::InvalidMinSeq,
        Kind::UnknownBrand,
        Kind::ReplicaBehind,
        Kind::CatalogueNotReady,
    ]);
    operation
}
