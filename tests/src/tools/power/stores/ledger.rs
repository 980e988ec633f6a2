//! The ledger as a store: every acknowledged order is in it, at its position, and no unit is sold
//! twice.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bridge_idc::catalogue::import::stock::StockFile;
use bridge_idc::config::LedgerUrl;
use bridge_idc::import_file::parts::WAIT;
use bridge_idc::orders::planner::{Action, CustomerTag, Placement, Request};
use bridge_idc::orders::store::{Batch, Ledger, RequestEnd, RequestOutcome};
use bridge_idc::vault::PersonalAtRest;
use bridge_protocol::domain::{
    Brand, Currency, IdempotencyKey, Line, Money, OrderId, OrderTerms, Outcome, Quantity, Sku, UnixMicros,
};
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::numbers;
use crate::tools::power::recorder::{Acknowledged, answer, is_hung};

/// Units of each SKU. Runs never order as many.
const UNITS: i64 = 1_000_000;

/// Number of SKUs in the shop.
const SKUS: u64 = 40;

/// Price of every SKU, in won.
const PRICE: i64 = 219_000;

/// Number of concurrent writers.
const WRITERS: usize = 2;

/// Number of batches of each writer.
const BATCHES: usize = 60;

/// Attempts at a batch before its writer gives up, because the disk will not recover.
const TRIES: u32 = 3;

/// Duration of a hanging fsync.
const HANGS: Duration = Duration::from_millis(200);

/// State that the writers share.
struct Writers {
    ledger: Ledger,
    acknowledged: Acknowledged,
    next: AtomicU64,
}

fn brand() -> Result<Brand> {
    Ok(Brand::new("acme")?)
}

/// Returns the order id for a number.
fn order(number: u64) -> OrderId {
    let [.., a, b, c, d, e, f, g, h] = number.to_be_bytes();
    OrderId::new(UnixMicros::new(1_795_343_485_000_000), [0, 0, a, b, c, d, e, f, g, h])
}

/// Makes a request that places an order of one or two lines.
fn place(number: u64) -> Result<Request> {
    let (brand, currency) = (brand()?, Currency::new("KRW")?);
    let line = |nth: u64| -> Result<Line> {
        let sku = Sku::new(&format!("SKU-{}", (number + nth) % SKUS)).context("a SKU")?;
        let quantity = Quantity::new(1 + i64::try_from(number % 3)?).context("a quantity")?;
        Ok(Line { sku, quantity, unit_price: PRICE })
    };
    let lines = (0..1 + number % 2).map(line).collect::<Result<Vec<_>>>()?;
    let total: i64 = lines.iter().map(|line| line.unit_price * line.quantity.get()).sum();
    let money = |amount| Money::new(amount, currency).context("an amount");
    let Ok(terms) = OrderTerms::new(lines, money(0)?, money(total)?, format!("c-{number}"), 2_000) else {
        bail!("the terms of order {number} are refused")
    };
    let field = |_| Some(vec![u8::try_from(number % 256).unwrap_or(0); 90]);
    let personal =
        PersonalAtRest { key_version: 7, wrapped_key: vec![0xa5; 80], fields: std::array::from_fn(field) };
    let placement =
        Placement { order: order(number), terms, customer: CustomerTag::from_bytes([1; 32]), personal };
    let key = IdempotencyKey::parse(format!("key-{number}").as_bytes())?.digest(&brand);
    Ok(Request { brand, key, fingerprint: [1; 32], action: Action::Place(Box::new(placement)) })
}

/// Returns a time that is later than each one before.
fn now() -> UnixMicros {
    static CLOCK: AtomicI64 = AtomicI64::new(1_795_343_485_000_000);
    UnixMicros::new(CLOCK.fetch_add(1, Ordering::Relaxed))
}

pub(super) async fn drive(url: &LedgerUrl, mut dice: StdRng) -> Result<()> {
    let ledger = Ledger::connect(url, None, 4).await?;
    let acknowledged = Acknowledged::open()?;
    let helper = tokio::spawn(let_go());
    if open_shop(&ledger).await.is_err() {
        // The disk failed before anything could be acknowledged.
        return Ok(());
    }
    acknowledged.say("shop")?;
    let next = AtomicU64::new(u64::from(dice.random::<u32>()) << 20);
    let writers = Arc::new(Writers { ledger, acknowledged, next });
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let sizes = (0..BATCHES).map(|_| dice.random_range(1..=8)).collect();
        tasks.spawn(writers.clone().commit(sizes));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    helper.abort();
    Ok(())
}

/// Creates a ledger and fills its shop.
pub(super) async fn open(url: &LedgerUrl) -> Result<()> {
    open_shop(&Ledger::connect(url, None, 2).await?).await
}

/// Creates the tables and imports the stock. It changes nothing if that was done before.
async fn open_shop(ledger: &Ledger) -> Result<()> {
    ledger.migrate().await?;
    if ledger.stock_sums(&brand()?).await?.is_empty() {
        let mut csv = "brand,sku,unit_price,currency,quantity\n".to_owned();
        for sku in 0..SKUS {
            writeln!(csv, "acme,SKU-{sku},{PRICE},KRW,{UNITS}")?;
        }
        let Ok(file) = StockFile::read(csv.as_bytes()) else { bail!("the stock file is refused") };
        ledger.import_stock(&file, WAIT, |_| {}).await?;
    }
    Ok(())
}

impl Writers {
    /// Commits batches of these sizes. Repeats each until it is answered.
    async fn commit(self: Arc<Self>, sizes: Vec<u64>) -> Result<()> {
        for size in sizes {
            let number = self.next.fetch_add(size, Ordering::Relaxed);
            let mut open: Vec<u64> = (number..number + size).collect();
            for _ in 0..TRIES {
                let requests = open.iter().map(|number| place(*number)).collect::<Result<_>>()?;
                let ended = self.ledger.commit(&Batch { requests, at: now() }, None).await;
                let mut again = Vec::new();
                for (number, end) in open.into_iter().zip(ended.ends) {
                    match end {
                        RequestEnd::Committed(committed) => self.acknowledge(number, committed.answer())?,
                        RequestEnd::Waits(_) | RequestEnd::NotCommitted | RequestEnd::Unknown => {
                            again.push(number)
                        }
                    }
                }
                open = again;
                if open.is_empty() {
                    break;
                }
            }
            if !open.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn acknowledge(&self, number: u64, answer: &RequestOutcome) -> Result<()> {
        match answer {
            RequestOutcome::Settled { receipt, .. } if receipt.outcome == Outcome::Placed => {
                self.acknowledged.say(&format!("order {number} {}", receipt.position))
            }
            other => bail!("order {number} is not placed: {other:?}"),
        }
    }
}

/// Ends hanging fsyncs.
async fn let_go() {
    loop {
        if is_hung() {
            sleep(HANGS).await;
            answer();
        }
        sleep(HANGS / 20).await;
    }
}

pub(super) async fn check(url: &LedgerUrl, acknowledged: &[String]) -> Result<()> {
    let ledger = Ledger::connect(url, None, 2).await.context("open the ledger")?;
    if acknowledged.iter().any(|line| line == "shop") {
        ledger.ready().await?;
        let sums = ledger.stock_sums(&brand()?).await?;
        ensure!(sums.len() as u64 == SKUS, "{} of {SKUS} SKUs are there", sums.len());
    }
    for [number, position] in numbers::<2>(acknowledged, "order ") {
        let found = ledger.look_up(&brand()?, order(number), None).await?;
        let found = found.with_context(|| format!("order {number} was answered with 201 and is lost"))?;
        let is = (found.state.as_str(), u64::try_from(found.position)?);
        ensure!(is == ("placed", position), "order {number} was placed at {position} and is {is:?}");
    }
    // The ledger must be able to go on.
    open_shop(&ledger).await?;
    let ended = ledger.commit(&Batch { requests: vec![place(1)?], at: now() }, None).await;
    ensure!(matches!(ended.ends[..], [RequestEnd::Committed(_)]), "the ledger does not go on: {ended:?}");
    let (sums, totals) = (ledger.stock_sums(&brand()?).await?, ledger.totals().await?);
    let fits = |initial: i64, available: i64, sold: i64| initial == available + sold && available >= 0;
    ensure!(sums.iter().all(|sum| fits(sum.initial, sum.available, sum.sold)), "the stock does not add up");
    let sold: i64 = sums.iter().map(|sum| sum.sold).sum();
    ensure!(sold == totals.units, "{sold} units are sold and {} ordered", totals.units);
    Ok(())
}
