//! Items that another session holds and a statement needs, with the names by which a statement can
//! wait for them.

use std::collections::HashSet;
use std::fmt;

/// An item that another session holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldItem {
    /// A SKU, or its stock.
    Sku {
        /// The brand.
        brand: String,
        /// The SKU.
        sku: String,
    },
    /// A product.
    Product {
        /// The brand.
        brand: String,
        /// The product.
        product: String,
    },
    /// A table that is locked as a whole.
    Table(
        /// The table's name.
        String,
    ),
    /// An item that the database does not name, such as a row of another table that a foreign key
    /// refers to.
    Unnamed,
    /// The one lock of an SQLite file.
    File,
}

impl HeldItem {
    /// True if the item is a row, which a lock statement can wait for by name.
    pub(crate) fn is_a_row(&self) -> bool {
        matches!(self, Self::Sku { .. } | Self::Product { .. })
    }
}

impl fmt::Display for HeldItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sku { brand, sku } => write!(f, "the SKU {sku} of brand {brand}, or its stock"),
            Self::Product { brand, product } => write!(f, "the product {product} of brand {brand}"),
            Self::Table(table) => write!(f, "the table {table} as a whole"),
            Self::Unnamed => f.write_str("a row or a table that this needs and the database does not name"),
            Self::File => f.write_str("the ledger's SQLite file"),
        }
    }
}

/// A brand, and the code of one of its SKUs or products.
pub(crate) type Key = (String, String);

/// Existing rows that an import's part will change.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Products.
    pub(crate) products: Vec<Key>,
    /// SKUs.
    pub(crate) skus: Vec<Key>,
    /// SKUs whose stock will change.
    pub(crate) stock: Vec<Key>,
}

/// Rows that another session holds.
#[derive(Debug, Default)]
pub(crate) struct HeldRows {
    /// Products.
    pub(crate) products: HashSet<Key>,
    /// SKUs, or their stock.
    pub(crate) skus: HashSet<Key>,
}
