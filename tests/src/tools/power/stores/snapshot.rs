//! The replica's snapshot as a store: once a snapshot was written, this one or a later one can be
//! read whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bridge_cloud::replica::snapshot::{Image, read, write};
use bridge_protocol::domain::Brand;
use bridge_protocol::domain::catalogue::{Code, EntityKey, EntityKind, Position};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::numbers;
use crate::tools::power::recorder::{Acknowledged, answer, is_hung};

/// Snapshots in one recording.
const SNAPSHOTS: u64 = 25;

/// Most rows of a snapshot.
const ROWS_MAX: u32 = 120;

/// Duration of a hanging fsync.
const HANGS: Duration = Duration::from_millis(50);

fn brands() -> Result<BTreeSet<Brand>> {
    Ok(BTreeSet::from([Brand::new("tea").context("a brand")?]))
}

fn place(root: &Path) -> PathBuf {
    root.join("catalogue.snapshot")
}

/// Makes a snapshot from its number.
fn image(number: u64) -> Result<Image> {
    let mut dice = StdRng::seed_from_u64(number);
    let rows = (0..dice.random_range(1..=ROWS_MAX)).map(|row| {
        let (brand, code) = (Brand::new("tea")?, Code::new(&format!("P{row}"))?);
        let bytes: Vec<u8> = (0..dice.random_range(1..400)).map(|_| dice.random()).collect();
        Ok((EntityKey { kind: EntityKind::Product, brand, code }, Bytes::from(bytes)))
    });
    let rows = rows.collect::<Result<_>>()?;
    Ok(Image { brands: brands()?, position: Position { seq: number, mark: 1 }, fresh_micros: 7, rows })
}

pub(super) fn drive(root: &Path, _: StdRng) -> Result<()> {
    let (path, brands, acknowledged) = (place(root), brands()?, Acknowledged::open()?);
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(HANGS);
            if is_hung() {
                answer();
            }
        }
    });
    let last = read(&path, &brands).map(|last| last.map_or(0, |image| image.position.seq))?;
    for number in last + 1..=last + SNAPSHOTS {
        // If a snapshot cannot be written, the previous one stays.
        if write(&path, &image(number)?).is_ok() {
            acknowledged.say(&format!("snapshot {number}"))?;
        }
    }
    Ok(())
}

pub(super) fn check(root: &Path, acknowledged: &[String]) -> Result<()> {
    let (path, brands) = (place(root), brands()?);
    let told = numbers::<1>(acknowledged, "snapshot ").into_iter().map(|[number]| number).max().unwrap_or(0);
    let found = read(&path, &brands).with_context(|| format!("snapshot {told} was written"))?;
    let number = found.as_ref().map_or(0, |image| image.position.seq);
    ensure!(number >= told, "snapshot {told} was written, and {number} is there");
    if let Some(found) = found {
        ensure!(found == image(number)?, "snapshot {number} has other rows than were written");
    }
    let next = image(number + 1)?;
    write(&path, &next)?;
    ensure!(read(&path, &brands)? == Some(next), "the next snapshot is not there");
    Ok(())
}
