//! The key behind QUIC's stateless resets (RFC 9000 section 10.3), kept in the state directory.
//!
//! An agent that crashed and came back can prove to its peers that their connections are gone, if it still has the key
//! it had; with a new one they wait for the whole idle timeout. Connection ids derive from the same key, since quinn
//! answers only packets whose id it would have made itself.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;
use quinn_proto::crypto::{CryptoError, HmacKey};
use sha2::Sha256;

use crate::whole_file::{Synced, WholeFile};

const FILE: &str = "quic-reset.key";
/// SHA-256's block, which HMAC takes as it is.
const KEY_BYTES: usize = 64;

/// The persisted key.
pub(super) struct ResetKey([u8; KEY_BYTES]);

impl ResetKey {
    /// Reads the key, or makes and writes one (mode 0600).
    pub(super) fn load(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                if let Ok(key) = <[u8; KEY_BYTES]>::try_from(bytes) {
                    return Ok(Self(key));
                }
                tracing::warn!(path = %path.display(), "not a QUIC reset key, writing a new one");
                fs::remove_file(&path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let key: [u8; KEY_BYTES] = rand::random();
        fs::create_dir_all(state_dir)?;
        let whole = WholeFile {
            unfinished: &state_dir.join(format!("{FILE}.new")),
            mode: 0o600,
            synced: Synced::All,
            // A key that a power loss takes away is made anew.
            syncs_folder: false,
            removes_unfinished: false,
        };
        whole.replace(&path, |file| file.write_all(&key))?;
        Ok(Self(key))
    }

    /// An endpoint configuration under this key.
    pub(super) fn endpoint_config(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(Self(self.0)));
        let [a, b, c, d, e, f, g, h, ..] = self.tag(b"connection ids");
        let ids = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        config
    }

    fn mac(&self, data: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&self.0.into());
        mac.update(data);
        mac
    }

    fn tag(&self, data: &[u8]) -> [u8; 32] {
        self.mac(data).finalize().into_bytes().into()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        for (out, byte) in signature_out.iter_mut().zip(self.tag(data)) {
            *out = byte;
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.mac(data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_outlives_the_process_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = ResetKey::load(dir.path()).unwrap();
        let second = ResetKey::load(dir.path()).unwrap();
        assert_eq!(first.0, second.0);
        let mode = fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), b"short").unwrap();
        let key = ResetKey::load(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), key.0);
    }

    #[test]
    fn a_signature_verifies_and_another_does_not() {
        let key = ResetKey([7; KEY_BYTES]);
        let mut signature = [0; 32];
        key.sign(b"id", &mut signature);
        assert!(key.verify(b"id", &signature).is_ok());
        assert!(key.verify(b"di", &signature).is_err());
    }
}
