//! Reads the catalogue with other HTTP clients: curl, wrk, and h2load over HTTP/1.1 and HTTP/2.
//! None of them may see an error.

use std::fs;

use crate::common::{Shared, Stage, until};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::site::Site;
use serde_json::{Value, json};
use tokio::process::Command;

static BRIDGE: Shared = Shared::new(&["clients"], |_| Ok(()));

const PRODUCT: &str = "/v1/clients/products/TEA";

async fn stocked(site: &Site) -> Result<()> {
    let product = json!({"brand": "clients", "product": "TEA", "names": {"ko": "차", "en": "Tea ".repeat(300)},
        "variants": [{"sku": "TEA-1", "price": {"amount": 5, "currency": "KRW"}, "quantity": 9}]});
    let file = site.idc_dir().join(format!("clients-{}.jsonl", rand::random::<u32>()));
    fs::write(&file, format!("{product}\n"))?;
    site.idc_command(&["catalogue", "import", &file.display().to_string()])
        .await
        .context("import the catalogue")?;
    until("the product is served", async || {
        Ok(Client::new(site.storefront).get(PRODUCT, None).await?.status == 200)
    })
    .await
}

/// Runs a command that must succeed. Returns its standard output.
async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = output.await.with_context(|| format!("run {program}: cargo verify installs it"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}: {text}{said}", output.status);
    Ok(text)
}

#[test]
fn curl_reads_every_form_of_an_answer() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        stocked(site).await?;
        let url = format!("http://{}{PRODUCT}", site.storefront);
        let plain = run("curl", &["--silent", "--fail", &url]).await?;
        let product: Value = serde_json::from_str(&plain)?;
        ensure!(product["names"]["ko"] == "차", "{plain}");
        for form in [&["--compressed"][..], &["--http2-prior-knowledge"], &["--http1.0"]] {
            let read = run("curl", &[&["--silent", "--fail", &url], form].concat()).await?;
            ensure!(read == plain, "{form:?}: {read}");
        }
        let head = run("curl", &["--silent", "--fail", "--head", &url]).await?.to_ascii_lowercase();
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).context("no ETag")?;
        let matches = format!("If-None-Match: {etag}");
        let code = ["--silent", "--output", "-", "--write-out", "%{http_code}", "--header", &matches, &url];
        ensure!(run("curl", &code).await? == "304");
        Ok(())
    })
}

#[test]
fn h2load_and_wrk_see_no_error() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        stocked(site).await?;
        let base = format!("http://{}", site.storefront);
        for path in [
            PRODUCT,
            "/v1/clients/stock?sku=TEA-1",
            "/v1/clients/products?limit=10",
            "/v1/clients/categories",
        ] {
            let url = format!("{base}{path}");
            for protocol in [&["--h1"][..], &["-m", "16"]] {
                let said = run("h2load", &[&["-n", "4000", "-c", "16"], protocol, &[&url]].concat()).await?;
                let all = "4000 succeeded, 0 failed, 0 errored, 0 timeout";
                ensure!(said.contains(all) && said.contains("4000 2xx"), "{path} {protocol:?}: {said}");
            }
            let said =
                run("wrk", &["--threads", "1", "--connections", "32", "--duration", "1s", &url]).await?;
            let answers =
                said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
            ensure!(answers.is_some_and(|answers: u64| answers > 0), "{path}: {said}");
            ensure!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{path}: {said}");
        }
        Ok(())
    })
}
