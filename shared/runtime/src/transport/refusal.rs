//! Refusals by either side: a typed reason to count, and a sentence that says what to do.
//!
//! `peer_verifier` makes the refusals from our own checks. The others are here: those that show
//! only as a TLS alert, ours or the peer's.

use std::fmt;

use crate::telemetry::metrics::RefusalReason;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Reason for the metric.
    pub(crate) reason: RefusalReason,
    /// Identity in the certificate, as far as it could be read.
    pub(crate) claimed: Option<String>,
    /// The fault, and the remedy.
    pub(crate) sentence: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// TLS alerts (RFC 8446 section 6) that show a reason.
pub(super) mod alert {
    pub(crate) const HANDSHAKE_FAILURE: u8 = 40;
    pub(crate) const BAD_CERTIFICATE: u8 = 42;
    pub(crate) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(crate) const CERTIFICATE_REVOKED: u8 = 44;
    pub(crate) const CERTIFICATE_EXPIRED: u8 = 45;
    pub(crate) const CERTIFICATE_UNKNOWN: u8 = 46;
    pub(crate) const UNKNOWN_CA: u8 = 48;
    pub(crate) const ACCESS_DENIED: u8 = 49;
    pub(crate) const DECODE_ERROR: u8 = 50;
    pub(crate) const PROTOCOL_VERSION: u8 = 70;
    pub(crate) const CERTIFICATE_REQUIRED: u8 = 116;
    pub(crate) const NO_APPLICATION_PROTOCOL: u8 = 120;
}

impl Refusal {
    /// Makes a refusal without a certificate.
    pub(crate) fn new(reason: RefusalReason, sentence: impl Into<String>) -> Self {
        Self { reason, claimed: None, sentence: sentence.into() }
    }

    /// Makes the refusal for a handshake that we ended with this alert, for a reason other than a
    /// certificate.
    pub(crate) fn by_our_alert(code: u8, detail: &str) -> Self {
        let (reason, sentence) = match code {
            alert::CERTIFICATE_REQUIRED => (
                RefusalReason::NoCertificate,
                "it shows no certificate: give it one with bridge-certs issue, or keep what is no agent off this port".to_owned(),
            ),
            alert::NO_APPLICATION_PROTOCOL => (
                RefusalReason::ForeignProtocol,
                "it does not speak Bridge's protocol (ALPN bridge/1): check that address and port are those of an agent".to_owned(),
            ),
            alert::HANDSHAKE_FAILURE => (
                RefusalReason::NoCommonGroup,
                format!(
                    "it has no key exchange in common with this agent ({detail}): both sides need X25519MLKEM768, or the same \
                     tunnel.post_quantum"
                ),
            ),
            _ => (
                RefusalReason::Handshake,
                format!("the TLS handshake with it failed ({detail}, alert {code}): check that it is an agent of this version"),
            ),
        };
        Self::new(reason, sentence)
    }

    /// Makes the refusal for a handshake that the peer ended with this alert. `detail` is the
    /// peer's text and not trusted.
    pub(crate) fn by_peers_alert(code: u8, detail: &str) -> Self {
        let (reason, advice) = match code {
            alert::CERTIFICATE_EXPIRED => (
                RefusalReason::Expired,
                "it judges this agent's certificate expired or not yet valid: renew it with bridge-certs renew, or set the \
                 clock that is wrong on either side",
            ),
            alert::CERTIFICATE_REVOKED => (
                RefusalReason::Revoked,
                "this agent's certificate is revoked: issue a new one with bridge-certs issue if the agent is still trusted",
            ),
            alert::UNKNOWN_CA => (
                RefusalReason::UnknownCa,
                "this agent's certificate is not from the CA that the peer trusts, or the peer's revocation list is too old: \
                 compare tunnel.ca on both sides and refresh tunnel.crl over there",
            ),
            alert::ACCESS_DENIED => (
                RefusalReason::NotAllowed,
                "it does not accept an agent of this name or role: a cloud agent links with idc agents only and the reverse, \
                 and tunnel.allow over there may name its peers",
            ),
            alert::BAD_CERTIFICATE | alert::UNSUPPORTED_CERTIFICATE | alert::CERTIFICATE_UNKNOWN => (
                RefusalReason::BadCertificate,
                "it cannot use this agent's certificate: issue one with bridge-certs issue",
            ),
            alert::CERTIFICATE_REQUIRED => (
                RefusalReason::NoCertificate,
                "it got no certificate from this agent: check tunnel.certificate and tunnel.key here",
            ),
            alert::NO_APPLICATION_PROTOCOL => (
                RefusalReason::ForeignProtocol,
                "it does not speak Bridge's protocol (ALPN bridge/1): check that address and port are those of an agent",
            ),
            alert::HANDSHAKE_FAILURE => (
                RefusalReason::NoCommonGroup,
                "it has no key exchange in common with this agent: both sides need X25519MLKEM768, or the same \
                 tunnel.post_quantum",
            ),
            _ => (
                RefusalReason::Handshake,
                "its TLS handshake failed: check that it is an agent of this version",
            ),
        };
        Self::new(reason, format!("{advice} (alert {code}, it says {:?})", printable(detail)))
    }
}

/// Makes a foreign text safe for our log: short and without control characters.
pub(crate) fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alert_of_ours_has_its_reason() {
        assert_eq!(Refusal::by_our_alert(116, "").reason, RefusalReason::NoCertificate);
        assert_eq!(Refusal::by_our_alert(120, "").reason, RefusalReason::ForeignProtocol);
        assert_eq!(Refusal::by_our_alert(40, "").reason, RefusalReason::NoCommonGroup);
        assert_eq!(Refusal::by_our_alert(50, "").reason, RefusalReason::Handshake);
    }

    #[test]
    fn a_peers_words_cannot_forge_a_log_line() {
        let refusal = Refusal::by_peers_alert(45, &format!("late\nWARN all is lost {}", "x".repeat(9_999)));
        assert!(!refusal.sentence.contains('\n'));
        assert!(refusal.sentence.len() < 1_000);
    }
}
