//! Tests of a cloud agent's readiness when one of two IDC agents is away or cannot work. It reports
//! a note while the other agent accepts orders, and an obstacle when none does.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::payers::TestGateway;
use bridge_tests::testkit::process::{Programs, Running, run};
use bridge_tests::testkit::sandbox::Rates;
use bridge_tests::testkit::site::Site;
use bridge_tests::testkit::wan::TcpRelay;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::common::{PATIENCE, Shop, configure, metric, order_at, postgres, site, site_on, until};

/// The content of `/readyz`.
struct ReadyzReply {
    ready: bool,
    because: String,
    notes: String,
}

async fn told(cloud: &Running) -> Result<ReadyzReply> {
    let body = Client::new(cloud.admin()).get("/readyz", None).await?.json();
    let ready = body["ready"].as_bool().context("no `ready`")?;
    Ok(ReadyzReply { ready, because: body["because"].to_string(), notes: body["notes"].to_string() })
}

/// Returns the status row of the agent whose name ends with `name`.
async fn row(cloud: &Running, name: &str) -> Result<Value> {
    let status = Client::new(cloud.admin()).get("/status", None).await?.json();
    let rows = status["data_centre"].as_array().context("no table of the data centre's agents")?.clone();
    let is_it = |row: &Value| row["agent"].as_str().is_some_and(|agent| agent.ends_with(name));
    rows.into_iter().find(is_it).with_context(|| format!("no row of {name}: {status}"))
}

async fn agents(cloud: &Running, standing: &str) -> Result<u64> {
    metric(&cloud.metrics().await?, &format!("bridge_idc_agents{{standing=\"{standing}\"}}"))
}

const AWAY: &str = "/idc/second-idc is not linked since";

#[tokio::test]
async fn a_data_centre_agent_that_is_away_is_reported_until_it_returns() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["a"]).await?;
    crate::common::notice_soon(&site)?;
    let allowed = ["demo-idc", "second-idc", "not-of-this-side"].map(|name| {
        let role = if name.starts_with("not") { "cloud" } else { "idc" };
        format!("spiffe://bridge.internal/{role}/{name}").into()
    });
    let config = site.cloud_dir().join("bridge-cloud.toml");
    configure(&config, "tunnel.allow", toml::Value::Array(allowed.to_vec()))?;
    let (second, _) = site.add_idc("second-idc")?;
    let mut bridge = site.start().await?;

    // The configuration names an agent that was never there.
    until("the agent that never came is noted", async || {
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        ensure!(ready, "the other agent takes orders, but the cloud agent is not ready: {because}");
        Ok(notes.contains(AWAY))
    })
    .await?;
    ensure!(!told(&bridge.cloud).await?.notes.contains("not-of-this-side"));
    ensure!((agents(&bridge.cloud, "away").await?, agents(&bridge.cloud, "takes_orders").await?) == (1, 1));
    let away = row(&bridge.cloud, "/idc/second-idc").await?;
    ensure!(away["linked"] == false && away["since"].is_string(), "{away}");

    let mut second = second.start().await?;
    until("the second agent is linked", async || {
        Ok(row(&bridge.cloud, "/idc/second-idc").await?["linked"] == true)
    })
    .await?;
    let ReadyzReply { notes, .. } = told(&bridge.cloud).await?;
    ensure!(!notes.contains("second-idc"), "the note is still there: {notes}");
    until("the second agent reports no obstacle", async || {
        Ok(row(&bridge.cloud, "/idc/second-idc").await?["obstacles"] == serde_json::json!([]))
    })
    .await?;
    ensure!(agents(&bridge.cloud, "takes_orders").await? == 2);

    second.kill9().await?;
    until("the missing agent is noted", async || {
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        ensure!(ready, "{because}");
        Ok(notes.contains(AWAY))
    })
    .await?;
    bridge.idc.terminate().await?;
    until("no agent takes orders", async || {
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        Ok(!ready
            && because.contains("/idc/demo-idc is not linked")
            && because.contains(AWAY)
            && notes == "[]")
    })
    .await?;
    second.restart().await?;
    until("one of the two agents takes orders", async || {
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        Ok(ready && because == "[]" && notes.contains("/idc/demo-idc is not linked") && !notes.contains(AWAY))
    })
    .await
}

/// Trigger that refuses every write for this brand.
const REFUSED: &str = "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    IF NEW.brand = 'b' THEN RAISE EXCEPTION 'planted' USING ERRCODE = 'BX001'; END IF; RETURN NEW; END $$; \
    CREATE TRIGGER planted BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION planted()";

#[tokio::test]
async fn a_data_centre_agent_that_cannot_work_is_reported_with_its_obstacles() -> Result<()> {
    let (mut cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["a", "b"]).await?;
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "2s")?;
    let (second, dir_of_second) = site.add_idc("second-idc")?;
    let line = TcpRelay::start(cluster.address(), Duration::ZERO)?;
    let Database::Postgres { url, .. } = site.database() else {
        anyhow::bail!("the database is not PostgreSQL")
    };
    let there = url.replace(&cluster.address().port().to_string(), &line.address().port().to_string());
    configure(&dir_of_second.join("bridge-idc.toml"), "ledger.url", there)?;
    let bridge = site.start().await?;
    let _second = second.start().await?;
    super::both_links(&bridge).await?;

    // The database refuses one brand, for either agent, and the second agent's audit log is
    // missing.
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(REFUSED).await?;
    let audit = dir_of_second.join("state").join("audit");
    fs::rename(&audit, audit.with_file_name("moved"))?;
    until("both faults are noted", async || {
        order_at_once(&site, "b").await?;
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        ensure!(ready, "one of the two agents takes orders, but the cloud agent is not ready: {because}");
        Ok(notes.contains("its audit log cannot be written")
            && notes.contains("refuses what a brand asks for"))
    })
    .await?;
    let stands = row(&bridge.cloud, "/idc/second-idc").await?;
    ensure!(stands["linked"] == true && stands["obstacles"].to_string().contains("audit_log"), "{stands}");
    ensure!(agents(&bridge.cloud, "audit_log").await? == 1 && agents(&bridge.cloud, "brand").await? >= 1);
    fs::rename(audit.with_file_name("moved"), &audit)?;
    dba.execute("DROP TRIGGER planted ON outcomes").await?;
    until("nothing is noted", async || {
        order_at_once(&site, "b").await?;
        Ok(told(&bridge.cloud).await?.notes == "[]")
    })
    .await?;

    // The second agent loses its database. The other agent has its own connection to it.
    drop(line);
    until("the agent without a database is noted", async || {
        order_at_once(&site, "a").await?;
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        ensure!(ready, "the other agent takes orders, but the cloud agent is not ready: {because}");
        Ok(notes.contains("/idc/second-idc says since") && notes.contains("its database does not work"))
    })
    .await?;
    cluster.kill9().await?;
    until("no agent has a database", async || {
        order_at_once(&site, "a").await?;
        let ReadyzReply { ready, because, .. } = told(&bridge.cloud).await?;
        Ok(!ready && because.matches("its database does not work").count() == 2)
    })
    .await?;
    cluster.restart().await?;
    until("one of the two agents has a database again", async || {
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        Ok(ready && because == "[]" && notes.matches("its database does not work").count() == 1)
    })
    .await
}

/// Sends some orders at the same time, so that each agent gets some. Their outcomes do not matter.
async fn order_at_once(site: &Site, brand: &str) -> Result<()> {
    let mut orders = JoinSet::new();
    for _ in 0..6 {
        let mut shop = Shop::open(site, brand);
        let order = shop.order(&[(1, 1)]);
        // A random key, so that it was not used before.
        let key = format!("{:032x}", rand::random::<u128>());
        orders.spawn(async move { shop.place(&key, order.body).await });
    }
    while let Some(answered) = orders.join_next().await {
        answered??;
    }
    Ok(())
}

#[tokio::test]
async fn a_question_without_a_link_is_answered_before_the_timeout() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["a"]).await?;
    crate::common::notice_soon(&site)?;
    let config = site.cloud_dir().join("bridge-cloud.toml");
    for setting in ["storefront.answer_within", "payments.answer_within"] {
        configure(&config, setting, "10m")?;
    }
    let _gateway = TestGateway::open(&site, Rates::default()).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "a");
    let order = order_at(&shop.place_new(&[(0, 1)]).await?)?;
    let paid = super::pay(&site, &shop, &order, "paid").await?;
    ensure!(paid.status == 201, "{} {}", paid.status, paid.json());
    let payment = paid.header("location").context("no Location")?.to_owned();
    let places = [format!("{}/{order}", shop.orders()), payment];
    for place in &places {
        ensure!(shop.get(place).await?.status == 200);
    }

    bridge.idc.kill9().await?;
    bridge.cloud.wait_until_not_ready().await?;
    for place in &places {
        let answer = timeout(PATIENCE, shop.get(place)).await.context("the look-up waits for a link")??;
        shop.problem(&answer, 503, "data-centre-unavailable")?;
        ensure!(answer.retry_after().is_some(), "{:?}", answer.headers);
    }
    bridge.idc.restart().await?;
    bridge.cloud.wait_until_ready().await?;
    for place in &places {
        ensure!(shop.get(place).await?.status == 200);
    }
    shop.close(&site, 1, [1, 0, 0]).await
}

#[tokio::test]
async fn a_brand_whose_currency_differs_is_reported_before_its_orders_are_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["a", "b"]).await?;
    let config = site.cloud_dir().join("bridge-cloud.toml");
    let mut settings: toml::Table = fs::read_to_string(&config)?.parse()?;
    settings["brands"]["b"]["currency"] = "JPY".into();
    fs::write(&config, settings.to_string())?;
    let mut bridge = site.start().await?;
    until("the other currency is noted", async || {
        let ReadyzReply { ready, because, notes } = told(&bridge.cloud).await?;
        ensure!(ready, "a brand's wrong setting made the agent unready: {because}");
        Ok(notes.contains("brands.b.currency") && !notes.contains("brands.a.currency"))
    })
    .await?;
    ensure!(Shop::open(&site, "a").place_new(&[(0, 1)]).await?.status == 201);

    bridge.cloud.terminate().await?;
    // Two brands may not have the same token. `check` reports this together with every other
    // mistake.
    let check = async || {
        let config = config.display().to_string();
        run(&Programs::build()?.cloud, &["check", "--config", &config]).await
    };
    let said = format!("{:#}", check().await.err().context("check finds nothing")?);
    ensure!(
        said.contains("brands.b.currency: must be \"KRW\", which the data centre's ledger has"),
        "{said}"
    );
    settings["brands"]["b"]["token_file"] = "a.token".into();
    fs::write(&config, settings.to_string())?;
    let said = format!("{:#}", check().await.err().context("check finds nothing")?);
    ensure!(
        said.contains("brands.b.token_file: must name a file with a token of this brand alone"),
        "{said}"
    );
    settings["brands"]["b"]["token_file"] = "b.token".into();
    settings["brands"]["b"]["currency"] = "KRW".into();
    fs::write(&config, settings.to_string())?;
    check().await?;
    Ok(())
}
