//! Choice of the ledger's database, and the split of its URL and password.
//!
//! The agents never accept a password in a URL. The password is in a file of its own.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// The ledger's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// Path of a SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://USER@HOST:PORT/DATABASE`, without the password.
        url: String,
        /// The password, if the database needs one.
        password: Option<String>,
    },
}

impl Database {
    /// Parses `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`.
    ///
    /// # Errors
    ///
    /// Fails if the text is neither. The error does not contain the text, since the text may
    /// contain a password.
    pub fn parse(text: &str) -> Result<Database> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Database::Sqlite(std::path::absolute(path)?));
        }
        let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
        let Some(rest) = rest.filter(|rest| rest.contains('/')) else {
            bail!("a database is sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE");
        };
        let secret = rest.rsplit_once('@').and_then(|(user, place)| Some((user.split_once(':')?, place)));
        Ok(match secret {
            Some(((user, password), place)) => Database::Postgres {
                url: format!("postgres://{user}@{place}"),
                password: Some(password.to_owned()),
            },
            None => Database::Postgres { url: format!("postgres://{rest}"), password: None },
        })
    }

    /// Returns the URL as an agent's configuration has it.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Database::Sqlite(path) => format!("sqlite:{}", path.display()),
            Database::Postgres { url, .. } => url.clone(),
        }
    }

    /// Returns the kind of the database, for a report.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Database::Sqlite(_) => "SQLite",
            Database::Postgres { .. } => "PostgreSQL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_taken_out_of_a_url() {
        let with = Database::parse("postgres://dba:s3cret@db:5433/shop?sslmode=disable").expect("a database");
        let url = "postgres://dba@db:5433/shop?sslmode=disable".to_owned();
        assert_eq!(with, Database::Postgres { url: url.clone(), password: Some("s3cret".to_owned()) });
        assert_eq!(Database::parse(&url).expect("a database"), Database::Postgres { url, password: None });
    }

    #[test]
    fn what_is_no_database_is_refused_without_repeating_it() {
        for text in ["mysql://u:s3cret@h/d", "sqlite:", "postgres://s3cret", ""] {
            let error = Database::parse(text).expect_err("no database").to_string();
            assert!(error.contains("sqlite:PATH") && !error.contains("s3cret"), "{error}");
        }
    }
}
