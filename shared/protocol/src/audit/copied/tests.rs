//! Tests of copies whose checkpoint is newer than their other files, and of folders whose end was
//! cut off.

use super::*;
use crate::audit::verify::tests::{Memory, entry, log_of, signer};
use crate::audit::verify::{Verified, verify, verify_copied, verify_covered, verify_growing};

const PUBLISHED: [u64; 3] = [300, 512, 700];

fn entries() -> Vec<Vec<u8>> {
    (0..700).map(entry).collect()
}

/// Returns a copy of a log at `size` entries, with the checkpoint of 700 entries. The journal
/// begins at `kept_from`, or is empty if that is beyond the size.
fn checkpoint_last(size: u64, kept_from: u64) -> Memory {
    let mut copy = log_of(&entries()[..usize::try_from(size).unwrap()], &PUBLISHED, kept_from);
    let later = log_of(&entries(), &PUBLISHED, u64::MAX);
    copy.0.insert("checkpoint".to_owned(), later.0["checkpoint"].clone());
    copy
}

fn copied(copy: &Memory, seen: Option<u64>) -> Result<Verified, Finding> {
    let note = |size| log_of(&entries(), &[size], u64::MAX).0["checkpoint"].clone();
    let seen = seen.map(note);
    verify_copied(copy, signer().verifier(), seen.as_deref())
        .map_err(|error| error.finding().unwrap().clone())
}

#[test]
fn a_copy_that_ends_early_is_verified_up_to_an_earlier_checkpoint() {
    for (size, kept_from, covered) in
        [(300, 0, 300), (301, 256, 300), (511, 0, 300), (512, 512, 512), (699, 512, 512), (600, 0, 512)]
    {
        let verified = copied(&checkpoint_last(size, kept_from), None).unwrap();
        assert_eq!(
            (verified.checkpoint.size, verified.ends_before, verified.in_flight),
            (covered, Some(700), true),
            "{size} {kept_from}"
        );
        assert_eq!(copied(&checkpoint_last(size, kept_from), Some(300)), Ok(verified));
    }
    let whole = copied(&checkpoint_last(700, 0), None).unwrap();
    assert_eq!((whole.checkpoint.size, whole.ends_before), (700, None));
}

#[test]
fn a_missing_end_alarms_where_it_was_seen_or_nothing_was_written() {
    let missing = |entry: u64, file: &str| Finding::Missing { path: format!("tile/entries/{file}"), entry };
    let copy = checkpoint_last(699, 512);
    assert_eq!(copied(&copy, Some(700)), Err(missing(512, "002.p/188")), "the copy had all entries before");
    assert_eq!(copied(&checkpoint_last(300, 0), Some(512)), Err(missing(256, "001")));
    // The agent's own folder is no copy, so it must be whole.
    for verified in [
        verify(&copy, signer().verifier(), None),
        verify_growing(&copy, signer().verifier(), None),
        verify_covered(&copy, signer().verifier(), None),
    ] {
        assert_eq!(verified.unwrap_err().finding(), Some(&missing(512, "002.p/188")));
    }
    // A folder without a journal was not written while it was copied.
    let mut of_one_moment = checkpoint_last(512, u64::MAX);
    assert_eq!(copied(&of_one_moment, None), Err(missing(512, "002.p/188")));
    of_one_moment.0.remove("tile/entries/001").unwrap();
    assert_eq!(copied(&of_one_moment, None), Err(missing(256, "001")));
}

#[test]
fn a_gap_or_change_is_found_in_a_copy_that_ends_early() {
    for gone in ["tile/entries/000", "tile/0/000"] {
        let mut copy = checkpoint_last(512, 512);
        copy.0.remove(gone).unwrap();
        assert_eq!(copied(&copy, None), Err(Finding::Missing { path: gone.to_owned(), entry: 0 }));
    }
    let mut copy = checkpoint_last(512, 512);
    copy.0.get_mut("tile/entries/001").unwrap()[30] ^= 1;
    assert_eq!(copied(&copy, None), Err(Finding::Changed { entry: 256 }));
    copy.0.get_mut("tile/0/001").unwrap()[0] ^= 1;
    assert!(copied(&copy, None).is_err());
    // The end was cut off and the part before it was replaced, so there are two histories.
    let mut others = entries();
    others[100] = entry(9_999);
    let mut forged = log_of(&others[..600], &PUBLISHED, 512);
    forged.0.insert("checkpoint".to_owned(), copy.0["checkpoint"].clone());
    assert!(matches!(copied(&forged, None), Err(Finding::Root { .. })));
}

#[test]
fn a_copy_without_an_earlier_checkpoint_raises_no_alarm() {
    let mut copy = checkpoint_last(600, 512);
    // An earlier version's checkpoint does not name earlier sizes.
    let note =
        Checkpoint::verify(&copy.0["checkpoint"], signer().verifier()).unwrap().sign(&signer()).unwrap();
    copy.0.insert("checkpoint".to_owned(), note.into_bytes());
    assert_eq!(copied(&copy, None), Err(Finding::EndsEarly { entry: 512, size: 700 }));
    assert!(matches!(copied(&copy, Some(300)), Err(Finding::Missing { entry: 512, .. })));
    // The copy ends before the first size that the checkpoint names.
    assert_eq!(copied(&checkpoint_last(200, 0), None), Err(Finding::EndsEarly { entry: 0, size: 700 }));
}

#[test]
fn a_copy_read_without_a_key_yields_what_verify_covers() {
    for (size, kept_from) in [(300, 0), (301, 256), (511, 0), (512, 512), (699, 512), (600, 0), (700, 0)] {
        let copy = checkpoint_last(size, kept_from);
        let (verified, whole) = (copied(&copy, None).unwrap(), CoveredPart::unverified(&copy).unwrap());
        assert_eq!((whole.checkpoint(), whole.ends_before()), (&verified.checkpoint, verified.ends_before));
        for from in [0, 1, 255, 256, 290] {
            let mut read = Vec::new();
            let next = whole.entries(from, |index, entry| {
                assert_eq!(index, from + read.len() as u64);
                read.push(entry.to_vec());
            });
            let end = verified.checkpoint.size;
            assert_eq!(next, Ok(end), "{size} {kept_from}");
            assert_eq!(read, entries()[from as usize..end as usize]);
        }
    }
    let nothing = CoveredPart::unverified(&checkpoint_last(200, 0)).map(drop);
    assert_eq!(nothing, Err(Finding::EndsEarly { entry: 0, size: 700 }.into()));
}
