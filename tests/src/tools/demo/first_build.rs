//! Time of the first build, which a newcomer waits for.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// File in the target folder. It exists since the first demo was built there.
const MARK: &str = "demo-is-built";
/// File that cargo writes when it makes a target folder.
const TAG: &str = "CACHEDIR.TAG";

/// Returns the time since cargo made the target folder of the running program, if this is the first
/// demo from that folder. Later ones compile little, so their time says nothing.
///
/// # Errors
///
/// Fails if the target folder cannot be read or written.
pub(super) fn first_build() -> Result<Option<Duration>> {
    let this = std::env::current_exe().context("find this program")?;
    // The program is target/debug/demo.
    let target = this.ancestors().nth(2).context("find the target folder")?;
    since_made(target, SystemTime::now())
}

fn since_made(target: &Path, now: SystemTime) -> Result<Option<Duration>> {
    match File::create_new(target.join(MARK)) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error).context("note that the demo is built"),
    }
    // Without the tag the folder was not made by cargo.
    let Ok(tag) = fs::metadata(target.join(TAG)) else { return Ok(None) };
    Ok(now.duration_since(tag.modified()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_build_is_told_once() {
        let target = tempfile::tempdir().unwrap();
        fs::write(target.path().join(TAG), "").unwrap();
        let made = fs::metadata(target.path().join(TAG)).unwrap().modified().unwrap();
        let later = made + Duration::from_secs(300);
        assert_eq!(since_made(target.path(), later).unwrap(), Some(Duration::from_secs(300)));
        assert_eq!(since_made(target.path(), later).unwrap(), None);
    }

    #[test]
    fn a_folder_that_cargo_did_not_make_has_no_time() {
        let target = tempfile::tempdir().unwrap();
        assert_eq!(since_made(target.path(), SystemTime::now()).unwrap(), None);
    }
}
