//! Opens a received order, and checks it again although the cloud agent has done so. Its personal
//! data is encrypted again at once.
//!
//! No personal data in clear leaves this file. It returns the terms, a fingerprint, and ciphertext
//! for the vault.

use bridge_protocol::domain::{OrderTerms, UnixMicros};
use bridge_protocol::order_link::LinkId;
use bridge_protocol::order_link::receiver::ReceivedOrder;
use bridge_protocol::seal::opening::{Encapsulated, OpenError, Opened, Opener};
use bridge_protocol::seal::sealing::Header;
use bridge_protocol::stack::wiped;
use bridge_protocol::wire::order::{Envelope, Refusal, Refused, Terms};
use prost::Message as _;
use rand::Rng;

use crate::orders::planner::{Action, CustomerTag, Placement, Request};
use crate::vault;
use crate::vault::keyring::Keyring;

/// The reason why an order is refused before the ledger sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenFailure {
    /// The envelope does not open.
    #[error(transparent)]
    Envelope(#[from] OpenError),
    /// The envelope opens, but its terms break a rule that the cloud agent should have checked.
    #[error("the order's terms break a rule: check that the cloud agent has a matching version")]
    Terms,
}

impl OpenFailure {
    /// Returns the refusal for the cloud agent. If the key is unknown or expired, the refusal names
    /// it, so that the cloud agent seals the order to another key.
    pub fn refused(self, envelope: &Envelope) -> Refused {
        let refusal = match self {
            Self::Envelope(OpenError::SessionUnknown) => Refusal::SessionUnknown,
            Self::Envelope(OpenError::UnknownKey | OpenError::KeyExpired) => {
                return Refused { key_id: envelope.key_id.clone(), ..Refusal::UnknownKey.into() };
            }
            Self::Envelope(_) => Refusal::EnvelopeRejected,
            Self::Terms => Refusal::Invalid,
        };
        refusal.into()
    }
}

/// Result of an attempt to open an order.
#[derive(Debug)]
pub enum Opening {
    /// The order is open.
    Open(Box<Request>),
    /// The sealing session must be decapsulated first.
    Needs(Encapsulated),
}

/// Opens an order of a link, and wipes the stack afterwards.
///
/// # Errors
///
/// Fails if the envelope does not open or the terms break a rule.
pub fn open(
    link: LinkId,
    received: &ReceivedOrder,
    opener: &Opener,
    keys: &Keyring,
    now: UnixMicros,
    lines_max: usize,
    random: &mut impl Rng,
) -> Result<Opening, OpenFailure> {
    wiped(|| open_in_clear(link, received, opener, keys, now, lines_max, random))
}

fn open_in_clear(
    link: LinkId,
    received: &ReceivedOrder,
    opener: &Opener,
    keys: &Keyring,
    now: UnixMicros,
    lines_max: usize,
    random: &mut impl Rng,
) -> Result<Opening, OpenFailure> {
    let Header { brand, order, key } = received.header().clone();
    let envelope = received.envelope();
    let personal = match opener.open(link, envelope, now)? {
        Opened::Personal(personal) => personal,
        Opened::Needs(session) => return Ok(Opening::Needs(session)),
    };
    let terms = Terms::decode(envelope.terms.clone()).map_err(|_| OpenFailure::Terms)?;
    let terms: OrderTerms = terms.check(lines_max).map_err(|_| OpenFailure::Terms)?;
    let fingerprint = keys.fingerprint(&[b"place", &envelope.terms, &personal.to_bytes()]);
    let personal = vault::encrypt(order, &personal, keys, random);
    let customer = CustomerTag::from_bytes(keys.customer_tag(&brand, terms.customer_reference()));
    let placement = Placement { order, terms, customer, personal };
    let action = Action::Place(Box::new(placement));
    Ok(Opening::Open(Box::new(Request { brand, key, fingerprint, action })))
}

/// Returns the request of a cancellation. It has no personal data, so there is nothing to open.
pub fn cancellation(header: Header, keys: &Keyring) -> Request {
    let Header { brand, order, key } = header;
    let fingerprint = keys.fingerprint(&[b"cancel", order.as_bytes()]);
    Request { brand, key, fingerprint, action: Action::Cancel { order } }
}
