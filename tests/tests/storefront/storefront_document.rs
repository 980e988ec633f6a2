//! Runs the storefront developer's document and the examples as a developer would: every command,
//! in order, against a running bridge.

use std::fs;
use std::path::Path;

use crate::common::{PATIENCE, until};
use anyhow::{Context, Result, ensure};
use bridge_skips::{LANGUAGES, Lack, is_installed, skipped};
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::payers::TestGateway;
use bridge_tests::testkit::process::Programs;
use bridge_tests::testkit::sandbox::Rates;
use bridge_tests::testkit::site::{Bridge, Site};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

/// Returns the commands of a document: the contents of its `sh` blocks.
fn commands(document: &str) -> String {
    let mut commands = String::new();
    for block in document.split("\n```sh\n").skip(1) {
        commands.push_str(block.split("\n```").next().unwrap_or_default());
        commands.push('\n');
    }
    commands
}

/// A shop with one product, its gateway, and both agents.
struct Shop {
    dir: TempDir,
    site: Site,
    _gateway: TestGateway,
    _bridge: Bridge,
}

impl Shop {
    async fn open() -> Result<Shop> {
        let dir = tempfile::tempdir()?;
        let database =
            bridge_tests::testkit::database::Database::Sqlite(dir.path().join("idc").join("ledger.db"));
        let site = Site::prepare(dir.path(), Programs::build()?, database, &[("shoes", "KRW")], 1).await?;
        let product = json!({"brand": "shoes", "product": "RUNNER", "names": {"en": "Runner"}, "variants": [
            {"sku": "RUNNER-270", "price": {"amount": 219_000, "currency": "KRW"}, "quantity": 5}]});
        let file = site.idc_dir().join("shoes.jsonl");
        fs::write(&file, format!("{product}\n"))?;
        site.idc_command(&["catalogue", "import", &file.display().to_string()]).await?;
        let gateway = TestGateway::open(&site, Rates::default()).await?;
        let bridge = site.start().await?;
        until("the catalogue is served", async || {
            let answer = Client::new(site.storefront).get("/v1/shoes/products/RUNNER", None).await;
            Ok(answer.is_ok_and(|answer| answer.status == 200))
        })
        .await?;
        Ok(Shop { dir, site, _gateway: gateway, _bridge: bridge })
    }

    /// Runs a command with the variables that `cargo demo --keep` prints. Returns its standard
    /// output.
    async fn run(&self, command: &mut Command) -> Result<String> {
        let run = command
            .current_dir(self.dir.path())
            .env("BRIDGE", format!("http://{}", self.site.storefront))
            .env("TOKEN", self.site.token("shoes"))
            .env("PRODUCT", "RUNNER")
            .env("SKU", "RUNNER-270")
            .env("PRICE", "219000")
            .kill_on_drop(true)
            .output();
        let run = tokio::time::timeout(PATIENCE, run).await.context("the commands do not end")??;
        let out = String::from_utf8_lossy(&run.stdout).into_owned();
        ensure!(run.status.success(), "{}\n{out}", String::from_utf8_lossy(&run.stderr));
        Ok(out)
    }
}

#[tokio::test]
async fn every_command_of_the_storefront_s_document_succeeds() -> Result<()> {
    let shop = Shop::open().await?;
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/storefront.md");
    let commands = commands(&fs::read_to_string(document)?);
    ensure!(commands.lines().count() > 15, "the document has no commands");
    let mut bash = Command::new("bash");
    let out = shop.run(bash.args(["-euo", "pipefail", "-c", &format!("set -x\n{commands}")])).await?;
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

#[tokio::test]
async fn each_example_orders_once_and_pays() -> Result<()> {
    let shop = Shop::open().await?;
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for (program, example) in
        LANGUAGES.into_iter().zip(["storefront.py", "storefront.mjs", "Storefront.java"])
    {
        if !is_installed(program) {
            skipped(Lack::Languages, &format!("{program} is not installed"));
            continue;
        }
        let file = examples.join(example);
        ensure!(fs::read_to_string(&file)?.lines().count() <= 150, "{example} is too long to be read");
        let out = shop.run(Command::new(program).arg(&file)).await?;
        for expected in
            ["chosen: RUNNER-270 ", "ordered: ", "the same order", "paid: ", "the order is placed"]
        {
            ensure!(out.contains(expected), "{example} does not say {expected:?}:\n{out}");
        }
    }
    Ok(())
}
