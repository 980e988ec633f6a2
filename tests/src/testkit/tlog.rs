//! A second implementation of the audit log's formats. It is written from the C2SP specifications
//! (signed-note, tlog-checkpoint, tlog-tiles, tlog-proof) and RFC 6962 alone, and shares no code
//! with the agents. What both implementations accept follows the specifications.
//!
//! It is slow and simple on purpose: each root is computed by the RFC's recursion over all leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

type Hash = [u8; 32];

/// A log that was verified with its public key.
#[derive(Debug, Clone)]
pub struct Log {
    /// All signed entries.
    pub entries: Vec<Vec<u8>>,
}

/// A verifier key in the form `name+hash+key`.
struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    fn parse(line: &str) -> Result<Self> {
        let mut parts = line.trim().splitn(3, '+');
        let name = parts.next().context("no name")?;
        let hash = parts.next().context("no key hash")?;
        let bytes = BASE64.decode(parts.next().context("no key")?)?;
        let (algorithm, key) = bytes.split_first().context("an empty key")?;
        ensure!(*algorithm == 1, "not an Ed25519 key");
        // The key's id is the first four bytes of SHA-256(name || "\n" || algorithm || public key).
        let digest = Sha256::digest([name.as_bytes(), b"\n", &bytes].concat());
        let id = [digest[0], digest[1], digest[2], digest[3]];
        ensure!(u32::from_str_radix(hash, 16)? == u32::from_be_bytes(id), "the key hash is not the key's");
        let key = VerifyingKey::from_bytes(key.try_into()?)?;
        Ok(Self { name: name.to_owned(), id, key })
    }

    /// Returns the text of a note, if this key signed the note.
    fn open<'note>(&self, note: &'note str) -> Result<&'note str> {
        let at = note.rfind("\n\n").context("no blank line")?;
        let (text, signatures) = (&note[..=at], &note[at + 2..]);
        ensure!(signatures.ends_with('\n'), "no line feed at the end");
        for line in signatures.trim_end_matches('\n').split('\n') {
            let (name, signature) = line
                .strip_prefix("\u{2014} ")
                .and_then(|line| line.split_once(' '))
                .context("no signature line")?;
            let signature = BASE64.decode(signature)?;
            let (id, signature) = signature.split_first_chunk::<4>().context("a short signature")?;
            if name == self.name && *id == self.id {
                self.key.verify_strict(text.as_bytes(), &Signature::from_slice(signature)?)?;
                return Ok(text);
            }
        }
        bail!("not signed by {}", self.name)
    }

    /// Returns the size and root of a checkpoint.
    fn checkpoint(&self, note: &str) -> Result<(usize, Hash)> {
        let lines: Vec<&str> = self.open(note)?.split_terminator('\n').collect();
        let [origin, size, root, ..] = lines[..] else { bail!("a checkpoint has three lines") };
        ensure!(origin == self.name, "another log's checkpoint: {origin}");
        let number: usize = size.parse()?;
        ensure!(number.to_string() == size, "a size is written one way");
        let root = BASE64.decode(root)?;
        Ok((number, root[..].try_into()?))
    }

    /// Returns the earlier sizes and roots from the extension lines of a checkpoint.
    fn earlier(&self, note: &str) -> Result<Vec<(usize, Hash)>> {
        let lines = self.open(note)?.split_terminator('\n').skip(3);
        lines
            .map(|line| {
                let (size, root) = line
                    .strip_prefix("earlier ")
                    .and_then(|line| line.split_once(' '))
                    .context("no earlier")?;
                Ok((size.parse()?, BASE64.decode(root)?[..].try_into()?))
            })
            .collect()
    }
}

/// Reads and verifies a whole log with its verifier key.
///
/// # Errors
///
/// Fails if a part does not follow the specifications, or differs from what was signed.
pub fn check(dir: &Path, key: &str) -> Result<Log> {
    let key = VerifierKey::parse(key)?;
    let note = read_text(&dir.join("checkpoint"))?;
    let (size, root) = key.checkpoint(&note)?;
    let mut entries: Vec<Vec<u8>> = Vec::new();
    for index in 0..size.div_ceil(256) {
        let width = (size - index * 256).min(256);
        let bytes = read_tile(dir, "entries", index, width)?;
        let mut rest = &bytes[..];
        for _ in 0..width {
            let (length, after) = rest.split_first_chunk::<2>().context("a bundle is cut short")?;
            let length = usize::from(u16::from_be_bytes(*length));
            ensure!(after.len() >= length, "an entry is cut short");
            entries.push(after[..length].to_vec());
            rest = &after[length..];
        }
        ensure!(
            rest.is_empty() || width < 256 && is_full(dir, "entries", index),
            "a bundle has more than its entries"
        );
    }
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf(entry)).collect();
    ensure!(tree(&leaves) == root, "the entries do not lead to the root that is signed");
    for (size, root) in key.earlier(&note)? {
        let before = leaves.get(..size).context("the log was larger before")?;
        ensure!(tree(before) == root, "the log was another one when it had {size} entries");
    }
    check_tiles(dir, &leaves)?;
    Ok(Log { entries })
}

/// Checks every tile of every level: `MTH(D[(n * 256 + i) * 256**l : (n * 256 + i + 1) * 256**l])`.
fn check_tiles(dir: &Path, leaves: &[Hash]) -> Result<()> {
    let mut below: Vec<Hash> = leaves.to_vec();
    for level in 0.. {
        for (index, hashes) in below.chunks(256).enumerate() {
            let tile = read_tile(dir, &level.to_string(), index, hashes.len())?;
            ensure!(tile.starts_with(&hashes.concat()), "tile/{level}/{index} does not match the entries");
        }
        below = below.chunks_exact(256).map(tree).collect();
        if below.is_empty() {
            return Ok(());
        }
    }
    Ok(())
}

/// Checks that the log at `dir` begins with the log of an earlier checkpoint.
///
/// # Errors
///
/// Fails if the log is not valid, or its history is another one.
pub fn check_history(dir: &Path, key: &str, seen: &str) -> Result<()> {
    let log = check(dir, key)?;
    let (size, root) = VerifierKey::parse(key)?.checkpoint(seen)?;
    ensure!(size <= log.entries.len(), "the log was larger");
    let leaves: Vec<Hash> = log.entries[..size].iter().map(|entry| leaf(entry)).collect();
    ensure!(tree(&leaves) == root, "the log had another history");
    Ok(())
}

/// Verifies a proof that has its entry in the `extra` line. Returns the index and the entry.
///
/// # Errors
///
/// Fails if the proof is not valid.
pub fn check_proof(proof: &str, key: &str) -> Result<(usize, Vec<u8>)> {
    let (head, note) = proof.split_once("\n\n").context("no blank line")?;
    let mut lines = head.split('\n');
    ensure!(lines.next() == Some("c2sp.org/tlog-proof@v1"), "another first line");
    let extra = lines.next().and_then(|line| line.strip_prefix("extra ")).context("no extra line")?;
    let index = lines.next().and_then(|line| line.strip_prefix("index ")).context("no index line")?;
    let (entry, number): (Vec<u8>, usize) = (BASE64.decode(extra)?, index.parse()?);
    ensure!(number.to_string() == index, "an index is written one way");
    let path: Vec<Hash> =
        lines.map(|line| Ok(BASE64.decode(line)?[..].try_into()?)).collect::<Result<_>>()?;
    let (size, root) = VerifierKey::parse(key)?.checkpoint(note)?;
    ensure!(number < size, "beyond the checkpoint");
    let mut path = path.into_iter().rev();
    let computed = climb(leaf(&entry), number, size, &mut path).context("the path is too short")?;
    ensure!(path.next().is_none(), "the path is too long");
    ensure!(computed == root, "the path does not lead to the root");
    Ok((number, entry))
}

/// Computes a root from a leaf and its path (RFC 6962, section 2.1.1). The path begins with the
/// hash next to the root.
fn climb(leaf: Hash, index: usize, size: usize, path: &mut impl Iterator<Item = Hash>) -> Option<Hash> {
    if size == 1 {
        return Some(leaf);
    }
    let split = size.next_power_of_two() / 2;
    let sibling = path.next()?;
    if index < split {
        Some(node(&climb(leaf, index, split, path)?, &sibling))
    } else {
        Some(node(&sibling, &climb(leaf, index - split, size - split, path)?))
    }
}

/// Returns the Merkle tree hash (RFC 6962, section 2.1).
fn tree(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Sha256::digest([]).into(),
        [one] => *one,
        more => {
            let split = more.len().next_power_of_two() / 2;
            node(&tree(&more[..split]), &tree(&more[split..]))
        }
    }
}

fn leaf(entry: &[u8]) -> Hash {
    Sha256::digest([&[0], entry].concat()).into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    Sha256::digest([&[1], &left[..], right].concat()).into()
}

/// Returns a tile's path: `001`, `x001/234`, `x001/x234/067`.
fn number(index: usize) -> String {
    let last = format!("{:03}", index % 1_000);
    let mut rest = index / 1_000;
    let mut text = last;
    while rest > 0 {
        text = format!("x{:03}/{text}", rest % 1_000);
        rest /= 1_000;
    }
    text
}

fn is_full(dir: &Path, level: &str, index: usize) -> bool {
    dir.join(format!("tile/{level}/{}", number(index))).is_file()
}

fn read_tile(dir: &Path, level: &str, index: usize, width: usize) -> Result<Vec<u8>> {
    let full = dir.join(format!("tile/{level}/{}", number(index)));
    let partial = dir.join(format!("tile/{level}/{}.p/{width}", number(index)));
    let path = if width == 256 || !partial.is_file() { full } else { partial };
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let hashes = if level == "entries" { 0 } else { width * 32 };
    ensure!(bytes.len() >= hashes, "{} is cut short", path.display());
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// Returns the number of entries by event.
///
/// # Errors
///
/// Fails if an entry is not a JSON object that names its event.
pub fn kinds(log: &Log) -> Result<BTreeMap<String, usize>> {
    let mut kinds = BTreeMap::new();
    for entry in &log.entries {
        let value: serde_json::Value = serde_json::from_slice(entry)?;
        let kind = value["event"].as_str().context("an entry without its event")?;
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    Ok(kinds)
}
