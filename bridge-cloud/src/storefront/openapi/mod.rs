//! `/openapi.json`: the document of all answers of this listener, made from the constants that the
//! code uses.
//!
//! Each area of the API describes its own paths. An end-to-end test compares every answer of a
//! running agent with this document, and this document with the router.

/// Reads of the catalogue.
mod catalogue;

/// Orders.
mod orders;

/// Payments.
mod payments;

/// Schemas of bodies.
mod schemas;

/// One method of one path.
mod operation;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use operation::{Operation, schema};

/// Path of the document.
pub(super) const PATH: &str = "/openapi.json";

/// Returns the document (OpenAPI 3.1) of an agent that serves these brands and accepts so many
/// lines in an order.
pub(super) fn bytes<'a>(brands: impl Iterator<Item = &'a str>, lines_max: usize) -> Bytes {
    let mut brands: Vec<&str> = brands.collect();
    brands.sort_unstable();
    document(&brands, lines_max).to_string().into()
}

fn document(brands: &[&str], lines_max: usize) -> Value {
    let mut paths = Map::new();
    let operations =
        [catalogue::operations(), orders::operations(), payments::operations(), vec![this_one()]];
    for mut operation in operations.into_iter().flatten() {
        operation
            .parameters
            .extend(operation.path.split('/').filter_map(|part| parameter_of_path(part, brands)));
        let of_path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(of_path) = of_path.as_object_mut() {
            of_path.insert(operation.method.to_owned(), operation.to_json());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bridge, at the storefront",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Catalogue reads from a replica beside the storefront; orders and payments that the data centre commits.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This agent"}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(lines_max),
            "securitySchemes": {"brand": {"type": "http", "scheme": "bearer", "description": "The brand's own token"}},
        },
    })
}

fn this_one() -> Operation {
    let mut operation = Operation::new("get", PATH, "openapi", "This document");
    operation.answer(StatusCode::OK, "OpenAPI 3.1", json!({"type": "object"}));
    operation
}

/// Returns the parameter of a variable part of a path.
fn parameter_of_path(part: &str, brands: &[&str]) -> Option<Value> {
    let name = part.strip_prefix('{')?.strip_suffix('}')?;
    let schema = match name {
        "brand" => json!({"type": "string", "enum": brands}),
        "product" => schema("Code"),
        _ => json!({"type": "string", "format": "uuid"}),
    };
    Some(json!({"name": name, "in": "path", "required": true, "schema": schema}))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects every `$ref` in a value.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_named_shape_is_described_and_every_described_one_used() {
        let document = document(&["tea"], 2_000);
        let mut named = Vec::new();
        references(&document, &mut named);
        for name in &named {
            let pointer = name.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{name} is named and not described");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            let path = format!("#/components/schemas/{name}");
            assert!(named.contains(&path), "{name} is described and not used");
        }
    }

    #[test]
    fn operations_have_unique_names_and_problems_no_success_status() {
        let document = document(&["tea"], 2_000);
        let mut ids = Vec::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                ids.push(operation["operationId"].as_str().unwrap().to_owned());
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
                for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                    assert!(response["content"]["application/problem+json"].is_object(), "{path} {status}");
                }
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }
}
