//! Tests of header fields and framing that two readers could read differently. The agent refuses
//! them, and they have no effect.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{PATIENCE, Shared, Shop, Stage, configure, head};
use anyhow::{Context as _, Result, ensure};
use bridge_tests::testkit::http::{Client, raw};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

static BRIDGE: Shared = Shared::new(&["fields", "hosts", "coding", "charset", "chunks"], |_| Ok(()));

static FORM: Shared = Shared::new(&["form", "large", "rest"], |site| {
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "catalogue.min_seq_wait", "1m")
});

#[test]
fn a_repeated_single_value_field_is_refused_wherever_it_is_read() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "fields");
        let (body, good) = (shop.order(&[(0, 1)]).body, format!("Bearer {}", shop.token()));
        let (orders, products) = (shop.orders(), "/v1/fields/products".to_owned());
        let order = format!("{orders}/01980000-0000-7000-8000-000000000000");
        let json = "application/json";
        let mut client = Client::new(site.storefront);
        type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case<'_>; 13] = [
            (
                Method::POST,
                &orders,
                &[("authorization", &good), ("authorization", "Bearer x")],
                "bad-request",
            ),
            (
                Method::POST,
                &orders,
                &[("authorization", "Bearer x"), ("authorization", &good)],
                "bad-request",
            ),
            (Method::POST, &orders, &[("authorization", &good), ("authorization", &good)], "bad-request"),
            (Method::GET, &order, &[("authorization", &good), ("authorization", "Bearer x")], "bad-request"),
            (Method::POST, &orders, &[("idempotency-key", "a"), ("idempotency-key", "a")], "idempotency-key"),
            (Method::POST, &orders, &[("content-type", json), ("content-type", json)], "bad-request"),
            (Method::POST, &orders, &[("x-request-id", "a"), ("x-request-id", "b")], "bad-request"),
            (Method::GET, &products, &[("x-request-id", "a"), ("x-request-id", "b")], "bad-request"),
            (Method::GET, &products, &[("authorization", &good), ("authorization", &good)], "bad-request"),
            (Method::GET, &products, &[("bridge-min-seq", "0"), ("bridge-min-seq", "0")], "invalid-min-seq"),
            (Method::HEAD, &products, &[("bridge-min-seq", "0"), ("bridge-min-seq", "9")], ""),
            (Method::GET, &products, &[("host", "bridge"), ("host", "bridge")], "bad-request"),
            (Method::POST, &orders, &[("host", "bridge"), ("host", "other")], "bad-request"),
        ];
        for (method, path, twice, name) in cases {
            let mut request = Request::builder().method(&method).uri(path);
            let usual = [
                ("host", "bridge"),
                ("authorization", &good),
                ("idempotency-key", "k"),
                ("content-type", json),
            ];
            let usual = usual.iter().filter(|(known, _)| *known != twice[0].0);
            for (name, value) in usual.chain(twice) {
                request = request.header(*name, *value);
            }
            let answer = client.send(request.body(Full::new(body.clone()))?).await?;
            if method == Method::HEAD {
                ensure!(answer.status == 400, "{twice:?}: {}", answer.status);
            } else {
                shop.problem(&answer, 400, name).with_context(|| format!("{method} {path} {twice:?}"))?;
            }
        }
        // A second `traceparent` is ignored, as the W3C Trace Context standard requires. A list may
        // be in any number of lines.
        let mut request = Request::post(&orders).header("host", "bridge").header("authorization", &good);
        for (name, value) in [
            ("idempotency-key", "good"),
            ("content-type", json),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-01"),
            ("accept", "text/plain"),
            ("accept", json),
        ] {
            request = request.header(name, value);
        }
        let answer = client.send(request.body(Full::new(body))?).await?;
        ensure!(answer.status == 201, "{}", answer.json());
        shop.close(site, 1, [1, 0, 0]).await
    })
}

/// A request over HTTP/2: method, path and header fields.
type RequestParts = (Method, String, Vec<(&'static str, String)>);

/// Sends requests over one HTTP/2 connection. Returns the status and problem of each answer.
async fn over_http_2(storefront: SocketAddr, requests: Vec<RequestParts>) -> Result<Vec<(u16, String)>> {
    let stream = TcpStream::connect(storefront).await?;
    let (mut connection, driver) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    let mut answers = Vec::new();
    for (method, path, fields) in requests {
        let mut request = Request::builder().method(method).uri(format!("http://bridge{path}"));
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let (head, body) =
            connection.send_request(request.body(Full::new(Bytes::new()))?).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        answers.push((head.status.as_u16(), body["type"].as_str().unwrap_or_default().to_owned()));
    }
    Ok(answers)
}

#[test]
fn http2_refuses_another_host_and_a_second_authorization_everywhere() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let shop = Shop::open(site, "hosts");
        let good = format!("Bearer {}", shop.token());
        let (read, order) = ("/v1/hosts/stock?sku=SHOE-270".to_owned(), shop.orders());
        let cases = [
            (Method::GET, &read, vec![("host", "bridge")], 200, ""),
            (Method::GET, &read, vec![("host", "BRIDGE:80")], 200, ""),
            (Method::GET, &read, vec![("host", "other")], 400, "/problems/bad-request"),
            (Method::POST, &order, vec![("host", "other")], 400, "/problems/bad-request"),
            (Method::GET, &read, vec![("authorization", "Bearer x")], 200, ""),
            (
                Method::GET,
                &read,
                vec![("authorization", &good), ("authorization", "Bearer x")],
                400,
                "/problems/bad-request",
            ),
            (
                Method::POST,
                &order,
                vec![("authorization", &good), ("authorization", &good)],
                400,
                "/problems/bad-request",
            ),
        ];
        let requests = cases.iter().map(|(method, path, fields, ..)| {
            let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            (method.clone(), (*path).clone(), fields)
        });
        let answers = over_http_2(site.storefront, requests.collect()).await?;
        for (answer, (method, path, fields, status, name)) in answers.iter().zip(&cases) {
            let expected = (*status, (*name).to_owned());
            ensure!(*answer == expected, "{method} {path} {fields:?}: {answer:?}, not {expected:?}");
        }
        shop.close(site, 0, [0, 0, 0]).await
    })
}

#[test]
fn a_body_in_a_content_coding_is_refused_as_such() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "coding");
        let body = shop.order(&[(0, 1)]).body;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&body)?;
        let packed = Bytes::from(packed.finish()?);
        let order = format!("{}/01980000-0000-7000-8000-000000000000/payments", shop.orders());
        let refund = format!("{order}/01980000-0000-7000-8000-000000000000/refunds");
        let mut client = Client::new(site.storefront);
        let mut send = async |path: &str, key: &str, codings: &[&str], body: &Bytes| {
            let mut request =
                Request::post(path).header("host", "bridge").header("content-type", "application/json");
            request = request.header("idempotency-key", key);
            request = request.header("authorization", format!("Bearer {}", site.token("coding")));
            for coding in codings {
                request = request.header("content-encoding", *coding);
            }
            anyhow::Ok(client.send(request.body(Full::new(body.clone()))?).await?)
        };
        for path in [&shop.orders(), &order, &refund] {
            for (codings, body) in [
                (&["gzip"][..], &packed),
                (&["gzip"], &body),
                (&["identity", "gzip"], &body),
                (&["identity, br"], &body),
                (&["x-unheard-of"], &body),
            ] {
                let answer = send(path, "k", codings, body).await?;
                shop.problem(&answer, 415, "unsupported-media-type")
                    .with_context(|| format!("{path} {codings:?}"))?;
                ensure!(answer.header("accept-encoding") == Some("identity"), "{:?}", answer.headers);
            }
        }
        let answer = send(&shop.orders(), "k", &["Identity", ""], &body).await?;
        ensure!(answer.status == 201, "{}", answer.json());
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn another_content_encoding_is_refused_and_blanks_before_a_token_are_not() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "charset");
        let mut client = Client::new(site.storefront);
        let (orders, body, token) =
            (shop.orders(), shop.order(&[(0, 1)]).body, format!("bearer   {}", site.token("charset")));
        let mut send = async |key: &str, media_type: &str| {
            let request = Request::post(&orders).header("host", "bridge").header("content-type", media_type);
            let request = request.header("idempotency-key", key).header("authorization", &token);
            anyhow::Ok(client.send(request.body(Full::new(body.clone()))?).await?)
        };
        for media_type in [
            "application/json; charset=euc-kr",
            "application/json;charset=\"UTF-16\"",
            "application/json; v=1; CharSet = iso-8859-1",
            "text/json; charset=utf-8",
        ] {
            let answer = send("k", media_type).await?;
            shop.problem(&answer, 415, "unsupported-media-type").with_context(|| media_type.to_owned())?;
        }
        for (key, media_type) in
            [("a", "Application/JSON ; charset=\"Utf-8\""), ("b", "application/json;v=1")]
        {
            let answer = send(key, media_type).await?;
            ensure!(answer.status == 201, "{media_type}: {}", answer.json());
        }
        shop.close(site, 2, [2, 0, 0]).await
    })
}

#[test]
fn a_bare_line_feed_behind_a_body_in_chunks_smuggles_nothing_in() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "chunks");
        let mut chunked = |key: &str| {
            let body = shop.order(&[(0, 1)]).body;
            let (first, rest) = body.split_at(body.len() / 2);
            let head = head(&shop, key, "transfer-encoding: chunked\r\n").into_bytes();
            let size = |part: &[u8]| format!("{:x};why=not\r\n", part.len()).into_bytes();
            let parts =
                [&head[..], &size(first), first, b"\r\n", &size(rest), rest, b"\r\n0\r\nexpires: 0\r\n\r\n"];
            parts.concat()
        };
        let last = b"GET /v1/chunks/products HTTP/1.1\r\nhost: bridge\r\nconnection: close\r\n\r\n";
        let said =
            raw(site.storefront, &[&chunked("a"), &chunked("b"), last], Duration::ZERO, PATIENCE).await?;
        let said = String::from_utf8_lossy(&said);
        ensure!(
            said.matches("HTTP/1.1 201 ").count() == 2 && said.matches("HTTP/1.1 ").count() == 3,
            "{said}"
        );

        let smuggled = b"GET /v1/chunks/products HTTP/1.1\nhost: bridge\n\n";
        let request = [&chunked("c")[..], smuggled].concat();
        ensure!(statuses(&refused(site.storefront, &[&request]).await?) == [201, 400]);
        shop.close(site, 3, [3, 0, 0]).await
    })
}

/// Sends bytes. Returns everything that the agent sends until it closes the connection. Fails if
/// the connection stays open.
async fn refused(storefront: SocketAddr, pieces: &[&[u8]]) -> Result<String> {
    let said = raw(storefront, pieces, Duration::ZERO, PATIENCE);
    let said =
        timeout(PATIENCE - Duration::from_secs(1), said).await.context("the connection is still open")??;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Returns the statuses of all answers in a text.
fn statuses(said: &str) -> Vec<u16> {
    said.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
}

/// Checks that the last answer in a text is complete and has this problem.
fn ends_with_problem(said: &str, status: u16, name: &str) -> Result<()> {
    let last = said.rsplit("HTTP/1.1 ").next().unwrap_or_default();
    let (head, body) = last.split_once("\r\n\r\n").with_context(|| format!("no answer: {said:?}"))?;
    let head = head.to_ascii_lowercase();
    ensure!(head.contains("content-type: application/problem+json"), "{said}");
    ensure!(head.contains("\r\nconnection: close"), "{said}");
    let body: serde_json::Value = serde_json::from_str(body)?;
    ensure!(body["type"] == format!("/problems/{name}") && body["status"] == status, "{said}");
    ensure!(head.contains(&format!("x-request-id: {}", body["request_id"].as_str().unwrap_or("none"))));
    Ok(())
}

/// Returns bad heads of an order, without the empty line at their end. Each has its expected status
/// and problem.
fn bad_heads(good: &str) -> Vec<(String, u16, &'static str)> {
    let with = |more: &str| format!("{good}{more}\r\n");
    let many: String = (0..400).map(|index| format!("x-{index}: {}\r\n", "y".repeat(500))).collect();
    let few: String = (0..70).map(|index| format!("x-{index}: y\r\n")).collect();
    let (bad, large, coding) = ("bad-request", "head-too-large", "transfer-coding");
    vec![
        (with("content-length: 5\r\ntransfer-encoding: chunked"), 400, bad),
        (with("transfer-encoding: chunked\r\ncontent-length: 5"), 400, bad),
        (with("content-length: 5\r\ncontent-length: 6"), 400, bad),
        (with("content-length: +5"), 400, bad),
        (with("transfer-encoding: chunked\r\ntransfer-encoding: chunked"), 400, bad),
        (with("transfer-encoding: xchunked"), 501, coding),
        (with("transfer-encoding: gzip, chunked"), 501, coding),
        (with("x-a: b\r\n c"), 400, bad),
        (with("x-a : b"), 400, bad),
        (with("x-a"), 400, bad),
        (with("x-a: \u{1}"), 400, bad),
        (with("x-a: b\nx-c: d"), 400, bad),
        (good.replace("\r\n", "\n"), 400, bad),
        (good.replace("HTTP/1.1", "HTTP/9.1"), 400, bad),
        (good.replace("HTTP/1.1", "HTTP/1.0") + "transfer-encoding: chunked\r\n", 400, bad),
        (good.replace("POST", "P<ST"), 400, bad),
        (good.replace("host", "host: a\r\nhost"), 400, bad),
        (with(few.trim_end()), 431, large),
        (with(many.trim_end()), 431, large),
        // The head is slightly larger than the limit, so it still fits in every buffer.
        (with(&format!("x-a: {}", "y".repeat(17_000))), 431, large),
        (
            with(&format!("x-a: {}", "y".repeat(12_000))) + "content-length: 5\r\ncontent-length: 6\r\n",
            400,
            bad,
        ),
    ]
}

#[test]
fn a_malformed_request_is_refused_whatever_came_before_it() -> Result<()> {
    FORM.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "form");
        let good = head(&shop, "never", "");
        let read = "GET /v1/form/stock?sku=SHOE-270 HTTP/1.1\r\nhost: bridge\r\n\r\n";
        let mut orders = 0;
        for (bad, status, name) in bad_heads(&good[..good.len() - 2]) {
            let bad = bad + "\r\n5\r\n{    \r\n0\r\n\r\n";
            let about = || format!("{:?}", &bad[..bad.len().min(good.len() + 60)]);
            let said = refused(site.storefront, &[bad.as_bytes()]).await.with_context(about)?;
            ensure!(statuses(&said) == [status], "{}: {said}", about());
            ends_with_problem(&said, status, name).with_context(about)?;

            // A bad request after an order is answered after the order's answer.
            let body = shop.order(&[(0, 1)]).body;
            let mut order = head(&shop, &format!("k{orders}"), "transfer-encoding: chunked\r\n").into_bytes();
            order.extend(format!("{:x}\r\n", body.len()).as_bytes());
            order.extend([&body[..], b"\r\n0\r\n\r\n", bad.as_bytes()].concat());
            let said = refused(site.storefront, &[&order]).await.with_context(about)?;
            ensure!(statuses(&said) == [201, status], "{}: {said}", about());
            ends_with_problem(&said, status, name).with_context(about)?;
            orders += 1;

            // A bad request after reads that came in the same packet is answered after their
            // answers.
            for reads in [1, 3, 4, 5, 20] {
                let said = refused(site.storefront, &[(read.repeat(reads) + &bad).as_bytes()]).await;
                let said = said.with_context(|| format!("{reads} reads before {}", about()))?;
                let expected: Vec<u16> = vec![200; reads].into_iter().chain([status]).collect();
                ensure!(statuses(&said) == expected, "{reads} reads before {}: {said}", about());
                ends_with_problem(&said, status, name).with_context(about)?;
            }
        }
        // Heads that the agent's own check refuses also wait for the reads before them.
        let bad = format!("{read}{read}{good}x-a: b\n\r\n");
        let bad = bad.replace("\r\n\r\nx-a", "\r\nx-a");
        let said = refused(site.storefront, &[bad.as_bytes()]).await?;
        ensure!(statuses(&said).last() == Some(&400) && statuses(&said).len() == 3, "{said}");
        shop.close(site, orders, [orders, 0, 0]).await
    })
}

#[test]
fn a_too_large_head_behind_an_order_is_read_to_its_end() -> Result<()> {
    FORM.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "rest");
        let body = shop.order(&[(0, 1)]).body;
        let order = head(&shop, "before-it", &format!("content-length: {}\r\n", body.len()));
        let large = head(&shop, "never", &format!("x-a: {}", "y".repeat(40_000)));
        let mut stream = TcpStream::connect(site.storefront).await?;
        stream.write_all(&[order.as_bytes(), &body, large.as_bytes()].concat()).await?;
        let mut said = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut said)).await.context("the connection is still open")??;
        let said = String::from_utf8_lossy(&said);
        ensure!(statuses(&said) == [201, 431], "{said}");
        // A closed socket would answer the first of these writes with a reset, which drops what the
        // caller has not read.
        for _ in 0..2 {
            stream.write_all(b"yyyy").await.context("the connection was cut off")?;
        }
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn pipelined_answers_do_not_wait_for_a_slow_one_behind_them() -> Result<()> {
    FORM.play(async |Stage { site, .. }| {
        let read = "GET /v1/form/stock?sku=SHOE-270 HTTP/1.1\r\nhost: bridge\r\n\r\n";
        // No change ever has that position, so the request waits, and another request waits behind
        // it.
        let waits = read.replace("\r\n\r\n", "\r\nbridge-min-seq: 999999999\r\n\r\n");
        let asked = format!("{}{waits}{read}", read.repeat(4));
        let mut caller = TcpStream::connect(site.storefront).await?;
        caller.write_all(asked.as_bytes()).await?;
        let (mut said, mut room) = (Vec::new(), [0; 4096]);
        let heard = async {
            while statuses(&String::from_utf8_lossy(&said)).len() < 4 {
                let bytes = caller.read(&mut room).await?;
                ensure!(bytes > 0, "the connection is closed: {}", String::from_utf8_lossy(&said));
                said.extend_from_slice(&room[..bytes]);
            }
            Ok(())
        };
        timeout(PATIENCE, heard).await.context("the answers are held back")??;
        ensure!(statuses(&String::from_utf8_lossy(&said)) == [200; 4], "{said:?}");
        Ok(())
    })
}

#[test]
fn an_answer_before_the_end_of_a_body_is_read_whole() -> Result<()> {
    FORM.play(async |Stage { site, .. }| {
        let shop = Shop::open(site, "large");
        let large = vec![b' '; 900 << 10];
        let announced = head(&shop, "k", &format!("content-length: {}\r\n", large.len()));
        let in_chunks = head(&shop, "k", "transfer-encoding: chunked\r\n").replace("Bearer ", "Bearer not-");
        let chunks = b"5\r\n     \r\n".repeat(200);
        for _ in 0..5 {
            let said = refused(site.storefront, &[announced.as_bytes(), &large]).await?;
            ensure!(statuses(&said) == [413], "{said}");
            let said = refused(site.storefront, &[&[in_chunks.as_bytes(), &chunks].concat()]).await?;
            ensure!(statuses(&said) == [401], "{said}");
        }
        shop.close(site, 0, [0, 0, 0]).await
    })
}
