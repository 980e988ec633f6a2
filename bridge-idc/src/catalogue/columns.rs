//! The columns that may leave the data centre, and the statements that read the feed's rows.
//!
//! Every SELECT list of the feed is built here from `ALLOWED` alone, so a column that is not on
//! that list cannot be published. `role.sql` gives the agent the right to read the same columns.
//! Columns that a statement only joins, filters or sorts by are not published.

use bridge_protocol::domain::catalogue::EntityKind;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Columns of one table that go into the rows of one kind.
pub struct Part {
    /// The kind of the feed's rows.
    pub kind: EntityKind,
    /// The table.
    pub table: &'static str,
    /// The columns, in the order in which they are read.
    pub columns: &'static [Column],
    /// The rows of the table that belong to a row of the feed.
    rows: Rows,
}

/// A column's name and type.
pub enum Column {
    /// A text or a number.
    Plain(&'static str),
    /// JSON, read as text.
    Json(&'static str),
}

/// The rows of a table that belong to one row of the feed.
enum Rows {
    /// The row itself. Its first two columns are its key.
    Own,
    /// The one row that this join condition selects. If it is missing, the feed has no row.
    Beside { on: &'static str },
    /// Any number of child rows, in this order, read by a statement of their own. Their first two
    /// columns are the key.
    Below { order: &'static str },
}

use Column::{Json, Plain};

/// Every column that may enter the feed. Personal data is only in the tables of the orders, and
/// none of those tables is listed here.
pub const ALLOWED: [Part; 8] = [
    Part {
        kind: EntityKind::Brand,
        table: "brands",
        // The code of a brand is its name.
        columns: &[Plain("brand"), Plain("brand"), Plain("currency")],
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
        rows: Rows::Beside { on: "brands.brand = products.brand" },
    },
    Part {
        kind: EntityKind::Product,
        table: "product_categories",
        columns: &[Plain("brand"), Plain("product"), Plain("category")],
        rows: Rows::Below { order: "category" },
    },
    Part {
        kind: EntityKind::Product,
        table: "skus",
        columns: &[Plain("brand"), Plain("product"), Plain("sku"), Plain("price"), Json("options")],
        rows: Rows::Below { order: "position, sku" },
    },
    Part {
        kind: EntityKind::Stock,
        table: "skus",
        columns: &[Plain("brand"), Plain("sku")],
        rows: Rows::Own,
    },
    Part {
        kind: EntityKind::Stock,
        table: "stock",
        columns: &[Plain("available")],
        rows: Rows::Beside { on: "stock.sku_id = skus.sku_id" },
    },
];

impl Column {
    /// Returns the column's name.
    pub fn name(&self) -> &'static str {
        match self {
            Plain(name) | Json(name) => name,
        }
    }
}

/// The SQL that differs between the databases.
pub(super) struct Dialect {
    /// Cast from JSON to text.
    pub(super) json_cast: &'static str,
    /// A join that the planner runs in the written order.
    pub(super) join: &'static str,
    /// The requested keys as a table.
    pub(super) wanted: &'static str,
}

/// A database with its own SQL dialect.
pub(super) trait Dialects {
    /// Returns the dialect.
    fn dialect(&self) -> &'static Dialect;
}

/// A statement in its two forms.
pub(super) struct Select {
    /// Reads a page in the order of the keys. For the rows themselves: $1 brand, $2 code before the
    /// first row, $3 number of rows. For child rows: $1 brand, $2 first code, $3 last code.
    pub(super) page: SqlStr,
    /// Reads the rows of given keys, in any order. PostgreSQL: $1 brands, $2 codes. SQLite: $1 a
    /// JSON array of both.
    pub(super) keyed: SqlStr,
}

/// Returns the statements that read the rows of one kind: first the one for the rows themselves,
/// then those for their child rows, in the order of [`ALLOWED`].
pub(super) fn selects(kind: EntityKind, dialect: &Dialect) -> Vec<Select> {
    let parts = || ALLOWED.iter().filter(|part| part.kind == kind);
    let (mut list, mut joins) = (Vec::new(), String::new());
    for part in parts() {
        if let Rows::Own | Rows::Beside { .. } = part.rows {
            list.push(part.list(dialect));
        }
        if let Rows::Beside { on } = part.rows {
            joins.push_str(&format!(" {} {} ON {on}", dialect.join, part.table));
        }
    }
    let list = list.join(", ");
    let select = parts().filter_map(|part| match part.rows {
        Rows::Own => Some(part.select(&list, &joins, None, dialect)),
        Rows::Below { order } => Some(part.select(&part.list(dialect), "", Some(order), dialect)),
        Rows::Beside { .. } => None,
    });
    select.collect()
}

impl Part {
    fn list(&self, dialect: &Dialect) -> String {
        let column = |column: &Column| {
            let cast = match column {
                Json(_) => dialect.json_cast,
                Plain(_) => "",
            };
            format!("{}.{}{cast}", self.table, column.name())
        };
        self.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    }

    fn select(&self, list: &str, joins: &str, below: Option<&str>, dialect: &Dialect) -> Select {
        let (table, key) = (self.table, self.columns.get(1).map_or("", Column::name));
        let page = match below {
            None => format!(
                "SELECT {list} FROM {table}{joins} \
                 WHERE {table}.brand = $1 AND {table}.{key} > $2 ORDER BY {table}.{key} LIMIT $3"
            ),
            Some(order) => format!(
                "SELECT {list} FROM {table} \
                 WHERE brand = $1 AND {key} >= $2 AND {key} <= $3 ORDER BY {key}, {order}"
            ),
        };
        let order = below.map(|order| format!(" ORDER BY {order}")).unwrap_or_default();
        let keyed = format!(
            "SELECT {list} FROM {} {} {table} \
             ON {table}.brand = wanted.brand AND {table}.{key} = wanted.code{joins}{order}",
            dialect.wanted, dialect.join
        );
        Select { page: AssertSqlSafe(page).into_sql_str(), keyed: AssertSqlSafe(keyed).into_sql_str() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{postgres, sqlite};
    use super::*;

    #[test]
    fn no_column_of_an_order_or_a_person_is_on_the_list() {
        const PUBLIC: [&str; 6] = ["brands", "categories", "products", "product_categories", "skus", "stock"];
        const PRIVATE: [&str; 8] =
            ["customer", "delivery", "phone", "email", "address", "key", "sold", "initial"];
        for part in &ALLOWED {
            assert!(PUBLIC.contains(&part.table), "{} is no table of the catalogue", part.table);
            for name in part.columns.iter().map(Column::name) {
                assert!(!PRIVATE.iter().any(|word| name.contains(word)), "{}.{name}", part.table);
            }
        }
    }

    #[test]
    fn a_statement_selects_columns_of_the_list_and_nothing_else() {
        for dialect in [&postgres::DIALECT, &sqlite::DIALECT] {
            for kind in EntityKind::ALL {
                let allowed: Vec<String> = ALLOWED
                    .iter()
                    .filter(|part| part.kind == kind)
                    .flat_map(|part| {
                        part.columns.iter().map(|column| format!("{}.{}", part.table, column.name()))
                    })
                    .collect();
                for Select { page, keyed } in selects(kind, dialect) {
                    for sql in [page.as_str(), keyed.as_str()] {
                        let list =
                            sql.strip_prefix("SELECT ").and_then(|sql| sql.split_once(" FROM ")).unwrap().0;
                        for column in list.split(", ") {
                            let column = column.trim_end_matches("::text");
                            assert!(allowed.iter().any(|allowed| allowed == column), "{column} in {sql}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn stock_is_read_by_brand_and_sku() {
        let select = &selects(EntityKind::Stock, &postgres::DIALECT)[0];
        assert_eq!(
            select.page.as_str(),
            "SELECT skus.brand, skus.sku, stock.available FROM skus JOIN stock ON stock.sku_id = skus.sku_id \
             WHERE skus.brand = $1 AND skus.sku > $2 ORDER BY skus.sku LIMIT $3"
        );
    }
}
