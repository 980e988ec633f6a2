//! One method of one path, as the document describes it.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::problem::Kind;

/// One method of one path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<Value>,
    pub(super) needs_token: bool,
    pub(super) responses: Map<String, Value>,
    pub(super) problems: Vec<Kind>,
    /// True if its brand may have a limited number of them outstanding.
    pub(super) is_limited: bool,
}

impl Operation {
    /// Makes an operation with only the answers that every request may get.
    pub(super) fn new(
        method: &'static str,
        path: &'static str,
        id: &'static str,
        summary: &'static str,
    ) -> Self {
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
            is_limited: false,
        }
    }

    /// Adds an answer of this status with JSON of this schema. [`Self::header`] adds its headers.
    pub(super) fn answer(&mut self, status: StatusCode, description: &str, schema: Value) {
        let content = json!({"application/json": {"schema": schema}});
        let response = json!({"description": description, "headers": {}, "content": content});
        self.responses.insert(status.as_str().to_owned(), response);
    }

    /// Adds a header to the answer of this status.
    pub(super) fn header(&mut self, status: StatusCode, name: &str, description: &str, schema: Value) {
        let headers =
            self.responses.get_mut(status.as_str()).and_then(|response| response.get_mut("headers"));
        if let Some(headers) = headers.and_then(Value::as_object_mut) {
            headers.insert(name.to_owned(), json!({"description": description, "schema": schema}));
        }
    }

    /// Adds a link to the answer of this status, with the parameters for that operation.
    pub(super) fn link(&mut self, status: StatusCode, operation: &str, parameters: Value) {
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

    pub(super) fn to_json(&self) -> Value {
        let mut responses = self.responses.clone();
        let mut statuses: Vec<StatusCode> = self.problems.iter().map(|kind| kind.status()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            let kinds = || self.problems.iter().filter(|kind| kind.status() == status);
            let types: Vec<String> = kinds().map(|kind| kind.uri()).collect();
            let titles: Vec<&str> = kinds().map(|kind| kind.title()).collect();
            let schema = json!({"allOf": [schema("Problem"), {"properties": {"type": {"enum": types}}}]});
            let mut response = json!({
                "description": titles.join(" · "),
                "content": {"application/problem+json": {"schema": schema}},
            });
            if self.is_limited
                && status == Kind::Busy.status()
                && let Some(response) = response.as_object_mut()
            {
                response.insert("headers".to_owned(), limit_headers());
            }
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

/// Returns the headers of a refusal because of the brand's limit. The fields of the limit are those
/// of draft-ietf-httpapi-ratelimit-headers-10.
fn limit_headers() -> Value {
    json!({
        "Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}},
        "RateLimit-Policy": {
            "description": "The brand's limit, if that is the reason: orders a second, or at a time",
            "schema": {"type": "string"},
        },
        "RateLimit": {
            "description": "What is left of it, and the seconds after which to come back",
            "schema": {"type": "string"},
        },
    })
}

/// Returns an optional parameter of a query or a header.
pub(super) fn optional(place: &str, name: &str, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": place, "required": false, "description": description, "schema": schema})
}

/// Returns the parameter that finds an order or a payment by its key, whatever its id is.
pub(super) fn by_key() -> Value {
    let digest = json!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    optional("query", "key", "The idempotency key's digest, as a Location has it", digest)
}

/// Returns the schema of any text.
pub(super) fn text() -> Value {
    json!({"type": "string"})
}

/// Returns a reference to a schema by its name.
pub(super) fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}
