//! Fields and framing of requests that two readers could take differently: refused as such, and nothing comes of them.

mod common;

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bridge_tests::http::{Client, raw};
use bytes::Bytes;
use common::{PATIENCE, Shared, Shop, Stage, head};
use http::{Method, Request};
use http_body_util::Full;

static BRIDGE: Shared = Shared::new(&["fields", "coding", "charset", "chunks"], |_| Ok(()));

#[test]
fn a_field_of_one_value_that_stands_twice_is_refused_wherever_it_is_read() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "fields");
        let (body, good) = (shop.order(&[(0, 1)]).body, format!("Bearer {}", shop.token()));
        let (orders, products) = (shop.orders(), "/v1/fields/products".to_owned());
        let order = format!("{orders}/01980000-0000-7000-8000-000000000000");
        let json = "application/json";
        let mut client = Client::new(site.storefront);
        type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], &'a str);
        let cases: [Case<'_>; 12] = [
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
        // The standard of traces wants a second one ignored, and a list may have any number of lines.
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
fn a_body_that_is_said_to_be_in_another_encoding_is_refused_and_blanks_before_a_token_are_not() -> Result<()>
{
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
        let said = raw(site.storefront, &[&request], Duration::ZERO, PATIENCE).await?;
        let said = String::from_utf8_lossy(&said);
        // What came before it is an order, whose answer can be lost with the connection; what came with it is none.
        ensure!(!said.contains("HTTP/1.1 200 ") && !said.contains("HTTP/1.1 503 "), "{said:?}");
        shop.close(site, 3, [3, 0, 0]).await
    })
}
