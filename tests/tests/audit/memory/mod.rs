//! After an answer, neither agent has anything personal left in its memory, in whichever way the
//! order came (promise P5).
//!
//! Each way has its own brand, so a hit names the way that left it. Connections stay open until the
//! search is over: the data of a caller with a keep-alive connection must be gone as well.

mod http2;
mod ways;
mod wire;

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::memory::search;
use bridge_tests::testkit::process::Running;
use bridge_tests::testkit::search::Needles;
use bridge_tests::testkit::site::{Bridge, configure};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::common::{postgres, site, site_on, until};
use ways::WAYS;

/// Interval between half orders. It is shorter than the time that the agent waits for the other
/// half.
const SENT_AGAIN: Duration = Duration::from_millis(500);

#[tokio::test]
async fn no_way_of_an_order_leaves_anything_personal_in_memory_with_sqlite() -> Result<()> {
    let dir = tempfile::tempdir()?;
    nothing_stays(&site(dir.path(), &WAYS).await?).await
}

#[tokio::test]
async fn no_way_of_an_order_leaves_anything_personal_in_memory_with_postgres() -> Result<()> {
    let (_cluster, database) = postgres().await?;
    let dir = tempfile::tempdir()?;
    nothing_stays(&site_on(dir.path(), database, &WAYS).await?).await
}

async fn nothing_stays(site: &bridge_tests::testkit::site::Site) -> Result<()> {
    let config = site.cloud_dir().join("bridge-cloud.toml");
    configure(&config, "storefront.body_timeout", "2s")?;
    // The connections must stay open until the search. A closed connection would prove nothing.
    configure(&config, "storefront.header_timeout", "10m")?;
    configure(&config, "storefront.idle_timeout", "10m")?;
    let bridge = site.start().await?;
    let (cloud, idc) = (&bridge.cloud, &bridge.idc);
    dump_nothing(cloud)?;
    dump_nothing(idc)?;

    // The search must find what is surely there: a secret of each agent, and an order of which half
    // has arrived.
    let token = Needles::new([site.token(WAYS[0])]);
    match hits(&token, cloud) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            skipped(Lack::Memory, &format!("this user may not read the agents' memory (root may): {error}"));
            return Ok(());
        }
        found => ensure!(found? > 0, "the search does not find the token that the cloud agent holds"),
    }
    let ledger = site.database().url();
    ensure!(
        hits(&Needles::new([ledger.as_str()]), idc)? > 0,
        "the search does not find the ledger's URL in the IDC agent"
    );
    let mut half = ways::Half::of(site);
    let is_there = async || half_is_there(&mut half, cloud).await;
    until("half an order is in the cloud agent's memory", is_there).await?;
    let needles = Arc::clone(&half.needles);
    drop(half);
    let is_gone = async || Ok(hits(&needles, cloud)? == 0);
    until("an order that was cut off is gone from memory", is_gone).await?;

    nothing_is_left_of(&[ways::take_one(site).await?], &bridge).await?;
    let mut taken = ways::take_all(site, &bridge).await?;
    ensure!(taken.len() == WAYS.len(), "a way was not taken");
    nothing_is_left_of(&taken, &bridge).await?;
    let mut open = 0;
    for way in &mut taken {
        open +=
            usize::from(way.are_open().await.with_context(|| format!("the way {} was closed", way.name))?);
    }
    ensure!(open == 3, "{open} ways are still open");
    Ok(())
}

async fn nothing_is_left_of(taken: &[ways::Taken], bridge: &Bridge) -> Result<()> {
    let all = Needles::new(taken.iter().flat_map(|way| way.planted.iter().map(String::as_str)));
    ensure!(all.count(&ways::bodies(taken)) > 50 * taken.len() as u64, "nothing was planted");
    for agent in [&bridge.cloud, &bridge.idc] {
        // Searches again until nothing is found, since an agent may wipe a buffer just after its
        // answer.
        let searched =
            until("nothing personal is left in memory", async || Ok(hits(&all, agent)? == 0)).await;
        if searched.is_err() {
            report(taken, agent)?;
        }
        searched?;
    }
    Ok(())
}

/// Searches once, and meanwhile sends half an order again and again. A slow search could miss an
/// order that the agent drops meanwhile.
async fn half_is_there(half: &mut ways::Half<'_>, cloud: &Running) -> Result<bool> {
    let (needles, process) = (Arc::clone(&half.needles), cloud.pid().context("the process has ended")?);
    half.send().await?;
    let mut looking = spawn_blocking(move || search(&needles, process));
    loop {
        tokio::select! {
            found = &mut looking => return Ok(found??.hits > 0),
            () = sleep(SENT_AGAIN) => half.send().await?,
        }
    }
}

/// Checks that neither the soft nor the hard limit lets the kernel write a core dump.
fn dump_nothing(agent: &Running) -> Result<()> {
    let process = agent.pid().context("the process has ended")?.as_raw_nonzero();
    let limits = fs::read_to_string(format!("/proc/{process}/limits"))?;
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).context("no limit")?;
    ensure!(core.split_whitespace().take(2).all(|limit| limit == "0"), "{core}");
    Ok(())
}

fn hits(needles: &Needles, agent: &Running) -> io::Result<u64> {
    let process = agent.pid().ok_or(ErrorKind::NotFound)?;
    search(needles, process).map(|found| found.hits)
}

/// Reports on standard error which way left which value, and where.
fn report(taken: &[ways::Taken], agent: &Running) -> Result<()> {
    let process = agent.pid().context("the process has ended")?;
    for way in taken {
        let found = search(&Needles::new(way.planted.iter().map(String::as_str)), process)?;
        if found.hits > 0 {
            writeln!(
                io::stderr(),
                "{}: {} of the way {}: {:?}",
                agent.log().display(),
                found.hits,
                way.name,
                found.places
            )?;
        }
    }
    Ok(())
}
