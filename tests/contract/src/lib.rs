//! Checks answers of the storefront's listener against the API's document (`/openapi.json`).
//!
//! This is a package of its own because a checker of JSON Schema takes minutes to compile, and the
//! demo does not need it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use bridge_tests::testkit::http::{Client, HttpAnswer};

pub mod shapes;

use shapes::Shapes;

/// The document of one agent.
#[derive(Debug, Clone)]
pub struct Contract(Value);

impl Contract {
    /// Reads the document of an agent.
    ///
    /// # Errors
    /// Fails if the agent has none.
    pub async fn of(storefront: SocketAddr) -> Result<Contract> {
        let answer = Client::new(storefront).get("/openapi.json", None).await?;
        ensure!(answer.status == StatusCode::OK, "no document: {}", answer.status);
        let contract = Contract(serde_json::from_slice(&answer.body)?);
        contract.check(&Method::GET, "/openapi.json", &answer)?;
        Ok(contract)
    }

    /// Returns the shapes of its bodies.
    pub fn shapes(&self) -> Shapes<'_> {
        Shapes::of(&self.0)
    }

    /// Returns every operation as its method and path.
    pub fn operations(&self) -> Vec<(String, String)> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let methods = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, _)| (method.to_uppercase(), path.clone()))
        });
        methods.collect()
    }

    /// Checks an answer against the document.
    ///
    /// # Errors
    /// Fails if the document does not describe the answer or contradicts it. A path or method that
    /// the API does not have must be answered with a problem that says so.
    pub fn check(&self, method: &Method, target: &str, answer: &HttpAnswer) -> Result<()> {
        let path = target.split('?').next().unwrap_or_default();
        let told = || format!("{method} {path}: {}", answer.status);
        let Some(operation) = self.operation(method, path) else {
            let kind = answer.json()["type"].clone();
            ensure!(
                [json!("/problems/no-such-path"), json!("/problems/method-not-allowed")].contains(&kind),
                "{} is answered where the document has nothing: {kind}",
                told()
            );
            return Ok(());
        };
        let response = &operation["responses"][answer.status.as_str()];
        ensure!(response.is_object(), "{} is not in the document", told());
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            if let Some(value) = answer.headers.get(name) {
                let text = value.to_str().with_context(told)?;
                let value = text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number));
                let text = header["schema"]["type"] == "string";
                let value =
                    if text { json!(value.as_str().map_or(value.to_string(), str::to_owned)) } else { value };
                self.fits(&header["schema"], &value).with_context(|| format!("{}: {name}", told()))?;
            }
        }
        let Some(content) = response["content"].as_object() else {
            ensure!(answer.body.is_empty(), "{} has a body that the document does not tell of", told());
            return Ok(());
        };
        let content_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.with_context(|| format!("{} has no content type", told()))?;
        let media = content.get(content_type);
        let media = media.with_context(|| format!("{} is {content_type}", told()))?;
        let body: Value = serde_json::from_slice(&answer.body).with_context(told)?;
        self.fits(&media["schema"], &body).with_context(told)
    }

    fn operation(&self, method: &Method, path: &str) -> Option<&Value> {
        let fits = |template: &str| {
            let (known, asked) = (template.split('/'), path.split('/'));
            template.split('/').count() == path.split('/').count()
                && known
                    .zip(asked)
                    .all(|(known, asked)| known == asked || (known.starts_with('{') && !asked.is_empty()))
        };
        let mut paths = self.0["paths"].as_object()?.iter().filter(|(template, _)| fits(template));
        let (_, methods) = paths.next()?;
        // A HEAD is a GET without its body, and HEAD is not checked here.
        methods.get(method.as_str().to_lowercase())
    }

    fn fits(&self, schema: &Value, value: &Value) -> Result<()> {
        let whole = json!({"allOf": [schema], "components": self.0["components"]});
        let validator =
            jsonschema::validator_for(&whole).map_err(|error| anyhow::anyhow!("the document: {error}"))?;
        let mistakes: Vec<String> = validator
            .iter_errors(value)
            .map(|error| format!("{} at {:?}", error, error.instance_path().to_string()))
            .collect();
        ensure!(mistakes.is_empty(), "{}", mistakes.join("; "));
        Ok(())
    }
}
