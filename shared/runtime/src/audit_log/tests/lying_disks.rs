//! Tests with disks that fail at once, hang, or have more data than they showed.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bridge_protocol::audit::Checkpoint;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::*;

/// Number of entries that is far larger than the limit of those that wait for a publication.
const FAR_TOO_MANY: u64 = 200_000;

/// Makes every writer of this path wait until [`answer`] is called.
pub(super) fn hang_at(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Releases the waiting writer, with an error.
async fn answer(path: PathBuf) {
    tokio::task::spawn_blocking(move || drop(File::open(path).unwrap())).await.unwrap();
}

async fn until(met: impl Fn() -> bool) {
    while !met() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Appends until the memory for unpublished entries is half used. Returns the number of accepted
/// entries.
async fn append_until_filling(log: &AuditLog, mut taken: u64) -> u64 {
    while !log.standing().borrow().is_filling {
        let entries: Vec<Entry> = (taken..taken + 500).map(entry).collect();
        log.append(&entries).await.unwrap();
        taken += 500;
    }
    taken
}

/// Appends until an append is refused. Returns the number of accepted entries.
async fn append_until_refused(log: &AuditLog, mut taken: u64) -> u64 {
    while taken < FAR_TOO_MANY {
        let entries: Vec<Entry> = (taken..taken + 500).map(entry).collect();
        match log.append(&entries).await {
            Ok(_) => taken += 500,
            Err(AuditError::Unwritable(_)) => return taken,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{taken} entries wait in memory");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_waiting_for_a_failing_publication_are_bounded_and_published_later() {
    let root = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, metrics.clone()).unwrap();
    // With a file in place of this folder, not even root can make a folder in it.
    let tiles = config.dir.join("tile");
    fs::write(&tiles, "").unwrap();
    log.append(&[entry(0)]).await.unwrap();
    log.standing().wait_for(|standing| standing.unpublished.is_some()).await.unwrap();
    assert!(log.is_writable(), "the log refuses entries, though the journal works");
    assert_eq!(log.obstacle(), None, "a balancer would take out an agent that takes every entry");
    assert!(log.is_unpublished() && log.notes()[0].contains("cannot be published"), "{:?}", log.notes());

    let taken = append_until_filling(&log, 1).await;
    assert!(log.is_writable() && log.is_unpublished());
    assert!(log.obstacle().unwrap().contains("soon nothing is taken"), "{:?}", log.obstacle());
    assert_eq!(log.notes(), Vec::<String>::new());
    let taken = append_until_refused(&log, taken).await;
    assert!(taken < 50_000, "{taken} entries wait");
    assert!(!log.is_writable() && log.obstacle().unwrap().contains("nothing is taken"));
    assert_eq!(metrics.audit_writable.get(), 0);
    assert!(metrics.audit_publish_errors.get() > 0);

    fs::remove_file(&tiles).unwrap();
    log.standing().wait_for(|standing| standing.published >= taken).await.unwrap();
    assert_eq!((log.is_writable(), log.obstacle()), (true, None));
    assert_eq!(metrics.audit_writable.get(), 1);
    assert_eq!(log.append(&[entry(0)]).await, Ok(taken));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, taken + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_publication_is_reported_and_its_waiting_entries_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    let (publish_every, write_within) = (Duration::from_millis(100), Duration::from_secs(2));
    let config = AuditConfig { publish_every, write_within, ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
    let hung = config.dir.join("checkpoint.new");
    hang_at(&hung);
    log.append(&[entry(0)]).await.unwrap();
    log.standing().wait_for(|standing| standing.unpublished.is_some()).await.unwrap();
    let taken = append_until_refused(&log, 1).await;
    assert!(taken < 50_000, "{taken} entries wait");
    assert!(log.obstacle().unwrap().contains("has not answered"), "{:?}", log.obstacle());
    answer(hung).await;
    log.standing().wait_for(|standing| standing.published >= taken).await.unwrap();
    assert_eq!(log.append(&[entry(0)]).await, Ok(taken));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, taken + 1);
}

/// Appends this many entries in batches, each until it is accepted. Counts the entries when they
/// are durable.
async fn append_all(log: AuditLog, of: u64, durable: Arc<AtomicU64>) {
    for first in (0..of).step_by(1_000) {
        let entries: Vec<Entry> = (first..first + 1_000).map(entry).collect();
        while let Err(error) = log.append(&entries).await {
            assert!(matches!(error, AuditError::Unwritable(_)), "{error}");
            log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
        }
        durable.fetch_add(1_000, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_publication_that_hangs_holds_the_next_appends() {
    let root = tempfile::tempdir().unwrap();
    let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
    let hung = config.dir.join("checkpoint.new");
    hang_at(&hung);
    let durable = Arc::new(AtomicU64::new(0));
    let many = FAR_TOO_MANY / 2;
    let appending = tokio::spawn(append_all(log.clone(), many, durable.clone()));
    // A second log on a working disk shows how long to wait. Meanwhile it has taken all its
    // entries.
    let beside = tempfile::tempdir().unwrap();
    let (other, other_closer) = open(beside.path());
    append_all(other, many, Arc::default()).await;
    let held_at = durable.load(Ordering::Relaxed);
    assert!(held_at < many / 2, "{held_at} entries wait in memory for the publication");
    assert!(log.is_writable(), "the log refuses entries: {:?}", log.obstacle());

    answer(hung).await;
    appending.await.unwrap();
    closer.close().await.unwrap();
    other_closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, many);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_publication_is_an_obstacle_until_it_succeeds() {
    let root = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let (publish_every, write_within) = (Duration::from_millis(10), Duration::from_secs(1));
    let config = AuditConfig { publish_every, write_within, ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, metrics.clone()).unwrap();
    assert_eq!(metrics.audit_publishable.get(), 1);
    let hung = config.dir.join("checkpoint.new");
    fs::create_dir(&hung).unwrap();
    log.append(&[entry(0)]).await.unwrap();
    log.standing().wait_for(|standing| standing.unpublished.is_some()).await.unwrap();
    assert_eq!(metrics.audit_publishable.get(), 0);
    // The file that failed before now hangs.
    let pipe = config.dir.join("pipe");
    hang_at(&pipe);
    renameat_with(CWD, &pipe, CWD, &hung, RenameFlags::EXCHANGE).unwrap();
    let hangs = |why: &Option<String>| why.as_deref().is_some_and(|why| why.contains("has not answered"));
    log.standing().wait_for(|standing| hangs(&standing.unpublished)).await.unwrap();
    assert!(log.notes().iter().any(|note| note.contains("has not answered")), "{:?}", log.notes());
    assert_eq!(metrics.audit_publishable.get(), 0, "the log counts as publishable while its disk hangs");
    answer(hung).await;
    log.standing().wait_for(|standing| standing.published == 1).await.unwrap();
    assert_eq!((metrics.audit_publishable.get(), log.notes()), (1, Vec::new()));
    closer.close().await.unwrap();
}

/// Returns the log's size in the file beside its key.
fn noted(root: &Path) -> Option<u64> {
    let note = fs::read(root.join("audit.seen")).ok()?;
    let key = load_key(&root.join("audit.key")).unwrap();
    Some(Checkpoint::verify(&note, key.verifier()).unwrap().size)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_note_beside_the_key_delays_no_entry_or_publication() {
    let root = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let (publish_every, write_within) = (Duration::from_millis(10), Duration::from_secs(4));
    let config = AuditConfig { publish_every, write_within, ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, metrics.clone()).unwrap();
    assert_eq!((metrics.audit_noted.get(), log.notes()), (1, Vec::new()));
    let hung = root.path().join("audit.seen.new");
    hang_at(&hung);
    log.append(&[entry(0)]).await.unwrap();
    log.standing().wait_for(|standing| standing.published == 1).await.unwrap();
    // More entries than may wait for a publication.
    append_all(log.clone(), FAR_TOO_MANY / 2, Arc::default()).await;
    let size = FAR_TOO_MANY / 2 + 1;
    log.standing().wait_for(|standing| standing.published == size).await.unwrap();
    assert_eq!((log.is_writable(), log.obstacle(), metrics.audit_publishable.get()), (true, None, 1));
    until(|| !log.notes().is_empty()).await;
    let said = log.notes().remove(0);
    assert!(said.contains("audit.seen") && said.contains("has not answered"), "{said}");
    assert_eq!((metrics.audit_noted.get(), log.status()["noted"].as_bool()), (0, Some(false)));
    assert_eq!(noted(root.path()), None);

    answer(hung).await;
    until(|| log.notes().is_empty() && noted(root.path()) == Some(size)).await;
    assert_eq!((metrics.audit_noted.get(), log.status()["noted"].as_bool()), (1, Some(true)));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, size);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_note_beside_the_key_never_leads_and_ends_last() {
    let root = tempfile::tempdir().unwrap();
    let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
    log.append(&[entry(0)]).await.unwrap();
    until(|| noted(root.path()) == Some(1)).await;
    // The checkpoint is not published, though a part of it is in the folder.
    let hung = config.dir.join("checkpoint.new");
    hang_at(&hung);
    log.append(&(1..300).map(entry).collect::<Vec<_>>()).await.unwrap();
    until(|| config.dir.join("tile/entries/000").exists()).await;
    assert_eq!(noted(root.path()), Some(1));
    answer(hung).await;
    until(|| noted(root.path()) == Some(300)).await;

    // The volume does not answer when the agent is stopped, but answers a moment later.
    let hung = root.path().join("audit.seen.new");
    hang_at(&hung);
    log.append(&[entry(300)]).await.unwrap();
    log.standing().wait_for(|standing| standing.published == 301).await.unwrap();
    let ends = tokio::spawn(closer.close());
    answer(hung).await;
    ends.await.unwrap().unwrap();
    assert_eq!(noted(root.path()), Some(301));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_end_nor_next_start_waits_for_a_note_hanging_forever() {
    let root = tempfile::tempdir().unwrap();
    let hung = root.path().join("audit.seen.new");
    for size in [1, 2] {
        let (log, closer) = open(root.path());
        if size == 1 {
            hang_at(&hung);
        }
        assert_eq!(log.append(&[entry(size)]).await, Ok(size - 1));
        closer.close().await.unwrap();
        assert_eq!(verified(root.path()).checkpoint.size, size);
        assert_eq!(noted(root.path()), None);
    }
    fs::rename(&hung, root.path().join("pipe")).unwrap();
    let (_log, closer) = open(root.path());
    until(|| noted(root.path()) == Some(2)).await;
    closer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_failed_is_tried_again_soon_however_rarely_it_publishes() {
    let root = tempfile::tempdir().unwrap();
    let config = AuditConfig { publish_every: Duration::from_secs(3_600), ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
    let in_the_way = config.dir.join("checkpoint.new");
    fs::create_dir(&in_the_way).unwrap();
    log.append(&[entry(0)]).await.unwrap();
    log.standing().wait_for(|standing| standing.unpublished.is_some()).await.unwrap();
    fs::remove_dir(&in_the_way).unwrap();
    let mut standing = log.standing();
    let published = standing.wait_for(|standing| standing.published == 1);
    let within = Duration::from_secs(60);
    assert!(tokio::time::timeout(within, published).await.is_ok(), "the publication waits for the next hour");
    closer.close().await.unwrap();
}

#[test]
fn a_command_without_an_agent_ends_in_time_on_a_hanging_disk() {
    for hangs in ["journal/00000000000000000000.new", "checkpoint.new"] {
        let root = tempfile::tempdir().unwrap();
        let config = AuditConfig { write_within: Duration::from_secs(1), ..config(root.path()) };
        let hung = config.dir.join(hangs);
        fs::create_dir_all(hung.parent().unwrap()).unwrap();
        hang_at(&hung);
        // The log runs as in a command, and ends with its runtime.
        let (told, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let appended = crate::cli::runtime().unwrap().block_on(append_for_command(&config, &entry(0)));
            told.send(appended.map_err(|error| error.to_string())).unwrap();
        });
        let said =
            ended.recv_timeout(Duration::from_secs(120)).expect("the command does not end").unwrap_err();
        assert!(said.contains("does not answer") && said.contains("Look at the volume"), "{hangs}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_on_a_hanging_disk_are_answered_and_no_new_ones_wait() {
    let root = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::default());
    let config = AuditConfig { write_within: Duration::from_secs(2), ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, metrics.clone()).unwrap();
    // The journal cannot begin its next segment. The test does not know in which round the log
    // tries that.
    let mut size = 0u64;
    loop {
        let next = config.dir.join(format!("{}.new", journal::path(size + 4_000)));
        hang_at(&next);
        let entries: Vec<Entry> = (size..size + 4_000).map(entry).collect();
        match log.append(&entries).await {
            Ok(first) => assert_eq!(first, size),
            Err(error) => break assert_eq!(error, AuditError::Late),
        }
        size += 4_000;
        assert!(size < FAR_TOO_MANY, "the disk never hangs");
    }
    let hung = config.dir.join(format!("{}.new", journal::path(size)));
    assert!(!log.is_writable() && log.obstacle().unwrap().contains("does not answer"));
    assert_eq!(metrics.audit_writable.get(), 0);
    let gathering = Batcher::new(log.clone());
    for _ in 0..3 {
        assert_eq!(log.append(&[entry(1)]).await, Err(AuditError::Late));
        assert_eq!(gathering.append(|| entry(1)).await, Err(AuditError::Late));
    }
    assert_eq!(log.waiting(), 0);

    fs::remove_file(config.dir.join(format!("{}.new", journal::path(size + 4_000)))).unwrap();
    answer(hung).await;
    until(|| log.is_writable()).await;
    assert_eq!((metrics.audit_writable.get(), log.obstacle()), (1, None));
    // The late entry may have been under way. Then it is durable.
    let first = loop {
        match log.append(&[entry(2)]).await {
            Ok(first) => break first,
            // A busy disk may be late without any action of the test.
            Err(error) => assert_eq!(error, AuditError::Late),
        }
        until(|| log.is_writable()).await;
    };
    assert!(first >= size, "{first}");
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, first + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_folder_is_removed_takes_nothing_more() {
    let root = tempfile::tempdir().unwrap();
    let config = AuditConfig { publish_every: Duration::from_millis(10), ..config(root.path()) };
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default())).unwrap();
    log.append(&[entry(0)]).await.unwrap();
    log.standing().wait_for(|standing| standing.published == 1).await.unwrap();
    fs::remove_dir_all(&config.dir).unwrap();
    let mut n = 1;
    while log.append(&[entry(n)]).await.is_ok() {
        n += 1;
    }
    assert!(!log.is_writable() && log.obstacle().is_some(), "{:?}", log.obstacle());
    closer.close().await.unwrap();
}

#[test]
fn an_existing_file_is_never_overwritten_and_survives_a_failed_write() {
    let root = tempfile::tempdir().unwrap();
    let disk = Disk::make(root.path()).unwrap();
    let tile = ("tile/0/000".to_owned(), &b"hashes"[..]);
    let inode = || fs::metadata(disk.path(&tile.0)).unwrap().ino();
    disk.write(std::slice::from_ref(&tile), &[]).unwrap();
    // A checkpoint covers the tile, although its publication seemed to fail. So the tile is written
    // once more.
    let under_a_checkpoint = (File::open(disk.path(&tile.0)).unwrap(), inode());
    disk.write(std::slice::from_ref(&tile), &[]).unwrap();
    assert_ne!(inode(), under_a_checkpoint.1, "the tile was not replaced by a new file");
    assert_eq!(
        io::read_to_string(&under_a_checkpoint.0).unwrap(),
        "hashes",
        "a reader of the old file sees a change"
    );

    fs::create_dir(disk.path("checkpoint.new")).unwrap();
    let failed = disk.write(std::slice::from_ref(&tile), &[("checkpoint".to_owned(), b"note")]);
    assert!(failed.unwrap_err().to_string().contains("checkpoint.new"), "the error does not name the file");
    assert_eq!(fs::read(disk.path(&tile.0)).unwrap(), b"hashes");
    let names: Vec<_> =
        fs::read_dir(disk.path("tile/0")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(names, ["000"], "an unfinished file is left");
}

#[tokio::test]
async fn a_journal_without_a_possible_successor_does_not_grow_without_end() {
    let root = tempfile::tempdir().unwrap();
    let (log, closer) = open(root.path());
    let dir = config(root.path()).dir;
    let in_the_way = |size: u64| dir.join(format!("{}.new", journal::path(size)));
    let mut size = 0u64;
    let refused = loop {
        fs::create_dir(in_the_way(size + 4_000)).unwrap();
        match log.append(&(size..size + 4_000).map(entry).collect::<Vec<_>>()).await {
            Ok(first) => assert_eq!(first, size),
            Err(error) => break error,
        }
        size += 4_000;
        assert!(size < 500_000, "the log writes without end");
    };
    assert!(matches!(refused, AuditError::Unwritable(_)), "{refused}");
    fs::remove_dir(in_the_way(size)).unwrap();
    log.standing().wait_for(|standing| standing.obstacle.is_none()).await.unwrap();
    assert_eq!(log.append(&[entry(size)]).await, Ok(size));
    closer.close().await.unwrap();
    assert_eq!(verified(root.path()).checkpoint.size, size + 1);
}
