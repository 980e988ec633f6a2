//! The columns that may leave the data centre, and the statements that read a row of the feed, built from them.
//!
//! Every SELECT list of the feed is made here from [`ALLOWED`] and from nothing else: what is not on the list cannot be
//! published. `role.sql` gives the agent the right to read the same columns of the catalogue's tables. What a statement
//! joins, filters and sorts by does not leave.

use std::fmt::Write;

use bridge_protocol::domain::catalogue::EntityKind;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Columns of one table that go into the rows of one kind.
pub struct Part {
    /// Whose rows.
    pub kind: EntityKind,
    /// From which table.
    pub table: &'static str,
    /// Which columns, in the order in which they are read.
    pub columns: &'static [Column],
    /// Which of the table's rows.
    rows: Rows,
}

/// A column by its name and what it holds.
pub enum Column {
    /// A text or a number.
    Plain(&'static str),
    /// JSON, read as text.
    Json(&'static str),
}

/// Which rows of a table belong to a row of the feed.
enum Rows {
    /// The row itself.
    Own,
    /// The one that this condition names.
    One { by: &'static str },
    /// All that this condition names, in this order; read as a JSON array of arrays.
    All { by: &'static str, order: &'static str },
}

use Column::{Json, Plain};

/// Everything that may enter the feed. Personal data cannot: it stands in the orders' tables, and none of them is here.
pub const ALLOWED: [Part; 8] = [
    Part {
        kind: EntityKind::Brand,
        table: "brands",
        columns: &[Plain("brand"), Plain("currency")],
        rows: Rows::Own,
    },
    Part {
        kind: EntityKind::Category,
        table: "categories",
        columns: &[Plain("brand"), Plain("category"), Plain("parent"), Json("names"), Plain("position")],
        rows: Rows::Own,
    },
    Part {
        kind: EntityKind::Product,
        table: "products",
        columns: &[
            Plain("brand"),
            Plain("product"),
            Json("names"),
            Json("descriptions"),
            Json("document"),
            Json("images"),
            Plain("published_from"),
            Plain("published_until"),
        ],
        rows: Rows::Own,
    },
    Part {
        kind: EntityKind::Product,
        table: "brands",
        columns: &[Plain("currency")],
        rows: Rows::One { by: "brands.brand = products.brand" },
    },
    Part {
        kind: EntityKind::Product,
        table: "product_categories",
        columns: &[Plain("category")],
        rows: Rows::All {
            by: "product_categories.brand = products.brand AND product_categories.product = products.product",
            order: "product_categories.category",
        },
    },
    Part {
        kind: EntityKind::Product,
        table: "skus",
        columns: &[Plain("sku"), Plain("price"), Json("options")],
        rows: Rows::All {
            by: "skus.brand = products.brand AND skus.product = products.product",
            order: "skus.position, skus.sku",
        },
    },
    Part {
        kind: EntityKind::Stock,
        table: "skus",
        columns: &[Plain("brand"), Plain("sku")],
        rows: Rows::Own,
    },
    Part { kind: EntityKind::Stock, table: "stock", columns: &[Plain("available")], rows: Rows::Own },
];

impl Column {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Plain(name) | Json(name) => name,
        }
    }
}

/// Whose SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// The statements that read one kind's rows; the rows start with brand and code.
#[derive(Clone)]
pub(super) struct Statements {
    /// By key from a code on: $1 brand, $2 the code before the first, $3 how many.
    pub(super) page: SqlStr,
    /// Those of these keys that are there. PostgreSQL: $1 brands, $2 codes; SQLite: $1 a JSON array of both.
    pub(super) keyed: SqlStr,
}

impl Statements {
    /// One kind's statements.
    pub(super) fn of(kind: EntityKind, dialect: Dialect) -> Self {
        let (key, joined) = match kind {
            EntityKind::Brand => ("brands.brand", ""),
            EntityKind::Category => ("categories.category", ""),
            EntityKind::Product => ("products.product", ""),
            // The planner of SQLite takes CROSS JOIN as the order to read in.
            EntityKind::Stock => match dialect {
                Dialect::Postgres => ("skus.sku", " JOIN stock ON stock.sku_id = skus.sku_id"),
                Dialect::Sqlite => ("skus.sku", " CROSS JOIN stock ON stock.sku_id = skus.sku_id"),
            },
        };
        let (table, _) = key.split_once('.').unwrap_or_default();
        let (list, wanted) = (select_list(kind, dialect), dialect.wanted());
        let page = format!(
            "SELECT {list} FROM {table}{joined} \
             WHERE {table}.brand = $1 AND {key} > $2 ORDER BY {key} LIMIT $3"
        );
        let keyed = format!(
            "SELECT {list} FROM {wanted} {table} \
             ON {table}.brand = wanted.brand AND {key} = wanted.code{joined}"
        );
        Self { page: AssertSqlSafe(page).into_sql_str(), keyed: AssertSqlSafe(keyed).into_sql_str() }
    }
}

/// The allowed columns of a kind, and nothing else.
fn select_list(kind: EntityKind, dialect: Dialect) -> String {
    let parts = ALLOWED.iter().filter(|part| part.kind == kind);
    let lists: Vec<String> = parts.map(|part| part.select_list(dialect)).collect();
    lists.join(", ")
}

impl Part {
    fn select_list(&self, dialect: Dialect) -> String {
        let mut list = String::new();
        for column in self.columns {
            let comma = if list.is_empty() { "" } else { ", " };
            let cast = match (column, dialect) {
                (Json(_), Dialect::Postgres) => "::text",
                _ => "",
            };
            // Writing to a String does not fail.
            let _written = write!(list, "{comma}{}.{}{cast}", self.table, column.name());
        }
        let table = self.table;
        match (&self.rows, dialect) {
            (Rows::Own, _) => list,
            (Rows::One { by }, _) => format!("(SELECT {list} FROM {table} WHERE {by})"),
            (Rows::All { by, order }, Dialect::Postgres) => format!(
                "(SELECT coalesce(json_agg(json_build_array({list}) ORDER BY {order}), '[]')::text \
                 FROM {table} WHERE {by})"
            ),
            (Rows::All { by, order }, Dialect::Sqlite) => format!(
                "(SELECT json_group_array(json_array({list}) ORDER BY {order}) FROM {table} WHERE {by})"
            ),
        }
    }
}

impl Dialect {
    /// Keys that were asked for as a table, and the join that starts from it.
    fn wanted(self) -> &'static str {
        match self {
            Self::Postgres => "UNNEST($1::text[], $2::text[]) AS wanted (brand, code) JOIN",
            Self::Sqlite => {
                "(SELECT value ->> 0 AS brand, value ->> 1 AS code FROM json_each($1)) AS wanted CROSS JOIN"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_of_an_order_or_a_person_is_on_the_list() {
        const PUBLIC: [&str; 6] = ["brands", "categories", "products", "product_categories", "skus", "stock"];
        for part in &ALLOWED {
            assert!(PUBLIC.contains(&part.table), "{} is no table of the catalogue", part.table);
            for name in part.columns.iter().map(Column::name) {
                let personal =
                    ["customer", "delivery", "phone", "email", "address", "key", "sold", "initial"];
                assert!(!personal.iter().any(|word| name.contains(word)), "{}.{name}", part.table);
            }
        }
    }

    #[test]
    fn a_statement_selects_the_columns_of_the_list_by_name_and_no_star() {
        for dialect in [Dialect::Postgres, Dialect::Sqlite] {
            for kind in EntityKind::ALL {
                let Statements { page, keyed } = Statements::of(kind, dialect);
                for sql in [page.as_str(), keyed.as_str()] {
                    assert!(!sql.contains('*') && sql.starts_with("SELECT "), "{sql}");
                    for part in ALLOWED.iter().filter(|part| part.kind == kind) {
                        let named =
                            |column: &Column| sql.contains(&format!("{}.{}", part.table, column.name()));
                        assert!(part.columns.iter().all(named), "{sql}");
                    }
                }
            }
        }
    }

    #[test]
    fn stock_is_read_by_brand_and_sku() {
        let statements = Statements::of(EntityKind::Stock, Dialect::Postgres);
        assert_eq!(
            statements.page.as_str(),
            "SELECT skus.brand, skus.sku, stock.available FROM skus JOIN stock ON stock.sku_id = skus.sku_id \
             WHERE skus.brand = $1 AND skus.sku > $2 ORDER BY skus.sku LIMIT $3"
        );
    }
}
