//! Tests of what an operator does and sees: checks, status, health, metrics, logs, orderly ends,
//! and keys that are never overwritten.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::SystemTime;

use crate::common::{PATIENCE, Shared, Shop, Stage, configure, metric, obstacles, order_at, site, until};
use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::audits;
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::ledger_totals::LedgerTotals;
use bridge_tests::testkit::ports::free_address;
use bridge_tests::testkit::process::{Programs, Running};
use bridge_tests::testkit::site::{Bridge, Site};
use bridge_tests::testkit::tied;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use tokio::net::{TcpListener, UnixDatagram};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A stage whose agents write their logs as JSON.
static BRIDGE: Shared = Shared::new(&["watched"], |site| {
    configure(&cloud_config(site), "log.format", "json")?;
    configure(&idc_config(site), "log.format", "json")
});

#[test]
fn a_configuration_with_five_mistakes_reports_all_with_lines() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let programs = Programs::build()?;
        for (program, good) in [(&programs.cloud, cloud_config(site)), (&programs.idc, idc_config(site))] {
            let file = good.with_file_name("mistaken.toml");
            fs::copy(&good, &file)?;
            configure(&file, "agent.name", "No Name")?;
            configure(&file, "admin.listen", "192.0.2.1:9080")?;
            configure(&file, "log.colour", true)?;
            configure(&file, "tunnel.order_lanes", 40)?;
            configure(&file, "tunnel.ca", "nowhere/ca.pem")?;
            let text = fs::read_to_string(&file)?;
            let line = |start: &str| 1 + text.lines().take_while(|line| !line.starts_with(start)).count();
            let expected: BTreeMap<usize, &str> = [
                (line("name = \"No Name\""), "agent.name: "),
                (line("listen = \"192.0.2.1:9080\""), "admin.listen: must be a loopback address"),
                (line("colour"), "log.colour: is not a known setting"),
                (line("order_lanes"), "tunnel.order_lanes: must be 1 to 16, is 40"),
                (line("ca = "), "tunnel.ca: "),
            ]
            .into();
            for command in ["check", "serve"] {
                let (code, out, said) = call(program, &[command], &file).await?;
                ensure!(code == 2 && out.is_empty(), "{command}: {code} {out}");
                ensure!(said.lines().count() == expected.len(), "{command}: {said}");
                for (told, (line, mistake)) in said.lines().zip(&expected) {
                    let start = format!("{}:{line}: {mistake}", file.display());
                    ensure!(told.starts_with(&start), "{told} does not start with {start}");
                }
            }
            fs::remove_file(&file)?;

            let (code, out, said) = call(program, &["check"], &good).await?;
            ensure!(code == 0 && said.is_empty() && out.contains("no mistakes"), "{code} {out} {said}");
            let (code, effective, _) = call(program, &["check", "--print-config"], &good).await?;
            ensure!(code == 0 && !effective.contains(site.token("watched")), "{effective}");
            let effective: toml::Table = effective.parse()?;
            ensure!(
                effective["tunnel"]["post_quantum"].as_str() == Some("require"),
                "the output lacks the defaults"
            );
            ensure!(
                effective["log"]["format"].as_str() == Some("json"),
                "the output lacks a configured value"
            );
            let (code, _, said) = call(program, &["check"], Path::new("nowhere/bridge.toml")).await?;
            ensure!(code == 2 && said.contains("nowhere/bridge.toml"), "{code} {said}");
            let (code, _, said) = call(program, &["reticulate"], &good).await?;
            ensure!(code == 2 && said.contains("reticulate"), "{code} {said}");
        }
        Ok(())
    })
}

#[test]
fn a_missing_file_hides_no_mistake_in_another() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let good = idc_config(site);
        let file = good.with_file_name("two-files-mistaken.toml");
        fs::copy(&good, &file)?;
        let cloud: toml::Table = fs::read_to_string(cloud_config(site))?.parse()?;
        configure(&file, "tunnel.key", cloud["tunnel"]["key"].clone())?;
        configure(&file, "tunnel.crl", "nowhere.pem")?;
        configure(&file, "keys.dir", "nowhere")?;
        // Root could write to every folder, but can make none in a file.
        configure(&file, "agent.state_dir", good.join("state").display().to_string())?;
        let text = fs::read_to_string(&file)?;
        let (code, _, said) = call(&Programs::build()?.idc, &["check"], &file).await?;
        fs::remove_file(&file)?;
        ensure!(code == 2 && said.lines().count() == 4, "{code} {said}");
        for (start, mistake) in [
            ("key = ", "does not belong to the certificate"),
            ("crl = ", "nowhere.pem: No such file"),
            ("dir = \"nowhere\"", "run `bridge-idc keys init"),
            ("state_dir = ", "cannot be made or written by this user"),
        ] {
            let line = 1 + text.lines().take_while(|line| !line.starts_with(start)).count();
            let start = format!("{}:{line}: ", file.display());
            let told = said.lines().find(|told| told.starts_with(&start));
            ensure!(told.is_some_and(|told| told.contains(mistake)), "{start}{mistake} in {said}");
        }
        Ok(())
    })
}

#[test]
fn an_import_reports_refusals_in_a_file_and_its_exit_code() -> Result<()> {
    BRIDGE.play(async |Stage { site, .. }| {
        let programs = Programs::build()?;
        let good = "{\"brand\": \"watched\", \"product\": \"MUG\", \"names\": {\"en\": \"Mug\"}}\n";
        let file = idc_config(site).with_file_name("catalogue.jsonl");
        let path = file.display().to_string();
        let refused = file.with_file_name("catalogue.jsonl.refused.csv");

        fs::write(&file, format!("{good}{{\"brand\": \"watched\", \"product\": \"..\"}}\n"))?;
        let (code, _, said) = call(&programs.idc, &["catalogue", "import", &path], &idc_config(site)).await?;
        ensure!(code == 1 && said.contains("line 2: product: "), "{code} {said}");
        let told = fs::read_to_string(&refused)?;
        ensure!(told.starts_with("line,field,reason\n2,product,") && told.lines().count() == 2, "{told}");

        fs::write(&file, good)?;
        let (code, out, _) = call(&programs.idc, &["catalogue", "import", &path], &idc_config(site)).await?;
        ensure!(code == 0 && out.contains("products    0 new, 0 changed, 1 unchanged"), "{code} {out}");
        let mapped = ["catalogue", "import", &path, "--map", "brand=@watched"];
        let (code, _, said) = call(&programs.idc, &mapped, &idc_config(site)).await?;
        ensure!(code == 2 && said.contains("ends in .csv"), "{code} {said}");
        Ok(())
    })
}

#[tokio::test]
async fn a_storefronts_trace_is_in_both_logs_up_to_the_commit() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["traced"]).await?;
    for config in [cloud_config(&site), idc_config(&site)] {
        configure(&config, "log.level", "debug")?;
    }
    let _bridge = site.start().await?;
    let mut shop = Shop::open(&site, "traced");
    let (order, trace) = (shop.order(&[(0, 1)]), "4bf92f3577b34da6a3ce929d0e0e4736");
    let request = http::Request::post("/v1/traced/orders")
        .header("host", "bridge")
        .header("authorization", format!("Bearer {}", shop.token()))
        .header("idempotency-key", &order.key)
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let answer =
        Client::new(site.storefront).send(request.body(http_body_util::Full::new(order.body))?).await?;
    ensure!(answer.status == 201, "{}", answer.status);
    // A thread of its own writes each log, so a line may come after the answer.
    let of_trace = |log: &Path| -> Result<Vec<String>> {
        Ok(fs::read_to_string(log)?.lines().filter(|line| line.contains(trace)).map(str::to_owned).collect())
    };
    until("the cloud's log knows the trace", async || Ok(!of_trace(&site.cloud.log)?.is_empty())).await?;
    until("the data centre's log knows the commit", async || Ok(of_trace(&site.idc.log)?.len() >= 2)).await?;
    let lines = of_trace(&site.idc.log)?;
    ensure!(lines.len() == 2 && lines[0].contains("received") && lines[1].contains("committed"), "{lines:?}");
    Ok(())
}

#[test]
fn health_status_metrics_and_logs_tell_how_it_goes() -> Result<()> {
    BRIDGE.play(async |Stage { site, bridge, .. }| {
        let mut shop = Shop::open(site, "watched");
        let order = shop.order(&[(2, 1)]);
        for expected in [201, 201] {
            ensure!(shop.place(&order.key, order.body.clone()).await?.status == expected);
        }
        ensure!(shop.place_new(&[(2, 1)]).await?.status == 409);
        ensure!(shop.place("nothing", "{}").await?.status == 422);

        let programs = Programs::build()?;
        for (program, config, agent, role) in [
            (&programs.cloud, cloud_config(site), &bridge.cloud, "cloud"),
            (&programs.idc, idc_config(site), &bridge.idc, "idc"),
        ] {
            let mut admin = Client::new(agent.admin());
            let health = admin.get("/healthz", None).await?;
            ensure!(health.status == 200 && &health.body[..] == b"ok\n");
            let ready = admin.get("/readyz", None).await?;
            ensure!(
                ready.status == 200
                    && ready.json()["ready"] == true
                    && ready.json()["because"] == Value::Array(vec![])
            );
            let (code, out, _) = call(program, &["status", "--json"], &config).await?;
            let status: Value = serde_json::from_str(&out)?;
            ensure!(
                code == 0
                    && status["role"] == role
                    && status["links"].as_array().is_some_and(|links| links.len() == 1),
                "{out}"
            );
            let identity = status["identity"].as_str().unwrap_or_default();
            ensure!(
                identity.starts_with("spiffe://") && identity.ends_with(&format!("/{role}/demo-{role}")),
                "{out}"
            );
            ensure!(status["sealing_keys"] == 1, "{out}");
            let (code, page, _) = call(program, &["status"], &config).await?;
            ensure!(code == 0 && page.starts_with("ready\n") && page.contains(identity), "{page}");

            let metrics = admin.get("/metrics", None).await?;
            let kind = metrics.header("content-type").unwrap_or_default();
            ensure!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        }
        let (cloud, idc) = (bridge.cloud.metrics().await?, bridge.idc.metrics().await?);
        for text in [&cloud, &idc] {
            ensure!(text.ends_with("# EOF\n"), "{text}");
            for (name, value) in [
                ("bridge_links_up{transport=\"quic\"}", 1),
                ("bridge_links_opened_total{transport=\"quic\"}", 1),
                ("bridge_links_closed_total{transport=\"tcp\"}", 0),
                ("bridge_links_refused_total{reason=\"revoked\"}", 0),
                ("bridge_orders_total{outcome=\"placed\"}", 1),
                ("bridge_orders_total{outcome=\"replayed\"}", 1),
                ("bridge_orders_total{outcome=\"sold_out\"}", 1),
                ("bridge_queue_depth{queue=\"in_flight\"}", 0),
            ] {
                ensure!(metric(text, name)? == value, "{name} is {}, not {value}", metric(text, name)?);
            }
            ensure!(metric(text, "bridge_frames_total{direction=\"sent\"}")? > 3);
            ensure!(metric(text, "bridge_frame_bytes_total{direction=\"received\"}")? > 100);
            ensure!(metric(text, "bridge_seal_sessions_total")? >= 1);
        }
        for (status, count) in [("2xx", 2), ("4xx", 2), ("5xx", 0)] {
            let name =
                format!("bridge_storefront_responses_total{{route=\"order_place\",status=\"{status}\"}}");
            ensure!(metric(&cloud, &name)? == count, "{name}: {cloud}");
        }
        ensure!(metric(&cloud, "bridge_queue_limit{queue=\"orders\"}")? == 4_096);
        ensure!(metric(&cloud, "bridge_receipts_rejected_total")? == 0);
        ensure!(metric(&idc, "bridge_queue_limit{queue=\"commit\"}")? == 8_192);
        ensure!(metric(&idc, "bridge_batch_orders_count")? == 3, "{idc}");
        ensure!(metric(&idc, "bridge_commit_seconds_count")? == 3);
        ensure!(metric(&idc, "bridge_ledger_errors_total")? == 0);
        ensure!(metric(&idc, "bridge_envelopes_rejected_total{reason=\"not_authentic\"}")? == 0);

        for agent in [&bridge.cloud, &bridge.idc] {
            let log = fs::read_to_string(agent.log())?;
            let mut messages = Vec::new();
            for line in log.lines() {
                let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
                ensure!(event["timestamp"].is_string() && event["target"].is_string(), "{line}");
                ensure!(
                    event["level"] == "INFO" || event["level"] == "WARN",
                    "a line has another level than INFO or WARN: {line}"
                );
                messages.push(event["message"].as_str().unwrap_or_default().to_owned());
            }
            ensure!(messages.iter().any(|message| message.ends_with(" serves")), "{messages:?}");
        }
        Ok(())
    })
}

#[tokio::test]
async fn a_terminated_agent_answers_what_it_took_and_ends_with_0() -> Result<()> {
    for victim in ["bridge-cloud", "bridge-idc"] {
        let dir = tempfile::tempdir()?;
        let site = Arc::new(site(dir.path(), &["last"]).await?);
        // An order on the line when the IDC agent ends is sent again after the restart. That must
        // happen before the caller's time-out.
        configure(&cloud_config(&site), "storefront.answer_within", "40s")?;
        let mut bridge = site.start().await?;
        let (told, taken) = tokio::sync::watch::channel(0_usize);
        let mut callers = JoinSet::new();
        for caller in 0..16 {
            let (site, told) = (site.clone(), told.clone());
            callers.spawn(async move {
                let mut shop = Shop::open(&site, "last");
                let mut answers = Vec::new();
                // Orders until the agent has ended or answers 503.
                for order in 0..50 {
                    let place = shop.order(&[(0, 1)]);
                    let Ok(answer) = shop.place(&format!("{caller}-{order}"), place.body).await else {
                        break;
                    };
                    let status = answer.status.as_u16();
                    answers.push(status);
                    told.send_modify(|told| *told += 1);
                    if status == 503 {
                        break;
                    }
                }
                answers
            });
        }
        taken.clone().wait_for(|told| *told >= 100).await?;
        let agent = if victim == "bridge-cloud" { &mut bridge.cloud } else { &mut bridge.idc };
        let status = agent.terminate().await?;
        ensure!(status.code() == Some(0), "{victim} ended with {status}");
        if victim == "bridge-idc" {
            agent.restart().await?;
        }
        let log = fs::read_to_string(agent.log())?;
        ensure!(log.contains("draining") && log.contains(&format!("{victim} has ended in order")), "{log}");

        let answers = callers.join_all().await.concat();
        let count = |status: u16| answers.iter().filter(|answer| **answer == status).count();
        ensure!(count(201) >= 90 && count(201) + count(503) == answers.len(), "{victim}: {answers:?}");
        let books = LedgerTotals::read(site.database(), "last").await?;
        ensure!(
            books.orders == count(201) as i64,
            "{victim}: {} orders, {} answers",
            books.orders,
            count(201)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_hang_up_has_the_certificates_read_again_and_ends_neither_agent() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["hung"]).await?;
    let bridge = site.start().await?;
    let mut shop = Shop::open(&site, "hung");
    for agent in [&bridge.cloud, &bridge.idc] {
        let read_again = || -> Result<usize> {
            Ok(fs::read_to_string(agent.log())?
                .matches("certificate, CA and revocation list read again")
                .count())
        };
        let before = read_again()?;
        kill_process(agent.pid().context("the agent has ended")?, Signal::HUP)?;
        until("the certificates are read again", async || Ok(read_again()? > before)).await?;
        ensure!(shop.place_new(&[(0, 1)]).await?.status == 201, "the agents accept no orders");
    }
    Ok(())
}

#[tokio::test]
async fn special_files_stop_neither_agent_and_are_noted_until_replaced() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["piped"]).await?;
    let Bridge { mut cloud, mut idc } = site.start().await?;
    let mut shop = Shop::open(&site, "piped");
    // A named pipe stands for a disk that does not answer: opening it blocks while nobody writes.
    let list = dir.path().join("pki").join("crl.pem");
    let key = site.idc_dir().join("keys").join("sealing-9.key");
    let good = fs::read(&list)?;
    fs::remove_file(&list)?;
    for pipe in [&list, &key] {
        mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    let noted = async |agent: &Running, word: &str| notes(agent, |notes| notes.contains(word)).await;
    for agent in [&cloud, &idc] {
        noted(agent, "crl.pem is not a regular file").await?;
    }
    noted(&idc, "sealing-9.key is not a regular file").await?;
    for files in ["certificates", "keys"] {
        let name = format!("bridge_files_not_in_force{{files=\"{files}\"}}");
        ensure!(metric(&idc.metrics().await?, &name)? == 1, "{name}");
    }
    ensure!(shop.place_new(&[(0, 1)]).await?.status == 201, "the agents accept no orders");
    for pipe in [&list, &key] {
        fs::remove_file(pipe)?;
    }
    fs::write(&list, good)?;
    for agent in [&cloud, &idc] {
        notes(agent, |notes| notes == "[]").await?;
    }
    ensure!(cloud.terminate().await?.success() && idc.terminate().await?.success(), "both end in order");
    Ok(())
}

#[tokio::test]
async fn an_unread_log_stops_no_order_and_is_complete_once_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut site = site(dir.path(), &["unread"]).await?;
    let pipe = dir.path().join("log.pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut reader = fs::OpenOptions::new().read(true).custom_flags(flags).open(&pipe)?;
    site.cloud.log = pipe;
    // At this level, a few orders fill a pipe.
    configure(&cloud_config(&site), "log.level", "trace")?;
    let (mut cloud, _idc) = (site.cloud.spawn()?, site.idc.start().await?);
    until("the cloud agent is ready", async || {
        Ok(obstacles(site.cloud.admin).await.is_some_and(|why| why.is_empty()))
    })
    .await?;
    let mut shop = Shop::open(&site, "unread");
    let mut order = async || -> Result<()> {
        let answer = timeout(PATIENCE, shop.place_new(&[(0, 1)])).await.context("no answer")??;
        ensure!(answer.status == 201, "{}", answer.status);
        Ok(())
    };
    loop {
        for _ in 0..20 {
            order().await?;
        }
        if metric(&cloud.metrics().await?, "bridge_log_lines_left_out_total")? > 0 {
            break;
        }
    }

    let mut log = Vec::new();
    let mut read = || match reader.read_to_end(&mut log) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(String::from_utf8_lossy(&log).into_owned()),
    };
    until("the log says that lines were left out", async || {
        Ok(read()?.contains("lines of the log were left out"))
    })
    .await?;
    let ended = async { cloud.terminate().await };
    let reading = async {
        until("the log says that the agent has ended", async || {
            Ok(read()?.contains("bridge-cloud has ended in order"))
        })
        .await
    };
    let (ended, said) = tokio::join!(ended, reading);
    said?;
    ensure!(ended?.success(), "the agent did not end in order");
    Ok(())
}

/// Waits until an agent's notes meet a condition.
async fn notes(agent: &Running, are: impl Fn(&str) -> bool) -> Result<()> {
    let mut admin = Client::new(agent.admin());
    until("the notes meet the condition", async || {
        let ready = admin.get("/readyz", None).await?.json();
        Ok(are(&ready["notes"].to_string()))
    })
    .await
}

#[tokio::test]
async fn an_agent_counts_as_started_for_systemd_while_its_database_is_away() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["started"]).await?;
    configure(&idc_config(&site), "ledger.url", format!("postgres://bridge@{}/ledger", free_address()?))?;
    for agent in [&site.cloud, &site.idc] {
        let socket = dir.path().join(format!("{}.notify", agent.name));
        let systemd = UnixDatagram::bind(&socket)?;
        let mut program = agent.command();
        program.env("NOTIFY_SOCKET", &socket).stderr(Stdio::null()).stdout(Stdio::null());
        let _agent = tied::spawn(program)?;
        let mut told = [0; 32];
        let length = timeout(PATIENCE, systemd.recv(&mut told)).await??;
        ensure!(&told[..length] == b"READY=1", "{:?}", str::from_utf8(&told[..length]));
        let because = obstacles(agent.admin).await.context("the admin listener does not answer")?;
        ensure!(!because.is_empty(), "the agent names no obstacle");
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_comes_later_is_waited_for() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["later"]).await?;
    // An address for documentation (RFC 5737), which no machine has.
    let address = format!("198.51.100.{}", 1 + std::process::id() % 254);
    let storefront = SocketAddr::new(address.parse()?, free_address()?.port());
    configure(&cloud_config(&site), "storefront.listen", storefront.to_string())?;
    let (_cloud, mut idc) = (site.cloud.spawn()?, site.idc.spawn()?);
    idc.wait_until_ready().await?;
    let alone = |because: &[String]| because.len() == 1 && because[0].starts_with("storefront.listen: ");
    until("the agent says which address it waits for, and nothing else is in the way", async || {
        Ok(obstacles(site.cloud.admin).await.is_some_and(|because| alone(&because)))
    })
    .await?;
    let Some(_added) = Added::to_this_machine(&address) else {
        skipped(Lack::Addresses, "only root can give this machine an address");
        return Ok(());
    };
    until("nothing is in the way", async || Ok(obstacles(site.cloud.admin).await == Some(Vec::new())))
        .await?;
    let answer = Client::new(storefront).get("/v1/later/stock?sku=SHOE-270", None).await?;
    ensure!(answer.status == 200, "{}", answer.status);
    Ok(())
}

/// An address added to this machine. It is removed when dropped.
struct Added(String);

impl Added {
    /// Returns `None` if this user may not add addresses.
    fn to_this_machine(address: &str) -> Option<Added> {
        let address = Added(format!("{address}/32"));
        address.ip("add").then_some(address)
    }

    fn ip(&self, what: &str) -> bool {
        let ip = std::process::Command::new("ip").args(["address", what, &self.0, "dev", "lo"]).output();
        ip.is_ok_and(|output| output.status.success())
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        let _gone = self.ip("del");
    }
}

#[tokio::test]
async fn a_command_by_another_user_than_the_folders_owner_changes_nothing() -> Result<()> {
    const NOBODY_S: u32 = 4_000_000;
    let dir = tempfile::tempdir()?;
    let programs = Programs::build()?;
    let keys = dir.path().join("keys");
    let path = keys.to_str().context("the path is not UTF-8")?;
    ensure!(run(&programs.idc, &["keys", "init", "--dir", path]).await?.0 == 0);
    if chown(&keys, Some(NOBODY_S), None).is_err() {
        skipped(Lack::Owners, "only root can give a folder away");
        return Ok(());
    }
    let before = files(&keys)?;
    for command in [["keys", "rotate", "sealing"], ["keys", "rotate", "kek"]] {
        let (code, _, said) = run(&programs.idc, &[&command[..], &["--dir", path]].concat()).await?;
        ensure!(code == 1 && said.contains("belongs to #4000000") && said.contains(path), "{code} {said}");
    }
    ensure!(files(&keys)? == before, "a key was left that its owner cannot open");

    let site = site(&dir.path().join("site"), &["owned"]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, "owned");
    let order = order_at(&shop.place_new(&[(0, 1)]).await?)?;
    bridge.idc.kill9().await?;
    // No agent is running, so the command would have to write the log itself.
    let log = audits::folder(&site.idc_dir());
    chown(&log, Some(NOBODY_S), None)?;
    let show = ["personal", "show", &order, "--purpose", "ticket-1"];
    let (code, out, said) = call(&programs.idc, &show, &idc_config(&site)).await?;
    ensure!(code == 1 && out.is_empty() && said.contains("belongs to #4000000"), "{code} {out} {said}");

    // An agent that is started once as root leaves nothing either.
    bridge.cloud.kill9().await?;
    for (program, config, dir) in [
        (&programs.idc, idc_config(&site), site.idc_dir()),
        (&programs.cloud, cloud_config(&site), site.cloud_dir()),
    ] {
        let state = dir.join("state");
        chown(&state, Some(NOBODY_S), None)?;
        let before = written(&state)?;
        let (code, _, said) = call(program, &["serve"], &config).await?;
        ensure!(code == 1 && said.contains("belongs to #4000000") && said.contains("chown"), "{code} {said}");
        ensure!(written(&state)? == before, "an agent left a file that its folder's owner cannot open");
        chown(&state, Some(0), None)?;
    }

    // The command would have to create a new log key, in a folder that belongs to another user.
    chown(&log, Some(0), None)?;
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs)?;
    chown(&theirs, Some(NOBODY_S), None)?;
    configure(&idc_config(&site), "audit.key_file", theirs.join("new/audit.key").display().to_string())?;
    let (code, out, said) = call(&programs.idc, &show, &idc_config(&site)).await?;
    ensure!(code == 1 && out.is_empty() && said.contains("belongs to #4000000"), "{code} {out} {said}");
    ensure!(fs::read_dir(&theirs)?.next().is_none(), "something was made that its owner cannot open");
    Ok(())
}

#[tokio::test]
async fn a_taken_address_is_named_and_exits_with_1() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let site = site(dir.path(), &["taken"]).await?;
    let _bridge = site.start().await?;
    let programs = Programs::build()?;
    // Starts an agent with a copy of the configuration. Every address except one is changed to a
    // free one.
    for (program, config, setting) in [
        (&programs.cloud, cloud_config(&site), "admin.listen"),
        (&programs.cloud, cloud_config(&site), "storefront.listen"),
        (&programs.idc, idc_config(&site), "admin.listen"),
    ] {
        let second = config.with_file_name("second.toml");
        fs::copy(&config, &second)?;
        let table: toml::Table = fs::read_to_string(&config)?.parse()?;
        let (section, key) = setting.split_once('.').context("no setting")?;
        let wanted = table[section][key].as_str().context("no address")?.to_owned();
        let taken = TcpListener::bind(free_address()?).await?;
        let address = if setting == "storefront.listen" { taken.local_addr()?.to_string() } else { wanted };
        if program == &programs.cloud {
            configure(
                &second,
                "tunnel.listen",
                toml::Value::Array(vec![free_address()?.to_string().into()]),
            )?;
            configure(&second, "admin.listen", free_address()?.to_string())?;
        }
        configure(&second, "agent.state_dir", "state-second")?;
        configure(&second, setting, address.clone())?;
        let (code, out, said) = call(program, &["serve"], &second).await?;
        ensure!(code == 1 && out.is_empty(), "{setting}: {code} {out} {said}");
        let last = said.lines().last().unwrap_or_default();
        ensure!(
            last.contains(setting) && last.contains(&address) && last.contains("Address already in use"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn keys_are_made_once_and_never_overwritten() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let programs = Programs::build()?;
    let keys = dir.path().join("keys");
    let path = keys.to_str().context("the path is not UTF-8")?;
    let init = ["keys", "init", "--dir", path, "--name", "seoul"];
    let (code, out, _) = run(&programs.idc, &init).await?;
    ensure!(code == 0 && out.contains("back the folder up"), "{out}");
    let (_, verifier, _) = run(&programs.idc, &["keys", "show", "--dir", path]).await?;
    ensure!(verifier.starts_with("seoul+") && out.contains(verifier.trim()), "{verifier}");
    let before = files(&keys)?;
    ensure!(before.len() == 4, "{:?}", before.keys());

    let (code, _, said) = run(&programs.idc, &init).await?;
    ensure!(code == 1 && said.contains("keys are never overwritten"), "{code} {said}");
    ensure!(files(&keys)? == before, "a key has changed");
    fs::remove_file(keys.join("signing.key"))?;
    let (code, _, said) = run(&programs.idc, &init).await?;
    ensure!(
        code == 1 && said.contains("keys are never overwritten"),
        "a key was made in a folder that lacks one: {code} {said}"
    );
    fs::write(keys.join("signing.key"), &before["signing.key"])?;
    let (code, _, said) = run(&programs.idc, &["keys", "show", "--dir", path]).await?;
    ensure!(code == 1 && said.contains("chmod 600"), "{code} {said}");

    fs::remove_file(keys.join("signing.key"))?;
    let (code, _, said) = run(&programs.idc, &["keys", "rotate", "kek", "--dir", path]).await?;
    ensure!(code == 1 && said.contains("holds no signing key"), "{code} {said}");
    ensure!(files(&keys)?.len() == 3, "a key was added beside a missing one");
    Ok(())
}

fn cloud_config(site: &Site) -> PathBuf {
    site.cloud_dir().join("bridge-cloud.toml")
}

fn idc_config(site: &Site) -> PathBuf {
    site.idc_dir().join("bridge-idc.toml")
}

/// Returns the name and contents of every file in a folder.
fn files(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let entries = fs::read_dir(dir)?.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?))
    });
    entries.collect()
}

/// Returns the time of the last change of each file in a folder and its folders.
fn written(dir: &Path) -> Result<BTreeMap<PathBuf, SystemTime>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        all.insert(entry.path(), metadata.modified()?);
        if metadata.is_dir() {
            all.extend(written(&entry.path())?);
        }
    }
    Ok(all)
}

/// Runs a command with a configuration. Returns its exit code, standard output and standard error.
async fn call(program: &Path, command: &[&str], config: &Path) -> Result<(i32, String, String)> {
    run(program, &[command, &["--config", config.to_str().context("the path is not UTF-8")?]].concat()).await
}

async fn run(program: &Path, arguments: &[&str]) -> Result<(i32, String, String)> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output).await.with_context(|| format!("{arguments:?} does not end"))??;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((
        output.status.code().context("the command was ended by a signal")?,
        text(output.stdout),
        text(output.stderr),
    ))
}
