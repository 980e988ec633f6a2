//! Tests of bad input at the storefront. Each gets a clear problem and no panic, leaves nothing
//! half-written, and the agents go on.
//!
//! Every test has its own brand on one bridge, and ends with the checks of `Shop::close`. The
//! ledger has exactly the good orders, the stock is balanced, no log contains what was sent, and
//! the next order is accepted.

use std::time::Duration;

use crate::common::{PATIENCE, Shared, Shop, Stage, configure, head, order_at};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::http::{Client, raw, raw_and_end};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

static BRIDGE: Shared = Shared::new(
    &[
        "caller", "rules", "size", "shelf", "cancel", "form", "wire", "slow", "cut", "smuggler", "two",
        "fields", "coding", "chunks", "half",
    ],
    |site| {
        let config = site.cloud_dir().join("bridge-cloud.toml");
        configure(&config, "storefront.header_timeout", "2s")?;
        configure(&config, "storefront.body_timeout", "2s")
    },
);

#[test]
fn a_caller_without_the_brands_token_or_valid_key_is_refused() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "caller");
        let order = shop.order(&[(0, 1)]);
        let (path, token) = (shop.orders(), shop.token().to_owned());
        let mut client = Client::new(site.storefront);

        let brand = shop.plant("no-brand-of-ours-7231");
        let nowhere = format!("/v1/{brand}/orders");
        let answer = client.post(&nowhere, Some(&token), Some("k"), order.body.clone()).await?;
        shop.problem(&answer, 404, "unknown-brand")?;
        let wrong = shop.plant("wrong-token-58120034");
        for token in [Some(wrong.as_str()), Some(site.token("rules")), Some(""), None] {
            let answer = client.post(&path, token, Some("k"), order.body.clone()).await?;
            shop.problem(&answer, 401, "unauthorized")?;
            ensure!(answer.header("www-authenticate") == Some("Bearer"));
            let answer = client.get(&format!("{path}/0195-some-order"), token).await?;
            shop.problem(&answer, 401, "unauthorized")?;
        }
        let long = shop.plant(&"0123456789abcdef".repeat(16));
        for key in [None, Some(""), Some(long.as_str())] {
            let answer = client.post(&path, Some(&token), key, order.body.clone()).await?;
            shop.problem(&answer, 400, "idempotency-key")?;
        }
        let twice =
            Request::post(&path).header("host", "bridge").header("authorization", format!("Bearer {token}"));
        let twice = twice.header("idempotency-key", "a").header("idempotency-key", "b");
        let answer = client.send(twice.body(Full::new(order.body.clone()))?).await?;
        shop.problem(&answer, 400, "idempotency-key")?;
        let answer = client.post(&path, Some(&token), Some(&long[..255]), order.body).await?;
        ensure!(answer.status == 201, "a key of 255 characters is refused: {}", answer.status);
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn an_order_that_breaks_a_rule_is_told_which_and_where() -> Result<()> {
    /// A change that makes a good order bad, and the pointers that the answer must name.
    type Break = (&'static str, fn(&mut Value), &'static [&'static str]);
    const MONEY_MAX: i64 = 1_000_000_000_000_000;
    let breaks: &[Break] = &[
        ("unknown field", |o| o["colour-of-7231"] = json!("sky-blue-58120034"), &[""]),
        ("unknown field inside", |o| o["lines"][0]["gift-of-7231"] = json!(true), &["/lines/0"]),
        ("missing field", |o| drop(o.as_object_mut().map(|o| o.remove("delivery"))), &[""]),
        ("null", |o| o["shipping_fee"] = Value::Null, &["/shipping_fee"]),
        ("a float", |o| o["total"]["amount"] = json!(222_000.5), &["/total/amount"]),
        ("a text for a number", |o| o["total"]["amount"] = json!("sky-blue-58120034"), &["/total/amount"]),
        ("beyond 64 bits", |o| o["total"]["amount"] = json!(u64::MAX), &["/total/amount"]),
        ("beyond what is accepted", |o| o["total"]["amount"] = json!(MONEY_MAX + 1), &["/total/amount"]),
        ("a sum that overflows", overflow, &["/lines"]),
        (
            "negative price",
            |o| o["lines"][0]["unit_price"]["amount"] = json!(-1),
            &["/lines/0/unit_price/amount"],
        ),
        ("negative fee", |o| o["shipping_fee"]["amount"] = json!(-3_000), &["/shipping_fee/amount"]),
        ("zero quantity", |o| o["lines"][0]["quantity"] = json!(0), &["/lines/0/quantity"]),
        ("negative quantity", |o| o["lines"][0]["quantity"] = json!(-1), &["/lines/0/quantity"]),
        ("a million and one", |o| o["lines"][0]["quantity"] = json!(1_000_001), &["/lines/0/quantity"]),
        ("no lines", |o| o["lines"] = json!([]), &["/lines"]),
        ("2,001 lines", |o| o["lines"] = Value::Array(vec![o["lines"][0].clone(); 2_001]), &["/lines"]),
        (
            "the same SKU twice",
            |o| o["lines"] = json!([o["lines"][0], o["lines"][0]]),
            &["/lines/1/sku", "/total/amount"],
        ),
        ("no SKU", |o| o["lines"][0]["sku"] = json!("한정판 스니커즈 하나"), &["/lines/0/sku"]),
        ("a total that does not add up", |o| o["total"]["amount"] = json!(222_001), &["/total/amount"]),
        (
            "two currencies",
            |o| o["lines"][0]["unit_price"]["currency"] = json!("JPY"),
            &["/lines/0/unit_price/currency"],
        ),
        ("no currency", |o| o["total"]["currency"] = json!("won-58120034"), &["/total/currency"]),
        (
            "a reference that could be a name",
            |o| o["customer"]["reference"] = json!("sky blue 58120034"),
            &["/customer/reference"],
        ),
        ("no address", |o| o["delivery"]["address"] = json!([]), &["/delivery/address"]),
        (
            "a delivery that says nothing",
            |o| o["delivery"] = json!({"name": "", "address": [""], "country": ""}),
            &["/delivery/name", "/delivery/address/0", "/delivery/country"],
        ),
        (
            "white space for an address",
            |o| o["delivery"]["address"] = json!(["1 Main Street", " \u{3000}\t"]),
            &["/delivery/address/1"],
        ),
        ("no country of the world", |o| o["delivery"]["country"] = json!("ZZ"), &["/delivery/country"]),
        ("a country's name", |o| o["delivery"]["country"] = json!("Korea"), &["/delivery/country"]),
        (
            "a card number between commas",
            |o| o["delivery"]["note"] = json!("4111,1111,1111,1111"),
            &["/delivery/note"],
        ),
        (
            "a card number between any signs",
            |o| o["customer"]["name"] = json!("4111:1111+1111*1111"),
            &["/customer/name"],
        ),
        (
            "a card number in another script",
            |o| o["delivery"]["phone"] = json!("\u{664}\u{661}\u{661}\u{661} 1111 1111 1111"),
            &["/delivery/phone"],
        ),
        (
            "a card number in keycaps over two lines",
            |o| o["delivery"]["address"] = json!(["4\u{fe0f}\u{20e3}111 1111", "1111 1111"]),
            &["/delivery/address"],
        ),
        (
            "a card number between what stands for dashes",
            |o| o["delivery"]["note"] = json!("4111\u{30fc}1111\u{30fc}1111\u{30fc}1111"),
            &["/delivery/note"],
        ),
        (
            "what nobody sees for an address",
            |o| o["delivery"]["address"] = json!(["\u{3164}\u{200b}", "\u{2800}"]),
            &["/delivery/address/0", "/delivery/address/1"],
        ),
        (
            "too long a name",
            |o| o["delivery"]["name"] = json!("sky-blue-58120034".repeat(50)),
            &["/delivery/name"],
        ),
        ("several at once", several, &["/lines/0/quantity", "/total/currency"]),
    ];
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "rules");
        for value in
            ["colour-of-7231", "gift-of-7231", "sky-blue-58120034", "sky blue 58120034", "won-58120034"]
        {
            shop.plant(value);
        }
        for (what, change, pointers) in breaks {
            let mut order = shop.json();
            change(&mut order);
            let answer = shop.place(what, order.to_string()).await?;
            let problem = shop.problem(&answer, 422, "invalid-order").context(*what)?;
            let errors = problem["errors"].as_array().with_context(|| format!("{what}: {problem}"))?;
            for error in errors {
                ensure!(!error["detail"].as_str().unwrap_or_default().is_empty(), "{what}: {problem}");
            }
            let named: Vec<_> = errors.iter().filter_map(|error| error["pointer"].as_str()).collect();
            ensure!(
                pointers.iter().all(|pointer| named.contains(pointer)),
                "{what}: {named:?} not {pointers:?}"
            );
        }

        let mut dollars = shop.json();
        for money in ["/total", "/shipping_fee", "/lines/0/unit_price"] {
            dollars.pointer_mut(money).context("no money")?["currency"] = json!("USD");
        }
        let answer = shop.place("dollars", dollars.to_string()).await?;
        let problem = shop.problem(&answer, 422, "wrong-currency")?;
        ensure!(problem["errors"][0]["pointer"] == "/total/currency", "{problem}");
        ensure!(problem["detail"].as_str().unwrap_or_default().contains("KRW"), "{problem}");

        // The refused requests used up no key: good orders under the same keys are accepted.
        for key in ["a float", "dollars"] {
            let order = shop.order(&[(0, 1)]);
            let answer = shop.place(key, order.body).await?;
            ensure!(answer.status == 201, "{key}: {}", answer.status);
        }
        shop.close(site, 2, [2, 0, 0]).await
    })
}

fn overflow(order: &mut Value) {
    order["lines"][0]["quantity"] = json!(1_000_000);
    order["lines"][0]["unit_price"]["amount"] = json!(1_000_000_000_000_000_i64);
}

fn several(order: &mut Value) {
    order["lines"][0]["quantity"] = json!(0);
    order["total"]["currency"] = json!("won");
}

#[test]
fn what_is_no_json_order_is_refused_without_repeating_it() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "form");
        let good = String::from_utf8(shop.order(&[(0, 1)]).body.to_vec())?;
        let torn = good[..good.char_indices().nth(200).context("no body")?.0].to_owned();
        let twice = good.replacen("\"total\"", "\"total\":{\"amount\":1,\"currency\":\"KRW\"},\"total\"", 1);
        let nested = "[".repeat(10_000);
        let bodies = [
            torn.clone(),
            format!("{good}{good}"),
            twice,
            nested,
            "null".into(),
            "[]".into(),
            format!("\"{torn}"),
            " ".into(),
        ];
        for body in bodies {
            let answer = shop.place("form", body).await?;
            shop.problem(&answer, 422, "invalid-order")?;
        }
        let answer = shop
            .place("form", Bytes::from([&b"{\"lines\":\"\xff\xfe"[..], good.as_bytes()].concat()))
            .await?;
        shop.problem(&answer, 422, "invalid-order")?;

        let (path, token) = (shop.orders(), shop.token().to_owned());
        let mut client = Client::new(site.storefront);
        let mut send = async |method: Method, path: &str, media_type: &str| {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "bridge")
                .header("authorization", format!("Bearer {token}"));
            let request = request.header("idempotency-key", "form").header("content-type", media_type);
            anyhow::Ok(client.send(request.body(Full::new(Bytes::from(good.clone())))?).await?)
        };
        for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
            let answer = send(Method::POST, &path, media_type).await?;
            shop.problem(&answer, 415, "unsupported-media-type")?;
        }
        for (method, path, allowed) in [
            (Method::GET, path.clone(), "POST"),
            (Method::DELETE, path.clone(), "POST"),
            (Method::PUT, format!("{path}/0195"), "GET,HEAD"),
            (Method::PATCH, format!("{path}/0195/cancel"), "POST"),
        ] {
            let answer = send(method, &path, "application/json").await?;
            shop.problem(&answer, 405, "method-not-allowed")?;
            ensure!(answer.header("allow") == Some(allowed), "{path}: {:?}", answer.header("allow"));
        }
        let planted = shop.plant("no-path-of-ours-7231");
        for path in
            ["/", "/v1", "/v1/form", &format!("/v1/form/{planted}"), &format!("{path}/0195/{planted}")]
        {
            let answer = send(Method::POST, path, "application/json").await?;
            shop.problem(&answer, 404, "no-such-path")?;
        }
        let answer = send(Method::POST, "/v1/%FF%FE/orders", "application/json").await?;
        shop.problem(&answer, 404, "no-such-path")?;

        let answer = send(Method::POST, &path, "Application/JSON; charset=utf-8").await?;
        ensure!(answer.status == 201, "a media type with parameters is refused: {}", answer.status);
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn a_body_above_the_limit_is_refused_announced_or_not() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "size");
        let mut order = shop.json();
        order["delivery"]["note"] = json!("n".repeat(300 << 10));
        let body = order.to_string();
        let answer = shop.place("announced", body.clone()).await?;
        let problem = shop.problem(&answer, 413, "body-too-large")?;
        ensure!(problem["detail"].as_str().unwrap_or_default().contains("262144"), "{problem}");

        let head = head(&shop, "chunked", "transfer-encoding: chunked\r\n");
        let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let said = raw(site.storefront, &[head.as_bytes(), chunk.as_bytes()], Duration::ZERO, PATIENCE).await?;
        let said = String::from_utf8_lossy(&said);
        ensure!(said.starts_with("HTTP/1.1 413 ") && said.contains("/problems/body-too-large"), "{said}");

        // A body of exactly the largest size, padded with blanks, is an order.
        let order = shop.order(&[(0, 1)]);
        let padded = [order.body.to_vec(), vec![b' '; (256 << 10) - order.body.len()]].concat();
        let answer = shop.place("full", padded).await?;
        ensure!(answer.status == 201, "{}", answer.status);
        let lines: Vec<_> = (0..2_000).map(|n| json!({"sku": format!("S{n}"), "quantity": 1, "unit_price": {"amount": 1, "currency": "KRW"}})).collect();
        let mut order = shop.json();
        order["lines"] = lines.into();
        order["total"]["amount"] = json!(5_000);
        let answer = shop.place("many", order.to_string()).await?;
        shop.problem(&answer, 422, "unknown-sku")?;
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn what_the_ledger_rejects_is_named_and_sticks_to_its_key() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "shelf");
        let mut unknown = shop.json();
        unknown["lines"][0]["sku"] = json!("SANDAL-9");
        let mut cheap = shop.json();
        cheap["lines"][0]["unit_price"]["amount"] = json!(1_000);
        cheap["total"]["amount"] = json!(4_000);
        // Only the second line is sold out. No units of the first line may be taken.
        let greedy = String::from_utf8(shop.order(&[(0, 5), (2, 2)]).body.to_vec())?;
        let cases = [
            ("unknown", unknown.to_string(), 422, "unknown-sku", "SANDAL-9"),
            ("cheap", cheap.to_string(), 409, "price-changed", "SHOE-270"),
            ("greedy", greedy, 409, "sold-out", "LAST-ONE"),
        ];
        for (key, body, status, name, sku) in cases {
            let first = shop.place(key, body.clone()).await?;
            let problem = shop.problem(&first, status, name)?;
            ensure!(problem["sku"] == sku, "{problem}");
            ensure!(first.header("idempotency-replayed").is_none());
            let price = json!({"amount": 219_000, "currency": "KRW"});
            ensure!(name != "price-changed" || problem["unit_price"] == price, "{problem}");

            let again = shop.place(key, body).await?;
            ensure!(again.header("idempotency-replayed") == Some("true"), "{key}: {:?}", again.headers);
            ensure!(
                shop.problem(&again, status, name)?["order"] == problem["order"],
                "a replay names another order"
            );
            let other = shop.order(&[(1, 1)]);
            let reused = shop.place(key, other.body).await?;
            shop.problem(&reused, 422, "idempotency-key-reused")?;
        }
        let last = shop.order(&[(2, 1)]);
        ensure!(shop.place("last", last.body.clone()).await?.status == 201, "the last unit was not sold");
        let late = shop.place_new(&[(2, 1)]).await?;
        shop.problem(&late, 409, "sold-out")?;
        let other = shop.order(&[(2, 1)]);
        let reused = shop.place("last", other.body).await?;
        shop.problem(&reused, 422, "idempotency-key-reused")?;
        shop.close(site, 1, [0, 0, 1]).await
    })
}

#[test]
fn only_a_placed_order_can_be_cancelled_and_returns_units_once() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "cancel");
        let placed = shop.place_new(&[(0, 3), (2, 1)]).await?;
        let order = order_at(&placed)?;
        let rejected = shop.place_new(&[(2, 1)]).await?;
        let rejected =
            shop.problem(&rejected, 409, "sold-out")?["order"].as_str().unwrap_or_default().to_owned();

        let answer = shop.cancel(&rejected, "of-rejected").await?;
        shop.problem(&answer, 409, "not-cancellable")?;
        let nobodys = shop.plant("01930000-0000-7000-8000-000000000000");
        let planted = shop.plant("no-order-of-ours-7231");
        let version_4 = shop.plant("6b1f7a3e-0000-4000-8000-000000000000");
        for id in [nobodys.as_str(), &planted, &version_4] {
            let answer = shop.cancel(id, "nobody-s").await?;
            shop.problem(&answer, 404, "unknown-order").context(id.to_owned())?;
            let answer = shop.get(&format!("{}/{id}", shop.orders())).await?;
            shop.problem(&answer, 404, "unknown-order").context(id.to_owned())?;
        }
        let answer = shop.get(&format!("{}/%FF%FE", shop.orders())).await?;
        shop.problem(&answer, 404, "no-such-path")?;
        for query in ["?key=7231", "?key=58120034&key=58120034", "?key", "?%FF"] {
            let answer = shop.get(&format!("{}/{nobodys}{query}", shop.orders())).await?;
            shop.problem(&answer, 404, "unknown-order").context(query)?;
        }
        // Another brand's order is unknown too.
        let mut stranger = Shop::open(site, "two");
        let answer = stranger.cancel(&order, "stranger").await?;
        stranger.problem(&answer, 404, "unknown-order")?;
        let answer = stranger.get(&format!("{}/{order}", stranger.orders())).await?;
        stranger.problem(&answer, 404, "unknown-order")?;
        let answer = shop.place("wants-a-key", Bytes::new()).await?;
        shop.problem(&answer, 415, "unsupported-media-type")?;

        for key in ["first", "second", "first"] {
            let answer = shop.cancel(&order, key).await?;
            ensure!(
                answer.status == 200 && answer.json()["state"] == "cancelled",
                "{key}: {}",
                answer.status
            );
        }
        let answer = shop.cancel(&rejected, "first").await?;
        shop.problem(&answer, 422, "idempotency-key-reused")?;
        let answer = shop.get(&format!("{}/{order}", shop.orders())).await?;
        ensure!(answer.json()["state"] == "cancelled", "{:?}", answer.json());
        ensure!(shop.place_new(&[(2, 1)]).await?.status == 201, "the cancelled unit is not for sale again");
        let answer = shop.place_new(&[(2, 1)]).await?;
        shop.problem(&answer, 409, "sold-out")?;
        shop.close(site, 1, [0, 0, 1]).await
    })
}

#[test]
fn what_is_no_http_ends_its_own_connection_and_nothing_else() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "wire");
        let noise: Vec<u8> = (0..4_096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let long_header =
            format!("{}x: {}\r\n\r\n", head(&shop, "k", "").trim_end_matches("\r\n"), "y".repeat(1 << 20));
        let many_headers =
            format!("{}{}\r\n", head(&shop, "k", "").trim_end_matches("\r\n"), "\r\nx: y".repeat(1_000));
        let folded = head(&shop, "k", "x: y\r\n z\r\n");
        let cases: [&[u8]; 9] = [
            &noise,
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello, this is TLS",
            b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
            b"POST /v1/wire/orders HTTP/9.9\r\n\r\n",
            b"EHLO mail.example\r\nMAIL FROM:<a@mail.example>\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nbut then no frame of HTTP/2, only words and words and words",
            long_header.as_bytes(),
            many_headers.as_bytes(),
            folded.as_bytes(),
        ];
        for (index, bytes) in cases.iter().enumerate() {
            let said = raw(site.storefront, &[bytes], Duration::ZERO, PATIENCE).await?;
            let text = String::from_utf8_lossy(&said);
            let refused = said.is_empty() || text.starts_with("HTTP/1.1 4") || index == 5;
            ensure!(refused && !text.contains("HTTP/1.1 2"), "case {index}: {text}");
        }
        shop.plant("words and words and words");
        shop.close(site, 0, [0, 0, 0]).await
    })
}

#[test]
fn a_request_that_is_cut_in_the_middle_has_no_effect() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "cut");
        let body = shop.order(&[(0, 1)]).body;
        let request =
            [head(&shop, "cut", &format!("content-length: {}\r\n", body.len())).into_bytes(), body.to_vec()]
                .concat();
        for length in [1, 20, request.len() / 4, request.len() / 2, request.len() - 1] {
            let mut stream = TcpStream::connect(site.storefront).await?;
            stream.write_all(&request[..length]).await?;
            stream.shutdown().await?;
            let mut said = Vec::new();
            // Waits until the agent has closed the connection too, so that it has handled
            // everything.
            tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await?.unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            ensure!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{length}: {said}");
        }
        let answer = shop.place("cut", body).await?;
        ensure!(
            answer.status == 201 && answer.header("idempotency-replayed").is_none(),
            "{:?}",
            answer.headers
        );
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn a_caller_that_half_closes_after_whole_requests_gets_their_answers() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "half");
        let read = b"GET /v1/half/stock?sku=SHOE-270 HTTP/1.1\r\nhost: bridge\r\n\r\n".to_vec();
        // This read waits for a position that never comes.
        let waits =
            String::from_utf8_lossy(&read).replace("bridge\r\n", "bridge\r\nbridge-min-seq: 999999999\r\n");
        let mut orders = Vec::new();
        for number in 0..6 {
            let body = shop.order(&[(0, 1)]).body;
            let more = format!("content-length: {}\r\n", body.len());
            orders.push([head(&shop, &format!("half-{number}"), &more).into_bytes(), body.to_vec()].concat());
        }
        let [order, second, third, fourth, fifth, unfinished] = &orders[..] else { unreachable!() };
        let cases: [(Vec<u8>, &[u16]); 6] = [
            (order.clone(), &[201]),
            (read.clone(), &[200]),
            (waits.into_bytes(), &[412]),
            ([&second[..], third].concat(), &[201, 201]),
            ([&read[..], &read, &read, &read, fourth].concat(), &[200, 200, 200, 200, 201]),
            ([&fifth[..], &read, &unfinished[..unfinished.len() - 1]].concat(), &[201, 200]),
        ];
        for (index, (bytes, expected)) in cases.iter().enumerate() {
            let said = tokio::time::timeout(PATIENCE, raw_and_end(site.storefront, bytes)).await??;
            let said = String::from_utf8_lossy(&said);
            let statuses: Vec<u16> =
                said.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect();
            ensure!(statuses.starts_with(expected), "case {index}: {said}");
            // A request that is cut in the middle has no effect. It may only be answered with 400.
            let rest = &statuses[expected.len()..];
            ensure!(rest.is_empty() || index == 5 && rest == [400], "case {index}: {said}");
        }
        shop.close(site, 5, [5, 0, 0]).await
    })
}

#[test]
fn a_caller_that_trickles_is_not_waited_for() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "slow");
        let body = shop.order(&[(0, 1)]).body;
        let head = head(&shop, "slow", &format!("content-length: {}\r\n", body.len()));
        // The trickle lasts far longer than the test waits, so the agent must end each connection
        // itself.
        let trickle = |text: &[u8]| -> Vec<Vec<u8>> { text.iter().map(|byte| vec![*byte]).collect() };
        let first_bytes = |text: &[u8]| vec![text.to_vec()];
        let cases = [
            ("nothing at all", Vec::new(), ""),
            ("one letter", first_bytes(b"P"), ""),
            ("half of HTTP/2's preface", first_bytes(b"PRI * HTTP/2"), ""),
            ("a head by the byte", trickle(head.as_bytes()), ""),
            ("half a head", first_bytes(&head.as_bytes()[..60]), ""),
            ("a body by the byte", [first_bytes(head.as_bytes()), trickle(&body)].concat(), "HTTP/1.1 408 "),
            (
                "half a body",
                [first_bytes(head.as_bytes()), first_bytes(&body[..60])].concat(),
                "HTTP/1.1 408 ",
            ),
        ];
        let calls = cases.into_iter().map(|(what, pieces, answer)| {
            let storefront = site.storefront;
            tokio::spawn(async move {
                let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
                let ended = ended_by_the_agent(storefront, &pieces).await;
                let said = ended.with_context(|| format!("{what} is still waited for"))?;
                ensure!(said.starts_with(answer) && !said.contains("HTTP/1.1 2"), "{what}: {said}");
                Ok(said)
            })
        });
        let calls: Vec<_> = calls.collect();
        for call in calls {
            let said = call.await??;
            ensure!(
                said.is_empty()
                    || said.contains("/problems/body-too-slow")
                    || said.starts_with("HTTP/1.1 408"),
                "{said}"
            );
            ensure!(shop.needles().count(said.as_bytes()) == 0, "{said}");
        }
        let answer = shop.place("slow", body).await?;
        ensure!(
            answer.status == 201 && answer.header("idempotency-replayed").is_none(),
            "{:?}",
            answer.headers
        );
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn a_body_with_two_lengths_smuggles_no_second_request_in() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "smuggler");
        let body = shop.order(&[(0, 1)]).body;
        let inner = [
            head(&shop, "smuggled", &format!("content-length: {}\r\n", body.len())).into_bytes(),
            body.to_vec(),
        ]
        .concat();
        let chunked = |lengths: &str| {
            // The chunks say that the body ends at once. The length says that the rest belongs to
            // the body.
            [head(&shop, "outer", lengths).as_bytes(), b"0\r\n\r\n", &inner].concat()
        };
        let length = inner.len() + 5;
        let cases = [
            chunked(&format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n")),
            chunked(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n")),
            chunked(&format!("content-length: {length}\r\ntransfer-encoding: xchunked\r\n")),
            chunked("content-length: 5\r\ncontent-length: 6\r\n"),
            chunked("content-length: +5\r\n"),
            chunked("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"),
            chunked("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
            chunked("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n"),
            chunked("transfer-encoding: gzip, chunked\r\n"),
            chunked("content-length: 5\r\ncontent-length: 5\r\n"),
        ];
        for (index, request) in cases.iter().enumerate() {
            let said = ended_by_the_agent(site.storefront, &[request])
                .await
                .with_context(|| format!("case {index}"))?;
            ensure!(
                said.starts_with("HTTP/1.1 400 ") || said.starts_with("HTTP/1.1 501 "),
                "case {index}: {said}"
            );
            ensure!(said.matches("HTTP/1.1 ").count() == 1, "case {index} has two answers: {said}");
        }
        shop.close(site, 0, [0, 0, 0]).await
    })
}

#[test]
fn http_2_with_prior_knowledge_is_served_alike() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "two");
        let (path, token) = (format!("http://bridge{}", shop.orders()), format!("Bearer {}", shop.token()));
        let stream = TcpStream::connect(site.storefront).await?;
        let (mut connection, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let mut post = async |key: &str, body: Bytes| {
            let request = Request::post(&path)
                .header("host", "bridge")
                .header("authorization", &token)
                .header("idempotency-key", key);
            let request = request.header("content-type", "application/json").body(Full::new(body))?;
            let (head, body) = connection.send_request(request).await?.into_parts();
            anyhow::Ok((head.status, serde_json::from_slice::<Value>(&body.collect().await?.to_bytes())?))
        };
        let (status, receipt) = post("good", shop.order(&[(0, 1)]).body).await?;
        ensure!(status == 201 && receipt["state"] == "placed", "{status} {receipt}");
        let (status, problem) = post("bad", Bytes::from_static(b"{}")).await?;
        ensure!(status == 422 && problem["type"] == "/problems/invalid-order", "{status} {problem}");
        let (status, problem) = post("large", Bytes::from(vec![b' '; 300 << 10])).await?;
        ensure!(status == 413 && problem["type"] == "/problems/body-too-large", "{status} {problem}");
        shop.close(site, 1, [1, 0, 0]).await
    })
}

/// Sends pieces one after the other. Returns everything that the agent sent until it closed the
/// connection.
async fn ended_by_the_agent(storefront: std::net::SocketAddr, pieces: &[&[u8]]) -> Result<String> {
    let said = raw(storefront, pieces, Duration::from_millis(250), PATIENCE);
    let said = tokio::time::timeout(PATIENCE - Duration::from_secs(1), said).await??;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
