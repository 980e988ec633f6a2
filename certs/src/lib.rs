//! The private certificate authority of a bridge: it makes, renews, revokes and explains the certificates by which
//! two agents know each other.
//!
//! Role: the `bridge-certs` command, and for the tests of the other crates the same thing as a library, in a
//! directory ([`Authority`]) or in memory ([`Ca`]). Neighbours: the agents read the files it writes; nothing here is
//! linked into them. It never opens a socket, never judges a peer (that is the agents' TLS), and never prints or
//! logs a private key.
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

// In the order in which a certificate comes to be: who it names, how long it lasts, what signs it, where it lies.
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
pub use inspection::{Inspection, RevocationStatus, inspect, inspect_pem};
pub use serial::Serial;
pub use validity::Validity;

/// Trust domain of an authority that was not told another one.
pub const DEFAULT_TRUST_DOMAIN: &str = "bridge.internal";
/// Days an authority's own certificate is valid for, unless told otherwise.
pub const DEFAULT_CA_DAYS: u32 = 3650;
/// Days an agent's certificate is valid for, unless told otherwise.
pub const DEFAULT_AGENT_DAYS: u32 = 30;
/// Days until the next revocation list is due, unless told otherwise.
pub const DEFAULT_CRL_DAYS: u32 = 30;
