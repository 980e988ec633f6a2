//! Tests the algorithms that Bridge uses, in the linked versions, against known answers of
//! standards and of the Wycheproof project. Each file in `vectors/` names its source.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bridge_protocol::note::{NoteSigner, NoteVerifier};
use hkdf::Hkdf;
use hmac::{Hmac, Mac as _};
use hpke::aead::ExportOnlyAead;
use hpke::kdf::HkdfSha256;
use hpke::kem::{MlKem768, X25519HkdfSha256, XWing};
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use rand::rand_core::{Infallible, TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};

use super::vectors::{Case, cases};

/// A source of randomness that returns fixed bytes in order, and fails after the last one. A known
/// answer was made from these bytes.
pub(crate) struct FixedRandom(pub(crate) Vec<u8>);

impl TryRng for FixedRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        assert!(to.len() <= self.0.len(), "more randomness is drawn than the known answer needs");
        let rest = self.0.split_off(to.len());
        to.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for FixedRandom {}

#[test]
fn aes_256_gcm_encrypts_and_refuses_as_wycheproof_says() {
    for case in cases("aes-256-gcm.txt") {
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(case.array("key")));
        let (nonce, aad, plain) = (case.array::<12>("iv"), case.bytes("aad"), case.bytes("msg"));
        let sealed = [case.bytes("ct"), case.bytes("tag")].concat();
        let opened = cipher.decrypt(&nonce.into(), Payload { msg: &sealed, aad: &aad }).ok();
        assert_eq!(opened, case.is_valid().then(|| plain.clone()), "{}", case.name());
        let encrypted = cipher.encrypt(&nonce.into(), Payload { msg: &plain, aad: &aad }).unwrap();
        assert_eq!(encrypted == sealed, case.is_valid(), "{}", case.name());
    }
}

#[test]
fn hkdf_sha256_derives_what_rfc_5869_and_wycheproof_say() {
    for case in cases("hkdf-sha256.txt") {
        let hkdf = Hkdf::<Sha256>::new(Some(&case.bytes("salt")), &case.bytes("ikm"));
        let mut derived = vec![0; case.text("size").parse().unwrap()];
        let is_derived = hkdf.expand(&case.bytes("info"), &mut derived).is_ok();
        assert_eq!(
            is_derived.then_some(derived),
            case.is_valid().then(|| case.bytes("okm")),
            "{}",
            case.name()
        );
    }
}

#[test]
fn hmac_sha256_authenticates_what_wycheproof_says() {
    for case in cases("hmac-sha256.txt") {
        let mut mac = Hmac::<Sha256>::new_from_slice(&case.bytes("key")).unwrap();
        mac.update(&case.bytes("msg"));
        assert_eq!(mac.verify_slice(&case.bytes("tag")).is_ok(), case.is_valid(), "{}", case.name());
    }
}

#[test]
fn a_verifier_takes_and_refuses_the_signatures_that_wycheproof_says() {
    for case in cases("ed25519.txt") {
        let verified = verifier(&case).verify(&case.bytes("msg"), &case.bytes("sig"));
        assert_eq!(verified.is_ok(), case.is_valid(), "{}", case.name());
    }
}

#[test]
fn a_signer_signs_as_rfc_8032_says() {
    for case in cases("ed25519-signing.txt") {
        let signer = NoteSigner::new("idc", &case.array("sk")).unwrap();
        assert_eq!(signer.sign(&case.bytes("msg")).to_vec(), case.bytes("sig"));
        assert_eq!(*signer.verifier(), verifier(&case));
    }
}

/// Returns the verifier of a case's public key, read from a line as in a configuration.
fn verifier(case: &Case) -> NoteVerifier {
    let key = [vec![1], case.bytes("pk")].concat();
    let id = Sha256::digest([b"idc\n".as_slice(), &key].concat());
    let id: String = id[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    NoteVerifier::parse(&format!("idc+{id}+{}", BASE64.encode(key))).unwrap()
}

#[test]
fn x25519_agrees_with_wycheproof_including_low_order_points() {
    for case in cases("x25519.txt") {
        let shared = x25519_dalek::x25519(case.array("private"), case.array("public"));
        assert_eq!(shared, case.array("shared"), "{}", case.name());
    }
}

#[test]
fn ml_kem_768_makes_keys_and_decapsulates_as_wycheproof_says() {
    for case in cases("ml-kem-768.txt") {
        let key = <MlKem768 as Kem>::PrivateKey::from_bytes(&case.bytes("seed")).unwrap();
        let public = MlKem768::sk_to_pk(&key).to_bytes();
        assert_eq!(Sha256::digest(public).to_vec(), case.bytes("ek-sha256"), "{}", case.name());
        let encapsulation = <MlKem768 as Kem>::EncappedKey::from_bytes(&case.bytes("c")).unwrap();
        let shared = MlKem768::decap(&key, None, &encapsulation).unwrap();
        assert_eq!(shared.0.to_vec(), case.bytes("K"), "{}", case.name());
    }
}

#[test]
fn x_wing_makes_keys_encapsulates_and_decapsulates_as_its_drafts_say() {
    for case in cases("x-wing.txt") {
        let key = <XWing as Kem>::PrivateKey::from_bytes(&case.bytes("skRm")).unwrap();
        let public = XWing::sk_to_pk(&key);
        assert_eq!(public.to_bytes().to_vec(), case.bytes("pkRm"));
        let mut random = FixedRandom(case.bytes("ikmE"));
        let (sent, encapsulation) = XWing::encap_with_rng(&public, None, &mut random).unwrap();
        assert_eq!(encapsulation.to_bytes().to_vec(), case.bytes("enc"));
        assert!(random.0.is_empty(), "all of the randomness is used");
        let received = XWing::decap(&key, None, &encapsulation).unwrap();
        assert_eq!([sent.0.to_vec(), received.0.to_vec()], [case.bytes("shared"), case.bytes("shared")]);
    }
}

#[test]
fn an_export_only_context_exports_on_both_sides_what_rfc_9180_says() {
    type Dh = X25519HkdfSha256;
    for case in cases("hpke-export-only.txt") {
        let info = case.bytes("info");
        let key = <Dh as Kem>::PrivateKey::from_bytes(&case.bytes("skRm")).unwrap();
        let public = <Dh as Kem>::PublicKey::from_bytes(&case.bytes("pkRm")).unwrap();
        assert!(Dh::sk_to_pk(&key) == public);
        let mut random = FixedRandom(case.bytes("ikmE"));
        let (encapsulation, sender) = hpke::setup_sender_with_rng::<ExportOnlyAead, HkdfSha256, Dh>(
            &OpModeS::Base,
            &public,
            &info,
            &mut random,
        )
        .unwrap();
        assert_eq!(encapsulation.to_bytes().to_vec(), case.bytes("enc"));
        let receiver = hpke::setup_receiver::<ExportOnlyAead, HkdfSha256, Dh>(
            &OpModeR::Base,
            &key,
            &encapsulation,
            &info,
        )
        .unwrap();
        for number in 0..3 {
            let context = case.bytes(&format!("context{number}"));
            let (mut sent, mut received) = ([0; 32], [0; 32]);
            sender.export(&context, &mut sent).unwrap();
            receiver.export(&context, &mut received).unwrap();
            let exported = case.array(&format!("exported{number}"));
            assert_eq!([sent, received], [exported, exported], "context {number}");
        }
    }
}
