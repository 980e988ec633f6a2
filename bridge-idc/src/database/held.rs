//! What somebody else holds and a statement needs, by the name that it can be waited for under.

use std::collections::HashSet;
use std::fmt;

/// What somebody else holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldItem {
    /// A SKU, or its stock.
    Sku {
        /// Whose.
        brand: String,
        /// Which.
        sku: String,
    },
    /// A product.
    Product {
        /// Whose.
        brand: String,
        /// Which.
        product: String,
    },
    /// A table as a whole.
    Table(
        /// Its name.
        String,
    ),
    /// Something that the database does not name, such as another row that it refers to.
    Unnamed,
    /// The one lock of an SQLite file.
    File,
}

impl HeldItem {
    /// Whether it can be waited for by its name.
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
            Self::Unnamed => f.write_str("what this needs, a row or a table that the database does not name"),
            Self::File => f.write_str("the ledger's SQLite file"),
        }
    }
}

/// A brand, and the code of a SKU or a product of it.
pub(crate) type Key = (String, String);

/// What of an import's part is there and is to be changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Products.
    pub(crate) products: Vec<Key>,
    /// SKUs.
    pub(crate) skus: Vec<Key>,
    /// SKUs with their stock.
    pub(crate) stock: Vec<Key>,
}

/// Those that somebody else holds.
#[derive(Debug, Default)]
pub(crate) struct HeldRows {
    /// Products.
    pub(crate) products: HashSet<Key>,
    /// SKUs, or their stock.
    pub(crate) skus: HashSet<Key>,
}
