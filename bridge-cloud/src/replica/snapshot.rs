//! The rows on disk, for a start that answers at once.
//!
//! A file is written beside the last one, made durable, and put in its place: there is always a whole one. It ends with a
//! SHA-256 of all before it. One that is cut, changed, of other brands or of a later version is refused with a reason; the
//! catalogue is then fetched from its source.

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

/// What every snapshot begins with; the last character is the version.
const MAGIC: &[u8; 8] = b"BRDGCAT1";

const DIGEST_BYTES: usize = 32;

/// Nothing in it is a secret: whoever the process's mask lets may read it.
const MODE: u32 = 0o666;

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// How far the rows are.
    pub position: Position,
    /// When they were last known to equal their source: microseconds since 1970 by this machine's clock.
    pub fresh_micros: i64,
    /// The rows.
    pub rows: Vec<(EntityKey, Bytes)>,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is something else, or of another version.
    #[error("it is no snapshot of this version")]
    NotASnapshot,
    /// Its digest is not that of its content: it was cut or changed.
    #[error("its digest does not fit its content: it was cut or changed")]
    Damaged,
    /// It is of other brands than this agent serves now.
    #[error("it is of other brands than are configured now")]
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

/// Writes a snapshot of a replica of these brands in the place of the last one, durably.
pub fn write(path: &Path, brands: &BTreeSet<Brand>, image: &Image) -> io::Result<()> {
    let whole = WholeFile {
        unfinished: &path.with_extension("new"),
        mode: MODE,
        synced: Synced::All,
        syncs_folder: true,
        removes_unfinished: true,
    };
    whole.replace(path, |file| write_to(file, brands, image))
}

fn write_to(file: &mut File, brands: &BTreeSet<Brand>, image: &Image) -> io::Result<()> {
    let mut out = Hashing { file: BufWriter::new(file), hash: Sha256::new() };
    out.write(MAGIC)?;
    let head = Head {
        brands: brands.iter().map(|brand| brand.as_str().to_owned()).collect(),
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

/// Reads the snapshot of a replica of these brands; `None` if there is none.
pub fn read(path: &Path, brands: &BTreeSet<Brand>) -> Result<Option<Image>, SnapshotError> {
    read_if(path, |head| head.brands.iter().map(String::as_str).eq(brands.iter().map(Brand::as_str)))
}

/// The same, whatever brands it is of.
pub fn read_of_any_brands(path: &Path) -> Result<Option<Image>, SnapshotError> {
    read_if(path, |_| true)
}

fn read_if(path: &Path, is_wanted: impl Fn(&Head) -> bool) -> Result<Option<Image>, SnapshotError> {
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
    // From here on it is as somebody of this version wrote it.
    let mut left = &content[MAGIC.len()..];
    let head = Head::decode_length_delimited(&mut left).map_err(|_| SnapshotError::NotASnapshot)?;
    if !is_wanted(&head) {
        return Err(SnapshotError::OtherBrands);
    }
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
    Ok(Some(Image { position, fresh_micros: head.fresh_micros, rows }))
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
        Image { position: Position { seq: 7, mark: 9 }, fresh_micros: 11, rows: vec![row("A"), row("B")] }
    }

    #[test]
    fn a_snapshot_is_read_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.snapshot");
        assert_eq!(read(&path, &brands(&["tea"])).unwrap(), None);
        for _ in 0..2 {
            write(&path, &brands(&["tea"]), &image()).unwrap();
            assert_eq!(read(&path, &brands(&["tea"])).unwrap(), Some(image()));
        }
    }

    #[test]
    fn one_of_other_brands_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.snapshot");
        write(&path, &brands(&["tea"]), &image()).unwrap();
        for others in [&["coffee"][..], &["coffee", "tea"], &[]] {
            assert!(matches!(read(&path, &brands(others)), Err(SnapshotError::OtherBrands)));
        }
    }

    #[test]
    fn one_that_is_cut_or_changed_anywhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.snapshot");
        write(&path, &brands(&["tea"]), &image()).unwrap();
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
