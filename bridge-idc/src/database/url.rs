//! Chooses the database by the scheme of its URL, `ledger.url` in the configuration.

use std::path::{Path, PathBuf};

use bridge_runtime::config::{BasePaths, Kind, Setting};

use super::postgres;

/// The database, by the scheme of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerUrl {
    /// `sqlite:PATH`, relative to the configuration file or absolute.
    Sqlite(PathBuf),
    /// `postgres://USER@HOST:PORT/DATABASE`, without a password.
    Postgres(String),
}

impl LedgerUrl {
    /// Returns the database's file, if it is a file on this host.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Postgres(_) => None,
            Self::Sqlite(path) => Some(path),
        }
    }

    /// Returns the reason why data on the way to this database could be read or changed. `None` if
    /// the way is protected.
    pub(crate) fn unprotected(&self) -> Option<&'static str> {
        match self {
            Self::Postgres(url) => postgres::unprotected(url),
            Self::Sqlite(_) => None,
        }
    }
}

impl Setting for LedgerUrl {
    const KIND: Kind = Kind::Text;
    const EXPECTED: &'static str = "\"sqlite:PATH\" or \"postgres://USER@HOST/DATABASE\"";

    fn placeholder() -> Self {
        Self::Sqlite(PathBuf::new())
    }

    /// No message repeats the text, because it may contain a password.
    fn parse(text: &str, place: &BasePaths) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            return match path {
                "" | ":memory:" => {
                    Err("must name a file after \"sqlite:\": the ledger outlives the process".to_owned())
                }
                path => place.resolve(path.strip_prefix("//").unwrap_or(path)).map(Self::Sqlite),
            };
        }
        let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"))
        else {
            return Err(format!("must be {}", Self::EXPECTED));
        };
        let (authority, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        let names_password = |parameter: &str| {
            // A percent sign could encode any name.
            let name = parameter.split('=').next().unwrap_or_default();
            name.contains("password") || name.contains('%')
        };
        if user.contains(':') || parameters.split('&').any(names_password) {
            return Err(
                "must not hold the password: write that into a file and name it in ledger.password_file"
                    .to_owned(),
            );
        }
        Ok(Self::Postgres(text.to_owned()))
    }
}
