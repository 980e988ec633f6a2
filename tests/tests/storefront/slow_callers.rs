//! Tests of callers that hold a connection and do nothing with it. Each harms only itself, and the
//! next caller is served.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::common::{PATIENCE, Shared, Shop, Stage, configure, head, metric, site, until};
use anyhow::{Context as _, Result, ensure};
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::site::Site;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// A stage with few connections, and time-outs that no test reaches.
static SMALL: Shared = Shared::new(&["full"], few_places);

/// A stage with few connections, for callers whose bodies never end.
static CROWDED: Shared = Shared::new(&["crowd"], few_places);

/// Configures one worker with at most 20 connections, and time-outs that no test reaches.
fn few_places(site: &Site) -> Result<()> {
    let config = site.cloud_dir().join("bridge-cloud.toml");
    configure(&config, "storefront.workers", 1)?;
    configure(&config, "storefront.connections_max", 20)?;
    for deadline in ["header_timeout", "body_timeout", "idle_timeout", "stall_timeout"] {
        configure(&config, &format!("storefront.{deadline}"), "5m")?;
    }
    Ok(())
}

/// A stage with many connections and short time-outs.
static SHORT: Shared = Shared::new(&["short"], |site| {
    let config = site.cloud_dir().join("bridge-cloud.toml");
    configure(&config, "storefront.header_timeout", "2s")?;
    configure(&config, "storefront.idle_timeout", "2s")?;
    configure(&config, "storefront.stall_timeout", "2s")
});

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An empty SETTINGS frame: type 4 (RFC 9113 section 6.5).
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The start of a HEADERS frame of a hundred bytes: type 1, neither the last frame nor the last
/// header block.
const HALF_A_HEAD: &[u8] = &[0, 0, 100, 1, 0, 0, 0, 0, 1, 0x82];

async fn closed_for(site: &Site, reason: &str) -> Result<u64> {
    let metrics = Client::new(site.cloud.admin).get("/metrics", None).await?;
    let name = format!("bridge_storefront_connections_closed_total{{reason=\"{reason}\"}}");
    metric(&String::from_utf8_lossy(&metrics.body), &name)
}

/// Waits until the catalogue is served.
async fn stocked(storefront: SocketAddr, brand: &str) -> Result<()> {
    let path = format!("/v1/{brand}/categories");
    until("the catalogue is served", async || {
        Ok(Client::new(storefront).get(&path, None).await.is_ok_and(|answer| answer.status == 200))
    })
    .await
}

/// Checks that a read on a new connection is answered.
async fn is_served(storefront: SocketAddr, brand: &str) -> Result<()> {
    let path = format!("/v1/{brand}/categories");
    let answer = timeout(PATIENCE, async { Client::new(storefront).get(&path, None).await }).await;
    let answer = answer.context("a new caller is not served")??;
    ensure!(answer.status == 200, "{}", answer.status);
    Ok(())
}

#[test]
fn silent_callers_of_either_http_version_keep_no_request_out() -> Result<()> {
    SMALL.play(async |Stage { site, .. }| {
        stocked(site.storefront, "full").await?;
        let mut shop = Shop::open(site, "full");
        let body = shop.order(&[(0, 1)]).body;
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: bridge\r\nauthorization: Bearer {}\r\nidempotency-key: slow\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            shop.orders(),
            shop.token(),
            body.len()
        );
        let (first, rest) = body.split_at(body.len() / 2);
        let mut slow = TcpStream::connect(site.storefront).await?;
        slow.write_all(&[head.as_bytes(), first].concat()).await?;

        let mut silent = Vec::new();
        for round in 0..60 {
            let mut stream = TcpStream::connect(site.storefront).await?;
            match round % 4 {
                0 => stream.write_all(PREFACE).await?,
                1 => stream.write_all(&[PREFACE, SETTINGS, HALF_A_HEAD].concat()).await?,
                2 => stream.write_all(b"GET /v1/full/categories HTTP/1.1\r\n").await?,
                _ => {}
            }
            silent.push(stream);
            if round % 10 == 9 {
                is_served(site.storefront, "full").await.with_context(|| format!("beside {round}"))?;
            }
        }
        let closed = closed_for(site, "no_room").await?;
        ensure!(closed > 40, "only {closed} connections were closed");

        // The very first connection has an order under way, and must still be open.
        slow.write_all(rest).await?;
        let mut said = String::new();
        timeout(PATIENCE, slow.read_to_string(&mut said)).await??;
        ensure!(said.starts_with("HTTP/1.1 201 "), "{said}");
        drop(silent);
        shop.close(site, 1, [1, 0, 0]).await
    })
}

/// A body that never ends.
struct Unfinished(Option<Bytes>);

impl Body for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(begin) => Poll::Ready(Some(Ok(Frame::data(begin)))),
            None => Poll::Pending,
        }
    }
}

#[test]
fn missing_bodies_keep_nobody_out_and_their_requests_are_told() -> Result<()> {
    CROWDED.play(async |Stage { site, .. }| {
        stocked(site.storefront, "crowd").await?;
        let mut shop = Shop::open(site, "crowd");
        let mut orders = 0;
        let body = shop.order(&[(0, 1)]).body;
        let (begin, _rest) = body.split_at(body.len() / 2);
        let mut held = Vec::new();
        for round in 0..60 {
            let more = format!("content-length: {}\r\n", body.len());
            let head = head(&shop, &format!("never-{round}"), &more);
            let mut stream = TcpStream::connect(site.storefront).await?;
            stream.write_all(&[head.as_bytes(), begin].concat()).await?;
            held.push(stream);
            if round % 10 == 9 {
                is_served(site.storefront, "crowd").await.with_context(|| format!("beside {round}"))?;
                let answer = timeout(PATIENCE, shop.place_new(&[(0, 1)])).await.context("no order")??;
                ensure!(answer.status == 201, "{}", answer.json());
                orders += 1;
            }
        }
        let mut said = String::new();
        timeout(PATIENCE, held[0].read_to_string(&mut said))
            .await
            .context("the connection is still open")??;
        ensure!(said.starts_with("HTTP/1.1 408 ") && said.contains("/problems/body-too-slow"), "{said}");
        ensure!(closed_for(site, "no_room").await? > 40);

        // Such requests over HTTP/2, with several of them on one connection.
        drop(held);
        let mut held = Vec::new();
        for round in 0..30 {
            let stream = TcpStream::connect(site.storefront).await?;
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (mut connection, driver) = handshake.await?;
            tokio::spawn(driver);
            for part in 0..3 {
                let request = Request::post(format!("http://bridge{}", shop.orders()))
                    .header("authorization", format!("Bearer {}", shop.token()))
                    .header("idempotency-key", format!("never-{round}-{part}"))
                    .header("content-type", "application/json")
                    .body(Unfinished(Some(Bytes::copy_from_slice(begin))))?;
                held.push(tokio::spawn(connection.send_request(request)));
            }
            if round % 10 == 9 {
                is_served(site.storefront, "crowd").await.with_context(|| format!("beside {round}"))?;
                let answer = timeout(PATIENCE, shop.place_new(&[(0, 1)])).await.context("no order")??;
                ensure!(answer.status == 201, "{}", answer.json());
                orders += 1;
            }
        }
        for answer in held.drain(..3) {
            let answer = timeout(PATIENCE, answer).await.context("the connection is still open")???;
            ensure!(answer.status() == 408, "{}", answer.status());
        }
        held.iter().for_each(tokio::task::JoinHandle::abort);
        shop.close(site, orders, [orders, 0, 0]).await
    })
}

#[test]
fn a_caller_that_asks_for_nothing_is_closed_whatever_else_it_sends() -> Result<()> {
    SHORT.play(async |Stage { site, .. }| {
        stocked(site.storefront, "short").await?;
        let cases: [&[&[u8]]; 5] = [
            &[PREFACE],
            &[PREFACE, SETTINGS],
            &[PREFACE, SETTINGS, HALF_A_HEAD],
            &[b"GET /v1/short/categories HTTP/1.1\r\nhost: bridge\r\n\r\n"],
            &[b"GET /v1/short/categories HTTP/1.1\r\nhost"],
        ];
        for (index, case) in cases.iter().enumerate() {
            let mut stream = TcpStream::connect(site.storefront).await?;
            stream.write_all(&case.concat()).await?;
            let mut said = Vec::new();
            // Reads until the agent has closed the connection.
            let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
            ensure!(ended.is_ok(), "case {index} is still open");
        }
        // A trickle of bytes that form no request does not keep a connection open.
        let (mut read, mut write) = TcpStream::connect(site.storefront).await?.into_split();
        write.write_all(&[PREFACE, SETTINGS, HALF_A_HEAD].concat()).await?;
        let mut said = Vec::new();
        let trickle = async {
            while write.write_all(&[0]).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(700)).await;
            }
        };
        let ended = timeout(PATIENCE, async {
            tokio::select! {
                _hung_up = read.read_to_end(&mut said) => {}
                () = trickle => {}
            }
        });
        ensure!(ended.await.is_ok(), "a trickle keeps a connection open");
        is_served(site.storefront, "short").await
    })
}

#[test]
fn an_idle_http2_connection_is_dismissed_after_its_requests_are_answered() -> Result<()> {
    SHORT.play(async |Stage { site, .. }| {
        stocked(site.storefront, "short").await?;
        let stream = TcpStream::connect(site.storefront).await?;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut connection, driver) = handshake.await?;
        let driver = tokio::spawn(driver);
        for _ in 0..3 {
            let request = Request::get("http://bridge/v1/short/categories").body(Empty::<Bytes>::new())?;
            let (head, body) = connection.send_request(request).await?.into_parts();
            ensure!(head.status == 200 && !body.collect().await?.to_bytes().is_empty());
        }
        // GOAWAY without an error ends the connection in order.
        let ended = timeout(PATIENCE, driver).await.context("the connection is still open")??;
        ensure!(ended.is_ok(), "{ended:?}");
        Ok(())
    })
}

#[test]
fn a_caller_that_does_not_take_its_answers_is_cut() -> Result<()> {
    SHORT.play(async |Stage { site, .. }| {
        stocked(site.storefront, "short").await?;
        // The answers are larger than all buffers between both ends, and the caller reads nothing.
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4_096)?;
        let mut stream = socket.connect(site.storefront).await?;
        let request = b"GET /openapi.json HTTP/1.1\r\nhost: bridge\r\n\r\n".repeat(2_000);
        let before = closed_for(site, "stalled").await?;
        // The agent reads requests until its buffers are full, then it cannot read any more.
        let asking = async {
            let _cut = stream.write_all(&request).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = asking => {}
            cut = until("the connection is cut", async || Ok(closed_for(site, "stalled").await? > before)) => cut?,
        }
        is_served(site.storefront, "short").await
    })
}

#[test]
fn an_http2_stream_that_takes_nothing_ends_with_its_connection() -> Result<()> {
    SHORT.play(async |Stage { site, .. }| {
        stocked(site.storefront, "short").await?;
        let stream = TcpStream::connect(site.storefront).await?;
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(16);
        let (mut connection, driver) = builder.handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(driver);
        let request = Request::get("http://bridge/openapi.json").body(Empty::<Bytes>::new())?;
        let answer = connection.send_request(request).await?;
        ensure!(answer.status() == 200, "{}", answer.status());
        let ended = timeout(PATIENCE, driver).await;
        ensure!(ended.is_ok(), "the connection is still open");
        drop(answer);
        is_served(site.storefront, "short").await
    })
}

/// Returns an HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a request without a body. Its head is encoded by RFC 7541, without entries in the
/// dynamic table.
fn request(stream: u32, method: &[u8], path: &str) -> Vec<u8> {
    let text = |name: u8, value: &[u8]| [&[name, u8::try_from(value.len()).unwrap_or(0)], value].concat();
    let (method, path) = (text(2, method), text(4, path.as_bytes()));
    frame(1, 0b101, stream, &[&method[..], &[0x86], &path, &text(1, b"bridge")].concat())
}

/// Reads a frame. Returns its type and stream.
async fn read_frame(stream: &mut TcpStream) -> Result<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.context("the connection has ended")?;
    let [a, b, c, kind, _, stream_id @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]);
    stream.read_exact(&mut vec![0; usize::try_from(length)?]).await?;
    Ok((kind, u32::from_be_bytes(stream_id)))
}

#[test]
fn a_stream_that_takes_nothing_is_reset_without_its_connection() -> Result<()> {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const GO_AWAY: u8 = 7;
    SHORT.play(async |Stage { site, .. }| {
        stocked(site.storefront, "short").await?;
        let mut stream = TcpStream::connect(site.storefront).await?;
        // The window allows one byte of an answer.
        let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]);
        let large = request(1, b"GET", "/openapi.json");
        let small = request(3, b"GET", "/v1/short/stock?sku=SHOE-270");
        stream.write_all(&[PREFACE, &settings, &large, &small].concat()).await?;

        let (mut reset, mut next) = (Vec::new(), 5);
        let talking = async {
            while reset.len() < 2 {
                stream.write_all(&request(next, b"HEAD", "/v1/short/categories")).await?;
                loop {
                    match read_frame(&mut stream).await? {
                        (GO_AWAY, _) => anyhow::bail!("the connection is to end"),
                        (RESET, stream) => reset.push(stream),
                        (HEADERS, stream) if stream == next => break,
                        _ => {}
                    }
                }
                next += 2;
                // The connection is always in use, but this is no flood.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            Ok(())
        };
        timeout(PATIENCE, talking).await.context("the streams go on")??;
        reset.sort_unstable();
        ensure!(reset == [1, 3], "{reset:?}");
        let metrics = Client::new(site.cloud.admin).get("/metrics", None).await?;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        ensure!(metric(&metrics, "bridge_storefront_streams_stalled_total")? >= 2);
        Ok(())
    })
}

/// Limits the agent's open files so much that its own limit of connections is never reached.
#[test]
fn with_few_open_files_the_longest_idle_leave_and_operators_are_told() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let dir = tempfile::tempdir()?;
        let mut site = site(dir.path(), &["files"]).await?;
        let config = site.cloud_dir().join("bridge-cloud.toml");
        for deadline in ["header_timeout", "idle_timeout"] {
            configure(&config, &format!("storefront.{deadline}"), "5m")?;
        }
        // Limits as in a shell or a container: the soft limit is below the hard limit, and both are
        // small.
        let program = std::mem::replace(&mut site.cloud.program, "/bin/sh".into());
        let command = "ulimit -S -n 64 && ulimit -H -n 250 && exec \"$0\" \"$@\"".to_owned();
        let rest = std::mem::take(&mut site.cloud.arguments);
        site.cloud.arguments = [vec!["-c".to_owned(), command, program.display().to_string()], rest].concat();
        let mut bridge = site.start().await?;
        stocked(site.storefront, "files").await?;

        let mut silent = Vec::new();
        for round in 0..300 {
            let mut stream = TcpStream::connect(site.storefront).await?;
            stream.write_all(b"GET /v1/files/categories HTTP/1.1\r\n").await?;
            silent.push(stream);
            if round % 50 == 49 {
                is_served(site.storefront, "files").await.with_context(|| format!("beside {round}"))?;
            }
        }
        ensure!(closed_for(&site, "no_room").await? > 100);
        let log = std::fs::read_to_string(&site.cloud.log)?;
        ensure!(!log.contains("Too many open files"), "the limit in force is too high");

        let mut admin = Client::new(site.cloud.admin);
        let ready = admin.get("/readyz", None).await?;
        let note = ready.json()["notes"].to_string();
        ensure!(ready.status == 200 && note.contains("may open 250 files"), "{note}");
        let status = admin.get("/status", None).await?.json();
        ensure!(status["notes"].to_string().contains("connections_max is 10000"), "{status}");
        let in_force = status["connections_max"].as_u64().unwrap_or_default();
        ensure!((60..250).contains(&in_force), "{status}");
        drop(silent);
        bridge.cloud.terminate().await?;
        bridge.idc.terminate().await?;
        Ok(())
    })
}
