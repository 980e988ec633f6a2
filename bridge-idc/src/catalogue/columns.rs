//! The columns that may leave the data centre, and the statements that read the feed's rows, built from them.
//!
//! Every SELECT list of the feed is made here from `ALLOWED` and from nothing else: what is not on the list cannot be
//! published. `role.sql` gives the agent the right to read the same columns of the catalogue's tables. What a statement
//! joins, filters and sorts by does not leave.

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
    /// The row itself; its first two columns are its key.
    Own,
    /// The one beside it that this condition names; without it there is no row either.
    Beside { on: &'static str },
    /// Any number, read by a statement of their own, in this order; their first two columns are the key.
    Below { order: &'static str },
}

use Column::{Json, Plain};

/// Everything that may enter the feed. Personal data cannot: it stands in the orders' tables, and none of them is here.
pub const ALLOWED: [Part; 8] = [
    Part {
        kind: EntityKind::Brand,
        table: "brands",
        // A brand's code is its name.
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
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Plain(name) | Json(name) => name,
        }
    }
}

/// What a database says in its own way.
pub(super) struct Dialect {
    /// What makes text of JSON.
    pub(super) json_cast: &'static str,
    /// A join that is read in the order in which it is written.
    pub(super) join: &'static str,
    /// Keys that were asked for, as a table.
    pub(super) wanted: &'static str,
}

/// A database that says some things in its own way.
pub(super) trait Dialects {
    /// How it says them.
    fn dialect(&self) -> &'static Dialect;
}

/// A statement in its two forms.
pub(super) struct Select {
    /// In the order of the keys. Of the rows themselves: $1 brand, $2 the code before the first, $3 how many. Of what
    /// lies below them: $1 brand, $2 the first code, $3 the last.
    pub(super) page: SqlStr,
    /// Of these keys, in any order. PostgreSQL: $1 brands, $2 codes; SQLite: $1 a JSON array of both.
    pub(super) keyed: SqlStr,
}

/// What reads the rows of one kind: the statement of the rows themselves, then those of what lies below them, in the
/// order of [`ALLOWED`].
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
