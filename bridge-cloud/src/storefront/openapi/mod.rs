//! `/openapi.json`: the document of everything that this listener answers, made of the same constants that its code uses.
//!
//! Each area of the API describes its own paths. An end-to-end test holds every answer of a running agent against this
//! document, and this document against the router.

/// Reads of the catalogue.
mod catalogue;

/// Orders.
mod orders;

/// Payments.
mod payments;

/// The shapes of bodies.
mod schemas;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::problem::Kind;

/// Where the document is found.
pub(super) const PATH: &str = "/openapi.json";

/// The document as it is answered, of an agent that serves these brands and takes so many lines in an order: OpenAPI 3.1.
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

/// One method of one path.
struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    needs_token: bool,
    responses: Map<String, Value>,
    problems: Vec<Kind>,
}

impl Operation {
    /// One that answers nothing yet but what every request may be answered.
    fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            parameters: Vec::new(),
            body: None,
            needs_token: false,
            responses: Map::new(),
            problems: vec![Kind::BadRequest, Kind::HeadTooLarge, Kind::TransferCoding],
        }
    }

    /// It answers this status with JSON of this schema, and with headers that are told by `header`.
    fn answer(&mut self, status: StatusCode, description: &str, schema: Value) {
        let content = json!({"application/json": {"schema": schema}});
        let response = json!({"description": description, "headers": {}, "content": content});
        self.responses.insert(status.as_str().to_owned(), response);
    }

    /// An answer of this status has this header.
    fn header(&mut self, status: StatusCode, name: &str, description: &str, schema: Value) {
        let headers =
            self.responses.get_mut(status.as_str()).and_then(|response| response.get_mut("headers"));
        if let Some(headers) = headers.and_then(Value::as_object_mut) {
            headers.insert(name.to_owned(), json!({"description": description, "schema": schema}));
        }
    }

    /// The answer of this status names what that operation is called with.
    fn link(&mut self, status: StatusCode, operation: &str, parameters: Value) {
        if let Some(response) = self.responses.get_mut(status.as_str()).and_then(Value::as_object_mut) {
            let links = response.entry("links").or_insert_with(|| json!({}));
            if let Some(links) = links.as_object_mut() {
                links.insert(
                    operation.to_owned(),
                    json!({"operationId": operation, "parameters": parameters}),
                );
            }
        }
    }

    fn to_json(&self) -> Value {
        let mut responses = self.responses.clone();
        let mut statuses: Vec<StatusCode> = self.problems.iter().map(|kind| kind.status()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            let kinds = || self.problems.iter().filter(|kind| kind.status() == status);
            let types: Vec<String> = kinds().map(|kind| kind.uri()).collect();
            let titles: Vec<&str> = kinds().map(|kind| kind.title()).collect();
            let schema = json!({"allOf": [schema("Problem"), {"properties": {"type": {"enum": types}}}]});
            let response = json!({
                "description": titles.join(" · "),
                "content": {"application/problem+json": {"schema": schema}},
            });
            responses.insert(status.as_str().to_owned(), response);
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": self.parameters,
            "responses": responses,
        });
        if let Some(operation) = operation.as_object_mut() {
            if let Some(body) = &self.body {
                let content = json!({"application/json": {"schema": body}});
                operation.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
            }
            if self.needs_token {
                operation.insert("security".to_owned(), json!([{"brand": []}]));
            }
        }
        operation
    }
}

/// What a variable part of a path holds.
fn parameter_of_path(part: &str, brands: &[&str]) -> Option<Value> {
    let name = part.strip_prefix('{')?.strip_suffix('}')?;
    let schema = match name {
        "brand" => json!({"type": "string", "enum": brands}),
        "product" => schema("Code"),
        _ => json!({"type": "string", "format": "uuid"}),
    };
    Some(json!({"name": name, "in": "path", "required": true, "schema": schema}))
}

/// A parameter of a query or a header that may be left out.
fn optional(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": false, "description": description, "schema": schema})
}

/// The parameter by which an order or a payment is found whatever its id is.
fn by_key() -> Value {
    let digest = json!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    optional("query", "key", "The idempotency key's digest, as a Location has it", digest)
}

/// Any text.
fn text() -> Value {
    json!({"type": "string"})
}

/// A shape by its name.
fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in a value.
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
    fn every_shape_that_is_named_is_described_and_every_one_described_is_used() {
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
    fn operations_have_names_of_their_own_and_problems_a_status_that_no_success_has() {
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
