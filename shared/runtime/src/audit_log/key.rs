//! The log's signing key: one file, made at the first start, readable by its owner only.
//!
//! The file has the name beside the secret, so that a log keeps its name when its agent is renamed.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bridge_protocol::note::{NoteError, NoteSigner};
use zeroize::Zeroizing;

use crate::beside::{self, Beside};
use crate::folder;
use crate::private::{self, NotPrivate};
use crate::whole_file::{Synced, WholeFile};

/// Limit of the file's size: its first line, a name of at most 100 characters, 64 digits.
const FILE_BYTES: usize = 1_024;

/// First line of the file.
const FIRST_LINE: &str = "bridge audit key v1";

/// Reasons why the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("the audit log's key {}: {cause}", path.display())]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Others can read the file.
    #[error("the audit log's key {} {error}", path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
        /// The reason, and the remedy.
        error: NotPrivate,
    },
    /// The file is not a key.
    #[error("{} is not an audit log's key: restore it from a backup; with a new one the log cannot be gone on with", .0.display())]
    NotAKey(PathBuf),
    /// The name is not allowed for a key.
    #[error("audit.origin: {0}")]
    Name(NoteError),
    /// Another key uses the same files beside it.
    #[error(
        "the audit log's key {} shares the files beside it, such as {}, with {}: rename one of the two keys", key.display(),
        Beside::Seen.of(key).display(), other.display()
    )]
    Shares {
        /// Path of the file.
        key: PathBuf,
        /// Path of the other key.
        other: PathBuf,
    },
}

/// Refuses a key if another one has files of the same names beside it, such as `log` beside
/// `log.key`.
pub(super) fn check_is_alone(key_file: &Path) -> Result<(), KeyError> {
    let other = beside::shared_with(key_file);
    let is_a_key = private::open(&other).is_ok_and(|mut file| {
        let mut first = [0; FIRST_LINE.len()];
        file.read_exact(&mut first).is_ok() && first == FIRST_LINE.as_bytes()
    });
    if is_a_key { Err(KeyError::Shares { key: key_file.to_owned(), other }) } else { Ok(()) }
}

/// Reads the key.
///
/// # Errors
///
/// Fails if the file cannot be read, is readable by others, or is not a key.
pub fn load(path: &Path) -> Result<NoteSigner, KeyError> {
    let io = |cause| KeyError::Io { path: path.to_owned(), cause };
    let mut file = private::open(path).map_err(|error| match error {
        NotPrivate::Unreadable(cause) => io(cause),
        error => KeyError::Exposed { path: path.to_owned(), error },
    })?;
    // All memory is reserved first: a growing text leaves copies that are not wiped.
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES));
    file.read_to_string(&mut text).map_err(io)?;
    read(&text).ok_or_else(|| KeyError::NotAKey(path.to_owned()))
}

/// Reads the key, or makes one of this name.
pub(super) fn load_or_make(path: &Path, name: &str) -> Result<NoteSigner, KeyError> {
    match load(path) {
        Err(KeyError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
            let signer = make(path, name)?;
            tracing::info!(path = %path.display(), key = %signer.verifier(), "made the audit log's key: give auditors the verifier key");
            Ok(signer)
        }
        loaded => loaded,
    }
}

fn make(path: &Path, name: &str) -> Result<NoteSigner, KeyError> {
    let io = |cause| KeyError::Io { path: path.to_owned(), cause };
    let secret = Zeroizing::new(rand::random::<[u8; 32]>());
    let signer = NoteSigner::new(name, &secret).map_err(KeyError::Name)?;
    let hex: Zeroizing<String> = Zeroizing::new(secret.iter().map(|byte| format!("{byte:02x}")).collect());
    let text = Zeroizing::new(format!("{FIRST_LINE}\n{name}\n{}\n", *hex));
    fs::create_dir_all(folder::of(path)).map_err(io)?;
    let whole = WholeFile {
        unfinished: &Beside::Unfinished.of(path),
        mode: 0o600,
        synced: Synced::All,
        syncs_folder: true,
        removes_unfinished: false,
    };
    whole.replace(path, |file| file.write_all(text.as_bytes())).map_err(io)?;
    Ok(signer)
}

fn read(text: &str) -> Option<NoteSigner> {
    let mut lines = text.lines();
    let (first, name, hex) = (lines.next()?, lines.next()?, lines.next()?);
    if first != FIRST_LINE || hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut secret = Zeroizing::new([0; 32]);
    for (byte, pair) in secret.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    NoteSigner::new(name, &secret).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_keys_whose_files_would_share_a_name_each_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let key = |name: &str| dir.path().join(name);
        make(&key("log"), "a").unwrap();
        assert!(check_is_alone(&key("log")).is_ok() && check_is_alone(&key("log.idc")).is_ok());
        make(&key("log.key"), "b").unwrap();
        for (name, other) in [("log", "log.key"), ("log.key", "log")] {
            let said = check_is_alone(&key(name)).unwrap_err().to_string();
            assert!(said.contains("log.seen") && said.contains(other), "{said}");
        }
        fs::write(key("log"), "notes of somebody\n").unwrap();
        assert!(check_is_alone(&key("log.key")).is_ok(), "a file that is no key is refused");
    }
}
