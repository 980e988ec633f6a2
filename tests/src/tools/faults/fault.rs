//! The faults. Each begins, lasts for a moment, and ends.

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::{Signal, kill_process};
use serde::Serialize;
use tokio::time::sleep;

use super::{HOT_SKU, ballast, crowds};
use crate::testkit::audits;
use crate::testkit::dba::Dba;
use crate::testkit::lying_disk::{HangingDisk, ReadOnly};
use crate::testkit::payers::TestGateway;
use crate::testkit::postgres::Postgres;
use crate::testkit::process::{Running, run};
use crate::testkit::sandbox::Rates;
use crate::testkit::site::{Bridge, Site};
use crate::testkit::wan::{Conditions, Cut, OneWay};

/// Time that the agents wait for the disks of their audit logs. It is short, so that a run has time
/// for many hanging disks.
pub(super) const WRITE_WITHIN: Duration = Duration::from_secs(1);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL of the cloud agent, and a new start.
    KillCloud,
    /// SIGKILL of the IDC agent, and a new start.
    KillIdc,
    /// SIGKILL of PostgreSQL, which recovers from its write-ahead log.
    KillDatabase,
    /// No packet passes the line, long enough for both sides to give the link up.
    CutLine,
    /// The line has a long delay, and loses and reorders packets at random.
    BadLine,
    /// Only large packets are lost, as behind a tunnel with a small MTU, and the sender gets no
    /// error.
    SmallPackets,
    /// The IDC agent stops and then continues, as a virtual machine that is moved.
    FreezeIdc,
    /// The payment gateway carries out each request and never answers.
    HangingGateway,
    /// The disks of both audit logs are full: no order is accepted before there is room, and reads
    /// go on.
    FullAuditDisk,
    /// The disks of both audit logs do not answer: waiting callers still get an answer, and no
    /// order is accepted before the disks answer.
    HangingAuditDisk,
    /// The tiles of both audit logs cannot be written: orders go on as long as memory allows.
    ReadOnlyTiles,
    /// A DBA's session locks the stock row that most orders of the brand need.
    HeldRow,
    /// Hundreds of callers ask for thousands of orders at the same time.
    LookUps,
    /// The sealing key is rotated while the agents run.
    RotateKey,
    /// Hundreds begin a handshake of the tunnel and then stay silent.
    SilentStrangers,
    /// Hundreds open an HTTP/2 connection to the storefront's listener and then stay silent.
    SilentCallers,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 16] = [
        Fault::KillCloud,
        Fault::KillIdc,
        Fault::KillDatabase,
        Fault::CutLine,
        Fault::BadLine,
        Fault::SmallPackets,
        Fault::FreezeIdc,
        Fault::HangingGateway,
        Fault::FullAuditDisk,
        Fault::HangingAuditDisk,
        Fault::ReadOnlyTiles,
        Fault::HeldRow,
        Fault::LookUps,
        Fault::RotateKey,
        Fault::SilentStrangers,
        Fault::SilentCallers,
    ];

    /// Returns true if the fault concerns at most its own brand, so that orders of another brand
    /// must go on as before.
    #[must_use]
    pub const fn spares_others(self) -> bool {
        matches!(
            self,
            Fault::HeldRow
                | Fault::LookUps
                | Fault::RotateKey
                | Fault::SilentStrangers
                | Fault::SilentCallers
        )
    }

    /// Returns true if the fault needs PostgreSQL. SQLite has no process and no locks of single
    /// rows.
    #[must_use]
    pub const fn is_of_a_server(self) -> bool {
        matches!(self, Fault::KillDatabase | Fault::HeldRow)
    }

    /// Returns true if the fault needs its own disks, which only root can mount.
    #[must_use]
    pub const fn is_of_a_disk(self) -> bool {
        matches!(self, Fault::FullAuditDisk | Fault::HangingAuditDisk | Fault::ReadOnlyTiles)
    }

    /// Returns the name on the command line and in the report. The brand whose orders are placed
    /// during the fault has the same name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::KillCloud => "kill-cloud",
            Fault::KillIdc => "kill-idc",
            Fault::KillDatabase => "kill-database",
            Fault::CutLine => "cut-line",
            Fault::BadLine => "bad-line",
            Fault::SmallPackets => "small-packets",
            Fault::FreezeIdc => "freeze-idc",
            Fault::HangingGateway => "hanging-gateway",
            Fault::FullAuditDisk => "full-audit-disk",
            Fault::HangingAuditDisk => "hanging-audit-disk",
            Fault::ReadOnlyTiles => "read-only-tiles",
            Fault::HeldRow => "held-row",
            Fault::LookUps => "look-ups",
            Fault::RotateKey => "rotate-key",
            Fault::SilentStrangers => "silent-strangers",
            Fault::SilentCallers => "silent-callers",
        }
    }

    /// Injects the fault once, and ends it.
    pub(super) async fn strike(
        self,
        site: &Site,
        gateway: &TestGateway,
        bridge: &mut Bridge,
        disks: &[HangingDisk],
        cluster: Option<&mut Postgres>,
    ) -> Result<()> {
        match self {
            Fault::KillCloud => {
                bridge.cloud.kill9().await?;
                bridge.cloud.restart().await
            }
            Fault::KillIdc => {
                bridge.idc.kill9().await?;
                bridge.idc.restart().await
            }
            Fault::KillDatabase => {
                let cluster = cluster.context("an SQLite file has no process of its own")?;
                cluster.kill9().await?;
                cluster.restart().await
            }
            Fault::CutLine => site.cut_line(&bridge.cloud).await,
            Fault::BadLine => {
                site.line.set(bad_line());
                sleep(Duration::from_secs(2)).await;
                site.line.set(Conditions::default());
                Ok(())
            }
            Fault::SmallPackets => {
                // The smallest MTU of an IPv6 link (RFC 8200 section 5).
                site.line.set(Conditions::default().cutting(Cut::larger_than(1_280)));
                sleep(Duration::from_secs(3)).await;
                site.line.set(Conditions::default());
                Ok(())
            }
            Fault::FreezeIdc => {
                signal(&bridge.idc, Signal::STOP)?;
                sleep(Duration::from_millis(1_500)).await;
                signal(&bridge.idc, Signal::CONT)
            }
            Fault::HangingGateway => {
                gateway.sandbox.set_rates(Rates { hang_after: 1_000, ..Rates::default() });
                sleep(Duration::from_secs(2)).await;
                gateway.sandbox.set_rates(Rates::default());
                Ok(())
            }
            Fault::FullAuditDisk => {
                let folders = [site.cloud_dir(), site.idc_dir()].map(|dir| audits::folder(&dir));
                folders.iter().try_for_each(|folder| ballast::fill(folder))?;
                sleep(Duration::from_secs(2)).await;
                folders.iter().try_for_each(|folder| ballast::empty(folder))
            }
            Fault::HangingAuditDisk => {
                disks.iter().try_for_each(HangingDisk::hang)?;
                sleep(2 * WRITE_WITHIN).await;
                disks.iter().try_for_each(HangingDisk::answer)
            }
            Fault::ReadOnlyTiles => {
                let tiles = [site.cloud_dir(), site.idc_dir()].map(|dir| audits::folder(&dir).join("tile"));
                let read_only: Option<Vec<ReadOnly>> =
                    tiles.iter().map(|tiles| ReadOnly::make(tiles)).collect();
                let _read_only = read_only.context("make the tiles read-only")?;
                sleep(Duration::from_secs(3)).await;
                Ok(())
            }
            Fault::HeldRow => {
                let mut dba = Dba::connect(site.database()).await?;
                let held = format!(
                    "BEGIN; SELECT stock.* FROM stock JOIN skus USING (sku_id) \
                     WHERE skus.brand = '{}' AND skus.sku = '{HOT_SKU}' FOR UPDATE OF stock",
                    self.name()
                );
                dba.execute(&held).await?;
                sleep(Duration::from_secs(3)).await;
                dba.execute("ROLLBACK").await?;
                dba.close().await
            }
            Fault::LookUps => crowds::ask(site.storefront, self.name(), site.token(self.name())).await,
            Fault::RotateKey => {
                let keys = site.idc_dir().join("keys");
                let keys = keys.to_str().context("the keys' folder has a name in UTF-8")?;
                run(site.idc_program(), &["keys", "rotate", "sealing", "--dir", keys]).await?;
                // Longer than the agent's interval for its keys and one heartbeat of a link.
                sleep(Duration::from_secs(8)).await;
                Ok(())
            }
            Fault::SilentStrangers => {
                let crowd = crowds::strangers(site.tunnel).await?;
                sleep(Duration::from_secs(4)).await;
                drop(crowd);
                Ok(())
            }
            Fault::SilentCallers => {
                let crowd = crowds::callers(site.storefront).await?;
                sleep(Duration::from_secs(4)).await;
                drop(crowd);
                Ok(())
            }
        }
    }
}

/// Returns the conditions of a long line with loss and reordering.
fn bad_line() -> Conditions {
    Conditions::both(OneWay {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        loss: 50_000,
        reorder: 20_000,
        ..OneWay::default()
    })
}

fn signal(agent: &Running, signal: Signal) -> Result<()> {
    let pid = agent.pid().context("the agent has ended")?;
    kill_process(pid, signal).context("signal the agent")
}
