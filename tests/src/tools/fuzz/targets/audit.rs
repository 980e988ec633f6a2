//! The formats of the audit log: an entry, a bundle, a segment of the journal, a checkpoint, a
//! proof, a tile's path. Accepted bytes are in their only valid form, and only signed data passes
//! as signed.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_protocol::audit::entry::{Carried, Digest, ENTRY_BYTES_MAX, Entry, Event, Stopped, Word};
use bridge_protocol::audit::journal::{Header, Reader};
use bridge_protocol::audit::tile::{self, Tile};
use bridge_protocol::audit::{Checkpoint, prove};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId};
use bridge_protocol::merkle::leaf_hash;

use super::{NOW, demand, signer};
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// All parsers of an audit folder. Each gets every input.
pub(super) const TARGET: Target = Target { name: "audit", corpus, change: mutate::lines, check };

/// A log of one entry: its checkpoint, the proof of that entry, and the entry.
static SIGNED: LazyLock<(Checkpoint, String, Vec<u8>)> = LazyLock::new(signed);

#[expect(clippy::expect_used, reason = "all of it is good")]
fn signed() -> (Checkpoint, String, Vec<u8>) {
    let entry = entries().swap_remove(0);
    let origin = signer().verifier().name().to_owned();
    let checkpoint = Checkpoint { origin, size: 1, root: leaf_hash(&entry) };
    let note = checkpoint.sign(&signer()).expect("a checkpoint");
    let extra = BASE64.encode(&entry);
    (checkpoint, format!("c2sp.org/tlog-proof@v1\nextra {extra}\nindex 0\n\n{note}"), entry)
}

#[expect(clippy::expect_used, reason = "all of it is good")]
fn entries() -> Vec<Vec<u8>> {
    let carried = Carried {
        action: Word::of("place"),
        brand: Brand::new("shoes").expect("a brand"),
        bytes: 272,
        ciphertext: Some(Digest::of(b"sealed")),
        key: KeyDigest::from_bytes(&[7; 32]).expect("a digest"),
        order: OrderId::new(NOW, [9; 10]),
        payment: None,
    };
    let events = [Event::OrderSent(carried), Event::AgentStopped(Stopped { reason: Word::of("signal") })];
    events.into_iter().map(|event| Entry::new(NOW, event).encode().expect("an entry")).collect()
}

fn corpus() -> Vec<Vec<u8>> {
    let (mut segment, mut writer) = Header { first: 0, root: [1; 32] }.encode();
    let mut bundle = Vec::new();
    for entry in entries() {
        writer.round(None, std::iter::once((&entry[..], &leaf_hash(&entry))), &mut segment);
        tile::push_entry(&mut bundle, &entry);
    }
    writer.round(Some(2), std::iter::empty(), &mut segment);
    let proof = SIGNED.1.clone().into_bytes();
    let path = b"tile/entries/x001/x234/067.p/8".to_vec();
    entries().into_iter().chain([segment, bundle, proof, path]).collect()
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let mut accepted = false;
    if let Ok(entry) = Entry::parse(input) {
        demand(entry.encode().is_ok_and(|bytes| bytes == input), "an entry in another form than its own")?;
        accepted = true;
    }
    if let Ok(entries) = tile::entries(input) {
        let mut again = Vec::new();
        entries.iter().for_each(|entry| tile::push_entry(&mut again, entry));
        let fits = entries.iter().all(|entry| entry.len() <= ENTRY_BYTES_MAX);
        demand(!fits || again == input, "a bundle is encoded differently from its input")?;
        accepted |= !entries.is_empty();
    }
    if let Ok((_, mut reader)) = Reader::open(input) {
        while let Ok(Some(_)) = reader.next_round() {}
        demand(reader.position() <= input.len(), "a journal read beyond its end")?;
        accepted = true;
    }
    if let Ok(checkpoint) = Checkpoint::verify(input, signer().verifier()) {
        demand(checkpoint == SIGNED.0, "a checkpoint that nobody signed")?;
        accepted = true;
    }
    if let Ok(text) = std::str::from_utf8(input) {
        if let Ok(tile) = text.parse::<Tile>() {
            demand(tile.to_string() == text, "a tile at two paths")?;
            accepted = true;
        }
        if let Ok(proven) = prove::check(text, signer().verifier()) {
            let (checkpoint, _, entry) = &*SIGNED;
            let same = proven.entry == *entry && proven.index == 0 && proven.checkpoint == *checkpoint;
            demand(same, "a proof of an entry that is not in the log")?;
            accepted = true;
        }
    }
    Ok(if accepted { Verdict::Accepted } else { Verdict::Refused })
}
