//! Tests of orders from the storefront's side: receipts, replays, status paths, and the answer when
//! the outcome is unknown.

use std::fs;
use std::time::Duration;

use crate::common::twins::Twins;
use crate::common::{Shared, Shop, Stage, configure, metric, obstacles, order_at, postgres, site, until};
use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_protocol::domain::{Brand, IdempotencyKey};
use bridge_protocol::note::NoteVerifier;
use bridge_protocol::receipt::{self, Receipt};
use bridge_protocol::wire;
use bridge_tests::testkit::generated;
use bridge_tests::testkit::http::HttpAnswer;
use bridge_tests::testkit::ledger_totals::LedgerTotals;
use bridge_tests::testkit::load::{self, Outcome, replay};
use bridge_tests::testkit::process::{Programs, run};
use bridge_tests::testkit::site::Site;
use prost::Message as _;

/// A stage on which callers wait for an answer for the default time.
static BRIDGE: Shared = Shared::new(&["receipts", "replays", "corrections"], |_| Ok(()));

/// A stage on which callers wait one second, so that a slow line leaves an outcome unknown. A slow
/// machine may do so too.
static IMPATIENT: Shared = Shared::new(&["lost", "slow"], |site| {
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "1s")
});

/// Mutex for tests that cut or slow the stage's line, which all of them share.
static LINE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[test]
fn a_receipt_proves_what_was_committed() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "receipts");
        let order = shop.order(&[(0, 2), (1, 1)]);
        let answer = shop.place(&order.key, order.body).await?;
        ensure!(answer.status == 201, "{}", answer.status);
        let body = answer.json();
        ensure!(body["state"] == "placed" && body["order"] == order_at(&answer)?, "{body}");

        let receipt = verified(site, &answer)?;
        let brand = Brand::new("receipts")?;
        ensure!(receipt.order.to_string() == body["order"], "{receipt:?}");
        ensure!(
            receipt.key == IdempotencyKey::parse(order.key.as_bytes())?.digest(&brand),
            "the receipt is of another key"
        );
        ensure!((receipt.brand, receipt.outcome.code()) == (brand, "placed"));
        ensure!(
            receipt.position == body["position"] && receipt.committed_at.to_string() == body["committed_at"]
        );

        let location = answer.header("location").context("no Location")?;
        let state = shop.get(location).await?;
        let found = state.json();
        for same in ["order", "state", "position", "committed_at"] {
            ensure!(found[same] == body[same], "{same}: {found} {body}");
        }
        ensure!(
            found["total"]["amount"] == order.total_minor && found["lines"][1]["sku"] == "SHIRT-M",
            "{found}"
        );
        ensure!(shop.needles().count(&state.body) == 0, "personal data comes back: {found}");

        let cancelled = shop.cancel(&order_at(&answer)?, "no longer").await?;
        ensure!(verified(site, &cancelled)?.outcome.code() == "cancelled");
        shop.close(site, 0, [0, 0, 0]).await
    })
}

#[test]
fn a_finished_request_is_replayed_with_the_same_facts() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "replays");
        let order = shop.order(&[(2, 1)]);
        let first = shop.place(&order.key, order.body.clone()).await?;
        let again = shop.place(&order.key, order.body.clone()).await?;
        ensure!((first.status, again.status) == (201.try_into()?, 201.try_into()?));
        ensure!(first.header("idempotency-replayed").is_none());
        ensure!(again.header("idempotency-replayed") == Some("true"));
        ensure!(again.header("location") == first.header("location"));
        ensure!(verified(site, &first)? == verified(site, &again)?, "the replay's receipt has other facts");

        let late = shop.order(&[(2, 1)]);
        let first = shop.place(&late.key, late.body.clone()).await?;
        let again = shop.place(&late.key, late.body).await?;
        let order_of = |problem: serde_json::Value| problem["order"].clone();
        ensure!(
            order_of(shop.problem(&first, 409, "sold-out")?)
                == order_of(shop.problem(&again, 409, "sold-out")?)
        );
        ensure!(first.header("idempotency-replayed").is_none());
        ensure!(again.header("idempotency-replayed") == Some("true"));

        let id = order_at(&shop.place(&order.key, order.body.clone()).await?)?;
        let first = shop.cancel(&id, "c").await?;
        let again = shop.cancel(&id, "c").await?;
        ensure!(verified(site, &first)? == verified(site, &again)?, "the replay's receipt has other facts");
        ensure!(again.header("idempotency-replayed") == Some("true"));
        // The key still belongs to the order that it placed, even after the cancellation.
        let again = shop.place(&order.key, order.body).await?;
        ensure!(again.status == 201 && order_at(&again)? == id, "{}", again.status);
        shop.close(site, 0, [0, 0, 0]).await
    })
}

#[test]
fn a_corrected_address_under_the_same_key_is_refused_and_never_replayed() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "corrections");
        let first = shop.json();
        let placed = shop.place("k", first.to_string()).await?;
        ensure!(placed.status == 201, "{}", placed.status);
        // Corrects, one after the other, each field that a caller may correct later. Nothing else
        // of the order differs.
        for pointer in ["/delivery/name", "/delivery/address/0", "/delivery/phone"] {
            let mut corrected = first.clone();
            let value =
                corrected.pointer_mut(pointer).with_context(|| format!("an order has no {pointer}"))?;
            *value = format!("{}1", value.as_str().context("no text")?).into();
            let answer = shop.place("k", corrected.to_string()).await?;
            shop.problem(&answer, 422, "idempotency-key-reused").with_context(|| pointer.to_owned())?;
        }
        let again = shop.place("k", first.to_string()).await?;
        ensure!(again.status == 201 && order_at(&again)? == order_at(&placed)?, "{}", again.status);
        ensure!(again.header("idempotency-replayed") == Some("true"));
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn an_order_on_a_cut_line_is_unknown_until_it_is_restored() -> Result<()> {
    IMPATIENT.play(async |Stage { site, .. }| {
        let _line = LINE.lock().await;
        let mut shop = Shop::open(site, "lost");
        let order = shop.order(&[(0, 1)]);
        site.line.cut(true);
        let answer = shop.place(&order.key, order.body.clone()).await?;
        site.line.cut(false);
        ensure!(answer.status == 202 && answer.json()["state"] == "unknown", "{}", answer.status);
        ensure!(answer.retry_after().is_some(), "{:?}", answer.headers);
        let location = answer.header("location").context("no Location")?.to_owned();
        let state = shop.resolved(&location).await?;
        ensure!(state["state"] == "placed" && state["order"] == order_at(&answer)?, "{state}");
        let again = shop.place_until_told(&order.key, order.body).await?;
        ensure!(again.status == 201 && order_at(&again)? == order_at(&answer)?, "{}", again.status);
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[test]
fn a_second_attempt_finds_what_the_first_one_placed_under_another_id() -> Result<()> {
    IMPATIENT.play(async |Stage { site, .. }| {
        let _line = LINE.lock().await;
        let mut shop = Shop::open(site, "slow");
        let order = shop.order(&[(0, 1)]);
        site.line.delay(Duration::from_millis(2_500));
        let first = shop.place(&order.key, order.body.clone()).await?;
        let second = shop.place(&order.key, order.body.clone()).await?;
        site.line.delay(Duration::ZERO);
        ensure!(
            (first.status, second.status) == (202.try_into()?, 202.try_into()?),
            "{} {}",
            first.status,
            second.status
        );
        ensure!(order_at(&first)? != order_at(&second)?, "both attempts have the same id");
        for answer in [&first, &second] {
            let state = shop.resolved(answer.header("location").context("no Location")?).await?;
            ensure!(state["state"] == "placed" && state["order"] == order_at(&first)?, "{state}");
        }
        let third = shop.place_until_told(&order.key, order.body).await?;
        ensure!(
            third.status == 201 && third.header("idempotency-replayed") == Some("true"),
            "{}",
            third.status
        );
        ensure!(order_at(&third)? == order_at(&first)?);
        shop.close(site, 1, [1, 0, 0]).await
    })
}

#[tokio::test]
async fn a_data_centre_whose_signature_is_not_pinned_is_never_believed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["forged"]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "forged");

    // The IDC agent gets a new signing key and keeps its sealing keys. The cloud agent can still
    // seal, but the receipts it gets prove nothing.
    let keys = site.idc_dir().join("keys");
    let (signing, kept) = (keys.join("signing.key"), dir.path().join("signing.key"));
    let other = dir.path().join("other");
    let other = other.to_str().context("the path is not UTF-8")?;
    run(&Programs::build()?.idc, &["keys", "init", "--dir", other]).await?;
    fs::rename(&signing, &kept)?;
    fs::copy(dir.path().join("other/signing.key"), &signing)?;
    bridge.idc.terminate().await?;
    bridge.idc.restart().await?;
    bridge.cloud.wait_until_ready().await?;

    let order = shop.order(&[(0, 1)]);
    let answer = shop.place(&order.key, order.body.clone()).await?;
    ensure!(answer.status == 202, "{} {:?}", answer.status, answer.json());
    // A thread of its own writes the log, so a line may come after the answer.
    until("the log says what was refused", async || {
        let log = fs::read_to_string(bridge.cloud.log())?;
        Ok(log.contains("refused a sealing-key manifest")
            && log.contains("not signed by a key that is pinned")
            && log.contains("a receipt was not accepted: check the pinned verifier keys"))
    })
    .await?;
    ensure!(metric(&bridge.cloud.metrics().await?, "bridge_receipts_rejected_total")? == 1);

    // A cloud agent that never had a valid manifest seals nothing.
    bridge.cloud.kill9().await?;
    let mut cloud = site.cloud.spawn()?;
    until("the cloud says that it has no sealing key", async || {
        Ok(obstacles(site.cloud.admin)
            .await
            .is_some_and(|because| because.len() == 1 && because[0].contains("no sealing key")))
    })
    .await?;
    let unsealed = shop.place_new(&[(1, 1)]).await?;
    shop.problem(&unsealed, 503, "data-centre-unavailable")?;
    ensure!(unsealed.retry_after().is_some());

    fs::rename(&kept, &signing)?;
    bridge.idc.terminate().await?;
    bridge.idc.restart().await?;
    cloud.wait_until_ready().await?;
    let again = shop.place(&order.key, order.body).await?;
    ensure!(again.status == 201 && order_at(&again)? == order_at(&answer)?, "{}", again.status);
    ensure!(again.header("idempotency-replayed") == Some("true"));
    shop.close(&site, 1, [1, 0, 0]).await
}

#[tokio::test]
async fn nothing_is_sealed_to_a_key_whose_time_is_over() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["late"]).await?;
    let key = site.idc_dir().join("keys/sealing-1.key");
    let text = fs::read_to_string(&key)?;
    let expiry = text.lines().find(|line| line.starts_with("not_after: ")).context("no validity")?;
    // The key expires ten seconds after the start of its validity, which lies five minutes before
    // the key was made.
    let start = text.lines().find_map(|line| line.strip_prefix("not_before: ")).context("no validity")?;
    let ended = start.parse::<i64>()? + 10_000_000;
    fs::write(&key, text.replace(expiry, &format!("not_after: {ended}")))?;

    let (mut cloud, mut idc) = (site.cloud.spawn()?, site.idc.spawn()?);
    until("both agents say that no sealing key is valid", async || {
        let (cloud, idc) = (obstacles(site.cloud.admin).await, obstacles(site.idc.admin).await);
        let says = |because: Option<Vec<String>>| {
            because.is_some_and(|because| because.len() == 1 && because[0].contains("no sealing key"))
        };
        Ok(says(cloud) && says(idc))
    })
    .await?;
    let mut shop = Shop::open(&site, "late");
    let answer = shop.place_new(&[(0, 1)]).await?;
    shop.problem(&answer, 503, "data-centre-unavailable")?;
    let log = fs::read_to_string(&site.cloud.log)?;
    ensure!(log.contains("refused a sealing-key manifest"), "{log}");

    // Follows the message's advice: a new key and a restart.
    site.idc_command(&["keys", "rotate", "sealing"]).await?;
    idc.terminate().await?;
    idc.restart().await?;
    cloud.wait_until_ready().await?;
    shop.close(&site, 0, [0, 0, 0]).await
}

#[tokio::test]
async fn two_agents_a_side_have_one_effect_a_key_without_overselling() -> Result<()> {
    const ORDERS: usize = 600;
    const UNITS: u64 = 250;
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = Site::prepare(dir.path(), Programs::build()?, database, &[("hot", "KRW")], 1).await?;
    let mut plan = generated::hot(7, ORDERS);
    plan.stock[0].quantity = UNITS;
    site.import(&plan).await?;
    let twins = Twins::beside(&site)?;
    let storefront = twins.storefront;
    let _running = twins.start(&site).await?;

    // Both cloud agents get the same keys at the same time.
    let plan = std::sync::Arc::new(plan);
    let callers = |storefront| load::Options {
        storefront,
        token: site.token("hot").to_owned(),
        callers: 24,
        patience: crate::common::PATIENCE,
        title: String::new(),
    };
    let (here, there) = (callers(site.storefront), callers(storefront));
    let (here, there) = tokio::join!(replay(&plan, &here), replay(&plan, &there));
    for (index, (a, b)) in here.settled.iter().zip(&there.settled).enumerate() {
        ensure!(a.outcome == b.outcome, "order {index}: {a:?} here, {b:?} there");
        ensure!(matches!(a.outcome, Outcome::Placed { .. } | Outcome::SoldOut), "order {index}: {a:?}");
    }
    ensure!(here.tally().committed == UNITS, "{:?}", here.tally());
    let differences =
        LedgerTotals::expected(&here).differences(&LedgerTotals::read(site.database(), "hot").await?);
    ensure!(differences.is_empty(), "{differences:?}");
    Ok(())
}

/// Returns the facts of an answer's receipt. Verifies them as an auditor would, with the key that
/// the cloud agent pins.
fn verified(site: &Site, answer: &HttpAnswer) -> Result<Receipt> {
    let config: toml::Table = fs::read_to_string(site.cloud_dir().join("bridge-cloud.toml"))?.parse()?;
    let pinned = config["sealing"]["verifier_keys"][0].as_str().context("no pinned key")?;
    let receipt = answer.json()["receipt"].as_str().context("no receipt")?.to_owned();
    let receipt = wire::order::Receipt::decode(BASE64.decode(receipt)?.as_slice())?;
    Ok(receipt::verify(&receipt, &[NoteVerifier::parse(pinned)?])?.receipt().clone())
}
