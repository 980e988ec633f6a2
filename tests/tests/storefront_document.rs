//! The storefront developer's document, as that developer would try it: every command, in its order, against a running bridge.

mod common;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bridge_tests::http::Client;
use bridge_tests::payers::Till;
use bridge_tests::process::Programs;
use bridge_tests::sandbox::Rates;
use bridge_tests::site::Site;
use common::{PATIENCE, until};
use serde_json::json;
use tokio::process::Command;

/// The commands of a document: its blocks of `sh`.
fn commands(document: &str) -> String {
    let mut commands = String::new();
    for block in document.split("\n```sh\n").skip(1) {
        commands.push_str(block.split("\n```").next().unwrap_or_default());
        commands.push('\n');
    }
    commands
}

#[tokio::test]
async fn every_command_of_the_storefront_s_document_succeeds() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = bridge_tests::database::Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    let site = Site::prepare(dir.path(), Programs::build()?, database, &[("shoes", "KRW")], 1).await?;
    let product = json!({"brand": "shoes", "product": "RUNNER", "names": {"en": "Runner"}, "variants": [
        {"sku": "RUNNER-270", "price": {"amount": 219_000, "currency": "KRW"}, "quantity": 5}]});
    let file = site.idc_dir().join("shoes.jsonl");
    fs::write(&file, format!("{product}\n"))?;
    site.idc_command(&["catalogue", "import", &file.display().to_string()]).await?;
    let _till = Till::open(&site, Rates::default()).await?;
    let _bridge = site.start().await?;
    until("the catalogue is served", async || {
        let answer = Client::new(site.storefront).get("/v1/shoes/products/RUNNER", None).await;
        Ok(answer.is_ok_and(|answer| answer.status == 200))
    })
    .await?;

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/storefront.md");
    let commands = commands(&fs::read_to_string(document)?);
    ensure!(commands.lines().count() > 15, "the document has no commands");
    let run = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("set -x\n{commands}")])
        .current_dir(dir.path())
        .env("BRIDGE", format!("http://{}", site.storefront))
        .env("TOKEN", site.token("shoes"))
        .env("PRODUCT", "RUNNER")
        .env("SKU", "RUNNER-270")
        .env("PRICE", "219000")
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(PATIENCE, run).await.context("the commands do not end")??;
    let (out, said) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    ensure!(run.status.success(), "{said}\n{out}");
    for expected in [
        "\"state\":\"paid\"",
        "\"state\":\"done\"",
        "\"state\":\"placed\"",
        "\"state\":\"cancelled\"",
        "/problems/invalid-order",
        "RUNNER-270",
    ] {
        ensure!(out.contains(expected), "{expected} is not among the answers:\n{out}");
    }
    Ok(())
}
