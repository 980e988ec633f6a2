//! The fuzz targets. Each file has one target with its valid inputs and the rules that hold for
//! every input.

mod audit;
mod config;
mod envelopes;
mod frames;
mod notes;
mod order_body;
mod payment_body;
mod personal;
mod receipts;

use bridge_protocol::domain::UnixMicros;
use bridge_protocol::note::{NoteSigner, NoteVerifier};
use bridge_protocol::seal::manifest::Validity;
use bridge_protocol::seal::opening::OpeningKey;

use super::hunt::Target;

/// Every target.
pub(super) const ALL: [Target; 9] = [
    frames::TARGET,
    envelopes::TARGET,
    order_body::TARGET,
    payment_body::TARGET,
    personal::TARGET,
    receipts::TARGET,
    notes::TARGET,
    config::TARGET,
    audit::TARGET,
];

/// The time in all targets.
const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

/// Part of every value that no error may repeat.
const SECRET: &str = "PLNT";

/// Returns `subject` as an error unless `holds`.
fn demand(holds: bool, subject: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(subject.to_owned()) }
}

/// Returns the signer of all signed inputs.
#[expect(clippy::expect_used, reason = "the name is a good one")]
fn signer() -> NoteSigner {
    NoteSigner::new("idc.example/keys", &[1; 32]).expect("a signer")
}

/// Returns the verifier of [`signer`].
fn pinned() -> [NoteVerifier; 1] {
    [signer().verifier().clone()]
}

/// Returns the key that all envelopes are sealed to.
#[expect(clippy::expect_used, reason = "any 32 bytes are a key")]
fn opening_key() -> OpeningKey {
    let validity = Validity { not_before: UnixMicros::new(0), not_after: UnixMicros::new(i64::MAX) };
    OpeningKey::new(&[2; 32], validity).expect("a key")
}
