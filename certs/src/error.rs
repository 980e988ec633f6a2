//! What can go wrong in an authority, in words that say what to do about it.
//!
//! Role: the one error type of this crate. Neighbours: every module makes it, `cli` turns it into an exit code. A
//! message never contains a key or any other part of a file that could hold one.

use std::io;
use std::path::{Path, PathBuf};

/// Why an authority did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// An agent's name breaks the rules.
    #[error("{name:?} is no agent name: use 1 to 63 of a-z, 0-9 and '-', and do not start with '-'")]
    AgentName {
        /// What was given.
        name: String,
    },
    /// A trust domain breaks the rules of the SPIFFE-ID standard.
    #[error(
        "{name:?} is no trust domain: use 1 to 255 of a-z, 0-9, '.', '-' and '_', such as bridge.internal"
    )]
    TrustDomain {
        /// What was given.
        name: String,
    },
    /// A validity of no length.
    #[error("it would end at {end}, which is not after its start at {start}")]
    EndsBeforeItStarts {
        /// First moment, RFC 3339.
        start: String,
        /// Last moment, RFC 3339.
        end: String,
    },
    /// A moment that X.509 cannot write.
    #[error("the time lies outside the years that a certificate can hold: ask for fewer days")]
    TimeOutOfRange,
    /// A file is there already.
    #[error("{} exists and stays as it is; --force replaces it", path.display())]
    Exists {
        /// The file that would have been overwritten.
        path: PathBuf,
    },
    /// The directory holds no authority.
    #[error("there is no authority in {0}: `bridge-certs --dir {0} init` makes one", dir.display())]
    NoAuthority {
        /// The directory.
        dir: PathBuf,
    },
    /// The authority's own certificate is over, so that nothing it signs would be trusted.
    #[error(
        "the authority's own certificate ended at {end}: make a new one in another directory and move the agents over"
    )]
    AuthorityExpired {
        /// Its last moment, RFC 3339.
        end: String,
    },
    /// The authority never issued to that agent.
    #[error("no certificate was ever issued to {agent} here: `bridge-certs issue {agent}` makes the first")]
    NeverIssued {
        /// Role and name.
        agent: String,
    },
    /// All the agent's certificates are revoked; renewing one would let it in again unnoticed.
    #[error("{agent} is revoked: to let it in again on purpose, `bridge-certs issue {agent} --force`")]
    Revoked {
        /// Role and name.
        agent: String,
    },
    /// Something that should be a certificate, a key or a revocation list is not.
    #[error("{reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// One of the above, found in a file or directory.
    #[error("{}: {source}", path.display())]
    InFile {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<CertsError>,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
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

    /// The same error, with the file it was found in.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        Self::InFile { path: path.to_owned(), source: Box::new(self) }
    }

    /// For `map_err`: a failed file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the caller asked for something that cannot be, whatever the state of the authority.
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
