//! The IDC's keys: one folder with one file for each key. Only the owner can read a file, and no
//! file is ever overwritten.
//!
//! ```text
//! signing.key        Ed25519: signs manifests and receipts; the cloud pins its verifier key
//! sealing-N.key      X-Wing: opens sealed orders; valid for a limited time
//! kek-N.key          wraps the data keys of personal data; the newest one wraps, all unwrap
//! fingerprint.key    HMAC: detects an idempotency key that comes again with another request body
//! ```
//!
//! A file is a few lines of `name: value`. The folder may be a systemd credentials directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_protocol::domain::{Brand, UnixMicros};
use bridge_protocol::note::{NoteSigner, NoteVerifier};
use bridge_protocol::seal::manifest::{Manifest, Validity};
use bridge_protocol::seal::opening::OpeningKey;
use bridge_runtime::folder;
use bridge_runtime::private::{self, NotPrivate};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::Rng;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{KeyCheck, Secret, derived};

/// Days for which a new sealing key is valid.
pub const SEALING_DAYS: u32 = 90;

/// A new sealing key is valid from this long before its creation, because the clocks of two agents
/// may differ.
const BACKDATED: Duration = Duration::from_secs(300);

const DAY: Duration = Duration::from_secs(86_400);

/// All keys of one IDC. Its `Debug` output shows none of them.
pub struct Keyring {
    signer: NoteSigner,
    /// Secrets and validities of the sealing keys, the newest first.
    sealing: Vec<(Secret, Validity)>,
    /// Key-encryption keys by version; at least one.
    encryption: BTreeMap<i32, Secret>,
    fingerprint: Secret,
    /// Key of the customers' tags, derived from `fingerprint`.
    customers: Secret,
}

/// A fault of the keys. It names files and shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A file cannot be read or written.
    #[error("cannot {verb} {path}: {source}")]
    Io {
        /// The operation that failed.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users can read the file.
    #[error("{path} {error}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// The fault, and the remedy.
        error: NotPrivate,
    },
    /// The file is not a key of the expected kind.
    #[error("{path} is not a {kind} key: {what}; restore it from its backup")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The expected kind.
        kind: &'static str,
        /// The fault in its content.
        what: &'static str,
    },
    /// There is no folder.
    #[error(
        "there is no folder {0}: run `bridge-idc keys init --dir {0}` once for a new data centre, or restore the folder"
    )]
    NoFolder(PathBuf),
    /// A kind of key is missing.
    #[error(
        "{dir} holds no {kind} key: run `bridge-idc keys init --dir {dir}` once for a new data centre, or restore the folder"
    )]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// The missing kind.
        kind: &'static str,
    },
    /// A key file exists already.
    #[error("{0} exists: keys are never overwritten, because the data that they protect would be lost")]
    Exists(PathBuf),
    /// A key differs from the one in use, and this key cannot change while the agent runs.
    #[error(
        "{0} has changed, and receipts and repeated requests depend on it. Restore it from its backup, or restart the agent if the change is intended"
    )]
    Changed(PathBuf),
    /// The name for the signing key is not valid.
    #[error(
        "{0:?} is not a valid name for a signing key: use 1 to 100 characters without spaces and plus signs"
    )]
    Name(String),
}

/// Creates all keys of a new data centre in `dir`. The signing key gets the name `name`.
///
/// # Errors
///
/// Fails if the folder has a key already, if the name is not valid, or if a file cannot be written.
pub fn init(dir: &Path, name: &str, now: UnixMicros, random: &mut impl Rng) -> Result<(), KeyringError> {
    NoteSigner::new(name, &[0; 32]).map_err(|_| KeyringError::Name(name.to_owned()))?;
    fs::create_dir_all(dir).map_err(|source| io_error("create", dir, source))?;
    let present = key_files(dir)?;
    if let Some(path) = present.into_iter().next() {
        return Err(KeyringError::Exists(path));
    }
    write_key(&dir.join("signing.key"), "signing", &[("name", name.to_owned())], random)?;
    write_key(&dir.join("fingerprint.key"), "fingerprint", &[], random)?;
    add_sealing(dir, now, SEALING_DAYS, random)?;
    add_encryption(dir, random)?;
    Ok(())
}

/// Adds a sealing key. The cloud prefers it once every agent of the data centre has it. Earlier
/// sealing keys stay until they expire.
///
/// # Errors
///
/// Fails if the folder cannot be read or the file cannot be written.
pub fn add_sealing(
    dir: &Path,
    now: UnixMicros,
    days: u32,
    random: &mut impl Rng,
) -> Result<PathBuf, KeyringError> {
    let from = UnixMicros::new(now.get() - i64::try_from(BACKDATED.as_micros()).unwrap_or(0));
    let validity =
        [("not_before", from.get().to_string()), ("not_after", now.plus(DAY * days).get().to_string())];
    let path = next_path(dir, "sealing")?;
    write_key(&path, "sealing", &validity, random)?;
    Ok(path)
}

/// Adds a key-encryption key for new orders. Earlier ones must stay, because they unwrap the data
/// keys of earlier orders.
///
/// # Errors
///
/// Fails if the folder cannot be read or the file cannot be written.
pub fn add_encryption(dir: &Path, random: &mut impl Rng) -> Result<PathBuf, KeyringError> {
    let path = next_path(dir, "kek")?;
    write_key(&path, "key-encryption", &[], random)?;
    Ok(path)
}

impl Keyring {
    /// Reads all keys in `dir`.
    ///
    /// # Errors
    ///
    /// Fails if a kind of key is missing, or if a file cannot be read, is not private or is
    /// malformed.
    pub fn load(dir: &Path) -> Result<Self, KeyringError> {
        let missing = |kind| KeyringError::Missing { dir: dir.to_owned(), kind };
        let (mut signer, mut fingerprint) = (None, None);
        let (mut sealing, mut encryption) = (BTreeMap::new(), BTreeMap::new());
        for path in key_files(dir)? {
            match Key::read(&path)? {
                Some(Key::Signing(key)) => signer = Some(*key),
                Some(Key::Fingerprint(secret)) => fingerprint = Some(secret),
                Some(Key::Sealing(number, secret, validity)) => {
                    sealing.insert(number, (secret, validity));
                }
                Some(Key::Encryption(version, secret)) => {
                    encryption.insert(version, secret);
                }
                None => {}
            }
        }
        if encryption.is_empty() {
            return Err(missing("key-encryption"));
        }
        if sealing.is_empty() {
            return Err(missing("sealing"));
        }
        let fingerprint = fingerprint.ok_or_else(|| missing("fingerprint"))?;
        Ok(Self {
            signer: signer.ok_or_else(|| missing("signing"))?,
            sealing: sealing.into_values().rev().collect(),
            encryption,
            customers: customers_key(&fingerprint),
            fingerprint,
        })
    }

    /// Returns all faults of the keys in `dir` at once. [`Self::load`] fails with one of them.
    pub fn faults(dir: &Path) -> Vec<KeyringError> {
        let files = match key_files(dir) {
            Ok(files) => files,
            Err(error) => return vec![error],
        };
        let kinds: BTreeSet<_> = files.iter().filter_map(|path| Key::kind_of(path)).collect();
        let missing = Key::KINDS.into_iter().filter(|kind| !kinds.contains(kind));
        let missing = missing.map(|kind| KeyringError::Missing { dir: dir.to_owned(), kind });
        files.iter().filter_map(|path| Key::read(path).err()).chain(missing).collect()
    }

    /// Returns the signer of manifests and receipts.
    pub fn signer(&self) -> &NoteSigner {
        &self.signer
    }

    /// Returns the verifier key, which the cloud agent pins.
    pub fn verifier(&self) -> &NoteVerifier {
        self.signer.verifier()
    }

    /// Returns the private sealing keys, for the opener.
    pub fn opening_keys(&self) -> Vec<OpeningKey> {
        self.sealing.iter().filter_map(|(secret, validity)| OpeningKey::new(secret, *validity).ok()).collect()
    }

    /// Returns the public sealing keys, the newest first.
    pub fn manifest(&self) -> Manifest {
        Manifest { keys: self.opening_keys().iter().map(OpeningKey::sealing_key).collect() }
    }

    /// Checks that these keys may replace those that the agent uses. Both are read from `dir`.
    ///
    /// # Errors
    ///
    /// Fails if the signing key or the fingerprint key differs.
    pub fn may_follow(&self, before: &Self, dir: &Path) -> Result<(), KeyringError> {
        if self.verifier() != before.verifier() {
            return Err(KeyringError::Changed(dir.join("signing.key")));
        }
        if self.fingerprint != before.fingerprint {
            return Err(KeyringError::Changed(dir.join("fingerprint.key")));
        }
        Ok(())
    }

    /// Returns the fingerprint of a request: HMAC-SHA256 over its parts, each with its length in
    /// front.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> [u8; 32] {
        keyed_hash(&self.fingerprint, parts)
    }

    /// Returns the tag of a customer of a brand: HMAC-SHA256 over brand and reference, with a key
    /// of its own. All agents on one ledger have the same key, so they count the same customer as
    /// one.
    pub fn customer_tag(&self, brand: &Brand, reference: &str) -> [u8; 32] {
        keyed_hash(&self.customers, &[brand.as_str().as_bytes(), reference.as_bytes()])
    }

    /// Returns the check values of the keys that all agents on one ledger must share.
    pub fn checks(&self) -> Vec<KeyCheck> {
        let fingerprint = KeyCheck::of("fingerprint".to_owned(), &self.fingerprint);
        let encryption =
            self.encryption.iter().map(|(version, key)| KeyCheck::of(format!("kek-{version}"), key));
        std::iter::once(fingerprint).chain(encryption).collect()
    }

    /// Returns the key-encryption key of a version.
    pub(super) fn encryption_key(&self, version: i32) -> Option<&Secret> {
        self.encryption.get(&version)
    }

    /// Returns the key-encryption key that wraps new data keys, with its version.
    pub(super) fn newest_encryption_key(&self) -> (i32, &Secret) {
        #[expect(clippy::expect_used, reason = "each keyring has at least one such key")]
        self.encryption.last_key_value().map(|(version, key)| (*version, key)).expect("at least one")
    }
}

/// Keys for tests, never for real orders.
#[cfg(any(test, feature = "testing"))]
impl Keyring {
    /// Returns a keyring that is derived from a seed, has no files and never expires.
    pub fn for_tests(seed: u8) -> Self {
        let forever = Validity { not_before: UnixMicros::new(0), not_after: UnixMicros::new(i64::MAX) };
        let secret = |number: u8| Secret::new([seed ^ (number << 5); 32]);
        #[expect(clippy::expect_used, reason = "the name is valid")]
        let signer = NoteSigner::new("idc.test", &secret(1)).expect("a good name");
        Self {
            signer,
            sealing: vec![(secret(2), forever)],
            encryption: BTreeMap::from([(1, secret(3))]),
            customers: customers_key(&secret(4)),
            fingerprint: secret(4),
        }
    }

    /// Returns the same keyring with these sealing keys, the newest first.
    pub fn with_sealing(mut self, keys: impl IntoIterator<Item = ([u8; 32], Validity)>) -> Self {
        self.sealing = keys.into_iter().map(|(secret, validity)| (Secret::new(secret), validity)).collect();
        self
    }
}

fn customers_key(fingerprint: &Secret) -> Secret {
    derived(fingerprint, b"bridge launch customer v1")
}

/// Returns HMAC-SHA256 over the parts, each with its length in front.
fn keyed_hash(key: &Secret, parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).expect("any length");
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

/// A key in its file.
enum Key {
    Signing(Box<NoteSigner>),
    Fingerprint(Secret),
    /// With its number.
    Sealing(u32, Secret, Validity),
    /// With its version.
    Encryption(i32, Secret),
}

impl Key {
    const KINDS: [&'static str; 4] = ["signing", "sealing", "key-encryption", "fingerprint"];

    /// Returns the kind of key that a file's name says, and `None` for another file.
    fn kind_of(path: &Path) -> Option<&'static str> {
        let name = path.file_stem()?.to_str()?;
        match name.split_once('-') {
            None => ["signing", "fingerprint"].into_iter().find(|kind| *kind == name),
            Some(("sealing", _)) => Some("sealing"),
            Some(("kek", _)) => Some("key-encryption"),
            Some(_) => None,
        }
    }

    /// Reads a key. Returns `None` for a file of another name.
    fn read(path: &Path) -> Result<Option<Self>, KeyringError> {
        let Some(kind) = Self::kind_of(path) else { return Ok(None) };
        let file = KeyFile::read(path, kind)?;
        Ok(Some(match kind {
            "signing" => {
                let signer = NoteSigner::new(&file.text("name")?, &file.secret);
                Self::Signing(Box::new(signer.map_err(|_| file.malformed("its name is not valid"))?))
            }
            "sealing" => {
                let validity =
                    Validity { not_before: file.time("not_before")?, not_after: file.time("not_after")? };
                OpeningKey::new(&file.secret, validity)
                    .map_err(|_| file.malformed("its secret is not valid"))?;
                Self::Sealing(file.number()?, file.secret, validity)
            }
            "key-encryption" => Self::Encryption(file.number()?, file.secret),
            _ => Self::Fingerprint(file.secret),
        }))
    }
}

struct KeyFile<'path> {
    path: &'path Path,
    kind: &'static str,
    fields: BTreeMap<String, String>,
    secret: Secret,
}

impl<'path> KeyFile<'path> {
    fn read(path: &'path Path, kind: &'static str) -> Result<Self, KeyringError> {
        let io = |source| io_error("read", path, source);
        let mut file = private::open(path).map_err(|error| match error {
            NotPrivate::Unreadable(source) => io(source),
            error => KeyringError::Exposed { path: path.to_owned(), error },
        })?;
        let mut text = Zeroizing::new(String::with_capacity(1024));
        file.read_to_string(&mut text).map_err(io)?;
        let mut found = Self { path, kind, fields: BTreeMap::new(), secret: Secret::default() };
        if text.lines().next() != Some(title(kind).as_str()) {
            return Err(found.malformed("its first line names another kind"));
        }
        let mut has_secret = false;
        for line in text.lines().skip(1) {
            let (name, value) =
                line.split_once(": ").ok_or_else(|| found.malformed("a line is not `name: value`"))?;
            if name == "secret" {
                let bytes = BASE64.decode(value).map(Zeroizing::new);
                let bytes = bytes.map_err(|_| found.malformed("its secret is not base64"))?;
                let bytes =
                    bytes.as_slice().try_into().map_err(|_| found.malformed("its secret is not 32 bytes"))?;
                found.secret = Secret::new(bytes);
                has_secret = true;
            } else {
                found.fields.insert(name.to_owned(), value.to_owned());
            }
        }
        if has_secret { Ok(found) } else { Err(found.malformed("it has no secret")) }
    }

    fn malformed(&self, what: &'static str) -> KeyringError {
        KeyringError::Malformed { path: self.path.to_owned(), kind: self.kind, what }
    }

    fn text(&self, name: &str) -> Result<String, KeyringError> {
        self.fields.get(name).cloned().ok_or_else(|| self.malformed("a line is missing"))
    }

    fn time(&self, name: &str) -> Result<UnixMicros, KeyringError> {
        self.text(name)?
            .parse()
            .map(UnixMicros::new)
            .map_err(|_| self.malformed("a time is not in microseconds"))
    }

    /// Returns the number in the file's name.
    fn number<N: std::str::FromStr>(&self) -> Result<N, KeyringError> {
        let number = self.path.file_stem().and_then(|name| name.to_str()?.split_once('-')?.1.parse().ok());
        number.ok_or_else(|| self.malformed("its file name has no number"))
    }
}

fn title(kind: &str) -> String {
    format!("bridge {kind} key v1")
}

fn write_key(
    path: &Path,
    kind: &str,
    fields: &[(&str, String)],
    random: &mut impl Rng,
) -> Result<(), KeyringError> {
    let mut secret = Secret::default();
    random.fill_bytes(secret.as_mut());
    let mut text = Zeroizing::new(String::with_capacity(1024));
    text.push_str(&title(kind));
    for (name, value) in fields {
        text.push_str(&format!("\n{name}: {value}"));
    }
    text.push_str("\nsecret: ");
    BASE64.encode_string(secret.as_ref(), &mut text);
    text.push('\n');
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        folder::sync(path)
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyringError::Exists(path.to_owned()),
        _ => io_error("write", path, source),
    })
}

/// Returns the paths of the `*.key` files in a folder, sorted.
pub(super) fn key_files(dir: &Path) -> Result<Vec<PathBuf>, KeyringError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => KeyringError::NoFolder(dir.to_owned()),
        _ => io_error("read", dir, source),
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn next_path(dir: &Path, prefix: &str) -> Result<PathBuf, KeyringError> {
    let number = |path: &PathBuf| {
        path.file_stem()?.to_str()?.strip_prefix(prefix)?.strip_prefix('-')?.parse::<i32>().ok()
    };
    let newest = key_files(dir)?.iter().filter_map(number).max().unwrap_or(0);
    Ok(dir.join(format!("{prefix}-{}.key", newest + 1)))
}

fn io_error(verb: &'static str, path: &Path, source: io::Error) -> KeyringError {
    KeyringError::Io { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

    fn keys_in(dir: &Path) -> Result<Keyring, KeyringError> {
        init(dir, "idc.example", NOW, &mut rand::rng()).unwrap();
        Keyring::load(dir)
    }

    #[test]
    fn keys_are_made_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let keys = keys_in(dir.path()).unwrap();
        assert!(keys.verifier().to_string().starts_with("idc.example+"));
        assert!(keys.manifest().key_at(NOW).is_some());
        let again = init(dir.path(), "idc.example", NOW, &mut rand::rng()).unwrap_err();
        assert!(matches!(again, KeyringError::Exists(_)), "{again}");
    }

    #[test]
    fn every_key_file_is_its_owner_s_alone_and_must_stay_so() {
        let dir = tempfile::tempdir().unwrap();
        keys_in(dir.path()).unwrap();
        for path in key_files(dir.path()).unwrap() {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::set_permissions(dir.path().join("kek-1.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Keyring::load(dir.path()).err().unwrap();
        assert!(matches!(refused, KeyringError::Exposed { .. }), "{refused}");
    }

    #[test]
    fn every_faulty_key_is_reported_at_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Keyring::faults(&dir.path().join("none"))[..], [KeyringError::NoFolder(_)]));
        keys_in(dir.path()).unwrap();
        assert!(Keyring::faults(dir.path()).is_empty());
        for name in ["kek-1.key", "sealing-1.key", "signing.key"] {
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::remove_file(dir.path().join("fingerprint.key")).unwrap();
        let said: Vec<_> = Keyring::faults(dir.path()).iter().map(ToString::to_string).collect();
        let expected =
            ["kek-1.key is open", "sealing-1.key is open", "signing.key is open", "no fingerprint key"];
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_new_sealing_key_is_preferred_and_the_old_one_still_opens() {
        let dir = tempfile::tempdir().unwrap();
        let before = keys_in(dir.path()).unwrap().manifest();
        add_sealing(dir.path(), NOW, SEALING_DAYS, &mut rand::rng()).unwrap();
        let after = Keyring::load(dir.path()).unwrap().manifest();
        assert_eq!(after.keys.len(), 2);
        assert_eq!(after.keys[1], before.keys[0]);
    }

    #[test]
    fn a_sealing_key_is_valid_from_five_minutes_before_for_its_days() {
        let dir = tempfile::tempdir().unwrap();
        keys_in(dir.path()).unwrap();
        add_sealing(dir.path(), NOW, 7, &mut rand::rng()).unwrap();
        let manifest = Keyring::load(dir.path()).unwrap().manifest();
        let not_before = UnixMicros::new(NOW.get() - 300_000_000);
        for (key, days) in manifest.keys.iter().zip([7, 90]) {
            let not_after = UnixMicros::new(NOW.get() + days * 86_400_000_000);
            assert_eq!(key.validity, Validity { not_before, not_after });
        }
    }

    #[test]
    fn a_key_file_is_never_overwritten_even_by_two_writers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek-1.key");
        write_key(&path, "key-encryption", &[], &mut rand::rng()).unwrap();
        let first = fs::read(&path).unwrap();
        let refused = write_key(&path, "key-encryption", &[], &mut rand::rng()).unwrap_err();
        assert!(matches!(&refused, KeyringError::Exists(there) if *there == path), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn a_key_of_no_known_kind_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let before = keys_in(dir.path()).unwrap();
        for name in ["backup.key", "zone.key", "tls-1.key"] {
            fs::write(dir.path().join(name), "not ours").unwrap();
        }
        let after = Keyring::load(dir.path()).unwrap();
        assert_eq!((after.checks(), after.manifest()), (before.checks(), before.manifest()));
        assert_eq!(after.verifier(), before.verifier());
    }

    #[test]
    fn a_keyring_shows_none_of_its_keys() {
        assert_eq!(format!("{:?}", Keyring::for_tests(1)), "Keyring { .. }");
    }

    #[test]
    fn a_seeded_keyring_has_four_keys_and_shares_none_with_another_seed() {
        let secrets = |seed: u8| {
            let keys = Keyring::for_tests(seed);
            let (_, encryption) = keys.newest_encryption_key();
            [keys.sealing[0].0.clone(), encryption.clone(), keys.fingerprint.clone()].map(|secret| *secret)
        };
        for kind in 0..3 {
            let all: BTreeSet<_> = (0..=u8::MAX).map(|seed| secrets(seed)[kind]).collect();
            assert_eq!(all.len(), 256);
        }
        assert_eq!(BTreeSet::from(secrets(1)).len(), 3);
        let signers: BTreeSet<_> =
            (0..=u8::MAX).map(|seed| Keyring::for_tests(seed).verifier().to_string()).collect();
        assert_eq!(signers.len(), 256);
    }

    #[test]
    fn a_new_key_encryption_key_wraps_and_the_old_one_still_unwraps() {
        let dir = tempfile::tempdir().unwrap();
        keys_in(dir.path()).unwrap();
        add_encryption(dir.path(), &mut rand::rng()).unwrap();
        let keys = Keyring::load(dir.path()).unwrap();
        assert_eq!(keys.newest_encryption_key().0, 2);
        assert!(keys.encryption_key(1).is_some());
    }

    #[test]
    fn sealing_keys_change_at_run_time_and_the_agents_identity_stays() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let before = keys_in(dir.path()).unwrap();
        let follows = || Keyring::load(dir.path()).unwrap().may_follow(&before, dir.path());
        add_sealing(dir.path(), NOW, SEALING_DAYS, &mut rand::rng()).unwrap();
        add_encryption(dir.path(), &mut rand::rng()).unwrap();
        fs::remove_file(dir.path().join("sealing-1.key")).unwrap();
        assert!(follows().is_ok());
        init(other.path(), "idc.example", NOW, &mut rand::rng()).unwrap();
        for file in ["fingerprint.key", "signing.key"] {
            fs::copy(other.path().join(file), dir.path().join(file)).unwrap();
            let refused = follows().unwrap_err().to_string();
            assert!(refused.contains(file), "{refused}");
        }
    }

    #[test]
    fn keys_are_told_apart_by_values_that_are_no_keys() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (keys, others) = (keys_in(dir.path()).unwrap(), keys_in(other.path()).unwrap());
        let names = |checks: &[KeyCheck]| checks.iter().map(KeyCheck::file).collect::<Vec<_>>();
        assert_eq!(names(&keys.checks()), ["fingerprint.key", "kek-1.key"]);
        assert_eq!(keys.checks(), Keyring::load(dir.path()).unwrap().checks());
        for (ours, theirs) in keys.checks().iter().zip(others.checks()) {
            assert_ne!(ours.value, theirs.value);
            assert!(ours.value != *keys.fingerprint && ours.value != **keys.newest_encryption_key().1);
        }
        // The same secret under another name has another check value.
        let alike = Keyring { encryption: BTreeMap::from([(1, keys.fingerprint.clone())]), ..keys };
        assert_ne!(alike.checks()[0].value, alike.checks()[1].value);
    }

    #[test]
    fn a_damaged_or_missing_key_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        keys_in(dir.path()).unwrap();
        let path = dir.path().join("fingerprint.key");
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            "",
            "bridge fingerprint key v1\n",
            &text[..text.len() - 4],
            &text.replace("fingerprint", "other"),
        ] {
            fs::write(&path, damaged).unwrap();
            let error = Keyring::load(dir.path()).err().unwrap().to_string();
            assert!(error.contains("fingerprint.key is not a fingerprint key"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        let error = Keyring::load(dir.path()).err().unwrap().to_string();
        assert!(error.contains("holds no fingerprint key"), "{error}");
    }
}
