//! A streaming standby: a second cluster that copies all commits of the first one, set up as
//! PostgreSQL's manual describes it.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use super::{More, Postgres, USER, command, make_folder, spawn};
use crate::testkit::ports::free_address;

impl Postgres {
    /// Copies this cluster with `pg_basebackup`, starts the copy as its standby with the settings
    /// `more`, and waits until it accepts queries. The standby connects to `line`, which is this
    /// cluster's address or that of a relay.
    ///
    /// # Errors
    ///
    /// Fails if the copy cannot be made, or does not start.
    pub async fn standby(&self, line: SocketAddr, more: More) -> Result<Postgres> {
        let dir = make_folder(self.account)?;
        let mut backup = command(&self.programs.join("pg_basebackup"), self.account, dir.path());
        backup.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-password"]);
        // The copy can be made again at any time, so it needs no fsync and no checksums.
        backup.args(["--no-sync", "--no-manifest"]);
        backup.args(["--host", &line.ip().to_string(), "--port", &line.port().to_string()]);
        backup.args(["--username", USER]).arg("--pgdata").arg(dir.path().join("data"));
        let output = backup.env("PGPASSWORD", &self.password).output().await.context("run pg_basebackup")?;
        ensure!(
            output.status.success(),
            "pg_basebackup ended with {}:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let port = free_address().context("find a free port")?.port();
        let more = Box::new(more);
        let server = spawn(&self.programs, self.account, dir.path(), port, &more)?;
        let (programs, password) = (self.programs.clone(), self.password.clone());
        let mut standby = Postgres { programs, account: self.account, dir, port, password, more, server };
        standby.wait_until_ready().await?;
        Ok(standby)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::testkit::wan::TcpRelay;

    #[tokio::test]
    async fn what_is_committed_shows_on_the_standby_which_takes_no_change() -> Result<()> {
        let primary = Postgres::start().await?;
        primary.create_database("shop").await?;
        let mut writer = primary.connect("shop").await?;
        sqlx::query("CREATE TABLE counts (value int)").execute(&mut writer).await?;
        let line = TcpRelay::start(primary.address(), Duration::from_millis(2))?;
        let standby = primary.standby(line.address(), More::default()).await?;
        let mut reader = standby.connect("shop").await?;
        sqlx::query("INSERT INTO counts VALUES (42)").execute(&mut writer).await?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let counts: Vec<(i32,)> =
                sqlx::query_as("SELECT value FROM counts").fetch_all(&mut reader).await?;
            if counts == [(42,)] {
                break;
            }
            ensure!(Instant::now() < deadline, "nothing arrives on the standby");
            sleep(Duration::from_millis(5)).await;
        }
        let refused = sqlx::query("INSERT INTO counts VALUES (43)").execute(&mut reader).await;
        assert!(refused.expect_err("read-only").to_string().contains("read-only"));
        Ok(())
    }
}
