//! Errors of an authority, with their remedies.
//!
//! Role: the only error type of this crate. Neighbours: every module makes it, and `cli` turns it
//! into an exit code. A message never contains a key, or a part of a file that could contain one.

use std::io;
use std::path::{Path, PathBuf};

/// Reasons why an authority refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// An agent's name breaks the rules.
    #[error("{name:?} is no agent name: use 1 to 63 of a-z, 0-9 and '-', and do not start with '-'")]
    AgentName {
        /// The given name.
        name: String,
    },
    /// A trust domain breaks the rules of the SPIFFE-ID standard.
    #[error(
        "{name:?} is no trust domain: use 1 to 255 of a-z, 0-9, '.', '-' and '_', such as bridge.internal"
    )]
    TrustDomain {
        /// The given name.
        name: String,
    },
    /// A validity that ends before it starts.
    #[error("it would end at {end}, which is not after its start at {start}")]
    EndsBeforeItStarts {
        /// First moment (RFC 3339).
        start: String,
        /// Last moment (RFC 3339).
        end: String,
    },
    /// A time that X.509 cannot express.
    #[error("the time lies outside the years that a certificate can hold: ask for fewer days")]
    TimeOutOfRange,
    /// The file already exists.
    #[error("{} exists and stays as it is; --force replaces it", path.display())]
    Exists {
        /// The file that would be overwritten.
        path: PathBuf,
    },
    /// The directory has an authority already.
    #[error(
        "{} exists: there is an authority already, and it stays as it is. A new one goes into another directory; \
         docs/operator.md (\"A new authority\") moves the agents over. --force would replace it here, and every certificate that \
         it signed would be void at once",
        path.display()
    )]
    AuthorityExists {
        /// A file of the authority.
        path: PathBuf,
    },
    /// The directory has no authority.
    #[error("there is no authority in {0}: `bridge-certs --dir {0} init` makes one", dir.display())]
    NoAuthority {
        /// The directory.
        dir: PathBuf,
    },
    /// The authority's own certificate has expired, so agents would not trust anything that it
    /// signs.
    #[error(
        "the authority's own certificate ended at {end}: make a new one in another directory and move the agents over \
         (docs/operator.md, \"A new authority\")"
    )]
    AuthorityExpired {
        /// Its last moment (RFC 3339).
        end: String,
    },
    /// The authority never issued a certificate to that agent.
    #[error("no certificate was ever issued to {agent} here: `bridge-certs issue {agent}` makes the first")]
    NeverIssued {
        /// Role and name.
        agent: String,
    },
    /// All of the agent's certificates are revoked. Renewing one would silently let the agent in
    /// again.
    #[error("{agent} is revoked: to let it in again on purpose, `bridge-certs issue {agent} --force`")]
    Revoked {
        /// Role and name.
        agent: String,
    },
    /// The data is not a certificate, a key or a revocation list.
    #[error("{reason}")]
    Malformed {
        /// The fault.
        reason: String,
    },
    /// One of the other errors, found in a file or directory.
    #[error("{}: {source}", path.display())]
    InFile {
        /// Path of the file or directory.
        path: PathBuf,
        /// The error.
        source: Box<CertsError>,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted action, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The cryptographic library failed to make a key or a signature.
    #[error("cannot sign: {0}")]
    Signing(#[from] rcgen::Error),
}

impl CertsError {
    pub(crate) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: reason.into() }
    }

    /// Adds the path of the file to the error.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::InFile { path: path.to_owned(), source: Box::new(self) }
    }

    /// Returns a function for `map_err` that makes an error of a failed file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Returns true if the request is impossible, whatever the state of the authority.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::AgentName { .. }
                | Self::TrustDomain { .. }
                | Self::EndsBeforeItStarts { .. }
                | Self::TimeOutOfRange
        )
    }
}
