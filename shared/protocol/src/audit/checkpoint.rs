//! Checkpoints (C2SP tlog-checkpoint): a log's name, size and root, as a signed note.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::earlier::History;
use crate::merkle::Hash;
use crate::note::{NoteError, NoteSigner, NoteVerifier, verify_note};

/// The state of a log, which the log signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, which is the name of its key.
    pub origin: String,
    /// Entries in it.
    pub size: u64,
    /// The RFC 6962 root over the entries.
    pub root: Hash,
}

/// Reasons to refuse a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no note, or not signed by this key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note is no checkpoint.
    #[error("the note is signed by the log's key, and is not a checkpoint")]
    NotACheckpoint,
    /// It belongs to another log.
    #[error("the checkpoint is of another log than the key")]
    OtherLog,
}

impl Checkpoint {
    /// Returns the checkpoint as a note signed by the log's key.
    ///
    /// # Errors
    ///
    /// Fails if the note cannot be signed.
    pub fn sign(&self, signer: &NoteSigner) -> Result<String, CheckpointError> {
        self.sign_after(&History::default(), signer)
    }

    /// Returns the checkpoint as a signed note that also names earlier sizes of the log.
    ///
    /// # Errors
    ///
    /// Fails if the note cannot be signed.
    pub fn sign_after(&self, earlier: &History, signer: &NoteSigner) -> Result<String, CheckpointError> {
        let (root, earlier) = (BASE64.encode(self.root), earlier.lines());
        Ok(signer.sign_note(&format!("{}\n{}\n{root}\n{earlier}", self.origin, self.size))?)
    }

    /// Returns the earlier sizes that a note names, after checking its signature.
    ///
    /// # Errors
    ///
    /// Fails if the note is not signed by this key.
    pub fn earlier(note: &[u8], key: &NoteVerifier) -> Result<History, CheckpointError> {
        Ok(History::parse(verify_note(note, std::slice::from_ref(key))?))
    }

    /// Checks a note's signature and reads the checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if the note is not signed by this key, is no checkpoint, or belongs to another log.
    pub fn verify(note: &[u8], key: &NoteVerifier) -> Result<Self, CheckpointError> {
        let text = verify_note(note, std::slice::from_ref(key))?;
        let checkpoint = Self::parse(text).ok_or(CheckpointError::NotACheckpoint)?;
        if checkpoint.origin == key.name() { Ok(checkpoint) } else { Err(CheckpointError::OtherLog) }
    }

    /// Reads a note without checking its signature, so its content is not proven.
    pub fn unverified(note: &[u8]) -> Option<Self> {
        Self::unverified_after(note).map(|(checkpoint, _)| checkpoint)
    }

    /// Does the same as [`Self::unverified`] and also returns the earlier sizes.
    pub fn unverified_after(note: &[u8]) -> Option<(Self, History)> {
        let (text, _signatures) = std::str::from_utf8(note).ok()?.split_once("\n\n")?;
        Some((Self::parse(text)?, History::parse(text)))
    }

    /// Only three lines are read here. Later lines name earlier sizes or belong to later versions.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if origin.is_empty() || lines.any(str::is_empty) {
            return None;
        }
        let number: u64 = size.parse().ok()?;
        let root: Hash = BASE64.decode(root).ok()?.try_into().ok()?;
        (number.to_string() == size).then(|| Self { origin: origin.to_owned(), size: number, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(name: &str) -> NoteSigner {
        NoteSigner::new(name, &[3; 32]).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "shop.example/idc".to_owned(), size: 20_852_163, root: [9; 32] }
    }

    #[test]
    fn a_checkpoint_is_three_lines_and_is_read_back_under_its_key() {
        let signer = signer("shop.example/idc");
        let note = checkpoint().sign(&signer).unwrap();
        let start =
            "shop.example/idc\n20852163\nCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n\n\u{2014} shop";
        assert!(note.starts_with(start), "{note}");
        assert_eq!(Checkpoint::verify(note.as_bytes(), signer.verifier()), Ok(checkpoint()));
        let other = NoteSigner::new("shop.example/idc", &[4; 32]).unwrap();
        let refused = Checkpoint::verify(note.as_bytes(), other.verifier());
        assert_eq!(refused, Err(CheckpointError::Note(NoteError::UnknownSigner)));
    }

    #[test]
    fn signed_text_that_is_no_checkpoint_of_this_log_is_refused() {
        let signer = signer("shop.example/idc");
        let root = BASE64.encode([9; 32]);
        let texts = [
            format!("shop.example/idc\n01\n{root}\n"),
            format!("shop.example/idc\n-1\n{root}\n"),
            format!("shop.example/idc\n+1\n{root}\n"),
            format!("shop.example/idc\n1\n{}\n", &root[4..]),
            "shop.example/idc\n1\n".to_owned(),
            format!("\n1\n{root}\n"),
        ];
        for text in texts {
            let note = signer.sign_note(&text).unwrap();
            let refused = Checkpoint::verify(note.as_bytes(), signer.verifier());
            assert_eq!(refused, Err(CheckpointError::NotACheckpoint), "{text}");
        }
        let other = Checkpoint { origin: "shop.example/cloud".to_owned(), ..checkpoint() };
        let note = other.sign(&signer).unwrap();
        assert_eq!(Checkpoint::verify(note.as_bytes(), signer.verifier()), Err(CheckpointError::OtherLog));
        let later = signer.sign_note(&format!("shop.example/idc\n1\n{root}\nan extension\n")).unwrap();
        assert!(Checkpoint::verify(later.as_bytes(), signer.verifier()).is_ok());
    }
}
