//! Tests of a folder that is moved while the log writes it, of one that is lost or put back before
//! a start, and of a folder in its place.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::process::geteuid;

use super::lying_disks::hang_at;
use super::*;

/// Content of the folder's path after the folder is moved away.
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

/// Returns every file in a folder with its content. The list is empty if there is no folder.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = Disk::new(dir).list().unwrap_or_default();
    files.into_iter().map(|path| (path.clone(), fs::read(dir.join(path)).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_folder_takes_nothing_and_resumes_on_its_return() {
    for instead in
        [InItsPlace::Nothing, InItsPlace::EmptyFolder, InItsPlace::Copy, InItsPlace::CopyOfTheRestOnly]
    {
        let root = tempfile::tempdir().unwrap();
        let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
        let metrics = Arc::new(Metrics::default());
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
    // Only the journal is moved away.
    let away = move_away(&dir.join("journal"), InItsPlace::Nothing);
    log.standing().wait_for(|standing| standing.obstacle.is_some()).await.unwrap();
    fs::rename(&away, dir.join("journal")).unwrap();
    log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
    assert_eq!(log.append(&[entry(0)]).await, Ok(0));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_interrupted_by_a_moved_folder_completes_on_its_return() {
    for instead in [InItsPlace::Nothing, InItsPlace::EmptyFolder] {
        let root = tempfile::tempdir().unwrap();
        let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
        let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
        // The publication hangs after its tiles and before its checkpoint.
        hang_at(&config.dir.join("checkpoint.new"));
        log.append(&(0..300).map(entry).collect::<Vec<_>>()).await.unwrap();
        // All tiles, because a tile that is written later would go to the folder's old path.
        let tiles = ["entries/000", "0/000", "1/000.p/1"];
        while !tiles.iter().all(|tile| config.dir.join("tile").join(tile).exists()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let away = move_away(&config.dir, instead);
        // Releases the publication, whether it has come to its checkpoint or not.
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

/// Returns the error with which the log is not opened.
fn refused(config: &AuditConfig) -> String {
    AuditLog::open(config, Arc::new(Metrics::default())).err().expect("the log was opened").to_string()
}

#[tokio::test]
async fn an_empty_or_older_folder_is_refused_at_start() {
    let root = tempfile::tempdir().unwrap();
    let (dir, mut before) = (config(root.path()).dir, None);
    for first in [0, 300] {
        let (log, closer) = open(root.path());
        log.append(&(first..first + 300).map(entry).collect::<Vec<_>>()).await.unwrap();
        closer.close().await.unwrap();
        before.get_or_insert_with(|| copy(root.path()));
    }
    // The folder is first missing, then empty, then older.
    let away = move_away(&dir, InItsPlace::Nothing);
    let said = refused(&config(root.path()));
    assert!(said.contains("has 0 entries") && said.contains("there were 600 already"), "{said}");
    assert!(
        said.contains("Mount the volume") && said.contains("a new audit.dir and audit.key_file"),
        "{said}"
    );
    assert!(!dir.exists(), "a new folder was made");
    fs::create_dir(&dir).unwrap();
    assert_eq!(refused(&config(root.path())), said);
    assert_eq!(contents(&dir), []);
    assert!(!dir.join("lock").exists());
    fs::remove_dir(&dir).unwrap();
    let before = before.unwrap();
    let older = before.path().join("audit");
    assert!(Command::new("cp").arg("-a").args([&older, &dir]).status().unwrap().success());
    let said = refused(&config(root.path()));
    assert!(said.contains("has 300 entries") && said.contains("there were 600 already"), "{said}");
    assert_eq!(contents(&dir), contents(&older), "the older folder was changed");

    // The restored folder is continued. So is a folder without a note, which an older version left.
    fs::remove_dir_all(&dir).unwrap();
    fs::rename(&away, &dir).unwrap();
    for size in [600, 601] {
        let (log, closer) = open(root.path());
        assert_eq!(log.append(&[entry(size)]).await, Ok(size));
        closer.close().await.unwrap();
        fs::remove_file(root.path().join("audit.seen")).unwrap();
    }
    // The next start of that log notes its size.
    let (_log, closer) = open(root.path());
    closer.close().await.unwrap();
    fs::remove_dir_all(&dir).unwrap();
    assert!(refused(&config(root.path())).contains("there were 602 already"));
}

#[tokio::test]
async fn two_keys_that_differ_in_their_endings_have_a_note_each() {
    let root = tempfile::tempdir().unwrap();
    let of = |side: &str| AuditConfig {
        dir: root.path().join(side),
        key_file: root.path().join(format!("log.{side}")),
        ..config(root.path())
    };
    for (side, entries) in [("cloud", 3), ("idc", 5)] {
        let (log, closer) = AuditLog::open(&of(side), Arc::new(Metrics::default())).unwrap();
        log.append(&(0..entries).map(entry).collect::<Vec<_>>()).await.unwrap();
        closer.close().await.unwrap();
    }
    for side in ["cloud", "idc"] {
        let note = fs::read(root.path().join(format!("log.{side}.seen"))).unwrap();
        assert_eq!(note, fs::read(of(side).dir.join("checkpoint")).unwrap());
        // An earlier version had the same path for both notes, and the later writer overwrote the
        // other log's note.
        fs::rename(root.path().join(format!("log.{side}.seen")), root.path().join("log.seen")).unwrap();
        fs::rename(of(side).dir, root.path().join(format!("{side}-away"))).unwrap();
    }
    assert!(refused(&of("idc")).contains("there were 5 already"));
    let (log, closer) = AuditLog::open(&of("cloud"), Arc::new(Metrics::default())).unwrap();
    assert_eq!(log.append(&[entry(0)]).await, Ok(0), "the note of another key has no effect");
    closer.close().await.unwrap();
}

#[tokio::test]
async fn a_new_log_begins_under_a_new_key_but_no_old_one() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&[entry(0)]).await.unwrap();
    closer.close().await.unwrap();
    let config = config(root.path());
    let new_dir = AuditConfig { dir: root.path().join("new"), ..config.clone() };
    assert!(refused(&new_dir).contains("has 0 entries"));
    assert!(!new_dir.dir.exists());
    let both_new = AuditConfig { key_file: root.path().join("new.key"), ..new_dir.clone() };
    let (log, closer) = AuditLog::open(&both_new, Arc::new(Metrics::default())).unwrap();
    assert_eq!(log.append(&[entry(0)]).await, Ok(0));
    closer.close().await.unwrap();
    // A new key at the old path. The note of the old key says nothing about the new log.
    fs::remove_dir_all(&config.dir).unwrap();
    fs::remove_file(&config.key_file).unwrap();
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
    assert_eq!(log.append(&[entry(0)]).await, Ok(0));
    closer.close().await.unwrap();
}

#[tokio::test]
async fn another_history_under_the_same_key_is_refused_at_start() {
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, closer) = open(root.path());
    log.append(&(0..300).map(entry).collect::<Vec<_>>()).await.unwrap();
    closer.close().await.unwrap();
    fs::copy(root.path().join("audit.key"), other.path().join("audit.key")).unwrap();
    let (log, closer) = open(other.path());
    log.append(&(1_000..1_700).map(entry).collect::<Vec<_>>()).await.unwrap();
    closer.close().await.unwrap();
    fs::rename(root.path().join("audit"), root.path().join("kept")).unwrap();
    fs::rename(other.path().join("audit"), root.path().join("audit")).unwrap();
    let said = refused(&config(root.path()));
    assert!(said.contains("two histories of one log"), "{said}");
}

#[tokio::test]
async fn a_truncated_or_foreign_seen_checkpoint_does_not_prevent_a_start() {
    let root = tempfile::tempdir().unwrap();
    let note = root.path().join("audit.seen");
    let mut size = 0;
    for strange in [None, Some(Vec::new()), Some(b"half a no".to_vec()), Some(vec![0; 4_096])] {
        if let Some(strange) = strange {
            fs::write(&note, strange).unwrap();
        }
        let (log, closer) = open(root.path());
        assert_eq!(log.append(&[entry(size)]).await, Ok(size));
        closer.close().await.unwrap();
        size += 1;
        let is = fs::read(&note).unwrap();
        assert_eq!(is, fs::read(root.path().join("audit/checkpoint")).unwrap(), "the note is written again");
    }
    // The log continues if the note cannot be written.
    fs::remove_file(&note).unwrap();
    fs::create_dir(root.path().join("audit.seen.new")).unwrap();
    let (log, closer) = open(root.path());
    assert_eq!(log.append(&[entry(size)]).await, Ok(size));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, size + 1);
}

#[tokio::test]
async fn an_unreadable_file_stops_the_start_and_is_no_damage() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&[entry(1)]).await.unwrap();
    closer.close().await.unwrap();
    let refused = |root: &Path| AuditLog::open(&config(root), Arc::new(Metrics::default())).err().unwrap();
    // The tests may run as root, who reads every file. Nobody can read a folder as a file.
    for (path, is_expected) in [
        (
            "audit/checkpoint",
            (|error| matches!(error, OpenError::Recover(RecoverError::Unreadable { .. })))
                as fn(&OpenError) -> bool,
        ),
        ("audit.seen", |error| matches!(error, OpenError::Seen { .. })),
    ] {
        let (at, aside) = (root.path().join(path), root.path().join("aside"));
        fs::rename(&at, &aside).unwrap();
        fs::create_dir(&at).unwrap();
        let refused = refused(root.path());
        assert!(is_expected(&refused), "{path}: {refused}");
        let said = refused.to_string();
        assert!(said.contains(path) && said.contains("chown") && !said.contains("damaged"), "{said}");
        fs::remove_dir(&at).unwrap();
        fs::rename(&aside, &at).unwrap();
    }
    open(root.path()).1.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, 1);
}

#[tokio::test]
async fn a_log_of_another_user_is_opened_by_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&[entry(1)]).await.unwrap();
    closer.close().await.unwrap();
    for path in ["audit", "audit/journal", "audit.seen"] {
        if chown(root.path().join(path), Some(4_000_000), None).is_err() {
            skipped(Lack::Owners, "only root can give a folder away");
            return;
        }
        let seen = fs::metadata(root.path().join("audit.seen")).unwrap().modified().unwrap();
        let refused = AuditLog::open(&config(root.path()), Arc::new(Metrics::default())).err().unwrap();
        assert!(matches!(refused, OpenError::NotOurs(_)), "{path}: {refused}");
        assert!(refused.to_string().contains("belongs to #4000000"), "{refused}");
        assert_eq!(fs::metadata(root.path().join("audit.seen")).unwrap().modified().unwrap(), seen);
        chown(root.path().join(path), Some(geteuid().as_raw()), None).unwrap();
    }
    open(root.path()).1.close().await.unwrap();
}
