//! Tests that every change of a log is found and named.

use std::collections::BTreeMap;

use super::*;
use crate::audit::checkpoint::CheckpointError;
use crate::audit::earlier::{EarlierRoot, History};
use crate::audit::entry::{Event, Stopped, Word};
use crate::audit::finding::NotRead;
use crate::audit::journal::{self, Header};
use crate::domain::UnixMicros;
use crate::note::{NoteError, NoteSigner};

/// A log's files in memory.
#[derive(Clone)]
pub(crate) struct Memory(pub(crate) BTreeMap<String, Vec<u8>>);

impl Folder for Memory {
    fn list(&self) -> Result<Vec<String>, NotRead> {
        Ok(self.0.keys().cloned().collect())
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotRead> {
        Ok(self.0.get(path).cloned())
    }
}

pub(crate) fn signer() -> NoteSigner {
    NoteSigner::new("shop.example/idc", &[5; 32]).unwrap()
}

pub(crate) fn entry(n: u64) -> Vec<u8> {
    let reason = Word::of(&format!("test-{n}"));
    Entry::new(UnixMicros::new(n as i64), Event::AgentStopped(Stopped { reason })).encode().unwrap()
}

/// Returns a log of these entries. The sizes in `published` have checkpoints, and the journal has
/// all entries from `kept_from` on.
pub(crate) fn log_of(entries: &[Vec<u8>], published: &[u64], kept_from: u64) -> Memory {
    let mut files = BTreeMap::new();
    let (mut growing, mut full) = (GrowingTree::new(), Vec::new());
    let (mut journal, mut earlier) = (None, History::default());
    for size in 0..=entries.len() as u64 {
        if size == kept_from {
            journal = Some(Header { first: size, root: growing.root() }.encode());
        }
        if published.contains(&size) {
            for (tile, bytes) in growing.now().files {
                files.insert(tile.to_string(), bytes);
            }
            let name = "shop.example/idc".to_owned();
            let note =
                Checkpoint { origin: name, size, root: growing.root() }.sign_after(&earlier, &signer());
            files.insert("checkpoint".to_owned(), note.unwrap().into_bytes());
            earlier.add(EarlierRoot { size, root: growing.root() });
            if let Some((bytes, writer)) = &mut journal {
                writer.round(Some(size), std::iter::empty(), bytes);
            }
        }
        let Some(entry) = entries.get(size as usize) else { break };
        let leaf = leaf_hash(entry);
        growing.append(entry, leaf, &mut full);
        for (tile, bytes) in full.drain(..) {
            files.insert(tile.to_string(), bytes);
        }
        if let Some((bytes, writer)) = &mut journal {
            writer.round(None, std::iter::once((&entry[..], &leaf)), bytes);
        }
    }
    if let Some((bytes, _)) = journal {
        files.insert(journal::path(kept_from), bytes);
    }
    Memory(files)
}

fn log(size: u64) -> Memory {
    let entries: Vec<Vec<u8>> = (0..size).map(entry).collect();
    log_of(&entries, &[size], u64::MAX)
}

fn found(log: &Memory) -> Finding {
    verify(log, signer().verifier(), None).unwrap_err().finding().unwrap().clone()
}

/// Changes the entries of a bundle.
fn rebundle(log: &mut Memory, path: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let bytes = log.0.get_mut(path).unwrap();
    let mut entries: Vec<Vec<u8>> = tile::entries(bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    change(&mut entries);
    bytes.clear();
    entries.iter().for_each(|entry| tile::push_entry(bytes, entry));
}

#[test]
fn a_log_of_any_size_is_verified() {
    for size in [0, 1, 255, 256, 257, 600, 66_000] {
        let verified = verify(&log(size), signer().verifier(), None).unwrap();
        assert_eq!((verified.checkpoint.size, verified.unpublished, verified.torn), (size, 0, false));
    }
    let entries: Vec<Vec<u8>> = (0..300).map(entry).collect();
    let verified = verify(&log_of(&entries, &[100, 280], 90), signer().verifier(), None).unwrap();
    assert_eq!((verified.checkpoint.size, verified.unpublished), (280, 20));
}

#[test]
fn the_first_tampered_entry_is_named_however_it_was_tampered() {
    let last = "tile/entries/002.p/88";
    type Change = fn(&mut Vec<Vec<u8>>);
    let cases: [(&str, Change, Finding); 9] = [
        ("tile/entries/001", |e| e[44] = entry(9_999), Finding::Changed { entry: 300 }),
        ("tile/entries/001", |e| drop(e.remove(44)), Finding::Removed { entry: 300 }),
        ("tile/entries/001", |e| e.insert(44, entry(9_999)), Finding::Added { entry: 300 }),
        ("tile/entries/001", |e| e.swap(44, 45), Finding::Reordered { entry: 300 }),
        ("tile/entries/001", |e| e.swap(44, 200), Finding::Reordered { entry: 300 }),
        ("tile/entries/001", |e| e[44] = entry(3), Finding::Reordered { entry: 300 }),
        (last, |e| e.truncate(80), Finding::CutOff { entry: 592 }),
        (last, |e| drop(e.pop()), Finding::CutOff { entry: 599 }),
        (last, |e| e.push(entry(600)), Finding::Added { entry: 600 }),
    ];
    for (path, change, expected) in cases {
        let mut log = log(600);
        rebundle(&mut log, path, change);
        assert_eq!(found(&log), expected);
    }
}

#[test]
fn entries_changed_together_with_their_tiles_are_bounded_by_the_tile_above() {
    let entries: Vec<Vec<u8>> = (0..600).map(entry).collect();
    let mut changed = entries.clone();
    changed[300] = entry(9_999);
    let (mut log, forged) = (log(600), log_of(&changed, &[600], u64::MAX));
    for path in ["tile/entries/001", "tile/0/001"] {
        log.0.insert(path.to_owned(), forged.0[path].clone());
    }
    assert_eq!(found(&log), Finding::Root { from: 256, to: 511 });
    let checkpoint = log.0["checkpoint"].clone();
    log = forged;
    log.0.insert("checkpoint".to_owned(), checkpoint);
    assert_eq!(found(&log), Finding::Root { from: 0, to: 599 });
}

#[test]
fn every_missing_file_is_named() {
    let whole = log(600);
    for path in whole.0.keys() {
        let mut log = whole.clone();
        log.0.remove(path);
        match found(&log) {
            Finding::NoCheckpoint => assert_eq!(path, "checkpoint"),
            Finding::Missing { path: named, .. } => assert_eq!(*path, named),
            other => panic!("{path}: {other}"),
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let entries: Vec<Vec<u8>> = (0..9).map(entry).collect();
    let whole = log_of(&entries, &[4, 7], 2);
    for (path, bytes) in &whole.0 {
        for bit in 0..bytes.len() * 8 {
            let mut log = whole.clone();
            log.0.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&log, signer().verifier(), None).is_err(), "bit {bit} of {path} can be changed");
        }
    }
}

#[test]
fn a_changed_tile_is_told_from_a_changed_entry() {
    for (path, entry) in [("tile/0/001", 256 + 7), ("tile/1/000.p/2", 0), ("tile/0/002.p/88", 512 + 7)] {
        let mut log = log(600);
        let at = if path.starts_with("tile/0") { 7 * 32 } else { 32 };
        log.0.get_mut(path).unwrap()[at] ^= 1;
        assert_eq!(found(&log), Finding::Tile { path: path.to_owned(), entry });
    }
}

#[test]
fn an_older_checkpoint_that_was_put_back_is_found() {
    let entries: Vec<Vec<u8>> = (0..600).map(entry).collect();
    let older = log_of(&entries[..100], &[100], u64::MAX).0["checkpoint"].clone();
    // The cases: only the tiles show it, the journal's mark shows it, and the journal's first entry
    // shows it.
    for kept_from in [u64::MAX, 90, 400] {
        let mut log = log_of(&entries, &[100, 600], kept_from);
        log.0.insert("checkpoint".to_owned(), older.clone());
        if kept_from < 600 {
            log.0.retain(|path, _| !path.starts_with("tile/") || path.ends_with("p/100"));
        }
        let Finding::PutBack { size: 100, later } = found(&log) else { panic!("{}", found(&log)) };
        assert!(later >= 400);
    }
    // If everything after the change is gone, only a checkpoint from elsewhere reveals it.
    let log_then = log_of(&entries[..100], &[100], u64::MAX);
    let seen = log_of(&entries, &[600], u64::MAX).0["checkpoint"].clone();
    let refused = verify(&log_then, signer().verifier(), Some(&seen)).unwrap_err();
    assert_eq!(refused.finding(), Some(&Finding::PutBack { size: 100, later: 600 }));
}

#[test]
fn two_histories_and_the_key_of_another_log_are_found() {
    let entries: Vec<Vec<u8>> = (0..300).map(entry).collect();
    let mut others = entries.clone();
    others[0] = entry(9_999);
    let seen = log_of(&others, &[200], u64::MAX).0["checkpoint"].clone();
    let log = log_of(&entries, &[300], u64::MAX);
    let refused = verify(&log, signer().verifier(), Some(&seen)).unwrap_err();
    assert_eq!(refused.finding(), Some(&Finding::TwoHistories { size: 200 }));
    let same = log_of(&entries, &[200], u64::MAX).0["checkpoint"].clone();
    assert!(verify(&log, signer().verifier(), Some(&same)).is_ok());

    let other = NoteSigner::new("shop.example/idc", &[6; 32]).unwrap();
    let refused = verify(&log, other.verifier(), None).unwrap_err();
    let unknown = Finding::Checkpoint(CheckpointError::Note(NoteError::UnknownSigner));
    assert_eq!(refused.finding(), Some(&unknown));
}

#[test]
fn a_journal_that_is_not_the_log_s_is_found() {
    let entries: Vec<Vec<u8>> = (0..300).map(entry).collect();
    let log = log_of(&entries, &[280], 270);
    let mut others = entries.clone();
    others[275] = entry(9_999);
    for (from, expected) in [
        (log_of(&others, &[280], 270), Finding::JournalEntry { path: journal::path(270), entry: 275 }),
        (log_of(&entries[..275], &[], 270), Finding::JournalEntry { path: journal::path(270), entry: 275 }),
        (
            log_of(&[&entries[1..], &entries[..1]].concat(), &[280], 270),
            Finding::Journal { path: journal::path(270), at: 0 },
        ),
    ] {
        let mut log = log.clone();
        log.0.insert(journal::path(270), from.0[&journal::path(270)].clone());
        assert_eq!(found(&log), expected);
    }
}

/// Returns a copy of a live folder with files of different moments.
fn copied_live() -> Memory {
    let entries: Vec<Vec<u8>> = (0..700).map(entry).collect();
    let early = log_of(&entries[..300], &[300], 0);
    let mut copy = log_of(&entries, &[300, 512, 700], 0);
    // The checkpoint was copied first. Then partial tiles were removed, and their successors were
    // half written.
    copy.0.insert("checkpoint".to_owned(), early.0["checkpoint"].clone());
    copy.0.retain(|path, _| early.0.contains_key(path) || !path.contains(".p/"));
    for gone in ["tile/0/001.p/44", "tile/entries/001.p/44", "tile/1/000.p/1"] {
        copy.0.remove(gone).unwrap();
    }
    for half in ["tile/0/001", "tile/entries/001"] {
        let bytes = copy.0.get_mut(half).unwrap();
        bytes.truncate(bytes.len() / 10);
    }
    copy
}

#[test]
fn a_live_copy_is_verified_up_to_its_checkpoint_and_not_beyond() {
    let mut copy = copied_live();
    assert!(matches!(found(&copy), Finding::PutBack { size: 300, .. }));
    let journal = journal::path(0);
    let whole = copy.0[&journal].clone();
    for written in [whole.len(), whole.len() - 1, whole.len() * 3 / 4] {
        let mut bytes = whole[..written].to_vec();
        // A page was copied while the agent wrote it.
        bytes.extend_from_slice(b"half of something else");
        copy.0.insert(journal.clone(), bytes);
        let verified = verify_copied(&copy, signer().verifier(), None).unwrap();
        assert_eq!((verified.checkpoint.size, verified.in_flight), (300, true));
    }
    // A later checkpoint shows that the copied one is older.
    let later = log(700).0["checkpoint"].clone();
    let seen = verify_copied(&copy, signer().verifier(), Some(&later)).unwrap_err();
    assert_eq!(seen.finding(), Some(&Finding::PutBack { size: 300, later: 700 }));
}

#[test]
fn a_growing_log_is_verified_and_a_restored_old_checkpoint_is_found() {
    // Each file is read at another moment. The checkpoint is read last, so it is the newest.
    let entries: Vec<Vec<u8>> = (0..700).map(entry).collect();
    let mut live = log_of(&entries, &[300, 700], 0);
    let begun = log_of(&entries[..512], &[300], 0);
    live.0.insert(journal::path(0), begun.0[&journal::path(0)].clone());
    assert!(not_put_back(&live, signer().verifier()).is_ok());
    assert!(verify_growing(&live, signer().verifier(), None).is_ok());
    // The same folder with an older checkpoint put back.
    let mut put_back = log_of(&entries, &[300, 700], 0);
    put_back.0.insert("checkpoint".to_owned(), begun.0["checkpoint"].clone());
    assert!(
        verify_copied(&put_back, signer().verifier(), None).is_ok(),
        "a copy cannot show that its checkpoint was put back"
    );
    let refused = verify_growing(&put_back, signer().verifier(), None).unwrap_err();
    assert_eq!(refused.finding(), Some(&Finding::PutBack { size: 300, later: 700 }));
}

#[test]
fn a_change_of_what_a_live_copy_s_checkpoint_covers_is_found() {
    let whole = copied_live();
    let found = |copy: &Memory| match verify_copied(copy, signer().verifier(), None) {
        Ok(verified) => panic!("{verified:?}"),
        Err(unverified) => unverified.finding().unwrap().clone(),
    };
    let mut copy = whole.clone();
    copy.0.get_mut("tile/entries/000").unwrap()[30] ^= 1;
    assert_eq!(found(&copy), Finding::Changed { entry: 0 });
    let mut copy = whole.clone();
    copy.0.get_mut("tile/0/000").unwrap()[40] ^= 1;
    assert!(matches!(found(&copy), Finding::Tile { entry: 1, .. }));
    // Changes an entry that only the journal has.
    let mut copy = whole.clone();
    let journal = copy.0.get_mut(&journal::path(0)).unwrap();
    let at = journal.windows(8).position(|bytes| bytes == b"test-290").unwrap();
    journal[at + 5] ^= 1;
    assert!(matches!(found(&copy), Finding::Journal { .. }));
    let mut copy = whole;
    copy.0.remove(&journal::path(0)).unwrap();
    assert_eq!(found(&copy), Finding::Missing { path: "tile/entries/001.p/44".to_owned(), entry: 256 });
}
