//! A template of an initialised data folder. `initdb` takes a second or two of CPU time, a copy of
//! the template a twentieth of that.
//!
//! Templates are below the target folder, one for each version of PostgreSQL and each user. If a
//! template cannot be stored, each cluster initialises its own folder, which only takes longer.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;
use tokio::process::Command;

use super::{Account, USER, command, make_folder, own};

/// Contents of a template: the data, and the superuser's password.
const PARTS: [&str; 2] = ["data", "password"];

/// Fills `dir` as a new cluster's folder. Returns its superuser's password.
pub(super) async fn fill(programs: &Path, account: Option<Account>, dir: &Path) -> Result<String> {
    match place(programs) {
        Some(template) => {
            if !template.exists() {
                make(programs, account, &template).await?;
            }
            copy(&template, dir).await?;
        }
        None => initialise(programs, account, dir).await?,
    }
    fs::read_to_string(dir.join("password")).context("read the password")
}

/// Returns the template's path, or `None` if the running program is not in a writable target
/// folder.
fn place(programs: &Path) -> Option<PathBuf> {
    let this = std::env::current_exe().ok()?;
    // The program is target/debug/demo, or target/debug/deps/e2e-0123 for a test.
    let profile = this.ancestors().find(|folder| folder.join("deps").is_dir())?;
    let of: String = programs.to_string_lossy().replace('/', "-");
    let templates = profile.parent()?.join("postgres");
    fs::create_dir_all(&templates).ok()?;
    Some(templates.join(format!("{}{of}", geteuid().as_raw())))
}

/// Makes the template. If several processes do so, the first one's is used. A rename makes the
/// template appear as a whole.
async fn make(programs: &Path, account: Option<Account>, template: &Path) -> Result<()> {
    // PostgreSQL's account may not have access to the target folder.
    let made = make_folder(account)?;
    initialise(programs, account, made.path()).await?;
    let near = template.parent().context("a folder")?;
    let near = tempfile::tempdir_in(near).context("make a folder for PostgreSQL's template")?;
    copy(made.path(), near.path()).await?;
    if fs::rename(near.path(), template).is_err() {
        ensure!(template.exists(), "{} cannot be made", template.display());
    }
    Ok(())
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["--archive", "--reflink=auto", "--target-directory"]).arg(to);
    let output = cp.args(PARTS.map(|part| from.join(part))).stdin(Stdio::null()).output().await;
    let output = output.context("run cp")?;
    ensure!(
        output.status.success(),
        "the cluster cannot be copied: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

async fn initialise(programs: &Path, account: Option<Account>, dir: &Path) -> Result<()> {
    let password_file = dir.join("password");
    fs::write(&password_file, format!("{:032x}", rand::random::<u128>()))
        .with_context(|| format!("write {}", password_file.display()))?;
    fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600)).context("protect the password")?;
    own(&password_file, account)?;
    let mut initdb = command(&programs.join("initdb"), account, dir);
    initdb.args(["--auth=scram-sha-256", "--username", USER, "--encoding=UTF8", "--locale=C", "--no-sync"]);
    initdb.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(dir.join("data"));
    let output = initdb.output().await.context("run initdb")?;
    ensure!(
        output.status.success(),
        "initdb ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::postgres::Postgres;

    #[tokio::test]
    async fn clusters_of_one_template_have_nothing_in_common_but_their_beginning() -> Result<()> {
        let (one, other) = (Postgres::start().await?, Postgres::start().await?);
        one.create_database("shop").await?;
        assert!(one.connect("shop").await.is_ok());
        assert!(other.connect("shop").await.is_err(), "the other one has it as well");
        Ok(())
    }

    #[tokio::test]
    async fn a_cloned_database_has_the_rows_of_then_and_no_later_ones() -> Result<()> {
        let cluster = Postgres::start().await?;
        cluster.create_database("first").await?;
        let mut first = cluster.connect("first").await?;
        sqlx::query("CREATE TABLE kept (value int)").execute(&mut first).await?;
        sqlx::query("INSERT INTO kept VALUES (42)").execute(&mut first).await?;
        drop(first);
        cluster.create_database_like("second", "first").await?;
        sqlx::query("INSERT INTO kept VALUES (43)").execute(&mut cluster.connect("first").await?).await?;
        let mut second = cluster.connect("second").await?;
        let kept: Vec<(i32,)> = sqlx::query_as("SELECT value FROM kept").fetch_all(&mut second).await?;
        assert_eq!(kept, [(42,)]);
        Ok(())
    }
}
