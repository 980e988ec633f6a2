//! Checks on the ciphertexts that no two records, columns or salts share a key and nonce.
//!
//! AES-GCM encrypts by XOR with a keystream, which depends only on key, nonce and block number.
//! With a known plaintext, the keystream can be calculated from the ciphertext. Two equal blocks of
//! keystream prove that a key and nonce were used twice. An attacker with both ciphertexts could
//! then read the XOR of two people's data, and forge. So these tests choose the plaintexts and
//! compare every block with every other one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bridge_idc::vault;
use bridge_idc::vault::keyring::{self, Keyring};
use bridge_protocol::domain::{Brand, KeyDigest, OrderId, Personal, PersonalData, PersonalField, UnixMicros};
use bridge_protocol::seal::manifest::Validity;
use bridge_protocol::seal::opening::OpeningKey;
use bridge_protocol::seal::sealing::{Header, RECORDS_MAX, SealingSession};
use bytes::Bytes;
use rand::rand_core::{Infallible, TryCryptoRng, TryRng};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);
const BLOCK_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const SALT_BYTES: usize = 32;

/// Every block of keystream so far, with a description of its ciphertext.
#[derive(Default)]
struct Keystream(BTreeMap<[u8; BLOCK_BYTES], String>);

impl Keystream {
    /// Calculates the keystream of a ciphertext with its tag and remembers it. Returns an error if
    /// another ciphertext has the same block.
    fn take(&mut self, whose: &str, plain: &[u8], sealed: &[u8]) -> Result<(), String> {
        let ciphertext = &sealed[..sealed.len() - TAG_BYTES];
        assert_eq!(ciphertext.len(), plain.len(), "{whose} is not what was encrypted");
        assert!(plain.len() >= BLOCK_BYTES, "{whose} is too short to be told from others");
        for (plain, cipher) in plain.chunks_exact(BLOCK_BYTES).zip(ciphertext.chunks_exact(BLOCK_BYTES)) {
            let block = std::array::from_fn(|at| plain[at] ^ cipher[at]);
            match self.0.entry(block) {
                Entry::Vacant(place) => drop(place.insert(whose.to_owned())),
                Entry::Occupied(other) => {
                    return Err(format!("{whose} and {} share a key and nonce", other.get()));
                }
            }
        }
        Ok(())
    }
}

/// Runs a case with a new seed, or with `BRIDGE_KEYS_SEED`, which a failure names.
fn with_a_seed(case: impl Fn(&mut ChaCha8Rng) -> Result<(), String>) {
    let named = std::env::var("BRIDGE_KEYS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = named.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    if let Err(shared) = case(&mut ChaCha8Rng::seed_from_u64(seed)) {
        panic!("{shared}; repeat it with BRIDGE_KEYS_SEED={seed}");
    }
}

#[test]
fn no_two_records_of_any_sessions_share_a_key() {
    with_a_seed(|dice| {
        let keys = [sealing_key(dice), sealing_key(dice)];
        let mut sessions: Vec<_> = (0..dice.random_range(3..6))
            .map(|_| SealingSession::start(&keys[dice.random_range(0..2)].sealing_key(), NOW, dice).unwrap())
            .collect();
        let mut keystream = Keystream::default();
        // There are few orders, so several sessions seal the same order, and one session seals it
        // several times.
        let orders: Vec<_> = (0..4).map(|_| (header(dice), personal(dice))).collect();
        for _ in 0..500 {
            let session = dice.random_range(0..sessions.len());
            let (header, personal) = &orders[dice.random_range(0..orders.len())];
            seal(&mut keystream, session, &mut sessions[session], header, personal)?;
        }
        Ok(())
    });
}

#[test]
fn no_two_records_of_a_whole_session_share_a_key() {
    with_a_seed(|dice| {
        let mut session = SealingSession::start(&sealing_key(dice).sealing_key(), NOW, dice).unwrap();
        let (mut keystream, header, personal) = (Keystream::default(), header(dice), personal(dice));
        for _ in 0..RECORDS_MAX {
            seal(&mut keystream, 0, &mut session, &header, &personal)?;
        }
        assert!(session.is_spent(NOW));
        Ok(())
    });
}

#[test]
fn no_two_columns_of_any_orders_share_a_key() {
    with_a_seed(|dice| {
        let (mut keystream, keys) = (Keystream::default(), keyrings(dice));
        for row in 0..200 {
            let (order, personal) = (order(dice.random_range(0..50)), personal(dice));
            let stored = vault::encrypt(order, &personal, &keys[row % keys.len()], dice);
            for (field, value) in personal.iter() {
                let at = PersonalField::ALL.iter().position(|known| *known == field).unwrap();
                let sealed = stored.fields[at].as_ref().unwrap();
                let whose = format!("{} of row {row}", field.column());
                keystream.take(&whose, value.expose().as_bytes(), sealed)?;
            }
        }
        Ok(())
    });
}

#[test]
fn no_two_data_keys_share_a_wrapping_key_or_a_salt() {
    with_a_seed(|dice| {
        let (mut keystream, keys, mut salts) = (Keystream::default(), keyrings(dice), BTreeMap::new());
        for row in 0..200 {
            let (order, personal) = (order(dice.random_range(0..50)), personal(dice));
            let mut drawn = Recorder { dice, drawn: Vec::new() };
            let stored = vault::encrypt(order, &personal, &keys[row % keys.len()], &mut drawn);
            let (salt, wrapped) = stored.wrapped_key.split_at(SALT_BYTES);
            if let Some(other) = salts.insert(salt.to_vec(), row) {
                return Err(format!("rows {other} and {row} have one salt"));
            }
            let data_key = drawn.drawn.iter().find(|bytes| bytes.len() == 32 && bytes[..] != *salt);
            keystream.take(&format!("the data key of row {row}"), data_key.unwrap(), wrapped)?;
        }
        Ok(())
    });
}

/// A source of randomness that remembers every drawn value.
struct Recorder<'a> {
    dice: &'a mut ChaCha8Rng,
    drawn: Vec<Vec<u8>>,
}

impl TryRng for Recorder<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.dice.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.dice.next_u64())
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        self.dice.fill_bytes(to);
        self.drawn.push(to.to_vec());
        Ok(())
    }
}

impl TryCryptoRng for Recorder<'_> {}

/// Seals an order and remembers its keystream. The plaintext is the length, the canonical bytes and
/// padding with zeros.
fn seal(
    keystream: &mut Keystream,
    number: usize,
    session: &mut SealingSession,
    header: &Header,
    personal: &PersonalData,
) -> Result<(), String> {
    let envelope = session.seal(header, Bytes::from_static(b"terms"), personal).unwrap();
    let canonical = personal.to_bytes();
    let mut plain = u32::try_from(canonical.len()).unwrap().to_be_bytes().to_vec();
    plain.extend_from_slice(&canonical);
    plain.resize(envelope.ciphertext.len() - TAG_BYTES, 0);
    keystream.take(&format!("record {} of session {number}", envelope.record), &plain, &envelope.ciphertext)
}

fn sealing_key(dice: &mut ChaCha8Rng) -> OpeningKey {
    let forever = Validity { not_before: UnixMicros::new(0), not_after: UnixMicros::new(i64::MAX) };
    OpeningKey::new(&dice.random(), forever).unwrap()
}

/// Returns an IDC's keys before and after a rotation of the key-encryption key.
fn keyrings(dice: &mut ChaCha8Rng) -> [Keyring; 2] {
    let folder = tempfile::tempdir().unwrap();
    keyring::init(folder.path(), "idc.example", NOW, dice).unwrap();
    let before = Keyring::load(folder.path()).unwrap();
    keyring::add_encryption(folder.path(), dice).unwrap();
    [before, Keyring::load(folder.path()).unwrap()]
}

fn order(number: u8) -> OrderId {
    OrderId::new(NOW, [number; 10])
}

fn header(dice: &mut ChaCha8Rng) -> Header {
    Header {
        brand: Brand::new("shoes").unwrap(),
        order: order(dice.random()),
        key: KeyDigest::from_bytes(&dice.random::<[u8; 32]>()).unwrap(),
    }
}

/// Returns a name and a few other fields, each at least a block long. Several fields may have the
/// same text.
fn personal(dice: &mut ChaCha8Rng) -> PersonalData {
    let texts: [String; 2] = std::array::from_fn(|_| {
        let len = dice.random_range(BLOCK_BYTES..200);
        (0..len).map(|_| char::from(dice.random_range(b' '..=b'~'))).collect()
    });
    let mut data = PersonalData::default();
    for field in PersonalField::ALL {
        if field == PersonalField::CustomerName || dice.random_range(0..3) > 0 {
            data.set(field, Personal::new(texts[dice.random_range(0..2)].clone()));
        }
    }
    data
}
