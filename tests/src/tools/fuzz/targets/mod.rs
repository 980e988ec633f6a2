//! What is fuzzed: each file has one target, its good inputs, and what must hold whatever the input is.

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

/// When everything here happens.
const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

/// Stands in every value that no error may repeat.
const SECRET: &str = "PLNT";

/// An error about `subject` unless `holds`.
fn demand(holds: bool, subject: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(subject.to_owned()) }
}

/// Signs whatever is signed here.
#[expect(clippy::expect_used, reason = "the name is a good one")]
fn signer() -> NoteSigner {
    NoteSigner::new("idc.example/keys", &[1; 32]).expect("a signer")
}

/// Checks what [`signer`] signed.
fn pinned() -> [NoteVerifier; 1] {
    [signer().verifier().clone()]
}

/// The one key that envelopes here are sealed to.
#[expect(clippy::expect_used, reason = "any 32 bytes are a key")]
fn opening_key() -> OpeningKey {
    let validity = Validity { not_before: UnixMicros::new(0), not_after: UnixMicros::new(i64::MAX) };
    OpeningKey::new(&[2; 32], validity).expect("a key")
}
