//! Tests of the keys of two IDC agents. Sealing keys are rotated, copied and retired while orders
//! come in, and every order is placed. An agent with keys that the ledger does not know does not
//! serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::{PATIENCE, Shop, metric, notice_soon, obstacles, plan, postgres, site, site_on, until};
use anyhow::{Context, Result, ensure};
use bridge_certs::{Authority, Validity};
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::dba::Dba;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::ledger_totals::LedgerTotals;
use bridge_tests::testkit::process::{AgentCommand, Programs, Running, run};
use bridge_tests::testkit::site::{Bridge, Site};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A cloud agent, two IDC agents on one ledger, and callers that order all the time.
struct Stage {
    site: Arc<Site>,
    bridge: Bridge,
    second: Running,
    /// The key folders of both IDC agents.
    keys: [PathBuf; 2],
    orders: Orders,
    _dir: TempDir,
}

/// Callers that place orders all the time.
struct Orders {
    callers: JoinSet<Result<Vec<u16>>>,
    stop: watch::Sender<bool>,
    placed: watch::Receiver<u64>,
}

impl Orders {
    fn start(site: &Arc<Site>) -> Self {
        let (told, placed) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let mut callers = JoinSet::new();
        for caller in 0..4 {
            let (site, told, stopped) = (site.clone(), told.clone(), stopped.clone());
            callers.spawn(async move {
                let mut shop = Shop::open(&site, "sealed");
                let mut answers = Vec::new();
                while !*stopped.borrow() {
                    let body = shop.order(&[(1, 1)]).body;
                    let answer = shop.place(&format!("{caller}-{}", answers.len()), body).await?;
                    answers.push(answer.status.as_u16());
                    told.send_modify(|placed| *placed += 1);
                    // Limits the rate, since the stream must last as long as the test.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(answers)
            });
        }
        Self { callers, stop, placed }
    }

    /// Waits for `count` more answers.
    async fn more(&mut self, count: u64) -> Result<()> {
        let wanted = *self.placed.borrow() + count;
        self.placed.wait_for(|placed| *placed >= wanted).await?;
        Ok(())
    }

    /// Stops the callers. Returns every answer's status.
    async fn end(mut self) -> Result<Vec<u16>> {
        self.stop.send_replace(true);
        let mut answers = Vec::new();
        while let Some(ended) = self.callers.join_next().await {
            answers.extend(ended??);
        }
        Ok(answers)
    }
}

impl Stage {
    async fn set_up() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let site = site(dir.path(), &["sealed"]).await?;
        notice_soon(&site)?;
        let mut plenty = plan("sealed");
        plenty.stock.iter_mut().for_each(|row| row.quantity = 1_000_000);
        site.import(&plenty).await?;
        let (second, second_dir): (AgentCommand, PathBuf) = site.add_idc("second-idc")?;
        let keys = [site.idc_dir().join("keys"), second_dir.join("keys")];
        let bridge = site.start().await?;
        let second = second.start().await?;
        let site = Arc::new(site);
        let stage = Self { orders: Orders::start(&site), site, bridge, second, keys, _dir: dir };
        stage
            .cloud_has("both links", |status| {
                status["links"].as_array().is_some_and(|links| links.len() == 2)
            })
            .await?;
        Ok(stage)
    }

    /// Waits until the cloud agent's status meets a condition.
    async fn cloud_has(&self, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
        has(what, &self.bridge.cloud, is).await
    }

    /// Rotates the sealing key of one agent. Returns the path of the new key.
    async fn rotate(&self, on: usize) -> Result<PathBuf> {
        let dir = &self.keys[on];
        let before = files(dir)?;
        let dir = dir.to_str().context("the path is not UTF-8")?;
        run(&Programs::build()?.idc, &["keys", "rotate", "sealing", "--dir", dir]).await?;
        let new = files(&self.keys[on])?.into_iter().find(|file| !before.contains(file));
        new.context("no new key")
    }

    /// Final check: every order was placed, and the ledger has the same number.
    async fn all_placed(self, minimum: usize) -> Result<Bridge> {
        let answers = self.orders.end().await?;
        let others: Vec<_> = answers.iter().filter(|status| **status != 201).collect();
        ensure!(others.is_empty(), "{} answers, of which not 201: {others:?}", answers.len());
        ensure!(answers.len() >= minimum, "only {} answers", answers.len());
        let books = LedgerTotals::read(self.site.database(), "sealed").await?;
        ensure!(books.orders == i64::try_from(answers.len())?, "{} orders", books.orders);
        Ok(self.bridge)
    }
}

/// Waits until an agent's status meets a condition.
async fn has(what: &str, agent: &Running, is: impl Fn(&Value) -> bool) -> Result<()> {
    let mut admin = Client::new(agent.admin());
    until(what, async || Ok(is(&admin.get("/status", None).await?.json()))).await
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// Copies a key as an operator does: writes the whole file, then renames it.
fn copy(key: &Path, to: &Path) -> Result<()> {
    let name = key.file_name().context("no name")?;
    let unfinished = to.join(name).with_extension("new");
    fs::copy(key, &unfinished)?;
    Ok(fs::rename(unfinished, to.join(name))?)
}

/// Returns a condition on an agent's number of sealing keys. The cloud agent knows the keys of both
/// IDC agents.
fn knows(keys: u64) -> impl Fn(&Value) -> bool {
    move |status| status["sealing_keys"] == keys
}

#[tokio::test(flavor = "multi_thread")]
async fn one_agents_sealing_key_is_rotated_copied_and_retired_without_a_refusal() -> Result<()> {
    let mut stage = Stage::set_up().await?;
    let new = stage.rotate(0).await?;
    stage.cloud_has("the new key is known", knows(2)).await?;
    stage.orders.more(40).await?;
    copy(&new, &stage.keys[1])?;
    stage.orders.more(40).await?;
    for keys in &stage.keys {
        fs::remove_file(keys.join("sealing-1.key"))?;
        stage.orders.more(10).await?;
    }
    stage.cloud_has("the old key is retired", knows(1)).await?;
    stage.orders.more(40).await?;
    stage.all_placed(130).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_with_a_new_sealing_key_refuses_no_order() -> Result<()> {
    let mut stage = Stage::set_up().await?;
    for on in [0, 1] {
        stage.rotate(on).await?;
        let agent = if on == 0 { &mut stage.bridge.idc } else { &mut stage.second };
        agent.terminate().await?;
        agent.restart().await?;
        stage.orders.more(40).await?;
    }
    // Each agent now has a key that the other one lacks, and one key is in both.
    stage.cloud_has("all three keys are known", knows(3)).await?;
    stage.orders.more(40).await?;
    stage.all_placed(120).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_sealed_to_one_agents_key_are_resealed_when_it_leaves() -> Result<()> {
    let mut stage = Stage::set_up().await?;
    let new = stage.rotate(1).await?;
    copy(&new, &stage.keys[0])?;
    stage.cloud_has("the new key is known", knows(2)).await?;
    // Removes every key that both agents have.
    fs::remove_file(stage.keys[0].join(new.file_name().context("no name")?))?;
    fs::remove_file(stage.keys[1].join("sealing-1.key"))?;
    for agent in [&stage.bridge.idc, &stage.second] {
        has("one key is left", agent, knows(1)).await?;
    }
    stage.orders.more(40).await?;
    for gently in [true, false, false] {
        if gently {
            stage.second.terminate().await?;
        } else {
            stage.second.kill9().await?;
        }
        stage.orders.more(20).await?;
        stage.second.restart().await?;
        stage.cloud_has("both are back", knows(2)).await?;
        stage.orders.more(20).await?;
    }
    let bridge = stage.all_placed(160).await?;
    let sealed_again = metric(&bridge.cloud.metrics().await?, "bridge_orders_sealed_again_total")?;
    ensure!(sealed_again > 0, "no order was sealed again, although the killed agent's key was its own");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_other_keys_than_the_ledgers_refuses_on_sqlite() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    serves_only_with_the_ledger_s_keys(dir.path(), database).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_other_keys_than_the_ledgers_refuses_on_postgres() -> Result<()> {
    let (dir, (_cluster, database)) = (tempfile::tempdir()?, postgres().await?);
    serves_only_with_the_ledger_s_keys(dir.path(), database).await
}

async fn serves_only_with_the_ledger_s_keys(dir: &Path, database: Database) -> Result<()> {
    let site = site_on(dir, database, &["sealed"]).await?;
    let _bridge = site.start().await?;
    let (second, second_dir) = site.add_idc("second-idc")?;
    let (keys, right) = (second_dir.join("keys"), site.idc_dir().join("keys"));
    let program = Programs::build()?.idc;

    // The mistake to detect: the second agent gets new keys instead of copies.
    fs::remove_dir_all(&keys)?;
    run(&program, &["keys", "init", "--dir", keys.to_str().context("the path is not UTF-8")?]).await?;
    ends_for(&second, "fingerprint.key, kek-1.key differ").await?;
    fs::copy(right.join("fingerprint.key"), keys.join("fingerprint.key"))?;
    ends_for(&second, "other keys than this agent's: kek-1.key differ").await?;
    for key in files(&right)? {
        fs::copy(&key, keys.join(key.file_name().context("no name")?))?;
    }
    let second = second.start().await?;

    // Each agent makes the next epoch's key itself. The second agent's key is not used.
    for folder in [&right, &keys] {
        run(&program, &["keys", "rotate", "kek", "--dir", folder.to_str().context("the path is not UTF-8")?])
            .await?;
        until("the ledger knows the first agent's key", async || {
            let mut dba = Dba::connect(site.database()).await?;
            let noted = dba.pairs("SELECT key_name, CAST(noted_at AS text) FROM key_checks").await?;
            dba.close().await?;
            Ok(noted.len() == 3)
        })
        .await?;
    }
    until("the second agent says that it does not use its key", async || {
        let said = Client::new(second.admin()).get("/readyz", None).await?.json();
        ensure!(said["ready"] == true, "{said}");
        Ok(said["notes"].to_string().contains("kek-2.key differ"))
    })
    .await?;
    let mut shop = Shop::open(&site, "sealed");
    for _ in 0..8 {
        let placed = shop.place_new(&[(1, 1)]).await?;
        ensure!(placed.status == 201, "{}", placed.status);
    }
    copy(&right.join("kek-2.key"), &keys)?;
    until("the second agent has no note once it has the right key", async || {
        let said = Client::new(second.admin()).get("/readyz", None).await?.json();
        Ok(said["notes"] == serde_json::json!([]))
    })
    .await?;
    shop.close(&site, 8, [0, 8, 0]).await
}

/// Checks that the agent ends itself, and that its log says why.
async fn ends_for(agent: &AgentCommand, why: &str) -> Result<()> {
    let mut running = agent.spawn()?;
    let ended = running.ended_within(PATIENCE).await?.context("the agent did not end")?;
    let log = fs::read_to_string(running.log())?;
    ensure!(ended.code() == Some(1) && log.contains(why), "{ended}, without {why:?} in:\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_past_its_next_update_blocks_readiness() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["sealed"]).await?;
    let bridge = site.start().await?;
    for agent in [&bridge.cloud, &bridge.idc] {
        ensure!(obstacles(agent.admin()).await == Some(Vec::new()), "an agent is not ready");
        for what in ["certificate", "ca", "revocation_list", "sealing_key"] {
            let name = format!("bridge_expires_in_seconds{{what=\"{what}\"}}");
            let metrics = agent.metrics().await?;
            let left = metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok());
            ensure!(left.is_some_and(|left| left > 86_400.0), "{name}: {left:?}");
        }
    }
    let authority = Authority::open(dir.path().join("pki"))?;
    let ago = |hours: u64| SystemTime::now() - Duration::from_secs(3_600 * hours);
    let stale = authority.ca().sign_crl(1_000, &[], Validity::new(ago(48), ago(1))?)?;
    fs::write(authority.crl_path(), stale)?;
    for agent in [&bridge.cloud, &bridge.idc] {
        until("the stale list is an obstacle", async || {
            let said = obstacles(agent.admin()).await.unwrap_or_default();
            Ok(said
                .iter()
                .any(|said| said.contains("the revocation list") && said.contains("bridge-certs crl")))
        })
        .await?;
        let status = Client::new(agent.admin()).get("/status", None).await?.json();
        ensure!(status["expiries"].as_array().is_some_and(|expiries| expiries.len() == 4), "{status}");
    }
    Ok(())
}
