//! Tests Bridge's own formats against bytes that no code of Bridge calculated: sealed envelopes,
//! rows of the vault, fingerprints and key checks. Such bytes are stored in databases or under way
//! between agents, so they must never change.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_idc::vault::keyring::{self, Keyring};
use bridge_idc::vault::{self, PersonalAtRest};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, PersonalData, PersonalField, UnixMicros};
use bridge_protocol::seal::manifest::Validity;
use bridge_protocol::seal::opening::{Opener, OpeningKey};
use bridge_protocol::seal::sealing::{Header, RECORDS_MAX, SealingSession};
use bridge_protocol::wire::lane::LinkId;
use bytes::Bytes;

use super::building_blocks::FixedRandom;
use super::vectors::{Case, cases};

const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
const FOREVER: Validity = Validity { not_before: UnixMicros::new(0), not_after: UnixMicros::new(i64::MAX) };

#[test]
fn a_session_seals_and_opens_the_envelopes_that_were_calculated_elsewhere() {
    let recipient = &cases("x-wing.txt")[0];
    let [order, records @ ..] = &cases("bridge-envelope.txt")[..] else {
        panic!("no order with its records")
    };
    let key = OpeningKey::new(&recipient.array("skRm"), FOREVER).unwrap();
    let mut random = FixedRandom(recipient.bytes("ikmE"));
    let mut session = SealingSession::start(&key.sealing_key(), NOW, &mut random).unwrap();
    let mut opener = Opener::new(vec![key], 1);
    let (header, terms) = (header(order), Bytes::from(order.bytes("terms")));
    let mut known = 0;
    for record in 0..RECORDS_MAX {
        let envelope = session.seal(&header, terms.clone(), &personal(order)).unwrap();
        assert_eq!(envelope.record, record);
        let Some(answer) = records.iter().find(|case| case.text("record") == record.to_string()) else {
            continue;
        };
        known += 1;
        assert_eq!(envelope.encapsulation, recipient.bytes("enc"));
        assert_eq!(
            (envelope.key_id.to_vec(), envelope.session.to_vec()),
            (order.bytes("key_id"), order.bytes("session"))
        );
        assert_eq!(envelope.ciphertext, answer.bytes("ciphertext"), "record {record}");
        let opened = opener.open_at_once(LinkId(1), &envelope, NOW);
        assert!(opened.is_ok_and(|opened| opened == personal(order)), "record {record}");
    }
    assert_eq!(known, records.len());
}

#[test]
fn the_vault_writes_and_reads_the_row_that_was_calculated_elsewhere() {
    let [row, ..] = &cases("bridge-vault.txt")[..] else { panic!("no row") };
    let (folder, order) = (tempfile::tempdir().unwrap(), OrderId::from_bytes(&row.bytes("order")).unwrap());
    let keys = keyring(folder.path(), row);
    let wrapped_key = row.bytes("wrapped_key");
    let column = |field: PersonalField| {
        personal(row).iter().any(|(set, _)| set == field).then(|| row.bytes(field.column()))
    };
    let stored = PersonalAtRest { key_version: 2, wrapped_key, fields: PersonalField::ALL.map(column) };
    assert!(vault::decrypt(order, &stored, &keys) == Ok(personal(row)));

    let salt = &stored.wrapped_key[..32];
    let mut random = FixedRandom([&row.bytes("data_key"), salt].concat());
    assert_eq!(vault::encrypt(order, &personal(row), &keys, &mut random), stored);
}

#[test]
fn requests_and_keys_are_known_by_the_values_that_were_calculated_elsewhere() {
    let [row, request, checks] = &cases("bridge-vault.txt")[..] else { panic!("no row, request and keys") };
    let folder = tempfile::tempdir().unwrap();
    let keys = keyring(folder.path(), row);
    let parts: Vec<_> = (0..3).map(|number| request.bytes(&format!("part{number}"))).collect();
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    assert_eq!(keys.fingerprint(&parts), request.array("mac"));
    for name in ["fingerprint", "kek-2"] {
        let check = keys.checks().into_iter().find(|check| check.name == name).unwrap();
        assert_eq!(check.value, checks.array(&format!("check-{name}")), "{name}");
    }
}

fn header(case: &Case) -> Header {
    Header {
        brand: Brand::new(std::str::from_utf8(&case.bytes("brand")).unwrap()).unwrap(),
        order: OrderId::from_bytes(&case.bytes("order")).unwrap(),
        key: KeyDigest::from_bytes(&case.bytes("key")).unwrap(),
    }
}

fn personal(case: &Case) -> PersonalData {
    PersonalData::from_bytes(&case.bytes("personal")).ok().unwrap()
}

/// Returns a keyring of an IDC. The case gives its second key-encryption key and its fingerprint
/// key.
fn keyring(folder: &Path, case: &Case) -> Keyring {
    keyring::init(folder, "idc.example", NOW, &mut rand::rng()).unwrap();
    for (name, kind) in [("kek-2", "key-encryption"), ("fingerprint", "fingerprint")] {
        let path = folder.join(format!("{name}.key"));
        fs::write(&path, format!("bridge {kind} key v1\nsecret: {}\n", BASE64.encode(case.bytes(name))))
            .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    Keyring::load(folder).unwrap()
}
