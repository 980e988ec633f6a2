//! Round trips of a batch to PostgreSQL. Each one is a time in which the batch holds its rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bridge_idc::config::LedgerUrl;
use bridge_idc::orders::planner::Request;
use bridge_idc::orders::store::{Ledger, RequestEnd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::database::{Database, connect, postgres};
use crate::shop::{Shop, answers, batch, commit_one, is_placed, order_of};

/// A relay to PostgreSQL that counts the statements of its client.
struct CountingRelay {
    url: LedgerUrl,
    statements: Arc<AtomicUsize>,
}

impl CountingRelay {
    async fn start(database: &Database) -> Self {
        let LedgerUrl::Postgres(url) = database.url() else { unreachable!() };
        let (user, rest) = url.split_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = LedgerUrl::Postgres(format!("{user}@{}/{name}", listener.local_addr().unwrap()));
        let (server, statements) = (server.to_owned(), Arc::new(AtomicUsize::new(0)));
        let counted = statements.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
                tokio::spawn(up(from_client, to_server, counted.clone()));
                tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            }
        });
        Self { url, statements }
    }

    /// Commits some batches and returns the number of statements of the shortest one. The others
    /// may open a connection.
    async fn statements_of(&self, ledger: &Ledger, requests: impl Fn(usize) -> Vec<Request>) -> usize {
        let mut fewest = usize::MAX;
        for round in 0..10 {
            let before = self.statements.load(Ordering::SeqCst);
            answers(ledger.commit(&batch(requests(round)), None).await);
            fewest = fewest.min(self.statements.load(Ordering::SeqCst) - before);
        }
        fewest
    }
}

/// Passes the client's bytes on, and counts the messages that execute a statement.
async fn up(mut client: OwnedReadHalf, mut server: OwnedWriteHalf, statements: Arc<AtomicUsize>) {
    let (mut chunk, mut unread, mut has_begun) = (vec![0; 64 * 1024], Vec::new(), false);
    while let Ok(read @ 1..) = client.read(&mut chunk).await {
        unread.extend_from_slice(&chunk[..read]);
        // The count is made before the server can answer.
        while let Some((kind, length)) = first_message(&unread, has_begun) {
            // Execute, or a simple query (PostgreSQL manual, Message Formats).
            if matches!(kind, Some(b'E' | b'Q')) {
                statements.fetch_add(1, Ordering::SeqCst);
            }
            // Without a kind it is the start, or a request for TLS before it, which has 8 bytes.
            has_begun |= length != 8;
            unread.drain(..length);
        }
        if server.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

/// Returns kind and length of the first message, if all of it is there.
fn first_message(bytes: &[u8], has_begun: bool) -> Option<(Option<u8>, usize)> {
    let kind = has_begun.then(|| bytes.first().copied()).flatten();
    let length = bytes.get(usize::from(has_begun)..)?.first_chunk::<4>()?;
    let length = usize::from(has_begun) + usize::try_from(u32::from_be_bytes(*length)).unwrap();
    (bytes.len() >= length).then_some((kind, length))
}

#[tokio::test]
async fn a_batch_of_orders_has_five_statements_with_begin_and_commit() {
    let database = postgres("statements").await;
    let skus: Vec<String> = (0..20).map(|n| format!("S{n}")).collect();
    let stock: Vec<(&str, i64)> = skus.iter().map(|sku| (sku.as_str(), 1_000)).collect();
    let shop = Shop::open(&database.ledger, "acme", &stock).await;
    let relay = CountingRelay::start(&database).await;
    let ledger = connect(&relay.url).await;
    let place = |key: &str, n: usize| {
        let lines = [(skus[n % 20].as_str(), 1), (skus[(n + 1) % 20].as_str(), 2)];
        shop.place_for(&format!("customer-{n}"), &format!("{key}-{n}"), &lines)
    };
    let orders = |key: &str| (0..20).map(|n| place(key, n)).collect::<Vec<_>>();
    let plain = relay.statements_of(&ledger, |round| orders(&format!("plain-{round}"))).await;
    let again = relay.statements_of(&ledger, |_| orders("plain-0")).await;
    let sold_out = |n: usize| shop.place(&format!("sold-out-{n}"), &[("S0", 5_000)]);
    let refused = relay.statements_of(&ledger, |round| vec![sold_out(round)]).await;

    let launch = "INSERT INTO launches (brand, launch, opens_at, customer_limit) VALUES ('acme', 'air', 1700000000000000, 900); \
        INSERT INTO launch_skus (launch_id, sku_id) SELECT launch_id, sku_id FROM launches JOIN skus USING (brand)";
    database.run(launch, "").await;
    let launched = relay.statements_of(&ledger, |round| orders(&format!("launched-{round}"))).await;

    let placed = orders("placed");
    answers(ledger.commit(&batch(placed.clone()), None).await);
    let cancel = |n: usize| shop.cancel(&format!("cancel-{n}"), order_of(&placed[n]));
    let cancelled =
        relay.statements_of(&ledger, |round| vec![cancel(2 * round), cancel(2 * round + 1)]).await;
    println!(
        "orders {plain}, the same again {again}, sold out {refused}, of a launch {launched}, cancelled {cancelled}"
    );
    assert_eq!((plain, again, refused, launched), (5, 4, 5, 5));
    assert!(cancelled <= 10, "{cancelled}");
}

/// BEGIN finds out that a connection was lost.
#[tokio::test]
async fn idle_connections_that_were_lost_cost_a_batch_nothing() {
    let database = postgres("lost_idle").await;
    let ledger = &database.ledger;
    let shop = Shop::open(ledger, "acme", &[("A", 100), ("B", 100), ("C", 100)]).await;
    for round in 0..3 {
        let order = |sku: &str| commit_one(ledger, shop.place(&format!("{round}-{sku}"), &[(sku, 1)]));
        let (a, b, c) = (order("A"), order("B"), order("C"));
        let (a, b, c) = tokio::join!(a, b, c);
        assert!([a, b, c].iter().all(is_placed));
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        database.run(end, "").await;
        let after =
            ledger.commit(&batch(vec![shop.place(&format!("after-{round}"), &[("A", 1)])]), None).await;
        assert!(after.outage.is_none(), "{:?}", after.outage);
        assert!(matches!(after.ends[..], [RequestEnd::Committed(_)]), "{:?}", after.ends);
    }
}
