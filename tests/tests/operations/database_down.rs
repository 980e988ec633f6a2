//! Tests of a ledger whose database is down, at the start and later while orders come. No order is
//! lost or doubled, and no answer is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::common::{Shop, configure, metric, obstacles, postgres, site, site_on, until};
use anyhow::{Context, Result, ensure};
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::{Client, HttpAnswer};
use bridge_tests::testkit::ledger_totals::LedgerTotals;
use bridge_tests::testkit::site::Site;
use tokio::task::JoinSet;
use tokio::time::sleep;

#[tokio::test]
async fn orders_are_refused_until_a_database_that_starts_late_is_up() -> Result<()> {
    let (mut cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["early"]).await?;
    cluster.stop().await?;
    let said = site.idc_command(&["payments", "list"]).await.err().context("there is no database to read")?;
    let said = format!("{said:#}");
    ensure!(said.contains("does not answer") && said.contains("os error"), "{said}");
    ensure!(!said.contains("pool timed out") && !said.contains("committed"), "{said}");
    let (mut cloud, mut idc) = (site.cloud.spawn()?, site.idc.spawn()?);

    let waiting = "the ledger is not ready: ";
    until("bridge-idc says why it is not ready", async || {
        let because = obstacles(site.idc.admin).await.unwrap_or_default();
        Ok(because.iter().any(|why| why.starts_with(waiting) && why.contains("does not answer")))
    })
    .await?;
    until("bridge-cloud says that there is no link", async || {
        Ok(obstacles(site.cloud.admin)
            .await
            .is_some_and(|because| because[0].starts_with("no link to an IDC")))
    })
    .await?;
    let mut shop = Shop::open(&site, "early");
    let order = shop.order(&[(0, 1)]);
    for _ in 0..3 {
        let answer = shop.place(&order.key, order.body.clone()).await?;
        shop.problem(&answer, 503, "data-centre-unavailable")?;
        ensure!(answer.retry_after().is_some(), "{:?}", answer.headers);
    }

    cluster.restart().await?;
    idc.wait_until_ready().await?;
    cloud.wait_until_ready().await?;
    let answer = shop.place(&order.key, order.body).await?;
    ensure!(answer.status == 201 && answer.header("idempotency-replayed").is_none(), "{}", answer.status);
    let log = fs::read_to_string(idc.log())?;
    let said = log.lines().filter(|line| line.contains("the ledger is not ready, waiting for it")).count();
    ensure!(said == 1, "said {said} times, not once:\n{log}");
    shop.close(&site, 1, [1, 0, 0]).await
}

#[tokio::test]
async fn nothing_is_written_to_an_sqlite_file_that_was_moved_away() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["moved"]).await?;
    let bridge = site.start().await?;
    let mut shop = Shop::open(&site, "moved");
    let order = shop.place_new(&[(0, 1)]).await?;
    ensure!(order.status == 201, "{}", order.status);

    let away = dir.path().join("away");
    move_files(&ledger_files(&site)?, &away)?;
    for _ in 0..3 {
        let answer = shop.place_new(&[(0, 1)]).await?;
        shop.problem(&answer, 503, "data-centre-unavailable")?;
    }
    ensure!(obstacles(site.idc.admin).await.is_some_and(|because| because[0].contains("does not work")));
    let log = fs::read_to_string(bridge.idc.log())?;
    ensure!(log.contains("the ledger's file is gone from"), "{log}");
    ensure!(ledger_files(&site)?.is_empty(), "a new ledger file was made");

    move_files(&files_in(&away)?, &site.idc_dir())?;
    until("orders pass again", async || Ok(shop.place_new(&[(0, 1)]).await?.status == 201)).await?;
    shop.close(&site, 2, [2, 0, 0]).await
}

#[tokio::test]
async fn a_start_makes_no_new_ledger_where_there_was_one() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["unmounted"]).await?;
    let mut bridge = site.start().await?;
    bridge.idc.terminate().await?;
    let away = dir.path().join("away");
    move_files(&ledger_files(&site)?, &away)?;

    let mut idc = site.idc.spawn()?;
    let lost = async |what: &str| {
        until("the agent says why it does not serve", async || {
            let because = obstacles(site.idc.admin).await.unwrap_or_default();
            Ok(because.iter().any(|why| {
                why.contains(what)
                    && why.contains("has served with a ledger")
                    && why.contains("bridge-idc migrate")
            }))
        })
        .await
    };
    lost("ledger.db").await?;
    ensure!(ledger_files(&site)?.is_empty(), "a new ledger file was made");
    // The missing volume is mounted again.
    move_files(&files_in(&away)?, &site.idc_dir())?;
    idc.wait_until_ready().await?;
    idc.terminate().await?;

    // The agent does not take an empty file for a ledger until somebody runs `migrate`. This also
    // holds with `ledger.migrate` off.
    configure(&site.idc_dir().join("bridge-idc.toml"), "ledger.migrate", false)?;
    move_files(&ledger_files(&site)?, &away)?;
    fs::write(site.idc_dir().join("ledger.db"), "")?;
    let mut idc = site.idc.spawn()?;
    lost("has no ledger in it").await?;
    site.idc_command(&["migrate"]).await?;
    idc.wait_until_ready().await
}

/// Returns the ledger's file, and the files that SQLite keeps beside it.
fn ledger_files(site: &Site) -> Result<Vec<PathBuf>> {
    let is_ledger = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ledger.db"))
    };
    Ok(files_in(&site.idc_dir())?.into_iter().filter(is_ledger).collect())
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

fn move_files(files: &[PathBuf], to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for file in files {
        fs::rename(file, to.join(file.file_name().context("no name")?))?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_answered_holds_when_the_database_goes_away_and_comes_back() -> Result<()> {
    let (mut cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["shaky"]).await?;
    configure(&site.cloud_dir().join("bridge-cloud.toml"), "storefront.answer_within", "1s")?;
    let bridge = site.start().await?;

    // Eight callers order without a pause, each order once. Meanwhile the database is killed and
    // started again.
    let site = Arc::new(site);
    let seen = Arc::new(Seen::default());
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        callers.spawn(order_until_over(site.clone(), caller, seen.clone()));
    }
    seen.more(201).await?;
    cluster.kill9().await?;
    seen.more(503).await?;
    let because = obstacles(site.idc.admin).await.unwrap_or_default();
    // The agent gives one of two reasons, depending on the moment of the kill.
    let told = ["does not tell how its last batch ended", "the ledger's database does not work"];
    let is_told = because.iter().any(|why| told.iter().any(|told| why.contains(told)));
    ensure!(is_told, "{because:?}");
    cluster.restart().await?;
    seen.more(201).await?;
    seen.over.store(true, Ordering::Relaxed);
    let answers: Vec<_> = callers.join_all().await.into_iter().collect::<Result<Vec<_>>>()?.concat();

    let mut shop = Shop::open(&site, "shaky");
    let mut standing = 0;
    for OrderReply { status, location } in &answers {
        let found = match location {
            Some(location) => shop.settled(location).await?,
            None => None,
        };
        // 202 means that the outcome was unknown. The order may have been placed, or refused after
        // the answer.
        let is_placed = found.as_ref().is_some_and(|state| state["state"] == "placed");
        let holds = match status {
            201 => is_placed,
            202 => location.is_some() && is_placed == found.is_some(),
            503 => location.is_none(),
            _ => false,
        };
        ensure!(holds, "was answered {status} and is {found:?}");
        standing += i64::from(is_placed);
    }
    let books = LedgerTotals::read(site.database(), "shaky").await?;
    ensure!(books.orders == standing, "{} orders stand, {standing} are found", books.orders);
    ensure!(metric(&bridge.idc.metrics().await?, "bridge_ledger_errors_total")? > 0);
    let sold = |sku: &str| books.stock[sku].sold;
    shop.close(&site, books.orders, [sold("SHOE-270"), sold("SHIRT-M"), 0]).await
}

#[tokio::test]
async fn an_idle_agent_finds_its_database_away_and_back_by_itself() -> Result<()> {
    let (mut cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["idle"]).await?;
    let bridge = site.start().await?;
    cluster.kill9().await?;
    until("the agent says that its database does not work", async || Ok(is_said_away(&site).await)).await?;
    let standing = "bridge_idc_agents{standing=\"database\"}";
    until("the cloud agent reports the database of the IDC agent", async || {
        Ok(metric(&bridge.cloud.metrics().await?, standing)? == 1)
    })
    .await?;
    cluster.restart().await?;
    until("orders are accepted again", async || {
        Ok(obstacles(site.idc.admin).await.is_some_and(|because| because.is_empty()))
    })
    .await?;
    let log = fs::read_to_string(bridge.idc.log())?;
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    ensure!(lines("ask the database whether it works") >= 1 && lines("commit a batch") == 0, "{log}");
    ensure!(lines("the ledger's database answers again") == 1, "{log}");
    Ok(())
}

/// Returns true if the agent reports that its database does not work.
async fn is_said_away(site: &Site) -> bool {
    let because = obstacles(site.idc.admin).await.unwrap_or_default();
    because.iter().any(|why| why.contains("the ledger's database does not work"))
}

/// Trigger that acts like a full disk: each write fails, and nothing else does.
const FULL: &str = "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    RAISE EXCEPTION 'planted' USING ERRCODE = 'disk_full'; END $$; \
    CREATE TRIGGER planted BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION planted()";

#[tokio::test]
async fn a_database_that_answers_and_cannot_write_is_told_all_the_time() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["full"]).await?;
    let bridge = site.start().await?;
    let mut dba = Dba::connect(site.database()).await?;
    dba.execute(FULL).await?;
    let mut shop = Shop::open(&site, "full");
    let mut refused = async || {
        let answer = shop.place_new(&[(0, 1)]).await?;
        shop.problem(&answer, 503, "data-centre-unavailable").map(drop)
    };
    let failed = async || metric(&bridge.idc.metrics().await?, "bridge_ledger_errors_total");
    until("four commits have failed", async || {
        refused().await?;
        Ok(failed().await? >= 4)
    })
    .await?;
    // The agent keeps its state, although empty batches are committed in between.
    let enough = failed().await? + 4;
    until("four more commits have failed", async || {
        refused().await?;
        ensure!(is_said_away(&site).await, "the agent says that it is ready");
        Ok(failed().await? >= enough)
    })
    .await
}

#[tokio::test]
async fn a_wrong_database_password_is_told_with_where_to_look() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["login"]).await?;
    fs::write(site.idc_dir().join("database.password"), "not-this-one-4711")?;
    let said = site.idc_command(&["migrate"]).await.err().context("the migration succeeded")?;
    let said = format!("{said:#}");
    for part in ["ledger.url", "ledger.password_file", "password authentication failed for user"] {
        ensure!(said.contains(part), "no word of {part}: {said}");
    }
    ensure!(!said.contains("4711") && !said.contains("does not answer"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_database_refusal_for_one_brand_is_counted_and_spares_another() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    let site = site_on(dir.path(), database, &["denied", "served"]).await?;
    let bridge = site.start().await?;
    let mut dba = Dba::connect(site.database()).await?;
    let planted = "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF NEW.brand = 'denied' THEN RAISE EXCEPTION 'planted' USING ERRCODE = 'BX001'; END IF; RETURN NEW; END $$";
    dba.execute(planted).await?;
    dba.execute("CREATE TRIGGER planted BEFORE INSERT ON outcomes FOR EACH ROW EXECUTE FUNCTION planted()")
        .await?;
    let (mut denied, mut served) = (Shop::open(&site, "denied"), Shop::open(&site, "served"));
    for _ in 0..3 {
        let answer = denied.place_new(&[(0, 1)]).await?;
        denied.problem(&answer, 503, "data-centre-unavailable")?;
        ensure!(served.place_new(&[(0, 1)]).await?.status == 201);
    }
    ensure!(metric(&bridge.idc.metrics().await?, "bridge_ledger_errors_total")? == 3);
    // The status names the brand until the database does something for it.
    let mut admin = Client::new(bridge.idc.admin());
    let names =
        |ready: &HttpAnswer| ready.json()["notes"].to_string().contains("what brand denied asked for");
    let ready = admin.get("/readyz", None).await?;
    ensure!(ready.status == 200 && names(&ready), "{} {}", ready.status, ready.json());
    let status = site.idc_command(&["status"]).await?;
    ensure!(status.starts_with("ready\n") && status.contains("note: since"), "{status}");
    dba.execute("DROP TRIGGER planted ON outcomes").await?;
    ensure!(denied.place_new(&[(0, 1)]).await?.status == 201);
    let ready = admin.get("/readyz", None).await?;
    ensure!(ready.status == 200 && !names(&ready), "{}", ready.json());
    denied.close(&site, 1, [1, 0, 0]).await?;
    served.close(&site, 3, [3, 0, 0]).await
}

/// Counts of the callers' answers so far.
#[derive(Default)]
struct Seen {
    by_status: Mutex<BTreeMap<u16, usize>>,
    over: AtomicBool,
}

impl Seen {
    fn count(&self, status: u16) -> usize {
        let by_status = self.by_status.lock().unwrap_or_else(PoisonError::into_inner);
        by_status.get(&status).copied().unwrap_or(0)
    }

    /// Waits for fifty more answers of a status.
    async fn more(&self, status: u16) -> Result<()> {
        let enough = self.count(status) + 50;
        until(&format!("fifty more answers {status}"), async || Ok(self.count(status) >= enough)).await
    }
}

/// The answer to one order.
#[derive(Clone, Debug)]
struct OrderReply {
    status: u16,
    location: Option<String>,
}

async fn order_until_over(site: Arc<Site>, caller: usize, seen: Arc<Seen>) -> Result<Vec<OrderReply>> {
    let mut shop = Shop::open(&site, "shaky");
    let mut told = Vec::new();
    while !seen.over.load(Ordering::Relaxed) {
        let order = shop.order(&[(caller % 2, 1)]);
        let answer = shop.place(&format!("{caller}-{}", order.key), order.body).await?;
        let status = answer.status.as_u16();
        if status == 503 {
            // Orders whose outcome is unknown may leave the brand a limit for a moment.
            shop.problem(&answer, 503, "busy")
                .or_else(|_| shop.problem(&answer, 503, "data-centre-unavailable"))?;
            ensure!(answer.retry_after().is_some(), "{:?}", answer.headers);
        }
        *seen.by_status.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
        told.push(OrderReply { status, location: answer.header("location").map(str::to_owned) });
        // Slows the callers down, so that the stock lasts.
        sleep(Duration::from_millis(10)).await;
    }
    Ok(told)
}
