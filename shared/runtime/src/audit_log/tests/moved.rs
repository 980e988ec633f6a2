//! A folder that is moved while it is written, and what stands in its place.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::lying_disks::hang_at;
use super::*;

/// What stands at the folder's path once it is moved away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InItsPlace {
    Nothing,
    EmptyFolder,
    Copy,
    CopyOfTheRestOnly,
}

/// Moves the folder away.
fn move_away(dir: &Path, instead: InItsPlace) -> PathBuf {
    let away = dir.with_extension("away");
    fs::rename(dir, &away).unwrap();
    match instead {
        InItsPlace::Nothing => {}
        InItsPlace::EmptyFolder => fs::create_dir(dir).unwrap(),
        InItsPlace::Copy | InItsPlace::CopyOfTheRestOnly => {
            assert!(Command::new("cp").arg("-a").args([&away, dir]).status().unwrap().success());
        }
    }
    if instead == InItsPlace::CopyOfTheRestOnly {
        fs::remove_file(dir.join("lock")).unwrap();
    }
    away
}

/// Every file in a folder with what is in it; nothing if there is no folder.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = Disk::new(dir).list().unwrap_or_default();
    files.into_iter().map(|path| (path.clone(), fs::read(dir.join(path)).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_moved_away_takes_nothing_and_goes_on_when_it_is_back() {
    for instead in
        [InItsPlace::Nothing, InItsPlace::EmptyFolder, InItsPlace::Copy, InItsPlace::CopyOfTheRestOnly]
    {
        let root = tempfile::tempdir().unwrap();
        let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
        let metrics = Arc::new(Metrics::idc());
        let (log, closer) = AuditLog::open(&config, metrics.clone()).unwrap();
        log.append(&[entry(0)]).await.unwrap();
        log.standing().wait_for(|standing| standing.published == 1).await.unwrap();

        let away = move_away(&config.dir, instead);
        let there = contents(&config.dir);
        for _ in 0..3 {
            let refused = log.append(&[entry(1)]).await;
            assert!(matches!(refused, Err(AuditError::Unwritable(_))), "{instead:?}: {refused:?}");
        }
        assert!(!log.is_writable() && metrics.audit_writable.get() == 0);
        let said = log.obstacle().unwrap();
        assert!(said.contains(&config.dir.display().to_string()) && said.contains("Put it back"), "{said}");
        assert_eq!(contents(&config.dir), there, "{instead:?}: nothing is written in its place");
        assert_eq!(config.dir.exists(), instead != InItsPlace::Nothing, "no folder is made in its place");

        let _was_there = fs::remove_dir_all(&config.dir);
        fs::rename(&away, &config.dir).unwrap();
        log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
        assert_eq!(log.append(&[entry(1)]).await, Ok(1));
        closer.close().await.unwrap();
        assert_eq!(verified(root.path()).checkpoint.size, 2, "{instead:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_moved_is_told_although_nothing_is_logged() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    let dir = config(root.path()).dir;
    let away = move_away(&dir, InItsPlace::Nothing);
    log.standing().wait_for(|standing| standing.obstacle.is_some()).await.unwrap();
    fs::rename(&away, &dir).unwrap();
    log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
    // Its journal alone.
    let away = move_away(&dir.join("journal"), InItsPlace::Nothing);
    log.standing().wait_for(|standing| standing.obstacle.is_some()).await.unwrap();
    fs::rename(&away, dir.join("journal")).unwrap();
    log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
    assert_eq!(log.append(&[entry(0)]).await, Ok(0));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_under_way_when_the_folder_is_moved_is_made_when_it_is_back() {
    for instead in [InItsPlace::Nothing, InItsPlace::EmptyFolder] {
        let root = tempfile::tempdir().unwrap();
        let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
        let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::idc())).unwrap();
        // It waits behind its tiles, before its checkpoint.
        hang_at(&config.dir.join("checkpoint.new"));
        log.append(&(0..300).map(entry).collect::<Vec<_>>()).await.unwrap();
        while !config.dir.join("tile/entries/000").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let away = move_away(&config.dir, instead);
        // Whether it has come to its checkpoint or not.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let pipe = OpenOptions::new().read(true).custom_flags(nonblocking).open(away.join("checkpoint.new"));
        drop(pipe.unwrap());
        log.standing().wait_for(|standing| standing.obstacle.is_some()).await.unwrap();
        assert_eq!(contents(&config.dir), []);
        assert_eq!(log.standing().borrow().published, 0);

        let _was_there = fs::remove_dir(&config.dir);
        fs::remove_file(away.join("checkpoint.new")).unwrap();
        fs::rename(&away, &config.dir).unwrap();
        log.standing().wait_for(|standing| standing.published >= 256).await.unwrap();
        closer.close().await.unwrap();
        assert_eq!(verified(root.path()).checkpoint.size, 300, "{instead:?}");
    }
}
