//! Signed notes, the sealing-key manifest and verifier keys: only signed data is accepted.

use bridge_protocol::note::{NoteVerifier, verify_note};
use bridge_protocol::seal::manifest::Manifest;

use super::{NOW, demand, opening_key, pinned, signer};
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// `verify_note`, `Manifest::verify` and `NoteVerifier::parse`. Each gets every input.
pub(super) const TARGET: Target = Target { name: "notes", corpus, change: mutate::lines, check };

const TEXT: &str = "some other text\n\nof three lines\n";

fn manifest() -> Manifest {
    Manifest { keys: vec![opening_key().sealing_key()] }
}

#[expect(clippy::expect_used, reason = "both are good")]
fn corpus() -> Vec<Vec<u8>> {
    let manifest = manifest().sign(&signer()).expect("a manifest");
    let note = signer().sign_note(TEXT).expect("a note");
    vec![manifest.to_vec(), note.into_bytes(), signer().verifier().to_string().into_bytes()]
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let mut verdict = Verdict::Refused;
    if let Ok(text) = verify_note(input, &pinned()) {
        verdict = Verdict::Accepted;
        demand(text == TEXT || Manifest::verify(input, &pinned(), NOW).is_ok(), "a note that nobody signed")?;
    }
    if let Ok(read) = Manifest::verify(input, &pinned(), NOW) {
        demand(read == manifest(), "a manifest that nobody signed")?;
    }
    if let Some(key) = std::str::from_utf8(input).ok().and_then(|text| NoteVerifier::parse(text).ok()) {
        verdict = Verdict::Accepted;
        demand(
            key.to_string().as_bytes() == input.trim_ascii(),
            "a verifier key is encoded differently from its input",
        )?;
    }
    Ok(verdict)
}
