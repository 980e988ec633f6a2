//! Tests `cargo measure` itself, with a bare server instead of Bridge and with the smallest load.
//! They check the form of the rows and never a speed.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bridge_certs::{Authority, InitOptions};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::machine::make_ready;
use bridge_tests::testkit::wan::{Conditions, Wan, lacks};
use bridge_tests::tools::measure::reads::{self, Effort};
use bridge_tests::tools::measure::{Draw, FixedAnswer, HaproxyPair, NEEDS, Server, Tuning};

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
