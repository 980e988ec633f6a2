//! The rows on disk, for a start that serves at once.
//!
//! A new file is written beside the last one, made durable, and renamed to its place, so there is
//! always a whole one. It ends with a SHA-256 of everything before it. A file that is cut, changed,
//! without any brand that is served, or of a later version is refused with a reason. The catalogue
//! is then fetched from its source.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::{EntityKey, Position};
use bridge_protocol::wire::feed::{Entry, WirePosition};
use bridge_runtime::whole_file::{Synced, WholeFile};
use bytes::{Buf as _, Bytes};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// First bytes of every snapshot. The last character is the version.
const MAGIC: &[u8; 8] = b"BRDGCAT1";

const DIGEST_BYTES: usize = 32;

/// Permissions before the process's umask. A snapshot holds no secret.
const MODE: u32 = 0o666;

/// Content of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Brands whose rows it has, even if a brand has none.
    pub brands: BTreeSet<Brand>,
    /// Position of the rows.
    pub position: Position,
    /// Time when they were last known to equal their source: microseconds since 1970-01-01 UTC by
    /// this machine's clock.
    pub fresh_micros: i64,
    /// The rows.
    pub rows: Vec<(EntityKey, Bytes)>,
}

/// Reasons not to use a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is another file, or of another version.
    #[error("it is no snapshot of this version")]
    NotASnapshot,
    /// Its digest does not fit its content.
    #[error("its digest does not fit its content: it was cut or changed")]
    Damaged,
    /// It has none of the brands that this agent serves now.
    #[error("it has none of the brands that are configured now")]
    OtherBrands,
}

/// The first message in the file.
#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(string, repeated, tag = "1")]
    brands: Vec<String>,
    #[prost(message, optional, tag = "2")]
    position: Option<WirePosition>,
    #[prost(int64, tag = "3")]
    fresh_micros: i64,
    #[prost(uint64, tag = "4")]
    rows: u64,
}

/// Writes a snapshot durably, in the place of the last one.
///
/// # Errors
///
/// Fails if the file cannot be written or renamed. The last snapshot then stays.
pub fn write(path: &Path, image: &Image) -> io::Result<()> {
    let whole = WholeFile {
        unfinished: &path.with_extension("new"),
        mode: MODE,
        synced: Synced::All,
        syncs_folder: true,
        removes_unfinished: true,
    };
    whole.replace(path, |file| write_to(file, image))
}

fn write_to(file: &mut File, image: &Image) -> io::Result<()> {
    let mut out = Hashing { file: BufWriter::new(file), hash: Sha256::new() };
    out.write(MAGIC)?;
    let head = Head {
        brands: image.brands.iter().map(|brand| brand.as_str().to_owned()).collect(),
        position: Some(image.position.into()),
        fresh_micros: image.fresh_micros,
        rows: image.rows.len() as u64,
    };
    out.write(&head.encode_length_delimited_to_vec())?;
    for (key, row) in &image.rows {
        out.write(&Entry::new(key, Some(row.clone())).encode_length_delimited_to_vec())?;
    }
    let Hashing { mut file, hash } = out;
    file.write_all(&hash.finalize())?;
    file.flush()
}

/// Reads what a snapshot has of these brands. Returns `None` if there is no snapshot.
///
/// # Errors
///
/// Fails if the snapshot cannot be read, is damaged, or has none of the brands.
pub fn read(path: &Path, brands: &BTreeSet<Brand>) -> Result<Option<Image>, SnapshotError> {
    let Some(mut image) = read_of_any_brands(path)? else { return Ok(None) };
    image.brands.retain(|brand| brands.contains(brand));
    image.rows.retain(|(key, _)| brands.contains(&key.brand));
    if image.brands.is_empty() { Err(SnapshotError::OtherBrands) } else { Ok(Some(image)) }
}

/// Reads a snapshot of any brands. Returns `None` if there is none.
///
/// # Errors
///
/// Fails if the snapshot cannot be read or is damaged.
pub fn read_of_any_brands(path: &Path) -> Result<Option<Image>, SnapshotError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if !bytes.starts_with(MAGIC) {
        return Err(SnapshotError::NotASnapshot);
    }
    let (content, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(SnapshotError::Damaged)?;
    if content.len() < MAGIC.len() || Sha256::digest(content)[..] != digest[..] {
        return Err(SnapshotError::Damaged);
    }
    // The digest is right, so a program of this version wrote the rest.
    let mut left = &content[MAGIC.len()..];
    let head = Head::decode_length_delimited(&mut left).map_err(|_| SnapshotError::NotASnapshot)?;
    let brands = head.brands.iter().map(|brand| Brand::new(brand)).collect::<Result<_, _>>();
    let brands = brands.map_err(|_| SnapshotError::NotASnapshot)?;
    let position = head.position.ok_or(SnapshotError::NotASnapshot)?.into();
    let mut rows = Vec::new();
    while left.has_remaining() {
        let entry = Entry::decode_length_delimited(&mut left).map_err(|_| SnapshotError::NotASnapshot)?;
        let (key, row) = (entry.key(), entry.row);
        rows.push(key.zip(row).ok_or(SnapshotError::NotASnapshot)?);
    }
    if rows.len() as u64 != head.rows {
        return Err(SnapshotError::NotASnapshot);
    }
    Ok(Some(Image { brands, position, fresh_micros: head.fresh_micros, rows }))
}

struct Hashing<'a> {
    file: BufWriter<&'a mut File>,
    hash: Sha256,
}

impl Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bridge_protocol::domain::catalogue::{Code, EntityKind};

    use super::*;

    fn brands(names: &[&str]) -> BTreeSet<Brand> {
        names.iter().map(|name| Brand::new(name).unwrap()).collect()
    }

    fn image() -> Image {
        let row = |code: &str| {
            let (brand, code) = (Brand::new("tea").unwrap(), Code::new(code).unwrap());
            (EntityKey { kind: EntityKind::Product, brand, code }, Bytes::from_static(b"a row"))
        };
        let position = Position { seq: 7, mark: 9 };
        Image { brands: brands(&["tea"]), position, fresh_micros: 11, rows: vec![row("A"), row("B")] }
    }

    #[test]
    fn a_snapshot_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.snapshot");
        assert_eq!(read(&path, &brands(&["tea"])).unwrap(), None);
        for _ in 0..2 {
            write(&path, &image()).unwrap();
            assert_eq!(read(&path, &brands(&["tea"])).unwrap(), Some(image()));
        }
    }

    #[test]
    fn a_snapshot_is_read_for_the_brands_that_are_served_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.snapshot");
        let mut both = image();
        both.brands = brands(&["hats", "tea"]);
        let (brand, code) = (Brand::new("hats").unwrap(), Code::new("H").unwrap());
        both.rows.push((EntityKey { kind: EntityKind::Product, brand, code }, Bytes::from_static(b"a hat")));
        write(&path, &both).unwrap();
        assert_eq!(read(&path, &brands(&["hats", "tea"])).unwrap(), Some(both));
        // A brand that is new here has no rows in it, and one that was taken away is left out.
        for served in [&["tea"][..], &["coffee", "tea"]] {
            assert_eq!(read(&path, &brands(served)).unwrap(), Some(image()));
        }
        for others in [&["coffee"][..], &[]] {
            assert!(matches!(read(&path, &brands(others)), Err(SnapshotError::OtherBrands)));
        }
    }

    #[test]
    fn one_that_is_cut_or_changed_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.snapshot");
        write(&path, &image()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, &brands(&["tea"])).is_err(), "cut after {length} bytes");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(read(&path, &brands(&["tea"])).is_err(), "changed at {at}");
        }
    }
}
