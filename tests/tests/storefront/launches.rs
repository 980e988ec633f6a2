//! A launch from the operator's command to the storefront's answers, with a limit a customer.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use serde_json::{Value, json};

use crate::common::{Shared, Shop, Stage, order_at};

static BRIDGE: Shared = Shared::new(&["launched", "mistaken"], |_| Ok(()));

/// Returns a time as the command wants it, so long from now on.
fn time_in(after: Duration) -> String {
    let seconds = (SystemTime::now() + after).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    bridge_protocol::domain::UnixMicros::new(i64::try_from(seconds.as_micros()).unwrap_or(i64::MAX))
        .to_string()
}

/// Returns an order of this many pairs of shoes for a customer.
fn order_of(shop: &mut Shop, customer: &str, units: u64) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&shop.order(&[(0, units)]).body).unwrap_or_default();
    body["customer"]["reference"] = json!(customer);
    body.to_string().into_bytes()
}

#[test]
fn a_launch_opens_limits_its_customers_and_is_ended() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let mut shop = Shop::open(site, "launched");
        let opens_at = time_in(Duration::from_secs(3_600));
        let add = ["launch", "add", "shoe", "--brand", "launched", "--opens-at", &opens_at];
        let limits = ["--sku", "SHOE-270", "--limit", "2", "--units", "5", "--json"];
        let added: Value = serde_json::from_str(&site.idc_command(&[&add[..], &limits].concat()).await?)?;
        let launch = &added["launch"];
        ensure!(launch["state"] == "announced" && launch["opens_at"] == opens_at, "{added}");
        ensure!(launch["customer_limit"] == 2 && launch["rate_per_s"].is_null(), "{added}");

        let early = order_of(&mut shop, "ann", 1);
        let answer = shop.place("early", early.clone()).await?;
        let problem = shop.problem(&answer, 409, "launch-not-open")?;
        ensure!(problem["sku"] == "SHOE-270" && problem["opens_at"] == opens_at, "{problem}");
        let order = problem["order"].as_str().unwrap_or_default();
        let state = shop.get(&format!("/v1/launched/orders/{order}")).await?;
        ensure!(state.json()["state"] == "launch-not-open", "{}", state.json());
        ensure!(shop.place_new(&[(1, 1)]).await?.status == 201, "what the launch does not sell is sold");

        // A DBA moves the opening: the next batch sees it.
        let mut dba = Dba::connect(site.database()).await?;
        dba.execute("UPDATE launches SET opens_at = 1700000000000000 WHERE launch = 'shoe'").await?;
        dba.close().await?;
        let body = order_of(&mut shop, "ann", 2);
        let answer = shop.place("open", body).await?;
        ensure!(answer.status == 201, "{}", answer.status);
        let first = order_at(&answer)?;
        let again = shop.place("early", early).await?;
        ensure!(again.header("idempotency-replayed") == Some("true"));
        shop.problem(&again, 409, "launch-not-open").context("the key keeps its answer")?;

        // Another device of the same customer, and another customer.
        let more = order_of(&mut shop, "ann", 1);
        let answer = shop.place("more", more).await?;
        let problem = shop.problem(&answer, 409, "limit-reached")?;
        ensure!((&problem["limit"], &problem["bought"]) == (&json!(2), &json!(2)), "{problem}");
        let other = order_of(&mut shop, "bob", 2);
        ensure!(shop.place("bob", other).await?.status == 201);
        // Five units in all, of which four are sold.
        let answer = order_of(&mut shop, "cat", 2);
        let answer = shop.place("cat", answer).await?;
        shop.problem(&answer, 409, "sold-out")?;

        ensure!(shop.cancel(&first, "back").await?.status == 200);
        let back = order_of(&mut shop, "ann", 2);
        ensure!(shop.place("again", back).await?.status == 201, "a cancelled order gives its units back");

        let which = ["shoe", "--brand", "launched"];
        let shown = site.idc_command(&[&["launch", "show"][..], &which].concat()).await?;
        ensure!(shown.contains("2 to one customer; sold 4"), "{shown}");
        let ended = site.idc_command(&[&["launch", "end"][..], &which].concat()).await?;
        ensure!(ended.contains("it sold 4 units"), "{ended}");
        let ended = site.idc_command(&[&["launch", "end"][..], &which].concat()).await?;
        ensure!(ended.contains("had ended before") && ended.contains("nothing was changed"), "{ended}");
        let after = order_of(&mut shop, "ann", 20);
        ensure!(shop.place("after", after).await?.status == 201, "its SKU sells as any other now");
        let listed = site.idc_command(&["launch", "list", "--brand", "launched"]).await?;
        ensure!(listed.lines().count() == 2 && listed.contains("ended"), "{listed}");
        shop.close(site, 4, [24, 1, 0]).await
    })
}

#[test]
fn every_mistake_of_a_new_launch_is_reported_at_once() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let refused = async |words: &str| -> Result<String> {
            let words: Vec<&str> = words.split(' ').collect();
            let Err(error) = site.idc_command(&words).await else { anyhow::bail!("{words:?} is done") };
            let text = format!("{error:#}");
            ensure!(text.contains("exit status: 2"), "{text}");
            Ok(text)
        };
        let all = refused(
            "launch add Shoe --brand mistaken --opens-at 2020-01-01T00:00:00 --ends-at soon --sku SHOE-270 --sku NONE \
             --sku SHOE-270 --limit 0 --sku-limit COAT=1 --sku-limit SHOE-270 --units -1 --rate fast --session 1 --claim 90000",
        )
        .await?;
        for mistake in [
            "name must be 1 to 64",
            "--opens-at must be a time with its zone",
            "--ends-at must be a time with its zone",
            "--sku SHOE-270 stands twice",
            "--sku-limit names a SKU that no --sku names",
            "--sku-limit must be SKU=UNITS",
            "--units must be a whole number from 1",
            "--limit must be a whole number from 1",
            "--rate must be a whole number from 1 to 1000000, or auto",
            "--session must be a whole number from 10",
            "--claim must be a whole number from 10 to 86400",
            "the brand has no SKU NONE",
        ] {
            ensure!(all.contains(mistake), "{mistake} is not in:\n{all}");
        }
        let past = refused("launch add s --brand nobody --opens-at 2020-01-01T00:00:00Z --sku A --limit 1").await?;
        ensure!(past.contains("no brand nobody") && past.contains("is past"), "{past}");

        let opens_at = time_in(Duration::from_secs(3_600));
        let add = ["launch", "add", "shirt", "--brand", "mistaken", "--opens-at", &opens_at, "--sku", "SHIRT-M"];
        let add = [&add[..], &["--limit", "1"]].concat();
        ensure!(site.idc_command(&add).await?.contains("not sold before"));
        let again = refused(&add.join(" ")).await?;
        ensure!(again.contains("has a launch shirt already") && again.contains("SHIRT-M is in launch shirt"), "{again}");
        let Err(error) = site.idc_command(&["launch", "end", "none", "--brand", "mistaken"]).await else {
            anyhow::bail!("an unknown launch is ended")
        };
        ensure!(format!("{error:#}").contains("has no launch none"), "{error:#}");
        site.idc_command(&["launch", "end", "shirt", "--brand", "mistaken"]).await?;
        Shop::open(site, "mistaken").close(site, 0, [0, 0, 0]).await
    })
}
