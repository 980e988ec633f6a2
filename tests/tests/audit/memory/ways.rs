//! The ways in which an order can come, each with its own brand and with values that occur nowhere
//! else.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::search::Needles;
use bridge_tests::testkit::site::{Bridge, Site};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::http2::Http2;
use super::wire::Wire;
use crate::common::{Shop, order_at};

/// The brand of each way.
pub(crate) const WAYS: [&str; 11] = [
    "keep-alive",
    "in-pieces",
    "chunked",
    "pipelined",
    "long-head",
    "refused",
    "not-an-order",
    "given-up",
    "http2",
    "http2-frames",
    "no-line",
];

/// A way whose orders were sent.
pub(crate) struct Taken {
    pub(crate) name: &'static str,
    pub(crate) planted: Vec<String>,
    bodies: Vec<u8>,
    /// Connections on which another request can be sent.
    wires: Vec<Wire>,
    /// Other connections, which this side keeps open.
    _others: Vec<Box<dyn Send>>,
}

/// An order that is sent again and again, each time without its last bytes.
pub(crate) struct Half<'a> {
    pub(crate) needles: Arc<Needles>,
    way: Way<'a>,
    part: Bytes,
    wires: Vec<Wire>,
}

impl<'a> Half<'a> {
    pub(crate) fn of(site: &'a Site) -> Half<'a> {
        let mut way = Way::new(site, WAYS[0]);
        let body = way.order();
        let head = way.head(&length(&body));
        let part = [head.as_bytes(), &body[..body.len() - 20]].concat().into();
        let needles = Arc::new(Needles::new(way.planted.iter().map(String::as_str)));
        Half { needles, way, part, wires: Vec::new() }
    }

    /// Sends the part on a new connection. The agent drops the part after a time-out, so a search
    /// needs the part sent again.
    pub(crate) async fn send(&mut self) -> Result<()> {
        let mut wire = self.way.wire().await?;
        wire.send(&self.part).await?;
        self.wires.push(wire);
        Ok(())
    }
}

/// The storefront of one way.
struct Way<'a> {
    name: &'static str,
    site: &'a Site,
    shop: Shop,
    planted: Vec<String>,
    bodies: Vec<u8>,
    wires: Vec<Wire>,
    others: Vec<Box<dyn Send>>,
    keys: u32,
}

impl Taken {
    /// Returns true if all connections stayed open. Fails if one was closed.
    pub(crate) async fn are_open(&mut self) -> Result<bool> {
        for wire in &mut self.wires {
            wire.send(b"GET /v1/no-such-brand/orders/1 HTTP/1.1\r\nhost: bridge\r\n\r\n").await?;
            ensure!(wire.answer().await?.0 == 404);
        }
        Ok(!self.wires.is_empty())
    }
}

/// Returns all bodies that were sent. A test uses them to show that the search would find them.
pub(crate) fn bodies(taken: &[Taken]) -> Vec<u8> {
    taken.iter().flat_map(|way| way.bodies.iter().copied()).collect()
}

/// Sends a single order in the plainest way. Later orders could overwrite what it left in memory.
pub(crate) async fn take_one(site: &Site) -> Result<Taken> {
    let mut way = Way::new(site, WAYS[0]);
    let body = way.order();
    let answer = way.shop.place("the-only-one", body).await?;
    ensure!(answer.status == 201, "{}", answer.status);
    Ok(way.taken())
}

/// Sends orders in every way.
pub(crate) async fn take_all(site: &Site, bridge: &Bridge) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    for name in WAYS {
        let mut way = Way::new(site, name);
        let went = match name {
            "keep-alive" => way.keep_alive().await,
            "in-pieces" => way.in_pieces().await,
            "chunked" => way.chunked().await,
            "pipelined" => way.pipelined().await,
            "long-head" => way.long_head().await,
            "refused" => way.refused().await,
            "not-an-order" => way.not_an_order().await,
            "given-up" => way.given_up().await,
            "http2" => way.http2().await,
            "http2-frames" => way.http2_frames().await,
            _ => way.no_line(bridge).await,
        };
        went.with_context(|| format!("the way {name}"))?;
        taken.push(way.taken());
    }
    Ok(taken)
}

impl<'a> Way<'a> {
    fn new(site: &'a Site, name: &'static str) -> Way<'a> {
        let shop = Shop::open(site, name);
        Way {
            name,
            site,
            shop,
            planted: Vec::new(),
            bodies: Vec::new(),
            wires: Vec::new(),
            others: Vec::new(),
            keys: 0,
        }
    }

    fn taken(self) -> Taken {
        let Way { name, shop, planted, bodies, wires, mut others, .. } = self;
        others.push(Box::new(shop));
        Taken { name, planted, bodies, wires, _others: others }
    }

    /// Returns an order whose values consist of words, so that a part of a value is found as well.
    fn value(&mut self) -> Value {
        let mut order = self.shop.json();
        // Letters only, since digits could form a card number, which Bridge refuses.
        let letter = |_| char::from(rand::random_range(b'a'..=b'z'));
        let words: Vec<String> = (0..56).map(|_| (0..12).map(letter).collect()).collect();
        let mut words_of = words.chunks(7).map(|words| words.join(" "));
        let mut next = || json!(words_of.next().unwrap_or_default());
        order["customer"]["name"] = next();
        order["customer"]["email"] = next();
        order["customer"]["phone"] = next();
        order["delivery"]["name"] = next();
        order["delivery"]["phone"] = next();
        order["delivery"]["address"] = json!([next(), next()]);
        order["delivery"]["note"] = next();
        self.planted.extend(words);
        order
    }

    fn order(&mut self) -> Bytes {
        let body = self.value().to_string();
        self.sent(body.as_bytes());
        body.into()
    }

    fn sent(&mut self, body: &[u8]) {
        self.bodies.extend_from_slice(body);
    }

    fn key(&mut self) -> String {
        self.keys += 1;
        format!("{}-{}", self.name, self.keys)
    }

    fn head(&mut self, more: &str) -> String {
        let (path, token, key) = (self.shop.orders(), self.shop.token().to_owned(), self.key());
        format!(
            "POST {path} HTTP/1.1\r\nhost: bridge\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}\r\n\
             content-type: application/json\r\n{more}\r\n"
        )
    }

    async fn wire(&self) -> Result<Wire> {
        Wire::open(self.site.storefront).await
    }

    fn keep_open(&mut self, connection: impl Send + 'static) {
        self.others.push(Box::new(connection));
    }

    /// Sends forty orders on one connection. A DBA's command reads the first.
    async fn keep_alive(&mut self) -> Result<()> {
        for index in 0..40 {
            let (key, body) = (self.key(), self.order());
            let answer = self.shop.place(&key, body).await?;
            ensure!(answer.status == 201, "{}", answer.status);
            if index == 0 {
                let order = order_at(&answer)?;
                self.site.idc_command(&["personal", "show", &order, "--purpose", "a-test"]).await?;
            }
        }
        Ok(())
    }

    async fn in_pieces(&mut self) -> Result<()> {
        let mut wire = self.wire().await?;
        for size in [90, 400, 1_000] {
            let body = self.order();
            let text = [self.head(&length(&body)).as_bytes(), &body].concat();
            wire.send_pieces(text.chunks(size)).await?;
            ensure!(wire.answer().await?.0 == 201);
        }
        // Sends the head and the body apart, as some clients do. The second body has nearly the
        // largest allowed size.
        for blanks in [0, (256 << 10) - 4_096] {
            let body = [&self.order()[..], &vec![b' '; blanks]].concat();
            let head = self.head(&length(&body));
            wire.send_pieces([head.as_bytes(), &body]).await?;
            ensure!(wire.answer().await?.0 == 201);
        }
        self.wires.push(wire);
        Ok(())
    }

    async fn chunked(&mut self) -> Result<()> {
        let mut wire = self.wire().await?;
        for size in [60, 500, 5_000] {
            let body = self.order();
            let chunks = body
                .chunks(size)
                .flat_map(|chunk| [format!("{:x};a=b\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            let text: Vec<u8> = chunks.collect();
            let head = self.head("transfer-encoding: chunked\r\n");
            wire.send(&[head.as_bytes(), &text, b"0\r\n\r\n"].concat()).await?;
            ensure!(wire.answer().await?.0 == 201);
        }
        self.wires.push(wire);
        Ok(())
    }

    async fn pipelined(&mut self) -> Result<()> {
        let mut wire = self.wire().await?;
        let mut text = Vec::new();
        for _ in 0..9 {
            let body = self.order();
            text.extend_from_slice(self.head(&length(&body)).as_bytes());
            text.extend_from_slice(&body);
        }
        // The first piece ends in the head of the last request. The rest comes later.
        let cut = text.len() - 1_100;
        wire.send_pieces([&text[..cut], &text[cut..cut + 50], &text[cut + 50..]]).await?;
        for _ in 0..9 {
            ensure!(wire.answer().await?.0 == 201);
        }
        self.wires.push(wire);
        Ok(())
    }

    /// Sends a head that is larger than the first buffer, then a small one.
    async fn long_head(&mut self) -> Result<()> {
        for filler in [12 << 10, 0] {
            let body = self.order();
            let more = format!("{}x-long: {}\r\n", length(&body), "x".repeat(filler));
            let text = [self.head(&more).as_bytes(), &body].concat();
            let mut wire = self.wire().await?;
            wire.send(&text).await?;
            ensure!(wire.answer().await?.0 == 201);
            self.keep_open(wire);
        }
        Ok(())
    }

    /// Sends requests that are refused before the body is read, or because of the body.
    async fn refused(&mut self) -> Result<()> {
        let token = self.shop.token().to_owned();
        for (what, status) in [
            (("Bearer ", "Bearer wrong"), 401),
            (("/v1/", "/v1/nobody-"), 404),
            (("application/json", "text/plain"), 415),
            (("idempotency-key", "x-key"), 400),
            (("POST", "PUT"), 405),
        ] {
            let body = self.order();
            let head = self.head(&length(&body)).replacen(what.0, what.1, 1);
            ensure!(head.contains(&token) || status == 401);
            let mut wire = self.wire().await?;
            wire.send(&[head.as_bytes(), &body].concat()).await?;
            let (answered, _) = wire.answer().await.with_context(|| format!("{what:?}"))?;
            ensure!(answered == status, "{what:?}: {answered}");
            self.keep_open(wire);
        }
        // A body above the limit, with and without a declared length. The agent reads a part before
        // it refuses.
        let body = [&self.order()[..], &vec![b' '; 300 << 10]].concat();
        for (announced, text) in [
            (length(&body), body.clone()),
            (
                "transfer-encoding: chunked\r\n".to_owned(),
                [format!("{:x}\r\n", body.len()).as_bytes(), &body].concat(),
            ),
        ] {
            let head = self.head(&announced);
            let mut wire = self.wire().await?;
            // The agent may close the connection before the whole body is sent.
            let _sent = wire.send(&[head.as_bytes(), &text].concat()).await;
            let answered = wire.answer().await;
            ensure!(answered.as_ref().map_or(true, |(status, _)| *status == 413), "{answered:?}");
            self.keep_open(wire);
        }
        // Refusals by the ledger: sold out, a wrong price, and a key that another body used.
        let mut order = self.value();
        order["lines"][0]["quantity"] = json!(900);
        self.place(&order, 422).await?;
        let mut order = self.value();
        order["lines"][0]["unit_price"]["amount"] = json!(218_999);
        order["total"]["amount"] = json!(218_999 + 3_000);
        self.place(&order, 409).await?;
        let key = self.key();
        for status in [201, 422] {
            let body = self.order();
            let answer = self.shop.place(&key, body).await?;
            ensure!(answer.status == status, "{}", answer.status);
        }
        Ok(())
    }

    async fn place(&mut self, order: &Value, status: u16) -> Result<()> {
        let (key, body) = (self.key(), order.to_string());
        self.sent(body.as_bytes());
        let answer = self.shop.place(&key, body).await?;
        ensure!(answer.status == status, "{}: {:?}", answer.status, answer.body);
        Ok(())
    }

    /// Sends bodies that are not orders. Each fails for another reason in the parser.
    async fn not_an_order(&mut self) -> Result<()> {
        for change in [
            |order: &mut Value| order["delivery"]["note"] = json!(7),
            |order: &mut Value| order["customer"]["surname"] = order["customer"]["name"].clone(),
            |order: &mut Value| order["lines"] = order["customer"]["name"].clone(),
            |order: &mut Value| order["lines"][0]["sku"] = order["customer"]["name"].clone(),
            |order: &mut Value| order["total"]["currency"] = order["customer"]["name"].clone(),
            |order: &mut Value| order["customer"]["name"] = json!("4111 1111 1111 1111"),
            |order: &mut Value| {
                let name = order["customer"]["name"].as_str().unwrap_or_default().to_owned();
                order["customer"][&name] = json!(1);
            },
        ] {
            let mut order = self.value();
            change(&mut order);
            self.place(&order, 422).await?;
        }
        // Escapes make the parser assemble each value in a new buffer. The second body ends early,
        // and the third has an extra byte.
        let escaped = |body: &str| body.replace("\":\"", "\":\"\\u0020\\n").into_bytes();
        let (good, short, long) =
            (self.value().to_string(), self.value().to_string(), self.value().to_string());
        for (body, status) in [
            (escaped(&good), 201),
            (escaped(&short)[..short.len() - 30].to_vec(), 422),
            ([&escaped(&long)[..], b"}"].concat(), 422),
        ] {
            self.sent(&body);
            let key = self.key();
            let answer = self.shop.place(&key, body).await?;
            ensure!([status, 422].contains(&answer.status.as_u16()), "{}: {:?}", answer.status, answer.body);
        }
        Ok(())
    }

    /// The caller disconnects in the middle, or is too slow.
    async fn given_up(&mut self) -> Result<()> {
        for _ in 0..3 {
            let body = self.order();
            let mut wire = self.wire().await?;
            wire.send(&[self.head(&length(&body)).as_bytes(), &body[..body.len() - 9]].concat()).await?;
        }
        let body = self.order();
        let mut wire = self.wire().await?;
        wire.send(&[self.head(&length(&body)).as_bytes(), &body[..body.len() - 9]].concat()).await?;
        ensure!(wire.answer().await?.0 == 408);
        self.keep_open(wire);
        // This caller disconnects without waiting for the answer.
        let body = self.order();
        let mut wire = self.wire().await?;
        wire.send(&[self.head(&length(&body)).as_bytes(), &body].concat()).await
    }

    async fn http2(&mut self) -> Result<()> {
        let stream = TcpStream::connect(self.site.storefront).await?;
        let (mut connection, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        for round in 0..4 {
            let mut calls = Vec::new();
            for _ in 0..5 {
                let (key, body) = (self.key(), self.order());
                let request = Request::post(format!("http://bridge{}", self.shop.orders()))
                    .header("authorization", format!("Bearer {}", self.shop.token()))
                    .header("idempotency-key", key)
                    .header("content-type", if round == 3 { "text/plain" } else { "application/json" });
                calls.push(connection.send_request(request.body(Full::new(body))?));
            }
            for call in calls {
                let answer = call.await?;
                let status = answer.status();
                answer.into_body().collect().await?;
                ensure!(status == if round == 3 { 415 } else { 201 }, "{status}");
            }
        }
        ensure!(connection.is_ready(), "the connection was closed");
        self.keep_open(connection);
        Ok(())
    }

    async fn http2_frames(&mut self) -> Result<()> {
        let mut connection = Http2::open(self.wire().await?).await?;
        let (path, token) = (self.shop.orders(), format!("Bearer {}", self.shop.token()));
        for frames in [40, 300, 900, 5_000] {
            for (token, outcome) in [(&*token, "\"order\""), ("Bearer wrong", "/problems/unauthorized")] {
                let (key, body) = (self.key(), self.order());
                let headers = [
                    ("authorization", token),
                    ("idempotency-key", &key),
                    ("content-type", "application/json"),
                ];
                let stream = connection.post(&path, &headers, &body, frames).await?;
                let answer = connection.answer(stream).await?;
                let answer = String::from_utf8(answer)?;
                ensure!(answer.contains(outcome), "{answer}");
            }
        }
        let (key, body) = (self.key(), self.order());
        let headers =
            [("authorization", &*token), ("idempotency-key", &key), ("content-type", "application/json")];
        connection.post_and_reset(&path, &headers, &body[..body.len() - 9]).await?;
        connection.ping().await?;
        self.keep_open(connection);
        Ok(())
    }

    /// Sends orders while the line is cut, so none reaches the IDC.
    async fn no_line(&mut self, bridge: &Bridge) -> Result<()> {
        self.site.line.cut(true);
        let asked: Result<()> = async {
            for _ in 0..3 {
                let (key, body) = (self.key(), self.order());
                let status = self.shop.place(&key, body).await?.status;
                ensure!(
                    [StatusCode::SERVICE_UNAVAILABLE, StatusCode::ACCEPTED].contains(&status),
                    "{status}"
                );
            }
            bridge.cloud.wait_until_not_ready().await?;
            let (key, body) = (self.key(), self.order());
            let status = self.shop.place(&key, body).await?.status;
            ensure!(status == 503, "{status}");
            Ok(())
        }
        .await;
        self.site.line.cut(false);
        asked
    }
}

fn length(body: &[u8]) -> String {
    format!("content-length: {}\r\n", body.len())
}
