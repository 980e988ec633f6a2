//! A statement in each database's SQL. Its text is in files beside the room that uses it.

/// A statement: its text for each database.
#[derive(Clone, Copy)]
pub(crate) struct Statement {
    /// Text for PostgreSQL.
    pub(crate) postgres: &'static str,
    /// Text for SQLite.
    pub(crate) sqlite: &'static str,
}

/// A statement with one text for each database: `postgres/NAME.sql` and `sqlite/NAME.sql`, beside
/// the file that names it.
macro_rules! each {
    ($name:literal) => {
        $crate::database::Statement {
            postgres: include_str!(concat!("postgres/", $name, ".sql")),
            sqlite: include_str!(concat!("sqlite/", $name, ".sql")),
        }
    };
}
pub(crate) use each;

/// The text of a statement that is the same for every database: `common/NAME.sql`, beside the file
/// that names it.
macro_rules! common {
    ($name:literal) => {
        include_str!(concat!("common/", $name, ".sql"))
    };
}
pub(crate) use common;

/// Passes each statement to the connection of a transaction.
macro_rules! handed_over {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $returns:ty;)*) => {
        $(async fn $name(&mut self, $($argument: $type),*) -> sqlx::Result<$returns> {
            $crate::database::on_connection!(self, connection => connection.$name($($argument),*).await)
        })*
    };
}
pub(crate) use handed_over;
