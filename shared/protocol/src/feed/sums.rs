//! Checksums by bucket, to compare the rows of two sides without sending them.
//!
//! A row's sum is a hash of its key and bytes. A bucket's sum is the wrapping sum of its rows, so
//! that a change of one row costs one subtraction and one addition. `subscriber` decides when sums
//! are compared.

use sha2::{Digest, Sha256};

use crate::domain::catalogue::EntityKey;

/// Number of buckets. The key alone decides a row's bucket.
pub const BUCKETS: usize = 256;

/// The sums of a set of rows.
#[derive(Clone, PartialEq, Eq)]
pub struct Sums(Box<[u64; BUCKETS]>);

/// Contribution of one row to the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSum {
    bucket: u8,
    sum: u64,
}

/// Returns the bucket of a key.
pub fn bucket(key: &EntityKey) -> usize {
    let hash = key_hash(key).finalize();
    usize::from(hash[0])
}

fn key_hash(key: &EntityKey) -> Sha256 {
    let (brand, code) = (key.brand.as_str().as_bytes(), key.code.as_str().as_bytes());
    Sha256::new()
        .chain_update([key.kind.number(), u8::try_from(brand.len()).unwrap_or(u8::MAX)])
        .chain_update(brand)
        .chain_update([u8::try_from(code.len()).unwrap_or(u8::MAX)])
        .chain_update(code)
}

impl RowSum {
    /// Returns the sum of a row under its key.
    pub fn of(key: &EntityKey, row: &[u8]) -> Self {
        let hash = key_hash(key);
        let bucket = hash.clone().finalize()[0];
        let hash = hash.chain_update(row).finalize();
        let sum = hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Self { bucket, sum }
    }
}

impl Default for Sums {
    fn default() -> Self {
        Self(Box::new([0; BUCKETS]))
    }
}

impl Sums {
    /// Adds a row.
    pub fn add(&mut self, row: RowSum) {
        let sum = &mut self.0[usize::from(row.bucket)];
        *sum = sum.wrapping_add(row.sum);
    }

    /// Removes a row.
    pub fn remove(&mut self, row: RowSum) {
        let sum = &mut self.0[usize::from(row.bucket)];
        *sum = sum.wrapping_sub(row.sum);
    }

    /// Returns the sums by bucket.
    pub fn as_slice(&self) -> &[u64] {
        self.0.as_slice()
    }

    /// Reads sums from the wire. Returns `None` unless there are [`BUCKETS`] of them.
    pub fn from_slice(sums: &[u64]) -> Option<Self> {
        sums.try_into().ok().map(|sums| Self(Box::new(sums)))
    }
}

impl std::fmt::Debug for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = self.0.iter().fold(0_u64, |all, sum| all.rotate_left(1) ^ sum);
        write!(f, "Sums({all:016x})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Brand;
    use crate::domain::catalogue::{Code, EntityKind};

    fn key(code: &str) -> EntityKey {
        let (brand, code) = (Brand::new("shoes").unwrap(), Code::new(code).unwrap());
        EntityKey { kind: EntityKind::Product, brand, code }
    }

    #[test]
    fn checksums_ignore_the_order_of_changes_and_forget_removed_rows() {
        let rows = ["A", "B", "C"].map(|code| RowSum::of(&key(code), code.as_bytes()));
        let (mut forth, mut back) = (Sums::default(), Sums::default());
        rows.iter().for_each(|row| forth.add(*row));
        rows.iter().rev().for_each(|row| back.add(*row));
        assert_eq!(forth, back);
        rows.iter().for_each(|row| forth.remove(*row));
        assert_eq!(forth, Sums::default());
        assert_eq!(Sums::from_slice(back.as_slice()), Some(back));
    }

    #[test]
    fn another_row_or_key_is_another_sum() {
        let row = RowSum::of(&key("A"), b"1");
        assert_ne!(row, RowSum::of(&key("A"), b"2"));
        assert_ne!(row.sum, RowSum::of(&key("B"), b"1").sum);
        assert_eq!(usize::from(row.bucket), bucket(&key("A")));
    }
}
