//! A crowd of callers that ask for the state of their orders. It must not take the place of an
//! order of any brand, nor of a question of another brand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{ON_ONE_CONNECTION, SLOW_LOOK_UPS};
use crate::common::{Shop, configure, order_at, postgres, site_on, until};

/// Callers that ask at the same time, again and again.
const ASKERS: usize = 400;

/// Orders of each brand while the crowd asks.
const ORDERS: usize = 10;

#[tokio::test]
async fn a_crowd_that_asks_costs_no_order_its_place() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "orders.queue_max", 16)?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "orders.window_max", 8)?;
    let _bridge = site.start().await?;
    let (mut a, mut b) = (Shop::open(&site, "a"), Shop::open(&site, "b"));
    let mut paths = Vec::new();
    for shop in [&mut a, &mut b] {
        let placed = shop.place_new(&[(1, 1)]).await?;
        paths.push(format!("{}/{}", shop.orders(), order_at(&placed)?));
    }
    Dba::connect(site.database()).await?.execute(SLOW_LOOK_UPS).await?;

    let crowd = Arc::new(Crowd::default());
    let mut askers = JoinSet::new();
    for _ in 0..ASKERS / ON_ONE_CONNECTION {
        let stream = TcpStream::connect(site.storefront).await?;
        let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        for _ in 0..ON_ONE_CONNECTION {
            let (path, token) = (paths[0].clone(), a.token().to_owned());
            askers.spawn(ask_without_end(client.clone(), path, token, crowd.clone()));
        }
    }
    until("the crowd fills the queue", async || {
        while let Some(asker) = askers.try_join_next() {
            asker??;
        }
        Ok(crowd.refused.load(Ordering::Relaxed) > 0)
    })
    .await?;
    let [answered, refused] = crowd.so_far();
    for number in 0..ORDERS {
        for shop in [&mut a, &mut b] {
            let answer = shop.place_new(&[(0, 1)]).await?;
            ensure!(answer.status == 201, "order {number} is answered {}: {}", answer.status, answer.json());
        }
    }
    let [answered_beside, _] = crowd.so_far();
    // An order behind the whole queue of questions would wait for some hundred answers.
    ensure!(answered_beside - answered < 2 * ORDERS, "{answered} to {answered_beside} were answered first");
    let answer = b.get(&paths[1]).await?;
    ensure!(answer.status == 200, "another brand's question is answered {}", answer.status);
    let [_, refused_beside] = crowd.so_far();
    ensure!(refused_beside > refused, "the crowd was gone before the orders came");
    crowd.is_over.store(true, Ordering::Relaxed);
    while let Some(asker) = askers.join_next().await {
        asker??;
    }
    let orders = ORDERS as i64;
    a.close(&site, 1 + orders, [orders, 1, 0]).await?;
    b.close(&site, 1 + orders, [orders, 1, 0]).await
}

/// Counts of the crowd's answers.
#[derive(Default)]
struct Crowd {
    answered: AtomicUsize,
    refused: AtomicUsize,
    is_over: AtomicBool,
}

impl Crowd {
    /// Returns the numbers of answered and of refused questions.
    fn so_far(&self) -> [usize; 2] {
        [&self.answered, &self.refused].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Asks for the state of an order until the crowd is over. A question may be refused only with
/// `busy`, because its brand has its share.
async fn ask_without_end(
    mut client: SendRequest<Empty<Bytes>>,
    path: String,
    token: String,
    crowd: Arc<Crowd>,
) -> Result<()> {
    while !crowd.is_over.load(Ordering::Relaxed) {
        client.ready().await?;
        let request = Request::get(format!("http://bridge{path}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(Empty::new())?;
        let (head, body) = client.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if head.status == 200 {
            crowd.answered.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let problem: Value = serde_json::from_slice(&body)?;
        ensure!(head.status == 503 && problem["type"] == "/problems/busy", "{} {problem}", head.status);
        crowd.refused.fetch_add(1, Ordering::Relaxed);
        let after = head.headers.get("retry-after").context("no retry-after")?.to_str()?.parse()?;
        tokio::time::sleep(Duration::from_secs(after)).await;
    }
    Ok(())
}
