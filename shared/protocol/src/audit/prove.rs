//! Proofs that one entry is in a log (C2SP tlog-proof): the entry, its index, its path and the
//! checkpoint.
//!
//! A proof is one file. The log's verifier key is enough to check it. The entry is in its `extra`
//! line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::finding::{Finding, Unverified};
use super::folder::{self, CHECKPOINT, Folder};
use super::tile::FULL;
use super::tree;
use crate::merkle::{Hash, leaf_hash};
use crate::note::NoteVerifier;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Most siblings of a proof: one for each bit of a size.
const PATH_MAX: usize = 64;

/// The facts that a proof proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The entry's bytes.
    pub entry: Vec<u8>,
    /// Index of the entry.
    pub index: u64,
    /// Checkpoint that covers it.
    pub checkpoint: Checkpoint,
}

/// Reasons why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It does not have the form of a proof.
    #[error("not a proof: expected the form of c2sp.org/tlog-proof, with the entry in its extra line")]
    Malformed,
    /// Its checkpoint does not verify under the log's key.
    #[error("the proof's checkpoint proves nothing: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the entry to the root.
    #[error("the entry is not in the log: its path does not lead to the root that is signed")]
    NotIncluded,
}

/// Returns a proof that the log's checkpoint covers the entry at `index`, or `None` if it does not
/// cover it.
///
/// # Errors
///
/// Fails if the checkpoint does not verify, or a file is missing or damaged.
pub fn prove<F: Folder>(folder: &F, key: &NoteVerifier, index: u64) -> Result<Option<String>, Unverified> {
    let checkpoint = folder::checkpoint(folder, key)?;
    let size = checkpoint.size;
    if index >= size {
        return Ok(None);
    }
    let note = folder.read(CHECKPOINT)?.and_then(|note| String::from_utf8(note).ok());
    let note = note.ok_or(Finding::NoCheckpoint)?;
    let bundle = folder::bundle(folder, size, index / FULL)?;
    let entry = usize::try_from(index % FULL).ok().and_then(|at| bundle.get(at));
    let entry = entry.ok_or(Finding::CutOff { entry: index })?;
    let path = tree::inclusion(&folder::nodes(folder, size), index, size).map_err(folder::of_node)?;
    if !tree::is_included(leaf_hash(entry), index, size, &path, &checkpoint.root) {
        return Err(Finding::Changed { entry: index }.into());
    }
    let hashes: String = path.iter().map(|hash| BASE64.encode(hash) + "\n").collect();
    Ok(Some(format!("{FIRST_LINE}\nextra {}\nindex {index}\n{hashes}\n{note}", BASE64.encode(entry))))
}

/// Checks a proof under the log's key.
///
/// # Errors
///
/// Fails if the proof is malformed, its checkpoint does not verify, or its path does not lead to
/// the root.
pub fn check(proof: &str, key: &NoteVerifier) -> Result<Proven, ProofError> {
    let (head, note) = proof.split_once("\n\n").ok_or(ProofError::Malformed)?;
    let (index, entry, path) = read(head).ok_or(ProofError::Malformed)?;
    let checkpoint = Checkpoint::verify(note.as_bytes(), key)?;
    if tree::is_included(leaf_hash(&entry), index, checkpoint.size, &path, &checkpoint.root) {
        Ok(Proven { entry, index, checkpoint })
    } else {
        Err(ProofError::NotIncluded)
    }
}

fn read(head: &str) -> Option<(u64, Vec<u8>, Vec<Hash>)> {
    let mut lines = head.split('\n');
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let entry = BASE64.decode(lines.next()?.strip_prefix("extra ")?).ok()?;
    let text = lines.next()?.strip_prefix("index ")?;
    let index: u64 = text.parse().ok()?;
    let path: Option<Vec<Hash>> = lines.map(|line| BASE64.decode(line).ok()?.try_into().ok()).collect();
    let path = path.filter(|path| path.len() <= PATH_MAX && index.to_string() == text)?;
    Some((index, entry, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::entry::tests::some;
    use crate::audit::verify::tests::{log_of, signer};
    use crate::note::NoteSigner;

    fn entries() -> Vec<Vec<u8>> {
        some().iter().cycle().take(300).map(|entry| entry.encode().unwrap()).collect()
    }

    #[test]
    fn every_entry_s_proof_is_accepted_and_names_it() {
        let (entries, signer) = (entries(), signer());
        for size in [1, 256, 300] {
            let log = log_of(&entries[..size], &[size as u64], u64::MAX);
            for (index, entry) in (0..).zip(&entries[..size]) {
                let proof = prove(&log, signer.verifier(), index).unwrap().unwrap();
                let proven = check(&proof, signer.verifier()).unwrap();
                assert_eq!(
                    (&proven.entry, proven.index, proven.checkpoint.size),
                    (entry, index, size as u64)
                );
            }
            assert_eq!(prove(&log, signer.verifier(), size as u64), Ok(None));
        }
    }

    #[test]
    fn no_single_bit_of_a_proof_can_be_changed() {
        let (entries, signer) = (entries(), signer());
        let proof = prove(&log_of(&entries, &[300], u64::MAX), signer.verifier(), 258).unwrap().unwrap();
        for bit in 0..proof.len() * 8 {
            let mut changed = proof.clone().into_bytes();
            changed[bit / 8] ^= 1 << (bit % 8);
            let refused = String::from_utf8(changed).map(|changed| check(&changed, signer.verifier()));
            assert!(!matches!(refused, Ok(Ok(_))), "bit {bit} can be changed");
        }
        let other = NoteSigner::new("shop.example/cloud", &[5; 32]).unwrap();
        assert!(matches!(check(&proof, other.verifier()), Err(ProofError::Checkpoint(_))));
    }
}
