//! The parts of the command `check` that both agents have: the certificates and the audit log's
//! key.
//!
//! Reading a configuration finds mistakes in its values. These checks find mistakes in the files
//! that it names, and add them to the reader, so that all are reported together. Where a setting
//! has a mistake already, nothing is added about it.

use bridge_protocol::domain::identity::Role;

use crate::audit_log;
use crate::config::{AuditConfig, Reader, TunnelConfig};
use crate::tunnel::Tunnel;

/// Adds the mistakes in the files that the common sections name.
pub fn files(reader: &mut Reader, role: Role, audit: &AuditConfig, tunnel: &TunnelConfig) {
    for (setting, faults) in Tunnel::faults(tunnel, role) {
        reader.refuse_each(setting, faults);
    }
    if let Err(error) = audit_log::check(audit) {
        reader.refuse("audit.key_file", error.to_string());
    }
}
