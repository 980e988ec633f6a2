//! Tests `audit reconcile` and `audit show --order` on the logs of two cloud agents and two IDC
//! agents, as a security team has them: copies of folders and verifier keys. Honest logs agree in
//! any order of the arguments. Only what is missing is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::common::twins::{Four, Twins};
use crate::common::{Shop, order_at, site};
use anyhow::{Context, Result, ensure};
use bridge_protocol::audit::Entry;
use bridge_protocol::audit::entry::Event;
use bridge_tests::testkit::audits;
use bridge_tests::testkit::generated;
use bridge_tests::testkit::load::{self, replay};
use bridge_tests::testkit::process::AgentCommand;
use bridge_tests::testkit::site::Site;
use bridge_tests::testkit::tlog;
use serde_json::Value;

/// Number of orders that both cloud agents receive at the same time, under the same keys.
const ORDERS: usize = 60;

/// Indexes of the logs.
const CLOUD: usize = 0;
const SECOND_CLOUD: usize = 1;
const IDC: usize = 2;
const SECOND_IDC: usize = 3;

/// The logs of four agents that have ended, and their keys.
struct Logs {
    program: PathBuf,
    folders: [PathBuf; 4],
    keys: [String; 4],
    /// Number of different idempotency keys.
    requests: u64,
    /// An order that was placed at the first cloud agent, then sent again to the second one.
    retried: String,
    _dir: tempfile::TempDir,
}

impl Logs {
    /// Places orders at both cloud agents. Some use the same keys, at the same time or one after
    /// the other.
    async fn make() -> Result<Logs> {
        let dir = tempfile::tempdir()?;
        let site = site(dir.path(), &["demo", "retries"]).await?;
        let plan = generated::launch(11, ORDERS);
        site.import(&plan).await?;
        let twins = Twins::beside(&site)?;
        let running = twins.start(&site).await?;
        let plan = Arc::new(plan);
        let callers = |storefront| load::Options {
            storefront,
            token: site.token("demo").to_owned(),
            callers: 12,
            patience: crate::common::PATIENCE,
            title: String::new(),
        };
        let (here, there) = (callers(site.storefront), callers(twins.storefront));
        let (here, there) = tokio::join!(replay(&plan, &here), replay(&plan, &there));
        ensure!(here.refusals().is_empty() && there.refusals().is_empty(), "{:?}", here.refusals());
        let retried = retry(&site, &twins).await?;
        end(running).await?;
        let agents: [&AgentCommand; 4] = [&site.cloud, &twins.cloud, &site.idc, &twins.idc];
        let mut keys = Vec::new();
        for agent in agents {
            keys.push(audits::key(agent).await?);
        }
        Ok(Logs {
            program: site.idc.program.clone(),
            folders: [
                audits::folder(&site.cloud_dir()),
                site.cloud_dir().join("state-second-cloud/audit"),
                audits::folder(&site.idc_dir()),
                site.idc_dir().join("state-second-idc/audit"),
            ],
            keys: keys.try_into().ok().context("not four keys")?,
            requests: plan.steps.len() as u64 + 1,
            retried,
            _dir: dir,
        })
    }

    /// Runs `audit reconcile` over some of the logs.
    fn reconcile(&self, which: &[usize], more: &[&str]) -> Result<CommandEnd> {
        let folders: Vec<String> = which.iter().map(|log| text(&self.folders[*log])).collect();
        self.run(&folders, more)
    }

    fn run(&self, folders: &[String], more: &[&str]) -> Result<CommandEnd> {
        let folders = folders.iter().map(String::as_str);
        let arguments = ["reconcile", "--json"].into_iter().chain(folders).chain(more.iter().copied());
        audit(&self.program, &arguments.collect::<Vec<_>>())
    }
}

/// Exit code and output of a command.
#[derive(Debug)]
struct CommandEnd {
    code: Option<i32>,
    out: String,
    error: String,
}

impl CommandEnd {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| format!("{self:?}"))
    }
}

fn audit(program: &Path, arguments: &[&str]) -> Result<CommandEnd> {
    let output = Command::new(program).arg("audit").args(arguments).output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(CommandEnd { code: output.status.code(), out: said(&output.stdout), error: said(&output.stderr) })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Sends one order under one key to one cloud agent, then to the other, as a storefront may do.
async fn retry(site: &Site, twins: &Twins) -> Result<String> {
    let mut shop = Shop::open(site, "retries");
    let order = shop.order(&[(1, 1)]);
    let first = shop.place("retried", order.body.clone()).await?;
    let mut client = bridge_tests::testkit::http::Client::new(twins.storefront);
    let path = shop.orders();
    let again = client.post(&path, Some(shop.token()), Some("retried"), order.body).await?;
    ensure!((first.status.as_u16(), again.status.as_u16()) == (201, 201), "{first:?}, then {again:?}");
    let order = order_at(&first)?;
    ensure!(order == order_at(&again)?, "one key has two orders");
    Ok(order)
}

async fn end(Four { mut bridge, mut cloud, mut idc }: Four) -> Result<()> {
    for agent in [&mut bridge.cloud, &mut cloud, &mut bridge.idc, &mut idc] {
        ensure!(agent.terminate().await?.success(), "an agent did not end in order");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_two_agents_a_side_agree_and_removed_entries_are_named() -> Result<()> {
    let logs = Logs::make().await?;
    honest_logs_agree(&logs)?;
    logs_that_are_not_given_are_named(&logs)?;
    logs_of_one_side_are_refused(&logs)?;
    each_log_is_verified_by_its_key(&logs)?;
    an_order_s_entries_are_found(&logs)?;
    what_is_taken_out_is_named(&logs).await
}

fn honest_logs_agree(logs: &Logs) -> Result<()> {
    for which in [[CLOUD, SECOND_CLOUD, IDC, SECOND_IDC], [SECOND_IDC, SECOND_CLOUD, IDC, CLOUD]] {
        let told = logs.reconcile(&which, &[])?;
        let json = told.json()?;
        ensure!(told.code == Some(0), "{told:?}");
        for list in ["differences", "in_doubt", "not_given", "missing"] {
            ensure!(json[list] == Value::Array(vec![]), "{json}");
        }
        let told = (json["agreed"].as_u64(), json["lost"].as_u64());
        ensure!(told == (Some(logs.requests), Some(0)), "{json}");
        ensure!(json["verified"] == false, "{json}");
    }
    Ok(())
}

/// Checks each pair of one cloud log and one IDC log, in both orders. The command names the two
/// logs that are missing.
fn logs_that_are_not_given_are_named(logs: &Logs) -> Result<()> {
    let agents = ["cloud/second-cloud", "cloud/demo-cloud", "idc/second-idc", "idc/demo-idc"];
    for (cloud, other_cloud) in [(CLOUD, agents[0]), (SECOND_CLOUD, agents[1])] {
        for (idc, other_idc) in [(IDC, agents[2]), (SECOND_IDC, agents[3])] {
            let (right, swapped) = (logs.reconcile(&[cloud, idc], &[])?, logs.reconcile(&[idc, cloud], &[])?);
            let json = right.json()?;
            ensure!(right.code == Some(2) && swapped.code == Some(2), "{right:?}, {swapped:?}");
            for list in ["differences", "in_doubt"] {
                ensure!(json[list] == Value::Array(vec![]) && swapped.json()?[list] == json[list], "{json}");
            }
            ensure!(json["lost"] == 0 && json["agreed"] == swapped.json()?["agreed"], "{json}");
            let missing = json["missing"].as_array().context("no list")?;
            let named = missing.iter().filter_map(|one| one["agent"].as_str()?.split_once(".internal/"));
            let named: BTreeSet<&str> = named.map(|(_, agent)| agent).collect();
            ensure!(named == BTreeSet::from([other_cloud, other_idc]), "{json}");
            ensure!(right.error.contains("give their folders as well"), "{}", right.error);
        }
    }
    Ok(())
}

fn logs_of_one_side_are_refused(logs: &Logs) -> Result<()> {
    for (which, why) in [
        ([CLOUD, SECOND_CLOUD], "all of these are logs of cloud agents"),
        ([IDC, SECOND_IDC], "all of these are logs of IDC agents"),
        ([IDC, IDC], "are of one log"),
    ] {
        let told = logs.reconcile(&which, &[])?;
        ensure!(told.code == Some(2) && told.error.contains(why), "{told:?}");
    }
    Ok(())
}

fn each_log_is_verified_by_its_key(logs: &Logs) -> Result<()> {
    let all = [CLOUD, SECOND_CLOUD, IDC, SECOND_IDC];
    let keys: Vec<&str> = logs.keys.iter().flat_map(|key| ["--key", key.as_str()]).collect();
    let told = logs.reconcile(&all, &keys)?;
    ensure!(told.code == Some(0) && told.json()?["verified"] == true, "{told:?}");
    ensure!(told.json()?["agreed"] == logs.requests, "{told:?}");
    let told = logs.reconcile(&all, &keys[..6])?;
    ensure!(told.code == Some(2) && told.error.contains("no --key is of this log"), "{told:?}");
    let folders: Vec<String> = logs.folders.iter().map(|folder| text(folder)).collect();
    let plain: Vec<&str> = ["reconcile"].into_iter().chain(folders.iter().map(String::as_str)).collect();
    let told = audit(&logs.program, &plain)?;
    ensure!(told.code == Some(0) && told.out.contains("not verified: give --key"), "{told:?}");

    // A changed word that still forms a valid entry. Only the signature reveals it.
    let bundle = logs.folders[IDC].join("tile/entries/000");
    let bundle = if bundle.exists() { bundle } else { partial(&logs.folders[IDC])? };
    let whole = fs::read(&bundle)?;
    let at = whole.windows(6).position(|word| word == b"placed").context("nothing is placed")?;
    let mut changed = whole.clone();
    changed[at..at + 6].copy_from_slice(b"paid__");
    fs::write(&bundle, &changed)?;
    let told = logs.reconcile(&all, &keys)?;
    fs::write(&bundle, &whole)?;
    ensure!(told.code == Some(1) && told.json()?["verified"] == false, "{told:?}");
    ensure!(told.error.contains(&text(&logs.folders[IDC])) && told.error.contains("was changed"), "{told:?}");
    Ok(())
}

/// Returns the largest bundle of entries that is not full.
fn partial(log: &Path) -> Result<PathBuf> {
    let mut bundles = Vec::new();
    for file in fs::read_dir(log.join("tile/entries/000.p"))? {
        let path = file?.path();
        let width = path.file_name().and_then(|name| name.to_str()?.parse::<u16>().ok());
        bundles.push((width.context("no width")?, path));
    }
    bundles.into_iter().max().map(|(_, path)| path).context("no bundle")
}

/// `show` finds an order's entries by the order's id. At the second cloud agent the retry had
/// another id under the same key, and it is found as well.
fn an_order_s_entries_are_found(logs: &Logs) -> Result<()> {
    let show = |log: usize, order: &str| {
        audit(&logs.program, &["show", "--order", order, "--json", "--dir", &text(&logs.folders[log])])
    };
    for log in [CLOUD, SECOND_CLOUD] {
        let told = show(log, &logs.retried)?;
        let entries: Vec<Value> = told.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let kinds: Vec<&str> = entries.iter().filter_map(|entry| entry["entry"]["event"].as_str()).collect();
        ensure!(told.code == Some(0) && kinds == ["order-sent", "order-answered"], "{told:?}");
        let sent_as = entries[0]["entry"]["facts"]["order"].as_str();
        ensure!((sent_as == Some(logs.retried.as_str())) == (log == CLOUD), "{told:?}");
    }
    let nobody_s = show(CLOUD, "01930000-0000-7000-8000-000000000000")?;
    ensure!(
        nobody_s.code == Some(1) && nobody_s.error.contains("no entry of this log is about"),
        "{nobody_s:?}"
    );
    let neither = audit(&logs.program, &["show", "--dir", &text(&logs.folders[CLOUD])])?;
    ensure!(neither.code == Some(2) && neither.error.contains("--order"), "{neither:?}");
    Ok(())
}

/// Removes all entries about one request from both IDC agents' logs, and one answer from the second
/// cloud agent's log. The three logs are written again under other keys and names, so a name does
/// not show the side of its log.
async fn what_is_taken_out_is_named(logs: &Logs) -> Result<()> {
    let entries = |log: usize| -> Result<Vec<Entry>> {
        audits::entries(&tlog::check(&logs.folders[log], &logs.keys[log])?)
    };
    let (mut cloud, mut idcs) = (entries(SECOND_CLOUD)?, [entries(IDC)?, entries(SECOND_IDC)?]);
    let silent = cloud.iter().rev().find_map(|entry| match &entry.event {
        Event::OrderSent(sent) => Some(sent.key),
        _ => None,
    });
    let silent = silent.context("the second cloud agent has sent nothing")?;
    let gone = idcs[1].iter().find_map(|entry| match &entry.event {
        Event::OrderReceived(received) => Some(received.key).filter(|key| *key != silent),
        _ => None,
    });
    let gone = gone.context("the second IDC agent has received nothing")?;
    for idc in &mut idcs {
        idc.retain(|entry| match &entry.event {
            Event::OrderReceived(received) => received.key != gone,
            Event::OrderCommitted(ended) | Event::OrderAnswered(ended) => ended.key != gone,
            _ => true,
        });
    }
    cloud.retain(|entry| !matches!(&entry.event, Event::OrderAnswered(answered) if answered.key == silent));
    let dir = tempfile::tempdir()?;
    let folders = [
        text(&logs.folders[CLOUD]),
        rewritten(&dir.path().join("cloud"), &cloud).await?,
        rewritten(&dir.path().join("idc"), &idcs[0]).await?,
        rewritten(&dir.path().join("second-idc"), &idcs[1]).await?,
    ];
    let told = logs.run(&folders, &[])?;
    let json = told.json()?;
    ensure!(told.code == Some(1) && json["agreed"] == logs.requests - 2, "{json}");
    let named = json["differences"].as_array().context("no list")?.iter();
    let named = named.map(|one| Some((one["key"].as_str()?.to_owned(), one["what"].as_str()?.to_owned())));
    let named: Option<BTreeSet<_>> = named.collect();
    let expected = [(gone, "never-committed"), (silent, "never-answered")];
    let expected = expected.map(|(key, what)| (key.to_hex(), what.to_owned()));
    ensure!(named == Some(BTreeSet::from(expected)), "{json}");
    ensure!(json["not_given"] == Value::Array(vec![]) && json["lost"] == 0, "{json}");
    Ok(())
}

/// Writes a log with these entries, by an agent's own code and under a new key.
async fn rewritten(dir: &Path, entries: &[Entry]) -> Result<String> {
    let (config, log, closer) = audits::open(dir)?;
    log.append(entries).await?;
    closer.close().await?;
    Ok(text(&config.dir))
}
