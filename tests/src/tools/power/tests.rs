//! Tests of the disk: the recording has all operations, and a power loss keeps what is durable and
//! may lose the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::disk::{Names, Tree};
use super::fate::Fate;
use super::record::{Recording, record};
use super::recorder::{Behaviour, Disk, Fault, Recorder, SyncFault, scratch};

/// Runs a shell script on a disk in this folder. Returns the recording.
fn shell(root: &Path, behaviour: &Behaviour, script: &str) -> Recording {
    let recorder = Recorder::compile().expect("a C compiler");
    let disk = Disk::begin(&recorder, root, behaviour, &[]).expect("a disk");
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", script]).current_dir(root).envs(disk.variables().iter().cloned());
    assert!(shell.status().expect("a shell").success());
    disk.recording().expect("a recording")
}

fn left(recording: &Recording, mut fate: Fate) -> Tree {
    Tree::after(recording, Names::ByFolder, &mut fate).expect("what is left")
}

/// Draws a power loss after all events.
fn at_the_end(recording: &Recording, seed: u64) -> Fate {
    let mut fate = Fate::draw(recording, seed);
    fate.at = recording.events.len();
    fate
}

/// Returns the worst content after a power loss at the end.
fn worst(recording: &Recording) -> Tree {
    left(recording, Fate::worst(recording.events.len()))
}

fn text(tree: &Tree, path: &str) -> Option<String> {
    tree.file(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// Makes a recording of these records.
fn recording(records: &[Vec<u8>]) -> Recording {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let root = [record(b'D', "", 1, 0o755, &[]), record(b'S', "", 0, 0, &[])].concat();
    fs::write(&log, [root, records.concat()].concat()).expect("a log");
    Recording::read(&log).expect("a recording")
}

fn made(path: &str, node: u64) -> Vec<u8> {
    record(b'C', path, node, 0o644, &[])
}

fn written(node: u64, at: u64, bytes: &[u8]) -> Vec<u8> {
    record(b'W', "", node, at, bytes)
}

/// Makes the records of an fsync of a node. `end` is its result, as `recorder.c` writes it.
fn synced(node: u64, id: u64, end: u8) -> Vec<u8> {
    let mut ended = record(b'E', "", node, id, &[]);
    ended[5] = end;
    [record(b'B', "", node, id, &[]), ended].concat()
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const LIED: u8 = 2;

#[test]
fn with_everything_kept_the_disk_is_as_the_processes_saw_it() {
    let root = scratch().expect("a folder");
    fs::write(root.path().join("before"), "there before").expect("a file");
    let script = "mkdir -p a/b; echo one > a/one; echo two >> a/one; printf 'long text' > a/b/c; mv a/b a/d; \
        cp a/one two; truncate -s 4 a/d/c; truncate -s 9000 two; rm before; ln two three; mkdir gone; rmdir gone; \
        dd if=/dev/zero of=zeros bs=1000 count=7 2>/dev/null; dd if=a/one of=zeros bs=1 seek=3000 conv=notrunc 2>/dev/null; \
        echo new > two.new; mv two.new two; (cd a; echo relative > ../up; rm one; echo again > one); mkdir e; touch e/f; rm -r e";
    let recording = shell(root.path(), &Behaviour::default(), script);
    let tree = left(&recording, Fate::best(recording.events.len()));
    let rebuilt = scratch().expect("a folder");
    tree.write(rebuilt.path()).expect("a rebuilt folder");
    assert_eq!(files(rebuilt.path()), files(root.path()));
    // The earlier content is there from the first moment on. Everything else is lost, because
    // nothing was synced.
    assert_eq!(
        text(&left(&recording, Fate::worst(recording.begin)), "/before").as_deref(),
        Some("there before")
    );
    assert_eq!(text(&worst(&recording), "/before").as_deref(), Some("there before"));
    assert_eq!(worst(&recording).paths().collect::<Vec<_>>(), ["", "/before"]);
}

/// Returns every file with its bytes, and every folder without.
fn files(root: &Path) -> BTreeMap<String, (Option<Vec<u8>>, u32)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let mode = path.metadata().expect("its mode").permissions().mode();
            let bytes = fs::read(&path).ok();
            files.insert(path.strip_prefix(root).expect("below").display().to_string(), (bytes, mode));
            folders.extend(path.is_dir().then_some(path));
        }
    }
    files
}

#[test]
fn a_file_needs_its_own_fsync_and_its_folder_s() {
    let root = scratch().expect("a folder");
    let script = "echo content > file; sync file";
    let recording = shell(root.path(), &Behaviour::default(), script);
    assert_eq!(worst(&recording).paths().collect::<Vec<_>>(), [""], "its name is lost");
    let with_name = shell(root.path(), &Behaviour::default(), "echo content > other; sync .");
    assert_eq!(text(&worst(&with_name), "/other").as_deref(), Some(""), "its content is lost");
    let whole = shell(
        root.path(),
        &Behaviour::default(),
        "echo content > third; sync third; sync .; echo more >> third",
    );
    assert_eq!(text(&worst(&whole), "/third").as_deref(), Some("content\n"), "what came later is lost");
}

#[test]
fn a_rename_is_one_change_and_any_of_several_may_be_there() {
    let root = scratch().expect("a folder");
    let script = "echo old > file; sync file; sync .; echo new > beside; sync beside; mv beside file; echo x > other; sync other";
    let recording = shell(root.path(), &Behaviour::default(), script);
    let mut seen = BTreeSet::new();
    for seed in 0..500 {
        let tree = left(&recording, at_the_end(&recording, seed));
        let file = text(&tree, "/file").expect("there is always one");
        seen.insert((file, tree.file("/beside").is_some(), tree.file("/other").is_some()));
    }
    let expected = [("new\n", false), ("old\n", false), ("old\n", true)];
    let expected = expected
        .iter()
        .flat_map(|(file, beside)| [false, true].map(|other| ((*file).to_owned(), *beside, other)));
    assert_eq!(seen, expected.collect());
}

#[test]
fn a_write_is_torn_at_sectors_and_no_sector_in_itself() {
    let (old, new) = ([b'o'; 4_096], [b'n'; 4_096]);
    let recording = recording(&[
        made("/file", 2),
        written(2, 0, &old),
        synced(2, 1, DONE),
        synced(1, 2, DONE),
        written(2, 0, &new),
    ]);
    let mut torn = BTreeSet::new();
    for seed in 0..300 {
        let tree = left(&recording, at_the_end(&recording, seed));
        let bytes = tree.file("/file").expect("it is durable");
        assert_eq!(bytes.len(), 4_096);
        for sector in bytes.chunks(512) {
            assert!(sector == [b'o'; 512] || sector == [b'n'; 512], "half a sector");
        }
        torn.insert(bytes.chunks(512).filter(|sector| sector[0] == b'n').count());
    }
    assert!(torn.contains(&0) && torn.contains(&8) && torn.len() > 4, "{torn:?}");
}

#[test]
fn what_a_failed_fsync_lost_stays_lost_until_written_again() {
    let begin = [made("/file", 2), synced(1, 1, DONE), written(2, 0, b"first"), synced(2, 2, FAILED)];
    let then = |more: &[Vec<u8>]| {
        let records = [&begin[..], more].concat();
        text(&worst(&recording(&records)), "/file").expect("its name is durable")
    };
    // The next fsync makes the length durable, but not the bytes.
    assert_eq!(then(&[synced(2, 3, DONE)]), "\0\0\0\0\0");
    assert_eq!(then(&[written(2, 0, b"again"), synced(2, 3, DONE)]), "again");
    assert_eq!(then(&[written(2, 0, b"again"), synced(2, 3, LIED)]), "");
}

#[test]
fn an_fsync_covers_what_came_before_it_began() {
    let mut ended = record(b'E', "", 2, 2, &[]);
    ended[5] = DONE;
    let records = [
        made("/file", 2),
        synced(1, 1, DONE),
        written(2, 0, b"before"),
        record(b'B', "", 2, 2, &[]),
        written(2, 6, b" meanwhile"),
        ended,
    ];
    assert_eq!(text(&worst(&recording(&records)), "/file").as_deref(), Some("before"));
    assert_eq!(text(&worst(&recording(&records[..5])), "/file").as_deref(), Some(""), "it has not returned");
}

#[test]
fn an_fsync_fails_as_planned_and_its_handle_lies_from_then_on() {
    let root = scratch().expect("a folder");
    let fault = Fault { what: SyncFault::Fail, from: 2, times: 1, about: "file" };
    let behaviour = Behaviour { fault: Some(fault), lies: true, ..Behaviour::default() };
    let script = "echo one > file; sync file; sync .; echo two >> file; if sync file; then exit 1; fi; echo three >> file; sync file";
    let recording = shell(root.path(), &behaviour, script);
    // Another process has another handle, whose fsync is honest.
    assert_eq!(text(&worst(&recording), "/file").as_deref(), Some("one\ntwo\nthree\n"));
}

#[test]
fn a_journal_keeps_names_in_order_and_any_fsync_makes_them_durable() {
    let records = [made("/a", 2), made("/b", 3), synced(3, 1, DONE), made("/c", 4), made("/d", 5)];
    let recording = recording(&records);
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let mut fate = at_the_end(&recording, seed);
        let tree = Tree::after(&recording, Names::InOrder, &mut fate).expect("what is left");
        seen.insert(tree.paths().collect::<String>());
    }
    assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), ["/a/b", "/a/b/c", "/a/b/c/d"]);
}

#[test]
fn the_same_seed_leaves_the_same() {
    let records = [made("/a", 2), written(2, 0, &[7; 9_000]), made("/b", 3), written(3, 0, &[9; 5_000])];
    let recording = recording(&records);
    for seed in 0..50 {
        let again = || left(&recording, Fate::draw(&recording, seed));
        assert_eq!(again(), again());
    }
}
