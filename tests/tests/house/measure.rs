//! Tests `cargo measure` itself, with the smallest load, and for reads with a bare server instead
//! of Bridge. They check the form of the rows and never a speed.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bridge_certs::{Authority, InitOptions};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::machine::make_ready;
use bridge_tests::testkit::wan::{Conditions, Wan, lacks};
use bridge_tests::tools::measure::reads::{self, Effort};
use bridge_tests::tools::measure::{Draw, FixedAnswer, HaproxyPair, NEEDS, Row, Server, Tuning};
use bridge_tests::tools::measure::{fairness, orders, surge};

/// Row of the real invoices.
const INVOICES: &str = "invoices_rtt10_vs_sql";

#[tokio::test]
async fn every_server_answers_under_load_and_stands_in_its_rows() -> Result<()> {
    make_ready(&NEEDS).await?;
    let program = Path::new(env!("CARGO_BIN_EXE_measure"));
    let answer = FixedAnswer::made_up(1_400);
    let (dir, bridge_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let bridge = Server::bare(program, bridge_dir.path(), &answer, 1).await?;
    let effort = Effort { rounds: 1, seconds: 1, workers: 1, connections: &[64] };
    let mut draw = Draw::from_seed(1);
    let rows =
        reads::measure(program, dir.path(), &bridge.asked_for("/"), &answer, effort, &mut draw).await?;
    let names: Vec<_> = rows.iter().map(|row| row.name).collect();
    assert_eq!(
        names,
        [
            "read_cpu_vs_nginx_cache_tuned",
            "read_cpu_vs_haproxy_cache",
            "read_cpu_vs_bare",
            "read_cpu_vs_nginx_cache",
            "read_cpu_vs_nginx_static",
            "reads_per_s_vs_nginx_cache_tuned",
            "reads_per_s_vs_haproxy_cache",
            "reads_per_s_vs_bare",
        ]
    );
    for row in &rows {
        assert_eq!(row.pairs.len(), 1, "{}", row.name);
        assert!(row.baseline() > 0 && row.bridge() > 0 && row.ratio() > 0, "{row:?}");
    }
    assert!(
        rows.iter().map(|row| row.target.is_some()).eq([true, true, true, false, false, false, false, false])
    );
    Ok(())
}

#[tokio::test]
async fn a_haproxy_pair_answers_across_a_line_that_loses_packets() -> Result<()> {
    if let Some(lack) = lacks() {
        skipped(Lack::Tun, lack);
        return Ok(());
    }
    make_ready(&NEEDS).await?;
    let program = Path::new(env!("CARGO_BIN_EXE_measure"));
    let (answer, dir) = (FixedAnswer::made_up(400), tempfile::tempdir()?);
    let origin = Server::bare(program, dir.path(), &answer, 1).await?;
    let authority = Authority::init(dir.path().join("pki"), &InitOptions::default())?;
    let wan = Wan::start(1, None)?;
    wan.line().set(Conditions::round_trip(Duration::from_millis(2)).losing(10_000));
    let path = "/v1/shop/orders/one";
    let pair = HaproxyPair::start(dir.path(), &wan, &authority, &origin, path, &answer).await?;
    // A handshake in which both sides send certificates already takes more packets.
    let before = wan.line().counts().left;
    assert!(before > 10, "{before}");
    let got = Client::new(pair.address).get(path, None).await?;
    assert_eq!(got.body, answer.body);
    assert!(wan.line().counts().left > before, "the request did not cross the line");
    Ok(())
}

#[tokio::test]
async fn a_server_that_leaves_a_header_out_is_not_measured() -> Result<()> {
    make_ready(&NEEDS).await?;
    let program = Path::new(env!("CARGO_BIN_EXE_measure"));
    let (answer, dirs) = (FixedAnswer::made_up(1_400), [tempfile::tempdir()?, tempfile::tempdir()?]);
    let origin = Server::bare(program, dirs[0].path(), &answer.for_caches(), 1).await?;
    let other = FixedAnswer::made_up(1_400).for_caches();
    let nginx = Server::nginx(dirs[1].path(), &origin, &other, 1, Tuning::Tuned).await?;
    // This cache varies on other header fields than Bridge does, and allows a longer storage.
    let error = nginx.asked_for("/v1/shop/products/one").answers(&answer).await.expect_err("other headers");
    assert!(error.to_string().contains("vary is"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn orders_are_placed_with_sql_and_with_bridge_across_the_same_line() -> Result<()> {
    if let Some(lack) = lacks() {
        skipped(Lack::Tun, lack);
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let effort = orders::Effort {
        rounds: 1,
        length: Duration::from_millis(300),
        clients: &[2, 4],
        callers: &[16],
        batches: &[16],
        scenes: &["hot_sku_rtt10_vs_sql", "hot_sku_rtt10_loss1_vs_sql", "launch_mix_rtt10_vs_sql", INVOICES],
    };
    let rows = Box::pin(orders::measure(dir.path(), effort, &mut Draw::from_seed(1))).await?;
    let names = [
        "hot_sku_rtt10_vs_sql",
        "hot_sku_rtt10_loss1_vs_sql",
        "launch_mix_rtt10_vs_sql",
        INVOICES,
        "hot_sku_rtt10_p50_ms",
        "hot_sku_rtt10_p99_ms",
        "hot_sku_rtt10_cpu_us",
        "hot_sku_rtt10_open_p50_ms",
        "hot_sku_rtt10_open_p99_ms",
        "hot_sku_rtt10_loss1_open_p50_ms",
        "hot_sku_rtt10_loss1_open_p99_ms",
        "launch_mix_vs_hot_sku",
        "commit_vs_batch_limit",
        "idle_order_ms",
        "idle_order_overhead_ms",
    ];
    // Not every machine has the real invoices.
    let has_invoices = rows.iter().any(|row| row.name == INVOICES);
    let names: Vec<_> = names.into_iter().filter(|name| has_invoices || *name != INVOICES).collect();
    are(&rows, &names);
    let loads = rows[0].notes.iter().filter(|note| note.contains("CPU an order: ")).count();
    assert_eq!(loads, 3, "both loads of the SQL, and Bridge's: {:?}", rows[0].notes);
    // Five round trips of 10 ms, and one.
    let idle = rows.iter().find(|row| row.name == "idle_order_ms").context("the row is there")?;
    assert!(idle.baseline() > 50_000 && idle.bridge() > 10_000, "{idle:?}");
    Ok(())
}

#[tokio::test]
async fn a_ledger_is_filled_and_orders_are_placed_beside_an_empty_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (length, mut draw) = (Duration::from_millis(100), Draw::from_seed(1));
    let rows = Box::pin(orders::grown::measure(dir.path(), 3_000, 1, length, &mut draw)).await?;
    are(&rows, &["hot_sku_grown_vs_empty"]);
    Ok(())
}

#[tokio::test]
async fn a_few_brands_flood_a_bridge_and_readers_come_beside_orders() -> Result<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_measure"));
    let dir = tempfile::tempdir()?;
    let effort = fairness::Effort { rounds: 1, seconds: 1, brands: 6, floods: 2, callers: 8 };
    let rows = Box::pin(fairness::measure(program, dir.path(), effort, &mut Draw::from_seed(1))).await?;
    let (refused, others): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.name == "fairness_refused_below_weight");
    let names = [
        "fairness_p99_vs_alone",
        "fairness_p50_vs_alone",
        "orders_beside_readers",
        "orders_beside_readers_vs_bare",
    ];
    are(&others, &names);
    let notes = &refused[0].notes;
    assert!(
        notes.len() == 3 && notes[2].starts_with("floods: ") && !notes[2].contains(" 0 orders"),
        "{notes:?}"
    );
    assert!(others[2].notes.iter().all(|note| note.contains("readers")), "{:?}", others[2].notes);
    Ok(())
}

#[tokio::test]
async fn a_surge_meets_a_bare_server_and_bridge_with_orders_meanwhile() -> Result<()> {
    let program = Path::new(env!("CARGO_BIN_EXE_measure"));
    let dir = tempfile::tempdir()?;
    let second = Duration::from_secs(1);
    let effort = surge::Effort {
        rounds: 1,
        calm: second,
        held: second,
        decay: second,
        calm_per_s: 20,
        orders_per_s: 20,
        products: 20,
    };
    let mut draw = Draw::from_seed(1);
    let (rows, plots) = Box::pin(surge::measure(program, dir.path(), effort, &mut draw)).await?;
    let (errors, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.name == "surge_errors");
    let names = [
        "surge_pv_per_min",
        "surge_read_p99_ms",
        "surge_orders_per_s",
        "surge_memory_mib",
        "surge_memory_after_mib",
    ];
    are(&others, &names);
    assert_eq!((errors[0].baseline(), errors[0].bridge()), (0, 0), "{:?}", others[0].notes);
    assert!(others[0].notes.iter().all(|note| note.contains("no error")), "{:?}", others[0].notes);
    assert!(plots.iter().all(|plot| plot.series.iter().all(|series| !series.points.is_empty())));
    Ok(())
}

/// Checks the names of the rows, and that each has a figure of both sides in its only round.
fn are(rows: &[Row], names: &[&str]) {
    assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), names);
    for row in rows {
        assert_eq!(row.pairs.len(), 1, "{}", row.name);
        assert!(row.baseline() > 0 && row.bridge() > 0 && row.ratio() > 0, "{row:?}");
    }
}
