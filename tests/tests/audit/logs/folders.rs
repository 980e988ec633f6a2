//! Tests of audit folders that are moved, lost, copied or not the agent's own, and of the key's
//! file when it lies in the agent's working folder.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{PATIENCE, Shop, configure, metric, obstacles, order_at, site, until};
use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::audits;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::lying_disk::HangingDisk;
use bridge_tests::testkit::process::AgentCommand;
use serde_json::Value;

use super::{Logs, audit, end, text, walk};

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_audit_folder_on_either_side_refuses_orders_until_returned() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["moved"]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "moved");
    let mut orders = Vec::new();
    for (folder, admin) in [(site.cloud_dir(), site.cloud.admin), (site.idc_dir(), site.idc.admin)] {
        orders.push(order_at(&shop.place_new(&[(0, 1)]).await?)?);
        let (folder, away) = (audits::folder(&folder), folder.join("away"));
        fs::rename(&folder, &away)?;
        for _ in 0..5 {
            let answer = shop.place_new(&[(0, 1)]).await?;
            ensure!([202, 503].contains(&answer.status.as_u16()), "{}", answer.status);
        }
        until("the agent says why", async || {
            let because = obstacles(admin).await.unwrap_or_default();
            Ok(because.iter().any(|said| said.contains("is not there") && said.contains("Put it back")))
        })
        .await?;
        let refused = shop.place_new(&[(0, 1)]).await?;
        shop.problem(&refused, 503, "data-centre-unavailable")?;
        ensure!(!folder.exists(), "a folder was made in its place");
        fs::rename(&away, &folder)?;
        until("orders are taken again", async || Ok(shop.place_new(&[(0, 1)]).await?.status == 201)).await?;
        until("nothing is in the way", async || Ok(obstacles(admin).await == Some(Vec::new()))).await?;
    }
    for order in &orders {
        ensure!(shop.get(&format!("/v1/moved/orders/{order}")).await?.status == 200, "{order} is lost");
    }
    end(&mut bridge).await?;
    let logs = Logs::of(&site).await?;
    logs.verified(&site).await?;
    let (code, told) =
        audits::audit(&site.idc.program, &["reconcile", "--json", &text(&logs.cloud), &text(&logs.idc)])
            .await?;
    ensure!(code == Some(0), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_refuses_an_empty_audit_folder_under_its_old_key() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["lost"]).await?;
    let mut bridge = site.start().await?;
    Shop::open(&site, "lost").place_new(&[(0, 1)]).await?;
    end(&mut bridge).await?;
    for (folder, agent) in [(site.cloud_dir(), &site.cloud), (site.idc_dir(), &site.idc)] {
        let (audit, kept) = (audits::folder(&folder), folder.join("kept"));
        fs::rename(&audit, &kept)?;
        let ended = agent.spawn()?.ended_within(PATIENCE).await?.context("the agent runs without its log")?;
        ensure!(ended.code() == Some(1), "{ended}");
        let said = fs::read_to_string(&agent.log)?;
        ensure!(said.contains("its volume is not mounted") && said.contains("Mount the volume"), "{said}");
        ensure!(!audit.exists(), "a folder was made in its place");
        fs::rename(&kept, &audit)?;
    }
    let older = dir.path().join("older");
    let own = audits::folder(&site.idc_dir());
    ensure!(Command::new("cp").arg("-a").args([&own, &older]).status()?.success());
    end(&mut site.start().await?).await?;
    // The file beside the key reveals that the folder of the stopped agent was replaced by an older
    // one.
    let newer = dir.path().join("newer");
    fs::rename(&own, &newer)?;
    fs::rename(&older, &own)?;
    let (config, program) = (site.idc.arguments.last().context("no configuration")?, &site.idc.program);
    let (code, told) = audits::audit(program, &["verify", "--json", "--config", config]).await?;
    ensure!(code == Some(1) && told.contains("put-back"), "{code:?} {told}");
    fs::remove_dir_all(&own)?;
    fs::rename(&newer, &own)?;
    let (code, told) = audits::audit(program, &["verify", "--json", "--config", config]).await?;
    ensure!(code == Some(0), "{code:?} {told}");
    Logs::of(&site).await?.verified(&site).await?;
    Ok(())
}

/// Copies a folder. The checkpoint comes last, after `before_it` has ended.
async fn copy_checkpoint_last(
    from: &Path,
    to: &Path,
    before_it: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    for path in
        walk(from)?.into_iter().chain([from.join("lock")]).filter(|path| !path.ends_with("checkpoint"))
    {
        let copy = to.join(path.strip_prefix(from)?);
        fs::create_dir_all(copy.parent().context("no folder")?)?;
        // A file that was deleted meanwhile is not copied.
        let _gone = fs::copy(&path, &copy);
    }
    before_it().await?;
    fs::copy(from.join("checkpoint"), to.join("checkpoint"))?;
    Ok(())
}

/// Runs `audit ...`. Returns its exit code, standard output and standard error.
fn said(program: &Path, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let output = Command::new(program).arg("audit").args(arguments).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

/// Checks that `tail` and `show` read a copy that ends early up to the same size as `verify`, and
/// that they say so.
fn reads_up_to(program: &Path, copy: &str, size: u64, newest: u64) -> Result<()> {
    let (code, told, warned) = said(program, &["tail", "-n", "3", "--json", "--dir", copy])?;
    let last: Vec<Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let last: Vec<Option<u64>> = last.iter().map(|entry| entry["index"].as_u64()).collect();
    ensure!(code == Some(0) && last == [Some(size - 3), Some(size - 2), Some(size - 1)], "{code:?} {told}");
    let left_out = format!("of {newest} entries it has the first {size} whole");
    ensure!(warned.contains(&left_out) && warned.contains("`audit copy`"), "{warned}");
    let (code, told, _) = said(program, &["show", &(size - 1).to_string(), "--json", "--dir", copy])?;
    ensure!(code == Some(0) && told.contains(&format!("\"index\":{}", size - 1)), "{code:?} {told}");
    let (code, told, warned) = said(program, &["show", &size.to_string(), "--dir", copy])?;
    ensure!(code == Some(2) && told.is_empty() && warned.contains(&left_out), "{code:?} {warned}");

    // One order that is in the copy, and one that is not.
    let (_, told, _) = said(program, &["tail", "--kind", "order-committed", "--json", "--dir", copy])?;
    let committed: Value = serde_json::from_str(told.lines().next_back().context("no order")?)?;
    let order = committed["entry"]["facts"]["order"].as_str().context("no id")?;
    let (code, told, warned) = said(program, &["show", "--order", order, "--dir", copy])?;
    ensure!(code == Some(0) && told.contains("order-committed") && warned.contains(&left_out), "{warned}");
    let nobody_s = "01930000-0000-7000-8000-000000000000";
    let (code, _, warned) = said(program, &["show", "--order", nobody_s, "--dir", copy])?;
    ensure!(code == Some(2) && warned.contains(&left_out), "{code:?} {warned}");
    Ok(())
}

/// Checks that `prove` and `copy` refuse a copy that ends early. They need every entry that is
/// signed. The message names where the copy ends and does not call the log wrong.
fn neither_proves_nor_copies(program: &Path, copy: &str, size: u64, newest: u64, key: &str) -> Result<()> {
    let left_out = format!("of {newest} entries it has the first {size} whole");
    let to = format!("{copy}-again");
    for asked in [&["prove", &(newest - 1).to_string()][..], &["copy", &to]] {
        let (code, told, warned) = said(program, &[asked, &["--dir", copy, "--key", key]].concat())?;
        ensure!(code == Some(2) && told.is_empty(), "{asked:?}: {code:?} {told} {warned}");
        ensure!(warned.contains(&left_out) && warned.contains("`audit copy`"), "{asked:?}: {warned}");
        ensure!(!Path::new(&to).join("checkpoint").exists(), "what is not whole looks whole");
    }
    Ok(())
}

/// Checks that `reconcile` compares a copy up to its end, with the key and without. Entries that
/// are missing after the end are no difference.
async fn compares_up_to(
    site: &bridge_tests::testkit::site::Site,
    copy: &str,
    size: u64,
    key: &str,
) -> Result<()> {
    let (program, cloud) = (&site.idc.program, text(&audits::folder(&site.cloud_dir())));
    let cloud_key = audits::key(&site.cloud).await?;
    for keys in [&[][..], &["--key", key, "--key", &cloud_key]] {
        let arguments = [&["reconcile", "--json", &cloud, copy][..], keys].concat();
        let (code, told, warned) = said(program, &arguments)?;
        let told: Value = serde_json::from_str(&told).with_context(|| warned.clone())?;
        ensure!(code == Some(0) && told["differences"] == Value::Array(vec![]), "{told}");
        let idc = &told["logs"][1];
        ensure!(idc["entries"].as_u64() == Some(size) && idc["ends_before"].as_u64() > Some(size), "{told}");
        ensure!(idc["to"].is_string() && idc["verified"] == !keys.is_empty(), "{told}");
        let (_, told, _) = said(program, &[&["reconcile", &cloud, copy][..], keys].concat())?;
        ensure!(
            told.contains("ends before its newest checkpoint") && told.contains("`audit copy`"),
            "{told}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_copy_with_later_checkpoint_passes_and_a_truncated_one_fails() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["last"]).await?;
    configure(&site.idc_dir().join("bridge-idc.toml"), "audit.publish_every", "20ms")?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "last");
    let live = audits::folder(&site.idc_dir());
    let (key, program) = (audits::key(&site.idc).await?, site.idc.program.clone());
    let published = || fs::read_to_string(live.join("checkpoint")).unwrap_or_default();
    for round in 0..3 {
        for _ in 0..30 {
            shop.place_new(&[(0, 1)]).await?;
        }
        until("a checkpoint is out", async || Ok(!published().is_empty())).await?;
        let copy = dir.path().join(format!("copy-{round}"));
        let goes_on = async || {
            shop.place_new(&[(0, 1)]).await?;
            // Two rounds, since the first one may have begun before the order was logged.
            for _ in 0..2 {
                let before = published();
                until("a later checkpoint is out", async || {
                    shop.place_new(&[(0, 1)]).await?;
                    Ok(published() != before)
                })
                .await?;
            }
            Ok(())
        };
        copy_checkpoint_last(&live, &copy, goes_on).await?;
        let copy = text(&copy);
        let verify = ["verify", "--json", "--dir", &copy, "--key", &key];
        let (code, told) = audits::audit(&program, &verify).await?;
        let verified: Value = serde_json::from_str(&told)?;
        ensure!(code == Some(0) && verified["in_flight"] == true, "{code:?} {told}");
        let (size, newest) = (verified["size"].as_u64(), verified["ends_before"].as_u64());
        ensure!(size > Some(0) && size < newest, "{told}");
        let size = size.context("no size")?;
        reads_up_to(&program, &copy, size, newest.context("no end")?)?;
        compares_up_to(&site, &copy, size, &key).await?;
        neither_proves_nor_copies(&program, &copy, size, newest.context("no end")?, &key)?;
        // A user who has seen the newer checkpoint learns that entries are missing.
        let seen = dir.path().join("seen");
        fs::copy(dir.path().join(format!("copy-{round}/checkpoint")), &seen)?;
        let (code, told) =
            audits::audit(&program, &[&verify[..], &["--seen", &text(&seen)]].concat()).await?;
        ensure!(code == Some(1) && told.contains("missing"), "{code:?} {told}");
    }
    end(&mut bridge).await?;
    // In the agent's own folder, a missing end is an error.
    let live_folder = text(&live);
    let verify = ["verify", "--json", "--dir", &live_folder, "--key", &key];
    let told: Value = serde_json::from_str(&audit(&program, &verify).await?)?;
    let size = told["size"].as_u64().context("no size")?;
    fs::remove_file(live.join(format!("tile/entries/{:03}.p/{}", size / 256, size % 256)))?;
    let (code, told) = audits::audit(&program, &verify).await?;
    ensure!(code == Some(1) && told.contains("missing"), "{code:?} {told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_a_pipe_in_it_keeps_no_auditor_waiting() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["piped"]).await?;
    let mut bridge = site.start().await?;
    Shop::open(&site, "piped").place_new(&[(0, 1)]).await?;
    end(&mut bridge).await?;
    let (logs, program) = (Logs::of(&site).await?, &site.idc.program);
    let copy = dir.path().join("copy");
    ensure!(Command::new("cp").arg("-a").args([&logs.idc, &copy]).status()?.success());
    fs::remove_file(copy.join("checkpoint"))?;
    ensure!(Command::new("mkfifo").arg(copy.join("checkpoint")).status()?.success());
    let (copy, cloud, key) = (text(&copy), text(&logs.cloud), &logs.idc_key);
    for arguments in [
        &["verify", "--json", "--dir", &copy, "--key", key][..],
        &["copy", &text(&dir.path().join("to")), "--dir", &copy, "--key", key],
        &["tail", "--dir", &copy],
        &["show", "0", "--dir", &copy],
        &["prove", "0", "--dir", &copy, "--key", key],
        &["reconcile", "--json", &cloud, &copy],
    ] {
        let (code, told) = tokio::time::timeout(PATIENCE, audits::audit(program, arguments))
            .await
            .with_context(|| format!("{arguments:?} waits"))??;
        ensure!(code == Some(1), "{arguments:?}: {code:?} {told}");
    }
    let (_, told) = audits::audit(program, &["verify", "--json", "--dir", &copy, "--key", key]).await?;
    ensure!(told.contains("checkpoint: is not a regular file"), "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_without_a_folder_is_made_in_the_working_directory() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["bare"]).await?;
    for (folder, agent) in [(site.cloud_dir(), &site.cloud), (site.idc_dir(), &site.idc)] {
        let config = Path::new(agent.arguments.last().context("no configuration")?);
        configure(config, "audit.key_file", "bare.key")?;
        let name = config.file_name().context("no name")?.to_string_lossy().into_owned();
        let last = agent.arguments.len() - 1;
        let program =
            [vec!["-C".to_owned(), text(&folder), text(&agent.program)], agent.arguments[..last].to_vec()];
        let arguments = [program.concat(), vec![name]].concat();
        let agent = AgentCommand { program: "env".into(), arguments, ..agent.clone() };
        let mut running = agent.spawn()?;
        until("the agent has made its key and serves", async || {
            if let Some(ended) = running.ended_within(std::time::Duration::ZERO).await? {
                anyhow::bail!("the agent ended with {ended}: {}", fs::read_to_string(&agent.log)?);
            }
            Ok(folder.join("bare.key").exists() && obstacles(agent.admin).await.is_some())
        })
        .await?;
        ensure!(running.terminate().await?.success());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_keys_hanging_volume_is_noted_and_delays_no_order() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["keys"]).await?;
    let mut disks = Vec::new();
    for (folder, name) in [(site.cloud_dir(), "bridge-cloud"), (site.idc_dir(), "bridge-idc")] {
        let Some(disk) = HangingDisk::mount(&folder.join("beside"), 64 << 20)? else {
            skipped(Lack::LoopDisks, "only root can mount a disk that hangs");
            return Ok(());
        };
        disks.push(disk);
        let config = folder.join(format!("{name}.toml"));
        configure(&config, "audit.key_file", text(&folder.join("beside/audit.key")))?;
        configure(&config, "audit.write_within", "3s")?;
    }
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "keys");
    for (disk, agent) in disks.iter().zip([&bridge.cloud, &bridge.idc]) {
        disk.hang()?;
        let published = async || {
            let status = Client::new(agent.admin()).get("/status", None).await?.json();
            anyhow::Ok((status["audit"]["published"].as_u64().unwrap_or(0), status["audit"]["noted"] == true))
        };
        until("the agent notes the fault", async || {
            ensure!(shop.place_new(&[(0, 1)]).await?.status == 201, "an order waits for the key's volume");
            let ready = Client::new(agent.admin()).get("/readyz", None).await?.json();
            ensure!(ready["ready"] == true, "{ready}");
            Ok(ready["notes"].to_string().contains("how far the audit log has come cannot be noted"))
        })
        .await?;
        ensure!(metric(&agent.metrics().await?, "bridge_audit_noted")? == 0);
        let (before, is_noted) = published().await?;
        ensure!(!is_noted, "the status notes the fault too early");
        until("the log is published meanwhile", async || {
            ensure!(shop.place_new(&[(0, 1)]).await?.status == 201, "an order waits for the key's volume");
            Ok(published().await?.0 > before)
        })
        .await?;
        disk.answer()?;
        until("the fault is noted", async || Ok(published().await?.1)).await?;
        ensure!(metric(&agent.metrics().await?, "bridge_audit_noted")? == 1);
    }
    end(&mut bridge).await?;
    for folder in [site.cloud_dir(), site.idc_dir()] {
        let (noted, out) =
            (fs::read(folder.join("beside/audit.seen"))?, audits::folder(&folder).join("checkpoint"));
        ensure!(noted == fs::read(out)?, "the end has not waited for the note");
    }
    drop(disks);
    Ok(())
}
