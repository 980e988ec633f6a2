//! The private certificate authority of a bridge. It makes, renews, revokes and explains the
//! certificates by which two agents authenticate each other.
//!
//! Role: the `bridge-certs` command, and the same functions as a library for the tests of the other
//! crates, in a directory ([`Authority`]) or in memory ([`Ca`]). Neighbours: the agents read the
//! files that it writes, and link none of this code. It never opens a socket, never verifies a peer
//! (the agents' TLS does), and never prints or logs a private key.
//!
//! ```
//! use bridge_certs::{Authority, InitOptions, IssueOptions, Role};
//!
//! # let scratch = tempfile::tempdir()?;
//! # let dir = scratch.path().join("pki");
//! let authority = Authority::init(&dir, &InitOptions::default())?;
//! let seoul = authority.issue(Role::Cloud, "seoul", &IssueOptions::default())?;
//! assert_eq!(seoul.spiffe_id.as_deref(), Some("spiffe://bridge.internal/cloud/seoul"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::missing_errors_doc)]

// In the order in which a certificate is made: identity, serial, validity, signature, directory.
mod identity;
mod serial;
mod validity;

mod ca;
mod crl;
mod inspection;

mod authority;
mod files;

pub mod cli;
mod error;

pub use authority::{Authority, InitOptions, IssueOptions, Renewal, Revocation};
pub use bridge_protocol::domain::identity::Role;
pub use ca::{Ca, Issued};
pub use crl::{Crl, Revoked};
pub use error::CertsError;
pub use identity::TrustDomain;
pub use inspection::{Inspection, ListInspection, RevocationStatus, inspect, inspect_list, inspect_pem};
pub use serial::Serial;
pub use validity::Validity;

/// Default trust domain of an authority.
pub const DEFAULT_TRUST_DOMAIN: &str = "bridge.internal";
/// Default validity of an authority's own certificate, in days.
pub const DEFAULT_CA_DAYS: u32 = 3650;
/// Default validity of an agent's certificate, in days.
pub const DEFAULT_AGENT_DAYS: u32 = 30;
/// Default time until the next revocation list is due, in days.
pub const DEFAULT_CRL_DAYS: u32 = 30;
