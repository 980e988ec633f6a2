//! Signed notes (C2SP signed-note): a text, a blank line, and lines with Ed25519 signatures.
//!
//! A verifier key is one line of text, `<name>+<key id>+<base64>`, which a configuration can pin.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use sha2::{Digest, Sha256};

/// The algorithm byte of Ed25519 in C2SP signed-note.
const ED25519: u8 = 0x01;
const SIGNATURE_LINE: &str = "\u{2014} ";

/// Signs notes and receipts. The private key never leaves it. There is no `Debug`.
pub struct NoteSigner {
    key: ed25519_dalek::SigningKey,
    verifier: NoteVerifier,
}

/// Verifies the signatures of one signer.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteVerifier {
    name: String,
    key: VerifyingKey,
    id: [u8; 4],
}

/// Reasons to refuse a note or a verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The key's name is empty, too long, or has a space or a plus sign.
    #[error("a key's name has 1 to 100 characters without spaces and plus signs")]
    Name,
    /// The text is not `<name>+<8 hex digits>+<base64>`, or the id does not belong to the key.
    #[error("not a verifier key: expected the line that `bridge-idc keys show` or `audit key` prints")]
    NotAVerifierKey,
    /// The bytes are not a note.
    #[error("not a signed note")]
    NotANote,
    /// The note has no signature by a known key.
    #[error("the note is not signed by a key that is pinned here")]
    UnknownSigner,
    /// A known key's signature does not fit the text.
    #[error("the note's signature does not fit its text")]
    BadSignature,
}

impl NoteSigner {
    /// Makes a signer from its name and the 32 secret bytes of an Ed25519 key (RFC 8032).
    ///
    /// # Errors
    ///
    /// Fails if the name is not allowed.
    pub fn new(name: &str, secret: &[u8; 32]) -> Result<Self, NoteError> {
        let key = ed25519_dalek::SigningKey::from_bytes(secret);
        let verifier = NoteVerifier::new(name, key.verifying_key())?;
        Ok(Self { key, verifier })
    }

    /// Returns the verifier of this signer's signatures.
    pub fn verifier(&self) -> &NoteVerifier {
        &self.verifier
    }

    /// Returns the text as a note signed by this key.
    ///
    /// # Errors
    ///
    /// Fails if the text does not end with a line feed.
    pub fn sign_note(&self, text: &str) -> Result<String, NoteError> {
        if !text.ends_with('\n') {
            return Err(NoteError::NotANote);
        }
        let mut bytes = self.verifier.id.to_vec();
        bytes.extend_from_slice(&self.sign(text.as_bytes()));
        Ok(format!("{text}\n{SIGNATURE_LINE}{} {}\n", self.verifier.name, BASE64.encode(bytes)))
    }

    /// Returns a bare signature. The message must state its purpose, so that a signature cannot
    /// serve for another one.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl NoteVerifier {
    fn new(name: &str, key: VerifyingKey) -> Result<Self, NoteError> {
        if !(1..=100).contains(&name.len()) || name.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err(NoteError::Name);
        }
        let digest = Sha256::new()
            .chain_update(name)
            .chain_update([b'\n', ED25519])
            .chain_update(key.as_bytes())
            .finalize();
        let id = [digest[0], digest[1], digest[2], digest[3]];
        Ok(Self { name: name.to_owned(), key, id })
    }

    /// Reads the line that [`fmt::Display`] writes.
    ///
    /// # Errors
    ///
    /// Fails if the line is not a verifier key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim_ascii().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::NotAVerifierKey);
        };
        let bytes = BASE64.decode(key).map_err(|_| NoteError::NotAVerifierKey)?;
        let key = match bytes.split_first() {
            Some((&ED25519, key)) => VerifyingKey::try_from(key).map_err(|_| NoteError::NotAVerifierKey)?,
            _ => return Err(NoteError::NotAVerifierKey),
        };
        let verifier = Self::new(name, key)?;
        if verifier.to_string() == format!("{name}+{id}+{}", BASE64.encode(&bytes)) {
            Ok(verifier)
        } else {
            Err(NoteError::NotAVerifierKey)
        }
    }

    /// Returns the key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key's id, which is part of the verifier key: the first four bytes of a hash of
    /// the name and the key.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// Checks a bare signature by this key.
    ///
    /// # Errors
    ///
    /// Fails if the signature does not fit the message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        let signature = Signature::from_slice(signature).map_err(|_| NoteError::BadSignature)?;
        self.key.verify_strict(message, &signature).map_err(|_| NoteError::BadSignature)
    }
}

/// Writes the verifier key in the form of C2SP.
impl fmt::Display for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.id;
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(self.key.as_bytes());
        write!(f, "{}+{a:02x}{b:02x}{c:02x}{d:02x}+{}", self.name, BASE64.encode(bytes))
    }
}

impl fmt::Debug for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the text of a note that at least one of the verifiers signed. Every signature by a known
/// key must be good.
///
/// # Errors
///
/// Fails if the bytes are no note, if no known key signed it, or if a known key's signature is bad.
pub fn verify_note<'note>(note: &'note [u8], verifiers: &[NoteVerifier]) -> Result<&'note str, NoteError> {
    let note = std::str::from_utf8(note).map_err(|_| NoteError::NotANote)?;
    let split = note.rfind("\n\n").ok_or(NoteError::NotANote)? + 1;
    let (text, signatures) = note.split_at(split);
    let signatures =
        signatures.strip_prefix('\n').filter(|lines| lines.ends_with('\n')).ok_or(NoteError::NotANote)?;
    let mut known = false;
    for line in signatures.lines() {
        let (name, encoded) = line
            .strip_prefix(SIGNATURE_LINE)
            .and_then(|rest| rest.split_once(' '))
            .ok_or(NoteError::NotANote)?;
        let bytes = BASE64.decode(encoded).map_err(|_| NoteError::NotANote)?;
        let (id, signature) = bytes.split_first_chunk::<4>().ok_or(NoteError::NotANote)?;
        if let Some(verifier) = verifiers.iter().find(|v| v.name == name && v.id == *id) {
            verifier.verify(text.as_bytes(), signature)?;
            known = true;
        }
    }
    if known { Ok(text) } else { Err(NoteError::UnknownSigner) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8) -> NoteSigner {
        NoteSigner::new("idc.example/keys", &[seed; 32]).unwrap()
    }

    #[test]
    fn a_note_is_read_back_by_its_verifier_alone() {
        let note = signer(1).sign_note("a text\nof two lines\n").unwrap();
        let verifiers = [signer(1).verifier().clone()];
        assert_eq!(verify_note(note.as_bytes(), &verifiers), Ok("a text\nof two lines\n"));
        let others = [signer(2).verifier().clone()];
        assert_eq!(verify_note(note.as_bytes(), &others), Err(NoteError::UnknownSigner));
    }

    #[test]
    fn no_single_bit_of_a_note_can_be_changed() {
        let note = signer(1).sign_note("bridge sealing keys v1\n").unwrap().into_bytes();
        let verifiers = [signer(1).verifier().clone()];
        for bit in 0..note.len() * 8 {
            let mut changed = note.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_note(&changed, &verifiers).is_err(), "bit {bit} can be changed");
        }
    }

    #[test]
    fn a_verifier_key_is_parsed_back_and_every_typing_error_found() {
        let line = signer(1).verifier().to_string();
        assert_eq!(NoteVerifier::parse(&line).unwrap(), *signer(1).verifier());
        assert_eq!(format!("{:?}", signer(1).verifier()), line);
        // White space around the line is allowed, as in a file. Other characters that look like
        // spaces are refused.
        assert_eq!(NoteVerifier::parse(&format!(" {line}\r\n")).unwrap(), *signer(1).verifier());
        assert!(
            ["\u{b}", "\u{a0}"].iter().all(|sign| NoteVerifier::parse(&format!("{line}{sign}")).is_err())
        );
        for at in 0..line.len() {
            let mut typo = line.clone().into_bytes();
            typo[at] = if typo[at] == b'x' { b'y' } else { b'x' };
            let typo = String::from_utf8(typo).unwrap();
            assert!(NoteVerifier::parse(&typo).is_err(), "{typo}");
        }
    }
}
