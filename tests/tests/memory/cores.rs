//! Tests that a crashed agent leaves no core dump, whatever limits it was started with (promise
//! P5). Its memory would show orders, keys and tokens.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::{Context, Result, ensure};
use bridge_skips::{Lack, skipped};
use bridge_tests::testkit::process::Running;
use bridge_tests::testkit::tied;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::common::{PATIENCE, Shop, site};

const BRAND: &str = "crashing";

#[tokio::test]
async fn an_agent_that_crashes_leaves_no_core_dump_where_another_program_does() -> Result<()> {
    // An operator may allow core dumps. Agents that this test starts inherit the limit.
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum })?;
    let dir = tempfile::tempdir()?;
    let mut sleep = tied::command("sleep");
    sleep.arg("600").current_dir(dir.path());
    let mut sleep = tied::start(sleep)?;
    // The process is now `sleep`. Before, it was setpriv or a shell, which would dump core as well.
    kill_process(Pid::from_child(&sleep), Signal::ABORT)?;
    let control = sleep.wait()?;
    if !control.core_dumped() {
        skipped(Lack::CoreDumps, &format!("a program that crashes leaves no core dump: {control}"));
        return Ok(());
    }

    let site = site(dir.path(), &[BRAND]).await?;
    let mut bridge = site.start().await?;
    let mut shop = Shop::open(&site, BRAND);
    for _ in 0..10 {
        let answer = shop.place_new(&[(0, 1)]).await?;
        ensure!(answer.status == 201, "{}", answer.status);
    }
    for agent in [&mut bridge.cloud, &mut bridge.idc] {
        let ended = crash(agent).await?;
        ensure!(ended.signal() == Some(Signal::ABORT.as_raw()), "{ended}");
        ensure!(!ended.core_dumped(), "{} left a core dump", agent.log().display());
    }
    Ok(())
}

async fn crash(agent: &mut Running) -> Result<ExitStatus> {
    kill_process(agent.pid().context("the process has ended")?, Signal::ABORT)?;
    agent.ended_within(PATIENCE).await?.context("the agent did not end")
}
