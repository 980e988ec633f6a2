//! Secrets: read from files or systemd credentials only, wiped when dropped.
//!
//! A [`Secret`] has neither `Debug`, `Display` nor `Serialize`: it does not compile into a log line. A message about a
//! secret's file never repeats what the configuration says, because somebody may have pasted the secret itself there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::values::{BasePaths, Kind, Setting};
use crate::private::{self, NotPrivate};

/// No token, password or key of ours is longer.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A secret's bytes. They are wiped on drop, so it is moved or borrowed, never cloned.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves, for the one call that needs them. Compare them in constant time.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// A file that holds a secret: it exists, and nobody else can read it (see [`private`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// The file, for what reads it itself (and again when it changes).
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

/// A secret is read when the configuration is; a line end after it does not belong to it.
impl Setting for Secret {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = SecretFile::EXPECTED;

    fn placeholder() -> Self {
        Self::new(Vec::new())
    }

    fn parse(text: &str, place: &BasePaths) -> Result<Self, String> {
        let file = open_private(&locate(text, place)?, place)?;
        // Room for all of it beforehand: a vector that grows leaves copies behind which nobody wipes.
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

/// The file behind a path or a systemd credential (systemd.exec(5), `LoadCredential=`).
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
