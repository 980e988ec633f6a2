//! Tests of the audit logs of real processes (promise P8). After orders, kills and cuts the logs
//! verify, prove and reconcile, both by the agents' own commands and by an implementation that
//! shares no code with them. The commands name each planted error.

mod folders;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::common::{PATIENCE, Shop, configure, metric, notice_soon, obstacles, order_at, site, until};
use anyhow::{Context, Result, ensure};
use bridge_protocol::audit::Entry;
use bridge_protocol::audit::entry::Event;
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::audits;
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::generated;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::load::{Options, Tally, replay_watched};
use bridge_tests::testkit::lying_disk::{HangingDisk, ReadOnly};
use bridge_tests::testkit::process::{Programs, run};
use bridge_tests::testkit::search::Needles;
use bridge_tests::testkit::site::{Bridge, Site};
use bridge_tests::testkit::tlog;
use serde_json::Value;
use tokio::sync::watch;

/// Number of orders. It is large enough that orders are under way at each fault.
const ORDERS: usize = 600;

/// The logs of both agents, and their verifier keys.
struct Logs {
    cloud: PathBuf,
    idc: PathBuf,
    cloud_key: String,
    idc_key: String,
}

impl Logs {
    async fn of(site: &Site) -> Result<Logs> {
        let (cloud, idc) = (audits::folder(&site.cloud_dir()), audits::folder(&site.idc_dir()));
        Ok(Logs {
            cloud,
            idc,
            cloud_key: audits::key(&site.cloud).await?,
            idc_key: audits::key(&site.idc).await?,
        })
    }

    /// Checks that both implementations accept both logs.
    async fn verified(&self, site: &Site) -> Result<(tlog::Log, tlog::Log)> {
        for (agent, dir, key) in
            [(&site.cloud, &self.cloud, &self.cloud_key), (&site.idc, &self.idc, &self.idc_key)]
        {
            let told =
                audit(&agent.program, &["verify", "--json", "--dir", &text(dir), "--key", key]).await?;
            let told: Value = serde_json::from_str(&told)?;
            ensure!(told["verified"] == true && told["unpublished"] == 0, "{told}");
        }
        Ok((tlog::check(&self.cloud, &self.cloud_key)?, tlog::check(&self.idc, &self.idc_key)?))
    }
}

/// Runs `audit ...`. Returns its standard output, or an error if the exit code is not 0.
async fn audit(program: &Path, arguments: &[&str]) -> Result<String> {
    run(program, &[&["audit"], arguments].concat()).await
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

async fn end(bridge: &mut Bridge) -> Result<()> {
    for agent in [&mut bridge.cloud, &mut bridge.idc] {
        ensure!(agent.terminate().await?.success(), "an agent did not end in order");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_logs_verify_and_reconcile_after_kills_and_cuts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut plan = generated::launch(23, ORDERS);
    plan.stock[0].quantity = ORDERS as u64;
    let plan = Arc::new(plan);
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    let brands = [(plan.brand.as_str(), plan.currency)];
    let site = Site::prepare(dir.path(), Programs::build()?, database, &brands, 1).await?;
    notice_soon(&site)?;
    site.import(&plan).await?;
    let mut bridge = site.start().await?;
    let options = Options {
        storefront: site.storefront,
        token: site.token(&plan.brand).to_owned(),
        callers: 16,
        patience: PATIENCE,
        title: String::new(),
    };
    let progress = watch::Sender::new(0);
    let faults = strike(&site, &mut bridge, progress.subscribe(), plan.steps.len());
    let (settled, struck) = tokio::join!(replay_watched(&plan, &options, progress.clone()), faults);
    struck?;
    let orders = plan.places().count() as u64;
    let tally = Tally { replayed: 0, ..settled.tally() };
    ensure!(tally.placed == orders, "{tally:?}: {:?}", settled.refusals());
    end(&mut bridge).await?;

    let logs = Logs::of(&site).await?;
    let (cloud, idc) = logs.verified(&site).await?;
    let (cloud_kinds, idc_kinds) = (tlog::kinds(&cloud)?, tlog::kinds(&idc)?);
    ensure!(cloud_kinds["order-sent"] >= plan.steps.len(), "{cloud_kinds:?}");
    ensure!(idc_kinds["order-committed"] >= plan.steps.len(), "{idc_kinds:?}");
    for kinds in [&cloud_kinds, &idc_kinds] {
        ensure!(kinds["agent-started"] == 3 && kinds["agent-stopped"] == 1, "{kinds:?}");
        ensure!(kinds["configuration-changed"] == 1 && kinds["keys-changed"] == 1, "{kinds:?}");
        ensure!(kinds["tunnel-opened"] >= 3 && kinds["tunnel-closed"] >= 1, "{kinds:?}");
    }

    let (program, folders) = (&site.idc.program, [text(&logs.cloud), text(&logs.idc)]);
    let (code, told) = audits::audit(program, &["reconcile", "--json", &folders[0], &folders[1]]).await?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(code == Some(0) && told["differences"] == Value::Array(vec![]), "{told}");
    ensure!(told["in_doubt"] == Value::Array(vec![]) && told["unread"] == 0, "{told}");
    let (agreed, lost) = (told["agreed"].as_u64().unwrap_or(0), told["lost"].as_u64().unwrap_or(0));
    ensure!(agreed + lost == plan.steps.len() as u64, "{told}");

    // Both implementations accept a proof, and both refuse it for another entry.
    for index in [0, idc.entries.len() / 2, idc.entries.len() - 1] {
        let folder = ["--dir", &folders[1], "--key", &logs.idc_key];
        let proof = audit(program, &[&["prove", &index.to_string()][..], &folder].concat()).await?;
        let proven = tlog::check_proof(&proof, &logs.idc_key)?;
        ensure!(proven == (index, idc.entries[index].clone()));
        let file = dir.path().join("one.tlog-proof");
        fs::write(&file, &proof)?;
        audit(program, &["check", &text(&file), "--key", &logs.idc_key]).await?;
        ensure!(tlog::check_proof(&proof, &logs.cloud_key).is_err());
        let (code, _) = audits::audit(program, &["check", &text(&file), "--key", &logs.cloud_key]).await?;
        ensure!(code == Some(1), "{code:?}");
    }
    Ok(())
}

/// Kills each agent twice, and cuts the line.
async fn strike(
    site: &Site,
    bridge: &mut Bridge,
    mut settled: watch::Receiver<usize>,
    steps: usize,
) -> Result<()> {
    for fault in 1..=5 {
        settled.wait_for(|settled| *settled >= fault * steps / 6).await?;
        match fault {
            1 | 4 => {
                bridge.cloud.kill9().await?;
                bridge.cloud.restart().await?;
            }
            2 | 5 => {
                bridge.idc.kill9().await?;
                bridge.idc.restart().await?;
            }
            _ => {
                site.cut_line(&bridge.cloud).await?;
            }
        }
    }
    Ok(())
}

/// Writes a log with these entries, by an agent's own code and under a new key.
async fn rewritten(dir: &Path, entries: &[Entry]) -> Result<PathBuf> {
    let (config, log, closer) = audits::open(dir)?;
    log.append(entries).await?;
    closer.close().await?;
    Ok(config.dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_in_logs_is_named_and_nothing_else_is() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["planted"]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "planted");
    let mut orders = Vec::new();
    for _ in 0..6 {
        orders.push(order_at(&shop.place_new(&[(0, 1)]).await?)?);
    }
    let shown = site.idc_command(&["personal", "show", &orders[0], "--purpose", "TICKET_4711"]).await?;
    ensure!(!shown.is_empty());
    end(&mut bridge).await?;
    let logs = Logs::of(&site).await?;
    let (cloud, idc) = logs.verified(&site).await?;
    ensure!(tlog::kinds(&idc)?["personal-shown"] == 1);
    let program = &site.idc.program;
    let tail = ["tail", "--kind", "personal-shown", "--json", "--dir", &text(&logs.idc)];
    let tail: Value = serde_json::from_str(&audit(program, &tail).await?)?;
    let facts = &tail["entry"]["facts"];
    ensure!(facts["purpose"] == "TICKET_4711" && facts["order"] == orders[0], "{tail}");
    let needles: Needles = shop.needles();
    for file in [&logs.cloud, &logs.idc] {
        for bundle in walk(file)? {
            ensure!(needles.search_file(&bundle)?.seen.hits == 0, "personal data in {}", bundle.display());
        }
    }

    let (mut cloud_entries, mut idc_entries) = (audits::entries(&cloud)?, audits::entries(&idc)?);
    let about = |entry: &Entry, order: &str| match &entry.event {
        Event::OrderSent(carried) | Event::OrderReceived(carried) => carried.order.to_string() == order,
        Event::OrderCommitted(ended) | Event::OrderAnswered(ended) => ended.order.to_string() == order,
        _ => false,
    };
    idc_entries.retain(|entry| !about(entry, &orders[1]));
    cloud_entries.retain(|entry| !about(entry, &orders[2]));
    idc_entries.retain(|entry| !(about(entry, &orders[3]) && entry.event.kind() == "order-received"));
    cloud_entries.retain(|entry| !(about(entry, &orders[4]) && entry.event.kind() == "order-answered"));
    for entry in cloud_entries.iter_mut().filter(|entry| about(entry, &orders[5])) {
        if let Event::OrderAnswered(ended) = &mut entry.event {
            ended.position = ended.position.map(|position| position + 1);
        }
    }
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (cloud, idc) = (rewritten(&a, &cloud_entries).await?, rewritten(&b, &idc_entries).await?);
    let (code, told) = audits::audit(program, &["reconcile", "--json", &text(&cloud), &text(&idc)]).await?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(code == Some(1) && told["agreed"] == 1 && told["lost"] == 0, "{told}");
    let mut named: Vec<(String, String)> = told["differences"]
        .as_array()
        .context("no list")?
        .iter()
        .map(|difference| (difference["order"].to_string(), difference["what"].to_string()))
        .collect();
    let whats = ["never-committed", "never-sent", "committed-unreceived", "never-answered", "other-outcome"];
    let mut expected: Vec<(String, String)> = orders[1..]
        .iter()
        .zip(whats)
        .map(|(order, what)| (format!("{order:?}"), format!("{what:?}")))
        .collect();
    named.sort();
    expected.sort();
    ensure!(named == expected, "{named:?}, not {expected:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_log_is_found_by_both_implementations() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["changed"]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "changed");
    for _ in 0..3 {
        shop.place_new(&[(0, 1)]).await?;
    }
    end(&mut bridge).await?;
    let logs = Logs::of(&site).await?;
    let seen = fs::read_to_string(logs.idc.join("checkpoint"))?;
    bridge = site.start().await?;
    shop.place_new(&[(0, 1)]).await?;
    end(&mut bridge).await?;
    let (_, log) = logs.verified(&site).await?;
    tlog::check_history(&logs.idc, &logs.idc_key, &seen)?;
    let program = &site.idc.program;
    let old = dir.path().join("seen");
    fs::write(&old, &seen)?;
    let with_seen = ["verify", "--dir", &text(&logs.idc), "--key", &logs.idc_key, "--seen", &text(&old)];
    audit(program, &with_seen).await?;

    // Flips a bit in each file. Both implementations find a change in a file that a checkpoint
    // covers: entries, hashes and the checkpoint itself. Only the agents' command reads the
    // journal.
    let size = log.entries.len();
    let needed =
        ["checkpoint".to_owned(), format!("tile/entries/000.p/{size}"), format!("tile/0/000.p/{size}")];
    let found = async || -> Result<(bool, Value)> {
        let (code, told) =
            audits::audit(program, &["verify", "--json", "--dir", &text(&logs.idc), "--key", &logs.idc_key])
                .await?;
        Ok((code == Some(1), serde_json::from_str(&told)?))
    };
    for path in walk(&logs.idc)? {
        let whole = fs::read(&path)?;
        let name = text(path.strip_prefix(&logs.idc)?);
        for at in [0, whole.len() / 2, whole.len().saturating_sub(1)] {
            if whole.is_empty() {
                continue;
            }
            let mut changed = whole.clone();
            changed[at] ^= 4;
            fs::write(&path, &changed)?;
            let (is_found, told) = found().await?;
            ensure!(is_found && told["verified"] == false, "byte {at} of {name}: {told}");
            let also = tlog::check(&logs.idc, &logs.idc_key).is_err();
            ensure!(also || !needed.contains(&name), "byte {at} of {name} is found by one alone");
        }
        fs::write(&path, &whole)?;
    }

    // The command names the first entry that differs.
    let bundle = logs.idc.join(&needed[1]);
    let whole = fs::read(&bundle)?;
    let plant = |entries: &[&Vec<u8>]| -> Result<()> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend_from_slice(&u16::try_from(entry.len())?.to_be_bytes());
            bytes.extend_from_slice(entry);
        }
        Ok(fs::write(&bundle, bytes)?)
    };
    let entries: Vec<&Vec<u8>> = log.entries.iter().collect();
    let swapped: Vec<&Vec<u8>> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| match at {
            4 => entries[5],
            5 => entries[4],
            _ => *entry,
        })
        .collect();
    let without: Vec<&Vec<u8>> = [&entries[..4], &entries[5..]].concat();
    for (entries, finding, entry) in
        [(swapped, "reordered", 4), (without, "removed", 4), (entries[..6].to_vec(), "cut-off", 6)]
    {
        plant(&entries)?;
        let (_, told) = found().await?;
        ensure!(told["finding"] == finding && told["entry"] == entry, "{told}");
        ensure!(tlog::check(&logs.idc, &logs.idc_key).is_err());
    }
    fs::write(&bundle, &whole)?;

    // A missing tile, an older checkpoint that was put back, and the key of another log.
    fs::rename(logs.idc.join(&needed[2]), dir.path().join("tile"))?;
    ensure!(found().await?.1["finding"] == "missing" && tlog::check(&logs.idc, &logs.idc_key).is_err());
    fs::rename(dir.path().join("tile"), logs.idc.join(&needed[2]))?;
    let newest = fs::read(logs.idc.join("checkpoint"))?;
    fs::write(logs.idc.join("checkpoint"), &seen)?;
    ensure!(found().await?.1["finding"] == "put-back", "{}", found().await?.1);
    fs::write(logs.idc.join("checkpoint"), &newest)?;
    let (code, _) =
        audits::audit(program, &["verify", "--dir", &text(&logs.idc), "--key", &logs.cloud_key]).await?;
    ensure!(code == Some(1) && tlog::check(&logs.idc, &logs.cloud_key).is_err());
    ensure!(found().await?.1["verified"].is_null() || logs.verified(&site).await.is_ok());
    let (code, _) =
        audits::audit(program, &["verify", "--dir", "no/such/folder", "--key", &logs.idc_key]).await?;
    ensure!(code == Some(2), "{code:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_audit_disk_on_either_side_refuses_orders_not_reads() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["full"]).await?;
    let disks = [(site.cloud_dir(), "bridge-cloud"), (site.idc_dir(), "bridge-idc")];
    let mut mounts = Vec::new();
    for (folder, name) in &disks {
        let Some(mount) = SmallDisk::mount(&folder.join("small"))? else {
            skipped(Lack::Mounts, "only root can mount a small disk");
            return Ok(());
        };
        mounts.push(mount);
        configure(&folder.join(format!("{name}.toml")), "audit.dir", text(&folder.join("small/audit")))?;
    }
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "full");
    let mut orders = Vec::new();
    for (mount, admin) in mounts.iter().zip([site.cloud.admin, site.idc.admin]) {
        orders.push(order_at(&shop.place_new(&[(0, 1)]).await?)?);
        mount.fill()?;
        // Orders fill the rest of the free space.
        let mut refused = None;
        for _ in 0..10_000 {
            let answer = shop.place_new(&[(0, 1)]).await?;
            match answer.status.as_u16() {
                201 => orders.push(order_at(&answer)?),
                _ => {
                    refused = Some(answer);
                    break;
                }
            }
        }
        let refused = refused.context("orders are taken although nothing can be logged")?;
        ensure!([202, 503].contains(&refused.status.as_u16()), "{}", refused.status);
        until("the agent says why", async || {
            let because = obstacles(admin).await.unwrap_or_default();
            Ok(because.iter().any(|sentence| sentence.contains("audit log")))
        })
        .await?;
        let refused = shop.place_new(&[(0, 1)]).await?;
        shop.problem(&refused, 503, "data-centre-unavailable")?;
        let read = Client::new(site.storefront).get("/v1/full/stock?sku=SHOE-270", None).await?;
        ensure!(read.status == 200, "a read is answered {}", read.status);
        mount.free()?;
        until("orders are taken again", async || Ok(shop.place_new(&[(0, 1)]).await?.status == 201)).await?;
    }
    for order in &orders {
        ensure!(shop.get(&format!("/v1/full/orders/{order}")).await?.status == 200, "{order} is lost");
    }
    end(&mut bridge).await?;
    for (folder, agent) in [(site.cloud_dir(), &site.cloud), (site.idc_dir(), &site.idc)] {
        let audit_dir = folder.join("small/audit");
        tlog::check(&audit_dir, &audits::key(agent).await?)?;
    }
    let folders = [text(&site.cloud_dir().join("small/audit")), text(&site.idc_dir().join("small/audit"))];
    let (code, told) =
        audits::audit(&site.idc.program, &["reconcile", "--json", &folders[0], &folders[1]]).await?;
    ensure!(code == Some(0), "{told}");
    drop(mounts);
    Ok(())
}

/// Copies a folder file by file while the agent writes to it, as `rsync` and `cp` do. `between`
/// runs after the checkpoint is copied and before the rest is.
async fn copy_slowly(from: &Path, to: &Path, between: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let mut between = Some(between);
    for path in walk(from)? {
        let copy = to.join(path.strip_prefix(from)?);
        fs::create_dir_all(copy.parent().context("no folder")?)?;
        // A file that was deleted meanwhile is not copied.
        if fs::copy(&path, &copy).is_ok()
            && path.ends_with("checkpoint")
            && let Some(between) = between.take()
        {
            between().await?;
        }
    }
    // `rsync` and `cp` copy the lock's file as well.
    fs::copy(from.join("lock"), to.join("lock"))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_copy_raises_no_alarm_and_audit_copy_is_consistent() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["copied"]).await?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "audit.publish_every", "20ms")?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "copied");
    let live = audits::folder(&site.idc_dir());
    let (key, program) = (audits::key(&site.idc).await?, site.idc.program.clone());
    let verified = async |copy: &Path| -> Result<Value> {
        let (code, told) =
            audits::audit(&program, &["verify", "--json", "--dir", &text(copy), "--key", &key]).await?;
        ensure!(code == Some(0), "{code:?} {told}");
        Ok(serde_json::from_str(&told)?)
    };
    let kept = dir.path().join("kept");
    let mut in_flight = 0;
    for round in 0..6 {
        for _ in 0..10 {
            shop.place_new(&[(0, 1)]).await?;
        }
        let published = || fs::read_to_string(live.join("checkpoint")).unwrap_or_default();
        let (copy, at_first) = (dir.path().join(format!("copy-{round}")), published());
        let goes_on = async || {
            until("a later checkpoint is out", async || {
                shop.place_new(&[(0, 1)]).await?;
                Ok(published() != at_first)
            })
            .await?;
            // The journal names the new checkpoint from the next round on.
            shop.place_new(&[(0, 1)]).await.map(drop)
        };
        copy_slowly(&live, &copy, goes_on).await?;
        let told = verified(&copy).await?;
        in_flight += u32::from(told["in_flight"] == true);
        // A change in an entry that the checkpoint covers is still found.
        let size = told["size"].as_u64().context("no size")?;
        let bundle = copy.join(format!("tile/entries/{:03}.p/{}", size / 256, size % 256));
        if let Ok(mut bytes) = fs::read(&bundle) {
            bytes[30] ^= 1;
            fs::write(&bundle, bytes)?;
            let (code, told) =
                audits::audit(&program, &["verify", "--dir", &text(&copy), "--key", &key]).await?;
            ensure!(code == Some(1), "{code:?} {told}");
        }
        // `audit copy` makes a copy of one moment, and brings the copy of the previous round up to
        // date.
        audit(&program, &["copy", &text(&kept), "--dir", &text(&live), "--key", &key]).await?;
        let told = verified(&kept).await?;
        ensure!(told["in_flight"] == false && told["unpublished"] == 0, "{told}");
        tlog::check(&kept, &key)?;
        verified(&live).await?;
    }
    ensure!(in_flight > 0, "no copy was of several moments");
    // A copy of hard links shares the journal with the agent, which goes on writing. New tiles and
    // checkpoints are not in the copy.
    let linked = dir.path().join("linked");
    let links = Command::new("cp").arg("-al").args([&live, &linked]).status()?;
    ensure!(links.success());
    let then = fs::read(live.join("checkpoint"))?;
    until("the log goes on", async || {
        shop.place_new(&[(0, 1)]).await?;
        Ok(fs::read(live.join("checkpoint"))? != then)
    })
    .await?;
    shop.place_new(&[(0, 1)]).await?;
    ensure!(verified(&linked).await?["in_flight"] == true);
    let into_the_agent_s = ["copy", &text(&linked), "--dir", &text(&kept), "--key", &key];
    ensure!(
        audits::audit(&program, &into_the_agent_s).await?.0 == Some(2),
        "a copy changed files that the agent also has"
    );
    let into_itself = ["copy", &text(&live), "--dir", &text(&kept), "--key", &key];
    ensure!(
        audits::audit(&program, &into_itself).await?.0 == Some(2),
        "the command wrote to the agent's own folder"
    );
    end(&mut bridge).await?;
    audit(&program, &["copy", &text(&kept), "--dir", &text(&live), "--key", &key]).await?;
    ensure!(tlog::check(&kept, &key)?.entries == tlog::check(&live, &key)?.entries);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_not_taken_as_a_copy_hiding_an_old_checkpoint() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["rolled-back"]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "rolled-back");
    let (live, program) = (audits::folder(&site.idc_dir()), site.idc.program.clone());
    let checkpoint = live.join("checkpoint");
    shop.place_new(&[(0, 1)]).await?;
    until("a checkpoint is out", async || Ok(checkpoint.exists())).await?;
    let before = fs::read(&checkpoint)?;
    until("a later one is out", async || {
        shop.place_new(&[(0, 1)]).await?;
        Ok(fs::read(&checkpoint)? != before)
    })
    .await?;
    shop.place_new(&[(0, 1)]).await?;
    end(&mut bridge).await?;

    // An attacker with write access puts a checkpoint back. The copied lock makes the folder look
    // like a copy.
    fs::write(&checkpoint, &before)?;
    fs::write(live.join("lock"), "1 1\n")?;
    let config = site.idc.arguments.last().context("no configuration")?.clone();
    let (code, told) = audits::audit(&program, &["verify", "--json", "--config", &config]).await?;
    ensure!(code == Some(1) && told.contains("put-back"), "{code:?} {told}");
    let kept = text(&dir.path().join("kept"));
    let (code, told) = audits::audit(&program, &["copy", &kept, "--config", &config]).await?;
    ensure!(code == Some(1), "what was put back is no log to keep: {code:?} {told}");
    // A folder that the user names may be a copy. So `verify` cannot prove an attack, and only says
    // that later entries exist.
    let (key, named) = (audits::key(&site.idc).await?, text(&live));
    let verify = ["verify", "--json", "--dir", &named, "--key", &key];
    let (code, told) = audits::audit(&program, &verify).await?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(
        code == Some(0) && told["in_flight"] == true && told["later"].as_u64() > told["size"].as_u64(),
        "{told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_audit_disk_on_either_side_leaves_no_caller_waiting() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["hanging"]).await?;
    let mut disks = Vec::new();
    for (folder, name) in [(site.cloud_dir(), "bridge-cloud"), (site.idc_dir(), "bridge-idc")] {
        let Some(disk) = HangingDisk::mount(&audits::folder(&folder), 64 << 20)? else {
            skipped(Lack::LoopDisks, "only root can mount a disk that hangs");
            return Ok(());
        };
        disks.push(disk);
        configure(&folder.join(format!("{name}.toml")), "audit.write_within", "1s")?;
    }
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "hanging");
    let mut orders = Vec::new();
    for (disk, admin) in disks.iter().zip([site.cloud.admin, site.idc.admin]) {
        orders.push(order_at(&shop.place_new(&[(0, 1)]).await?)?);
        disk.hang()?;
        // Some of these orders were under way when the disk stopped answering, the others come
        // later.
        for _ in 0..3 {
            let answer = shop.place_new(&[(0, 1)]).await?;
            ensure!([202, 503].contains(&answer.status.as_u16()), "{}", answer.status);
        }
        until("the agent says why", async || {
            let because = obstacles(admin).await.unwrap_or_default();
            Ok(because.iter().any(|sentence| sentence.contains("audit log's disk does not answer")))
        })
        .await?;
        let refused = shop.place_new(&[(0, 1)]).await?;
        shop.problem(&refused, 503, "data-centre-unavailable")?;
        let read = Client::new(site.storefront).get("/v1/hanging/stock?sku=SHOE-270", None).await?;
        ensure!(read.status == 200, "a read is answered {}", read.status);
        disk.answer()?;
        until("orders are taken again", async || Ok(shop.place_new(&[(0, 1)]).await?.status == 201)).await?;
        until("nothing is in the way", async || Ok(obstacles(admin).await == Some(Vec::new()))).await?;
    }
    for order in &orders {
        ensure!(shop.get(&format!("/v1/hanging/orders/{order}")).await?.status == 200, "{order} is lost");
    }
    end(&mut bridge).await?;
    Logs::of(&site).await?.verified(&site).await?;
    let folders = [text(&audits::folder(&site.cloud_dir())), text(&audits::folder(&site.idc_dir()))];
    let (code, told) =
        audits::audit(&site.idc.program, &["reconcile", "--json", &folders[0], &folders[1]]).await?;
    ensure!(code == Some(0), "{told}");
    drop(disks);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritable_tile_folder_is_reported_and_orders_continue() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["tiles"]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "tiles");
    shop.place_new(&[(0, 1)]).await?;
    for (folder, agent) in [(site.cloud_dir(), &bridge.cloud), (site.idc_dir(), &bridge.idc)] {
        let tiles = audits::folder(&folder).join("tile");
        until("a tile is out", async || Ok(tiles.exists())).await?;
        let Some(read_only) = ReadOnly::make(&tiles) else {
            skipped(Lack::Mounts, "only root can make a folder read-only for itself");
            return Ok(());
        };
        until("the agent says why", async || {
            ensure!(shop.place_new(&[(0, 1)]).await?.status == 201, "an order waits for the log's tiles");
            let told = Client::new(agent.admin()).get("/readyz", None).await?.json();
            ensure!(told["ready"] == true, "a balancer takes out an agent that takes orders: {told}");
            let notes = told["notes"].to_string();
            Ok(notes.contains("cannot be published") && notes.contains("Read-only"))
        })
        .await?;
        let metrics = agent.metrics().await?;
        ensure!(metric(&metrics, "bridge_audit_publish_errors_total")? > 0);
        ensure!(metric(&metrics, "bridge_audit_unpublished")? > 0);
        drop(read_only);
        until("the note is gone", async || {
            let told = Client::new(agent.admin()).get("/readyz", None).await?.json();
            Ok(!told["notes"].to_string().contains("the audit log cannot be published"))
        })
        .await?;
    }
    end(&mut bridge).await?;
    Logs::of(&site).await?.verified(&site).await?;
    Ok(())
}

/// A file system of 8 MiB. It is unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Returns `None` if this user may not mount a file system.
    fn mount(at: &Path) -> Result<Option<SmallDisk>> {
        fs::create_dir_all(at)?;
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(at).output()?;
        Ok(mount.status.success().then(|| SmallDisk(at.to_owned())))
    }

    /// Fills the disk until 16 KiB are free.
    fn fill(&self) -> Result<()> {
        use std::io::Write as _;
        let mut file = fs::File::create(self.0.join("filler"))?;
        while file.write_all(&[1; 4096]).is_ok() {}
        let length = file.metadata()?.len();
        Ok(file.set_len(length.saturating_sub(16 << 10))?)
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Returns every file in a folder and its subfolders, except the lock.
fn walk(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(walk(&entry.path())?);
        } else if entry.file_name() != "lock" {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
