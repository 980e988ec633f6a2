//! Verification of a peer: chain to our CA, validity, revocation, its identity, and our permission
//! to link with it.
//!
//! The same checks run in the handshake (through `tls`) and again on live connections when the CA
//! or the revocation list changes. A refusal always says what to do.

use std::sync::Arc;

use bridge_protocol::audit::entry::Digest;
use bridge_protocol::domain::identity::SpiffeId;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder};

use super::credentials::{self, Credentials};
use super::refusal::Refusal;
use crate::clock::{UnixSeconds, shown, unix_now};
use crate::telemetry::metrics::RefusalReason;

/// Role of the peer in the TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerSide {
    /// It dialled.
    Client,
    /// It listens.
    Server,
}

/// A verified peer: its identity, and the data to verify it again.
#[derive(Debug, Clone)]
pub(crate) struct VerifiedPeer {
    id: SpiffeId,
    side: PeerSide,
    not_after: UnixSeconds,
    chain: Arc<[CertificateDer<'static>]>,
}

impl VerifiedPeer {
    /// Returns its verified identity.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the digest of its certificate.
    pub(crate) fn certificate_digest(&self) -> Digest {
        Digest::of(self.chain.first().map(AsRef::as_ref).unwrap_or_default())
    }

    /// Returns the end of its certificate's validity.
    pub(crate) fn not_after(&self) -> UnixSeconds {
        self.not_after
    }
}

/// Basis of the verification: our own credentials at one moment, and the allow-list.
#[derive(Debug, Clone)]
pub(crate) struct PeerVerifier {
    credentials: Arc<Credentials>,
    allow: Arc<[SpiffeId]>,
}

impl PeerVerifier {
    /// Makes a verifier with these credentials. An empty `allow` admits all peers of the other role
    /// under the CA.
    pub(crate) fn new(credentials: Arc<Credentials>, allow: Arc<[SpiffeId]>) -> Self {
        Self { credentials, allow }
    }

    /// Returns our own credentials.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Verifies the chain that a peer showed in a handshake, its own certificate first.
    pub(super) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        side: PeerSide,
        now: UnixTime,
    ) -> Result<VerifiedPeer, Refusal> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Refusal::new(RefusalReason::NoCertificate, "it shows no certificate"));
        };
        // The identity is read before the chain is checked, so that a refusal can name it. It is
        // trusted only afterwards.
        let claimed = credentials::spiffe_id(leaf);
        self.check_chain(leaf, intermediates, side, now)
            .and_then(|()| {
                self.check_agent(claimed.clone().map_err(|error| {
                    Refusal::new(RefusalReason::BadCertificate, format!("its certificate {error}"))
                })?)
            })
            .and_then(|id| {
                let (_, not_after) = credentials::validity(leaf).map_err(|error| {
                    Refusal::new(RefusalReason::BadCertificate, format!("its certificate {error}"))
                })?;
                let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
                Ok(VerifiedPeer { id, side, not_after, chain })
            })
            .map_err(|refusal| Refusal { claimed: claimed.ok().map(|id| id.to_string()), ..refusal })
    }

    /// Verifies our own chain as a peer under the same CA and revocation list would.
    pub(crate) fn verify_own(credentials: Arc<Credentials>) -> Result<(), Refusal> {
        let judge = Self::new(credentials, Arc::default());
        let Some((leaf, intermediates)) = judge.credentials.certified.cert.split_first() else {
            return Ok(());
        };
        [PeerSide::Client, PeerSide::Server]
            .into_iter()
            .try_for_each(|side| judge.check_chain(leaf, intermediates, side, UnixTime::now()))
    }

    /// Verifies a peer again that was good before.
    pub(crate) fn verify_again(&self, peer: &VerifiedPeer) -> Result<(), Refusal> {
        self.judge(&peer.chain, peer.side, UnixTime::now()).map(drop)
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        side: PeerSide,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| sentence_for(&error))?;
        let usage = match side {
            PeerSide::Client => KeyUsage::client_auth(),
            PeerSide::Server => KeyUsage::server_auth(),
        };
        let crls: Vec<_> = self.credentials.crls.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&crls)
            .map_err(|_| {
                Refusal::new(RefusalReason::StaleCrl, "there is no revocation list here: set tunnel.crl")
            })?
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build();
        certificate
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &self.credentials.anchors,
                intermediates,
                now,
                usage,
                Some(revocation),
                None,
            )
            .map(drop)
            .map_err(|error| sentence_for(&error))
    }

    fn check_agent(&self, id: SpiffeId) -> Result<SpiffeId, Refusal> {
        let own = self.credentials.id();
        if id.role() == own.role() {
            let sentence = format!(
                "it is {id} and this is {own}: a cloud agent links with idc agents only and the reverse; check who dials whom"
            );
            return Err(Refusal::new(RefusalReason::WrongRole, sentence));
        }
        if id.trust_domain() != own.trust_domain() {
            let sentence = format!(
                "{id} is of another trust domain than {own}: issue both from one bridge-certs folder"
            );
            return Err(Refusal::new(RefusalReason::NotAllowed, sentence));
        }
        if !self.allow.is_empty() && !self.allow.contains(&id) {
            let sentence = format!("{id} is not in tunnel.allow: add it there if it shall link");
            return Err(Refusal::new(RefusalReason::NotAllowed, sentence));
        }
        Ok(id)
    }
}

fn sentence_for(error: &webpki::Error) -> Refusal {
    let now = || shown(unix_now());
    let (reason, sentence) = match error {
        webpki::Error::CertExpired { not_after, .. } => (
            RefusalReason::Expired,
            format!(
                "its certificate was valid until {} and the clock here says {}: renew it with bridge-certs renew, or set the \
                 clock that is wrong",
                shown_unix(*not_after),
                now()
            ),
        ),
        webpki::Error::CertNotValidYet { not_before, .. } => (
            RefusalReason::NotYetValid,
            format!(
                "its certificate is valid from {} and the clock here says {}: set the clock that is wrong, here or where it \
                 was issued",
                shown_unix(*not_before),
                now()
            ),
        ),
        webpki::Error::CertRevoked => (
            RefusalReason::Revoked,
            "its certificate is revoked: issue a new one with bridge-certs issue if the agent is still trusted".to_owned(),
        ),
        webpki::Error::CrlExpired { next_update, .. } => (
            RefusalReason::StaleCrl,
            format!(
                "the revocation list here was good until {} and the clock here says {}, so nobody can be trusted: write a new \
                 one with bridge-certs crl and put it where tunnel.crl points",
                shown_unix(*next_update),
                now()
            ),
        ),
        webpki::Error::UnknownRevocationStatus | webpki::Error::InvalidCrlSignatureForPublicKey => (
            RefusalReason::StaleCrl,
            "the revocation list here is not from its CA: put the list of the same CA where tunnel.crl points".to_owned(),
        ),
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => (
            RefusalReason::UnknownCa,
            "its certificate is not from the CA that is trusted here: compare tunnel.ca on both sides and issue from one of them"
                .to_owned(),
        ),
        other => (
            RefusalReason::BadCertificate,
            format!("its certificate cannot be used ({other:?}): issue one with bridge-certs issue"),
        ),
    };
    Refusal::new(reason, sentence)
}

fn shown_unix(time: UnixTime) -> String {
    shown(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}
