//! Tests of the log on a real disk: durability, order, recovery from every cut, damage, and a full
//! disk.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bridge_protocol::audit::Event;
use bridge_protocol::audit::entry::{Digest, Keys, Stopped, Word};
use bridge_protocol::audit::finding::Finding;
use bridge_protocol::audit::folder::{self, Folder as _};
use bridge_protocol::audit::journal;
use bridge_protocol::audit::verify::{Verified, verify};
use bridge_protocol::domain::UnixMicros;
use bridge_skips::{Lack, skipped};
use tempfile::TempDir;

use super::*;

/// Tests with disks that fail, hang, or have more data than they showed.
mod lying_disks;

/// Tests with folders that were moved, lost or put back.
mod moved;

/// Tests with folders that others copied or made.
mod copies;

fn config(root: &Path) -> AuditConfig {
    AuditConfig {
        dir: root.join("audit"),
        key_file: root.join("audit.key"),
        origin: "bridge.internal/idc/test".to_owned(),
        publish_every: Duration::from_secs(3_600),
        write_within: Duration::from_secs(3_600),
    }
}

fn open(root: &Path) -> (AuditLog, Closer) {
    AuditLog::open(&config(root), Arc::new(Metrics::default())).unwrap()
}

fn entry(n: u64) -> Entry {
    let reason = Word::of(&format!("test-{n}"));
    Entry::new(UnixMicros::new(i64::try_from(n).unwrap()), Event::AgentStopped(Stopped { reason }))
}

fn verified(root: &Path) -> Verified {
    let key = load_key(&root.join("audit.key")).unwrap();
    verify(&Disk::new(root.join("audit")), key.verifier(), None).unwrap()
}

/// Copies the files as they would be left if the machine died now. The log may rename a file while
/// it is copied; then everything is copied again.
fn copy(from: &Path) -> TempDir {
    let copied = (0..100).find_map(|_| {
        let to = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").args(["-a"]).arg(from.join(".")).arg(to.path()).status().unwrap();
        copied.success().then_some(to)
    });
    copied.expect("a copy in which no file was renamed")
}

/// Returns the entries in the journal.
fn journalled(root: &Path) -> Vec<Vec<u8>> {
    let segments = folder::segments(&Disk::new(root.join("audit"))).unwrap();
    segments.into_iter().flat_map(|segment| segment.entries).collect()
}

#[tokio::test]
async fn what_was_appended_is_verified_after_the_end_and_gone_on_with() {
    let root = tempfile::tempdir().unwrap();
    let mut first = 0;
    for round in [1u64, 255, 300, 1] {
        let (log, closer) = open(root.path());
        assert_eq!(log.standing().borrow().size, first);
        let entries: Vec<Entry> = (first..first + round).map(entry).collect();
        assert_eq!(log.append(&entries).await, Ok(first));
        closer.close().await.unwrap();
        assert_eq!(log.append(&entries).await, Err(AuditError::Closed));
        first += round;
        let verified = verified(root.path());
        assert_eq!((verified.checkpoint.size, verified.unpublished, verified.torn), (first, 0, false));
    }
}

#[tokio::test]
async fn entries_of_many_callers_stand_in_the_acknowledged_order() {
    let root = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let (log, closer) = AuditLog::open(&config(root.path()), metrics.clone()).unwrap();
    let callers: Vec<_> = (0..50u64)
        .map(|caller| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut told = Vec::new();
                for n in 0..20 {
                    let pair = [entry(caller * 1_000 + n * 2), entry(caller * 1_000 + n * 2 + 1)];
                    let at = usize::try_from(log.append(&pair).await.unwrap()).unwrap();
                    told.extend([(at, pair[0].clone()), (at + 1, pair[1].clone())]);
                }
                told
            })
        })
        .collect();
    let mut expected = vec![None; 2_000];
    for caller in callers {
        let told = caller.await.unwrap();
        assert!(told.is_sorted_by_key(|(at, _)| *at));
        told.into_iter().for_each(|(at, entry)| expected[at] = Some(entry.encode().unwrap()));
    }
    let is: Vec<_> = journalled(root.path()).into_iter().map(Some).collect();
    assert_eq!(is, expected);
    assert_eq!(metrics.audit_entries.get(), 2_000);
    assert!(metrics.audit_rounds.get() <= 1_000, "entries that wait at the same time share a round");
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, 2_000);
}

#[tokio::test]
async fn a_second_writer_is_refused_and_a_reader_is_not() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&[entry(1)]).await.unwrap();
    let refused = AuditLog::open(&config(root.path()), Arc::new(Metrics::default())).err().unwrap();
    assert!(matches!(refused, OpenError::Taken(_)), "{refused}");
    assert_eq!(journalled(root.path()).len(), 1);
    closer.close().await.unwrap();
    let (_log, closer) = open(root.path());
    closer.close().await.unwrap();
}

#[tokio::test]
async fn a_process_that_is_being_started_does_not_keep_a_folder_locked() {
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::make(root.path()).unwrap();
    let lock = disk.lock().unwrap().unwrap();
    // A child process has the lock's file open between fork and exec.
    let shared = lock.0.try_clone().unwrap();
    assert!(disk.lock().unwrap().is_none());
    drop(lock);
    assert!(disk.lock().unwrap().is_some());
    drop(shared);
}

#[tokio::test]
async fn a_machine_that_dies_loses_nothing_that_was_told_to_be_durable() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&(0..256).map(entry).collect::<Vec<_>>()).await.unwrap();
    log.standing().wait_for(|standing| standing.published == 256).await.unwrap();
    log.append(&[entry(256)]).await.unwrap();
    let died = copy(root.path());
    closer.close().await.unwrap();

    // The log cuts off the last record, however much of it was written, and continues.
    let path = died.path().join("audit").join(journal::path(0));
    assert_eq!(verified(died.path()).unpublished, 1);
    let mut whole = fs::read(&path).unwrap();
    // Removes the zeros that the log wrote ahead.
    whole.truncate(whole.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    let record = 4 + entry(256).encode().unwrap().len() + 32;
    for written in 1..record {
        fs::write(&path, &whole[..whole.len() - written]).unwrap();
        let again = copy(died.path());
        assert!(verified(again.path()).torn);
        let (log, closer) = open(again.path());
        assert_eq!(log.append(&[entry(301), entry(302)]).await, Ok(256), "{written} bytes missing");
        closer.close().await.unwrap();
        let verified = verified(again.path());
        assert_eq!((verified.checkpoint.size, verified.torn), (258, false));
    }
    fs::write(&path, &whole).unwrap();
    let (log, closer) = open(died.path());
    assert_eq!(log.append(&[entry(301)]).await, Ok(257));
    closer.close().await.unwrap();
}

#[tokio::test]
async fn full_tiles_are_published_first_and_partial_ones_at_the_end() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&(0..600).map(entry).collect::<Vec<_>>()).await.unwrap();
    log.standing().wait_for(|standing| standing.published == 512).await.unwrap();
    let files = Disk::new(root.path().join("audit")).list().unwrap();
    let partial =
        |files: &[String]| files.iter().filter(|file| file.contains(".p/")).cloned().collect::<Vec<_>>();
    assert_eq!(partial(&files), ["tile/1/000.p/2"]);
    let between = verified(root.path());
    assert_eq!((between.checkpoint.size, between.unpublished), (512, 88));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, 600);
    let files = Disk::new(root.path().join("audit")).list().unwrap();
    assert!(partial(&files).contains(&"tile/entries/002.p/88".to_owned()), "{files:?}");
}

#[tokio::test]
async fn one_threads_tasks_are_logged_together_and_each_learns_its_entry() {
    let root = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let (log, closer) = AuditLog::open(&config(root.path()), metrics.clone()).unwrap();
    let gathering = Batcher::new(log.clone());
    let append = |n: u64| {
        let gathering = gathering.clone();
        tokio::spawn(async move { gathering.append(|| entry(n)).await })
    };
    let first: Vec<_> = (0..100).map(append).collect();
    for task in first {
        assert_eq!(task.await.unwrap(), Ok(()));
    }
    // This runtime has one thread, so all entries were collected before the log's thread took them.
    assert_eq!((metrics.audit_entries.get(), metrics.audit_rounds.get()), (100, 1));
    let too_long = Entry::new(
        UnixMicros::new(0),
        Event::KeysChanged(Keys { keys: vec![Word::of(&"k".repeat(255)); 9], manifest: Digest::of(b"") }),
    );
    let refused = gathering.append(|| too_long);
    assert_eq!(tokio::join!(append(100), refused).1, Err(AuditError::Entry(EntryError::TooLong)));
    assert_eq!(gathering.append(|| entry(101)).await, Ok(()), "a refused entry delays no other entry");
    closer.close().await.unwrap();
    assert_eq!(gathering.append(|| entry(102)).await, Err(AuditError::Closed));
    assert_eq!(gathering.append(|| entry(103)).await, Err(AuditError::Closed));
    let expected: Vec<_> = (0..102).map(|n| entry(n).encode().unwrap()).collect();
    assert_eq!(journalled(root.path()), expected);
}

#[tokio::test]
async fn any_flipped_bit_is_found_and_a_damaged_journal_not_appended() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&(0..5).map(entry).collect::<Vec<_>>()).await.unwrap();
    closer.close().await.unwrap();
    let disk = Disk::new(root.path().join("audit"));
    let key = load_key(&root.path().join("audit.key")).unwrap();
    for path in disk.list().unwrap() {
        let whole = fs::read(disk.path(&path)).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(disk.path(&path), &changed).unwrap();
            assert!(verify(&disk, key.verifier(), None).is_err(), "byte {at} of {path} can be changed");
            if path.starts_with("journal") {
                let refused =
                    AuditLog::open(&config(root.path()), Arc::new(Metrics::default())).err().unwrap();
                assert!(matches!(refused, OpenError::Recover(_)), "byte {at}: {refused}");
                assert_eq!(fs::read(disk.path(&path)).unwrap(), changed, "the damaged file was changed");
            }
        }
        fs::write(disk.path(&path), &whole).unwrap();
    }
    assert_eq!(verified(root.path()).checkpoint.size, 5);
}

#[tokio::test]
async fn a_log_without_checkpoint_or_with_another_key_is_not_continued() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&[entry(1)]).await.unwrap();
    closer.close().await.unwrap();
    let refused = |root: &Path| AuditLog::open(&config(root), Arc::new(Metrics::default())).err().unwrap();

    let without = copy(root.path());
    fs::remove_file(without.path().join("audit/checkpoint")).unwrap();
    let OpenError::Recover(RecoverError::Damaged { finding, .. }) = refused(without.path()) else { panic!() };
    assert_eq!(finding, Finding::NoCheckpoint);

    let other = copy(root.path());
    fs::remove_file(other.path().join("audit.key")).unwrap();
    let OpenError::Recover(RecoverError::Damaged { finding, .. }) = refused(other.path()) else { panic!() };
    assert!(matches!(finding, Finding::Checkpoint(_)));

    fs::write(root.path().join("audit.key"), "bridge audit key v1\nx\nzz\n").unwrap();
    assert!(matches!(refused(root.path()), OpenError::Key(KeyError::NotAKey(_))));
    fs::set_permissions(root.path().join("audit.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(refused(root.path()), OpenError::Key(KeyError::Exposed { .. })));
}

#[tokio::test]
async fn files_are_the_agents_users_and_the_key_nobody_elses() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    log.append(&[entry(1)]).await.unwrap();
    closer.close().await.unwrap();
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("audit.key"), 0o600);
    for path in ["audit/checkpoint", "audit/tile/entries/000.p/1", "audit/journal/00000000000000000000"] {
        assert_eq!(mode(path) & 0o027, 0, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_entries_are_verified_and_the_journal_stays_small() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = {
        let config = AuditConfig { publish_every: Duration::from_millis(50), ..config(root.path()) };
        AuditLog::open(&config, Arc::new(Metrics::default())).unwrap()
    };
    for first in (0..100_000u64).step_by(500) {
        let entries: Vec<Entry> = (first..first + 500).map(entry).collect();
        log.append(&entries).await.unwrap();
    }
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, 100_000);
    let paths = Disk::new(root.path().join("audit")).list().unwrap();
    let journal: u64 = paths
        .iter()
        .filter(|path| path.starts_with("journal"))
        .map(|path| fs::metadata(root.path().join("audit").join(path)).unwrap().len())
        .sum();
    assert!(journal < 3 * (8 << 20), "{journal}");
    assert!(
        !paths.iter().any(|path| path.starts_with("tile/entries/000.p")),
        "a full bundle was written as a partial one"
    );
    let (log, closer) = open(root.path());
    assert_eq!(log.append(&[entry(7)]).await, Ok(100_000));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, 100_001);
}

/// A file system of 16 MiB, which is removed when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts the file system. Returns `None` if this user may not mount.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(dir.path()).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_entries_keeps_durable_ones_and_recovers() {
    let Some(disk) = SmallDisk::mount() else {
        return skipped(Lack::Mounts, "only root can mount a small disk");
    };
    let root = disk.0.path();
    let metrics = Arc::new(Metrics::default());
    let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root) };
    let (log, closer) = AuditLog::open(&config, metrics.clone()).unwrap();
    let filler = root.join("filler");
    let mut durable = Vec::new();
    for _ in 0..2 {
        fill(&filler);
        let mut n = durable.len() as u64;
        loop {
            let entries: Vec<Entry> = (n..n + 40).map(entry).collect();
            match log.append(&entries).await {
                Ok(first) => {
                    assert_eq!(first, n);
                    durable.extend(entries);
                    n += 40;
                }
                Err(refused) => {
                    assert!(matches!(refused, AuditError::Unwritable(_)), "{refused}");
                    break;
                }
            }
        }
        assert!(!log.is_writable());
        assert_eq!(metrics.audit_writable.get(), 0);
        assert!(matches!(log.append(&[entry(0)]).await, Err(AuditError::Unwritable(_))));
        assert_eq!(
            verified_with_rest(root),
            durable.len() as u64,
            "reads go on, and nothing durable is lost"
        );
        fs::remove_file(&filler).unwrap();
        log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
        let entries = [entry(durable.len() as u64)];
        assert_eq!(log.append(&entries).await, Ok(durable.len() as u64));
        durable.extend(entries);
        // Waits for room. The journal of the first turn is then covered by a checkpoint.
        log.standing().wait_for(|standing| standing.published == standing.size).await.unwrap();
    }
    closer.close().await.unwrap();
    assert_eq!(verified(root).checkpoint.size, durable.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disks_last_room_serves_the_tiles_as_the_journal() {
    let Some(disk) = SmallDisk::mount() else {
        return skipped(Lack::Mounts, "only root can mount a small disk");
    };
    let root = disk.0.path();
    let (log, closer) = open(root);
    log.append(&[entry(0)]).await.unwrap();
    log.standing().wait_for(|standing| standing.published == 1).await.unwrap();
    // The entries wait for publication, and their tiles need more than the rest of 1 MiB.
    let long = |n| Event::AgentStopped(Stopped { reason: Word::of(&format!("{n:0>250}")) });
    let entries: Vec<Entry> = (0..2_000).map(|n| Entry::new(UnixMicros::new(n), long(n))).collect();
    log.append(&entries).await.unwrap();
    let filler = root.join("filler");
    let length = fill_whole(&filler);
    let mut size = 2_001;
    while log.append(&[entry(size)]).await.is_ok() {
        size += 1;
    }
    let file = fs::OpenOptions::new().write(true).open(&filler).unwrap();
    file.set_len(length - (1 << 20) - (64 << 10)).unwrap();
    log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
    closer.close().await.unwrap();
    let verified = verified(root);
    assert_eq!((verified.checkpoint.size, verified.unpublished), (size, 0), "the tiles found no room");
}

/// Leaves 768 KiB free, which is room for some rounds with the zeros ahead of them, and for the
/// first tiles.
fn fill(path: &Path) {
    let length = fill_whole(path);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length - (768 << 10)).unwrap();
}

/// Fills the disk completely. Returns the length of the filling file.
fn fill_whole(path: &Path) -> u64 {
    let mut file = fs::File::create(path).unwrap();
    while file.write_all(&[1; 4 << 10]).is_ok() {}
    file.metadata().unwrap().len()
}

fn verified_with_rest(root: &Path) -> u64 {
    let key = load_key(&root.join("audit.key")).unwrap();
    let disk = Disk::new(root.join("audit"));
    // A publication may happen between two reads, so this tries again.
    let verified = (0..100).find_map(|_| verify(&disk, key.verifier(), None).ok()).unwrap();
    verified.checkpoint.size + verified.unpublished
}
