//! The parts of the command `check` that both agents have: the certificates, the audit log's key
//! and the folders that the agent writes to.
//!
//! Reading a configuration finds mistakes in its values. These checks find mistakes in the files
//! and folders that it names, and add them to the reader, so that all are reported together. Where
//! a setting has a mistake already, nothing is added about it.

use bridge_protocol::domain::identity::Role;

use crate::config::{AgentConfig, AuditConfig, Reader, TunnelConfig};
use crate::tunnel::Tunnel;
use crate::{audit_log, folder};

/// Adds the mistakes in the files and folders that the common sections name.
pub fn files(
    reader: &mut Reader,
    role: Role,
    agent: &AgentConfig,
    audit: &AuditConfig,
    tunnel: &TunnelConfig,
) {
    for (setting, faults) in Tunnel::faults(tunnel, role) {
        reader.refuse_each(setting, faults);
    }
    if let Some(refusal) = Tunnel::refusal_of_itself(tunnel, role) {
        let doubt = format!("under tunnel.ca and tunnel.crl this agent itself would be refused: {refusal}");
        reader.warn("tunnel.certificate", &doubt);
    }
    if let Err(error) = audit_log::check(audit) {
        reader.refuse("audit.key_file", error.to_string());
    }
    let folders = [
        ("agent.state_dir", agent.state_dir.as_path()),
        ("audit.dir", &audit.dir),
        ("audit.key_file", folder::of(&audit.key_file)),
    ];
    for (setting, path) in folders {
        // A folder in another one that cannot be used is no mistake of its own.
        let is_inside = setting != "agent.state_dir" && path.starts_with(&agent.state_dir);
        if !(is_inside && reader.is_refused("agent.state_dir"))
            && let Err(error) = folder::check_writable(path)
        {
            let path = path.display();
            reader.refuse(setting, format!("{path} cannot be made or written by this user: {error}"));
        }
    }
}
