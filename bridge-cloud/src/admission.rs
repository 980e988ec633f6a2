//! Admission: whether there is room for one more order, decided from numbers alone, before work is spent on it.
//!
//! An [`AdmittedOrder`] is made here and nowhere else; only it can be sealed.

use std::time::Duration;

use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::seal::sealing::Header;

/// An order that was parsed and for which there is room. No `Debug`: it holds personal data.
pub struct AdmittedOrder {
    header: Header,
    request: OrderRequest,
}

impl AdmittedOrder {
    /// Whose order under which key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is ordered, and the personal data to be sealed.
    pub fn request(&self) -> &OrderRequest {
        &self.request
    }
}

/// How much is on the order link now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Whether some link takes new requests.
    pub link_open: bool,
    /// Requests waiting for a link.
    pub queued: usize,
    /// Whether what is sent and answered can be logged.
    pub audit_writable: bool,
}

/// Why an order is not admitted. It has had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No link to the IDC takes orders.
    #[error("the data centre cannot be reached")]
    NoLink,
    /// The audit log cannot be written.
    #[error("the audit log cannot be written")]
    NoAuditLog,
    /// As many wait as may, and the brand has its share of them.
    #[error("as many requests wait as are accepted")]
    Full,
    /// The agent is coming to its end.
    #[error("this agent is shutting down")]
    Draining,
}

impl NotAdmitted {
    /// When it makes sense to come back.
    pub fn retry_after(self) -> Duration {
        match self {
            // Links reconnect within five seconds; most within one.
            Self::NoLink => Duration::from_secs(2),
            // Somebody has to make room on a disk.
            Self::NoAuditLog => Duration::from_secs(5),
            // A full queue is worked off in well under a second.
            Self::Full | Self::Draining => Duration::from_secs(1),
        }
    }
}

/// Admits a write of any kind, or says why not. `has_room` says whether its brand may have one more waiting.
pub fn admit_write(load: Load, has_room: bool, draining: bool) -> Result<(), NotAdmitted> {
    if draining {
        Err(NotAdmitted::Draining)
    } else if !load.link_open {
        Err(NotAdmitted::NoLink)
    } else if !load.audit_writable {
        Err(NotAdmitted::NoAuditLog)
    } else if !has_room {
        Err(NotAdmitted::Full)
    } else {
        Ok(())
    }
}

/// Admits an order, or says why not.
pub fn admit(
    header: Header,
    request: OrderRequest,
    load: Load,
    has_room: bool,
    draining: bool,
) -> Result<AdmittedOrder, NotAdmitted> {
    admit_write(load, has_room, draining).map(|()| AdmittedOrder { header, request })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_link_log_or_room_or_when_draining_admission_refuses() {
        let load = |link_open| Load { link_open, queued: 10, audit_writable: true };
        let unlogged = Load { audit_writable: false, ..load(true) };
        assert_eq!(admit_write(unlogged, true, false), Err(NotAdmitted::NoAuditLog));
        assert_eq!(admit_write(load(true), true, false), Ok(()));
        assert_eq!(admit_write(load(true), false, false), Err(NotAdmitted::Full));
        assert_eq!(admit_write(load(false), true, false), Err(NotAdmitted::NoLink));
        assert_eq!(admit_write(load(true), true, true), Err(NotAdmitted::Draining));
    }
}
