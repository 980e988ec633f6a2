//! The cryptography of every handshake: one provider with its cipher suites and key exchanges.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};

use crate::config::PostQuantum;

/// Returns the provider with every group.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: cipher_suites(), ..aws_lc_rs::default_provider() }
}

/// TLS 1.3's AES suites. AES-128 is included, because QUIC seals its Initial packets with it (RFC
/// 9001 section 5.2).
fn cipher_suites() -> Vec<SupportedCipherSuite> {
    vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384, aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256]
}

pub(super) fn provider_for(post_quantum: PostQuantum) -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
    let kx_groups: Vec<&'static dyn SupportedKxGroup> = match post_quantum {
        PostQuantum::Require => vec![X25519MLKEM768],
        PostQuantum::Prefer => vec![X25519MLKEM768, X25519, SECP256R1],
        PostQuantum::Off => vec![X25519, SECP256R1],
    };
    Arc::new(CryptoProvider { kx_groups, ..provider() })
}
