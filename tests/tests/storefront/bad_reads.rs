//! Sends every kind of bad catalogue read to a running bridge. Each gets a clear answer that
//! repeats nothing of the request, and the next good read is served.

use std::fs;
use std::time::Duration;

use crate::common::{PATIENCE, Shared, Shop, Stage, until};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::http::{Client, HttpAnswer, raw};
use bridge_tests::testkit::site::Site;
use serde_json::json;

static BRIDGE: Shared = Shared::new(&["reads"], |_| Ok(()));

/// A value in requests that must not return in an answer or in a log.
const PLANTED: &str = "hunter2-8842";

const GOOD: &str = "/v1/reads/products/SHOE%201%2F2";

/// Imports two products and waits until they are served. Several tests may call this.
async fn stocked(site: &Site) -> Result<()> {
    let price = json!({"amount": 5, "currency": "KRW"});
    let product = |code: &str, sku: &str| json!({"brand": "reads", "product": code, "names": {"en": code}, "variants": [{"sku": sku, "price": price}]});
    let file = site.idc_dir().join(format!("reads-{}.jsonl", rand::random::<u32>()));
    fs::write(&file, format!("{}\n{}\n", product("SHOE 1/2", "S-1"), product("HAT", "H-1")))?;
    site.idc_command(&["catalogue", "import", &file.display().to_string()])
        .await
        .context("import the catalogue")?;
    until("both products are served", async || {
        let mut served = true;
        for path in [GOOD, "/v1/reads/products/HAT"] {
            served &= get(site, path).await?.status == 200;
        }
        Ok(served)
    })
    .await
}

async fn get(site: &Site, path: &str) -> Result<HttpAnswer> {
    Ok(Client::new(site.storefront).get(path, None).await?)
}

/// Sends bytes unchanged. Returns everything that comes until the agent closes the connection.
async fn say(site: &Site, request: &[u8]) -> Result<String> {
    let said = raw(site.storefront, &[request], Duration::ZERO, PATIENCE).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Returns true if the text is a refusal with one of these statuses, or if the connection was
/// closed without an answer. Unread bytes of a request can cost the caller the answer.
fn refuses(said: &str, statuses: &[u16]) -> bool {
    let is_refused = statuses.iter().any(|status| said.starts_with(&format!("HTTP/1.1 {status} ")));
    (said.is_empty() || is_refused) && !said.contains(PLANTED)
}

#[test]
fn a_bad_query_is_refused_by_the_name_of_its_parameter() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        stocked(site).await?;
        let shop = Shop::open(site, "reads");
        let cases = [
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=1000000000", "limit"),
            ("limit=", "limit"),
            ("limit=%31%30%31", "limit"),
            ("limit=hunter2-8842", "limit"),
            ("limit=5&limit=5", "limit"),
            ("sort=hunter2-8842", "sort"),
            ("cursor=hunter2-8842", "cursor"),
            ("cursor=", "cursor"),
            ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
            ("cursor=%FF%FE", "cursor"),
            ("category=%ZZ", "category"),
            ("category=%FF", "category"),
            ("product=", "product"),
            ("product=%", "product"),
            ("product=A&category=B", ""),
            ("hunter2-8842=1", ""),
        ];
        for (query, parameter) in cases {
            let answer = get(site, &format!("/v1/reads/products?{query}")).await?;
            let problem = shop.problem(&answer, 400, "invalid-query").context(query)?;
            let text = problem.to_string();
            ensure!(text.contains(parameter) && !text.contains(PLANTED), "{query}: {text}");
        }
        for query in ["", "?sku=", "?sku=%FF", "?sku=A&sku=B", "?other=1"] {
            let answer = get(site, &format!("/v1/reads/stock{query}")).await?;
            shop.problem(&answer, 400, "invalid-query").context(query)?;
        }
        let many = (0..101).map(|sku| format!("S{sku}")).collect::<Vec<_>>().join(",");
        shop.problem(&get(site, &format!("/v1/reads/stock?sku={many}")).await?, 400, "invalid-query")?;
        let list = get(site, "/v1/reads/products?limit=1&sort=price").await?.json();
        let cursor = list["next_cursor"].as_str().context("no second page")?;
        let other = get(site, &format!("/v1/reads/products?limit=1&sort=name&cursor={cursor}")).await?;
        shop.problem(&other, 400, "invalid-query").context("the cursor of another list")?;
        ensure!(get(site, GOOD).await?.status == 200);
        Ok(())
    })
}

#[test]
fn a_path_with_escapes_and_dots_names_exactly_its_product() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        stocked(site).await?;
        for path in ["/v1/reads/products/HAT", "/v1/reads/products/%48%41%54", "/v1/%72eads/products/HAT"] {
            let answer = get(site, path).await?;
            ensure!(answer.status == 200, "{path}: {}", answer.json());
        }
        for path in [
            "/v1/reads/products/..",
            "/v1/reads/products/%2e%2e",
            "/v1/reads/products/.",
            "/v1/reads/products/../categories",
            "/v1/reads/products/HAT/",
            "/v1/reads/products/HAT/more",
            "/v1/reads//products/HAT",
            "//v1/reads/products/HAT",
            "/v1/reads/products/%",
            "/v1/reads/products/%4",
            "/v1/reads/products/%FF",
            "/v1/reads/products/%00",
            "/v1/reads/products/SHOE%25201%252F2",
            "/v1/%2e%2e/products/HAT",
            "/v1/READS/products/HAT",
            "/v1/reads/products/hat",
        ] {
            let answer = get(site, path).await?;
            ensure!(answer.status == 404, "{path}: {} {}", answer.status, answer.json());
        }
        Ok(())
    })
}

#[test]
fn a_malformed_http_read_is_refused_and_smuggles_nothing() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        stocked(site).await?;
        let get = |rest: &str| format!("GET {GOOD} HTTP/1.1\r\n{rest}");
        let long = get(&format!("host: bridge\r\nx-long: {}\r\n\r\n", PLANTED.repeat(16 * 1024 / PLANTED.len())));
        let cases = [
            ("content-length beside transfer-encoding",
                get("host: bridge\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/x HTTP/1.1\r\n\r\n")),
            ("two content-lengths", get("host: bridge\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello")),
            ("a second host", get(&format!("host: bridge\r\nhost: {PLANTED}\r\n\r\n"))),
            ("no host", get("accept: */*\r\n\r\n")),
            ("a header without a colon", get(&format!("host: bridge\r\n{PLANTED}\r\n\r\n"))),
            ("a space before the colon", get("host : bridge\r\n\r\n")),
            ("a folded header", get(&format!("host: bridge\r\nx-a: b\r\n {PLANTED}\r\n\r\n"))),
            ("16 KiB of headers", long),
            ("a version that is none", format!("GET {GOOD} HTTP/9.9\r\nhost: bridge\r\n\r\n")),
        ];
        for (what, request) in cases {
            let said = say(site, request.as_bytes()).await?;
            ensure!(refuses(&said, &[400, 431, 505]), "{what}: {said}");
            ensure!(said.matches("HTTP/1.1 ").count() <= 1, "{what} was answered more than once: {said}");
        }
        let bare = format!("GET {GOOD} HTTP/1.1\nhost: bridge\n\n");
        let said = say(site, bare.as_bytes()).await?;
        ensure!(refuses(&said, &[400]), "bare line feeds: {said}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let request = format!("{method} {GOOD} HTTP/1.1\r\nhost: bridge\r\nconnection: close\r\n\r\n");
            let said = say(site, request.as_bytes()).await?;
            ensure!(!said.is_empty() && refuses(&said, &[405]) && said.to_ascii_lowercase().contains("\r\nallow: "), "{method}: {said}");
        }
        Ok(())
    })
}

#[test]
fn an_invalid_position_is_refused_and_no_request_is_logged() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        stocked(site).await?;
        for value in ["", "-1", "1.5", "x", "18446744073709551616", PLANTED] {
            let request = format!(
                "GET {GOOD} HTTP/1.1\r\nhost: bridge\r\nbridge-min-seq: {value}\r\nconnection: close\r\n\r\n"
            );
            let said = say(site, request.as_bytes()).await?;
            ensure!(
                !said.is_empty() && refuses(&said, &[400]) && said.contains("/problems/invalid-min-seq"),
                "{value}: {said}"
            );
        }
        let pipelined = format!("GET {GOOD} HTTP/1.1\r\nhost: bridge\r\n\r\n").repeat(3);
        let last = format!("GET {GOOD} HTTP/1.1\r\nhost: bridge\r\nconnection: close\r\n\r\n");
        let said = say(site, [pipelined, last].concat().as_bytes()).await?;
        ensure!(said.matches("HTTP/1.1 200 ").count() == 4, "four at once: {said}");
        for log in [&site.cloud.log, &site.idc.log] {
            ensure!(!fs::read_to_string(log)?.contains(PLANTED), "{}", log.display());
        }
        Ok(())
    })
}
