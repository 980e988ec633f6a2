//! Secrets: read only from files or systemd credentials, and wiped when dropped.
//!
//! A [`Secret`] has no `Debug`, `Display` or `Serialize`, so a log line with one does not compile.
//! A message about a secret's file never repeats the configured text, because the user may have
//! pasted the secret itself there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::values::{BasePaths, Kind, Setting};
use crate::private::{self, NotPrivate};

/// Largest secret. Tokens, passwords and keys are smaller.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret's bytes. They are wiped on drop, so a secret is moved or borrowed, never cloned.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the bytes, for the one call that needs them. Compare them in constant time.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// An existing file with a secret that nobody else can read (see [`private`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// Returns the path, for code that reads the file itself.
    pub fn into_path(self) -> PathBuf {
        self.0
    }
}

impl Setting for SecretFile {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "the path of a file that nobody else can read, or \"credential:NAME\"";

    fn placeholder() -> Self {
        Self(PathBuf::new())
    }

    fn parse(text: &str, place: &BasePaths) -> Result<Self, String> {
        let path = locate(text, place)?;
        open_private(&path, place)?;
        Ok(Self(path))
    }
}

/// Reads the secret together with the configuration. A line end after it is removed.
impl Setting for Secret {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = SecretFile::EXPECTED;

    fn placeholder() -> Self {
        Self::new(Vec::new())
    }

    fn parse(text: &str, place: &BasePaths) -> Result<Self, String> {
        let file = open_private(&locate(text, place)?, place)?;
        // All memory is reserved first: a growing vector leaves copies that are not wiped.
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(usize::try_from(SECRET_BYTES_MAX + 1).unwrap_or(0)));
        file.take(SECRET_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot be read: {error}"))?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(format!(
                "names a file of more than {SECRET_BYTES_MAX} bytes, which is no secret of ours"
            ));
        }
        let length = bytes.trim_ascii_end().len();
        bytes.truncate(length);
        if bytes.is_empty() {
            return Err("names an empty file: write the secret into it".to_owned());
        }
        Ok(Self(bytes))
    }
}

/// Returns the file of a path or a systemd credential (systemd.exec(5), `LoadCredential=`).
fn locate(text: &str, place: &BasePaths) -> Result<PathBuf, String> {
    let Some(name) = text.strip_prefix("credential:") else { return place.resolve(text) };
    if name.is_empty() || name.contains('/') {
        return Err("must name a credential without any \"/\" after \"credential:\"".to_owned());
    }
    let folder = place.credentials.as_ref().ok_or(
        "names a systemd credential, but CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit",
    )?;
    Ok(folder.join(name))
}

fn open_private(path: &Path, place: &BasePaths) -> Result<File, String> {
    let credentials = place.credentials.as_ref().map(|folder| folder.as_os_str());
    private::open_beside(path, credentials).map_err(|error| match error {
        NotPrivate::NotAFile => "must name a regular file".to_owned(),
        error => format!("names a file that {error}"),
    })
}
