//! Admission: decides if there is room for one more order, from numbers alone, before any work for
//! it.
//!
//! An [`AdmittedOrder`] is made only here, and only it can be sealed.

use std::time::Duration;

use bridge_protocol::domain::body::OrderRequest;
use bridge_protocol::order_link::fair_share::BrandIndex;
use bridge_protocol::seal::sealing::Header;

/// A parsed order for which there is room. There is no `Debug`, because it holds personal data.
pub struct AdmittedOrder {
    header: Header,
    request: OrderRequest,
}

impl AdmittedOrder {
    /// Returns the order's brand, id and key.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the order, with the personal data that must be sealed.
    pub fn request(&self) -> &OrderRequest {
        &self.request
    }
}

/// Current load of the order link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Set if some link takes new requests.
    pub link_open: bool,
    /// Requests that wait for a link.
    pub queued: usize,
    /// Set if the audit log can be written.
    pub audit_writable: bool,
}

/// Reasons not to admit an order, which then has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// No link to the IDC takes orders.
    #[error("the data centre cannot be reached")]
    NoLink,
    /// The audit log cannot be written.
    #[error("the audit log cannot be written")]
    NoAuditLog,
    /// The limit of waiting requests is reached, and the brand has its share of them.
    #[error("as many requests wait as are accepted")]
    Full,
    /// The brand has as many requests outstanding as the data centre takes.
    #[error("the brand has as many requests outstanding as the data centre takes now")]
    OutOfCredit(OutOfCredit),
    /// The agent is shutting down.
    #[error("this agent is shutting down")]
    Draining,
}

/// Refusal of a request for which its brand has no credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfCredit {
    /// The brand.
    pub brand: BrandIndex,
    /// Requests of the brand that may be outstanding.
    pub limit: u32,
    /// Requests a second that the data centre commits; 0 if that is not known.
    pub per_second: u32,
    /// Time for which the answer waits.
    pub pause: Duration,
    /// Whole seconds after which the caller is to come back.
    pub after_secs: u32,
}

impl NotAdmitted {
    /// Returns the time after which a retry makes sense.
    pub fn retry_after(self) -> Duration {
        match self {
            // Links reconnect within five seconds, and most within one.
            Self::NoLink => Duration::from_secs(2),
            // An operator must make room on a disk.
            Self::NoAuditLog => Duration::from_secs(5),
            Self::OutOfCredit(refused) => Duration::from_secs(refused.after_secs.into()),
            // A full queue empties in well under a second.
            Self::Full | Self::Draining => Duration::from_secs(1),
        }
    }
}

/// Admits a write of any kind. `has_room` tells if one more request of its brand may wait.
///
/// # Errors
///
/// Returns the reason if the write is not admitted.
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

/// Admits an order.
///
/// # Errors
///
/// Returns the reason if the order is not admitted.
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
