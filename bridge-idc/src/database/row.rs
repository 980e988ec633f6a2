//! Rows as structs, read from either database.

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

/// A row that can be read from every database.
pub(crate) trait AnyRow:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}

impl<R> AnyRow for R where R: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin {}

/// Defines a row as a struct. Its fields are the statement's columns, in their order.
macro_rules! row {
    (
        $(#[$of_row:meta])*
        $seen:vis struct $name:ident {
            $($(#[$of_field:meta])* $field_seen:vis $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$of_row])*
        $seen struct $name {
            $($(#[$of_field])* $field_seen $field: $type,)*
        }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $name
        where
            usize: sqlx::ColumnIndex<R>,
            $($type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> sqlx::Result<Self> {
                let mut columns = 0_usize..;
                let mut next = || columns.next().unwrap_or_default();
                Ok(Self { $($field: row.try_get(next())?,)* })
            }
        }
    };
}
pub(crate) use row;
