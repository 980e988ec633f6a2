//! Credentials: certificate chain, key, CA and revocation list, parsed and checked.
//!
//! `identity` reads the files and says which one is wrong. The parsing and the cross-checks are
//! here, because they need rustls and webpki. Existing `Credentials` are usable: the key fits, and
//! the certificate is valid now.

use std::fmt;
use std::sync::Arc;

use bridge_protocol::domain::identity::{SpiffeId, SpiffeIdError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, TrustAnchor};
use rustls::sign::CertifiedKey;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer, GeneralName, X509Certificate};

use super::provider::provider;
use crate::clock::{UnixSeconds, shown};

/// The contents of the four files (PEM).
pub(crate) struct Pem<'a> {
    /// The agent's certificate, then intermediates if there are any.
    pub(crate) certificate: &'a [u8],
    /// Its private key.
    pub(crate) key: &'a [u8],
    /// Certificates of the CAs to trust.
    pub(crate) ca: &'a [u8],
    /// Revocation lists of those CAs.
    pub(crate) crl: &'a [u8],
}

/// One of the four files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// `tunnel.certificate`
    Certificate,
    /// `tunnel.key`
    Key,
    /// `tunnel.ca`
    Ca,
    /// `tunnel.crl`
    Crl,
}

impl Part {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Certificate, Self::Key, Self::Ca, Self::Crl];

    /// Returns the setting that names the file.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Certificate => "tunnel.certificate",
            Self::Key => "tunnel.key",
            Self::Ca => "tunnel.ca",
            Self::Crl => "tunnel.crl",
        }
    }
}

/// Faults of one of the files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// There is no PEM block of the expected kind.
    #[error("holds no PEM {0}: check that it is the right file")]
    NotPem(&'static str),
    /// The content of a PEM block cannot be read.
    #[error("holds a {0} that cannot be read: write it again with bridge-certs")]
    Unreadable(&'static str),
    /// The key belongs to another certificate.
    #[error("does not belong to the certificate: use the pair that bridge-certs wrote together")]
    KeyMismatch,
    /// The certificate has expired.
    #[error(
        "was valid until {until} and the clock here says {now}: renew it with bridge-certs renew, or set the clock"
    )]
    Expired {
        /// End of validity.
        until: String,
        /// Current time.
        now: String,
    },
    /// The certificate is not valid yet.
    #[error("is valid from {from} and the clock here says {now}: set the clock, or wait")]
    NotYetValid {
        /// Start of validity.
        from: String,
        /// Current time.
        now: String,
    },
    /// The certificate names no agent.
    #[error("{0}: issue it with bridge-certs issue cloud|idc NAME")]
    NoAgent(#[from] SpiffeIdError),
}

/// An agent's own certificate and its trust at one moment.
pub(crate) struct Credentials {
    /// Our chain and key.
    pub(super) certified: Arc<CertifiedKey>,
    /// Keys and names of the CAs.
    pub(super) anchors: Vec<TrustAnchor<'static>>,
    /// Revocation lists of the CAs.
    pub(super) crls: Vec<CertRevocationList<'static>>,
    id: SpiffeId,
    not_after: UnixSeconds,
    cas_end: UnixSeconds,
    crls_end: UnixSeconds,
}

impl Credentials {
    /// Parses and checks the contents. An error names the file that must change.
    pub(crate) fn from_pem(pem: &Pem<'_>, now: UnixSeconds) -> Result<Self, (Part, CredentialsError)> {
        let own = OwnChain::from_pem(pem.certificate, now).map_err(at(Part::Certificate))?;
        let key = private_key(pem.key).map_err(at(Part::Key))?;
        let certified = certified(own.chain, key).map_err(at(Part::Key))?;
        let (anchors, cas_end) = authorities(pem.ca, now).map_err(at(Part::Ca))?;
        let (crls, crls_end) = revocation_lists(pem.crl).map_err(at(Part::Crl))?;
        let (id, not_after) = (own.id, own.not_after);
        Ok(Self { certified: Arc::new(certified), anchors, crls, id, not_after, cas_end, crls_end })
    }

    /// Returns our SPIFFE ID.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Returns the end of our certificate's validity.
    pub(crate) fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// Returns the earliest end of the CAs' certificates.
    pub(crate) fn cas_end(&self) -> UnixSeconds {
        self.cas_end
    }

    /// Returns the earliest due date of the revocation lists' successors. After it nobody is
    /// trusted.
    pub(crate) fn crls_end(&self) -> UnixSeconds {
        self.crls_end
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("id", &self.id)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// An agent's own chain, and what its first certificate says.
struct OwnChain {
    chain: Vec<CertificateDer<'static>>,
    id: SpiffeId,
    not_after: UnixSeconds,
}

impl OwnChain {
    /// Parses and checks the chain alone.
    fn from_pem(pem: &[u8], now: UnixSeconds) -> Result<Self, CredentialsError> {
        let chain: Vec<CertificateDer<'static>> = all(pem, "certificate")?;
        let leaf = chain.first().ok_or(CredentialsError::NotPem("certificate"))?;
        let (id, not_after) = (spiffe_id(leaf)?, check_validity(leaf, now)?);
        Ok(Self { chain, id, not_after })
    }
}

/// Returns the SPIFFE ID in the certificate, and all faults of the four contents at once, each with
/// its file. A content that is `None` cannot be read, which the caller reports.
pub(crate) fn faults(
    [certificate, key, ca, crl]: [Option<&[u8]>; 4],
    now: UnixSeconds,
) -> (Option<SpiffeId>, Vec<(Part, CredentialsError)>) {
    let mut faults = Vec::new();
    let own = taken(&mut faults, Part::Certificate, certificate, |pem| OwnChain::from_pem(pem, now));
    let key = taken(&mut faults, Part::Key, key, private_key);
    let id = own.as_ref().map(|own| own.id.clone());
    // A key fits nothing if one of the two cannot be read.
    if let Some((own, key)) = own.zip(key)
        && let Err(error) = certified(own.chain, key)
    {
        faults.push((Part::Key, error));
    }
    taken(&mut faults, Part::Ca, ca, |pem| authorities(pem, now));
    taken(&mut faults, Part::Crl, crl, revocation_lists);
    (id, faults)
}

fn taken<T>(
    faults: &mut Vec<(Part, CredentialsError)>,
    part: Part,
    content: Option<&[u8]>,
    parse: impl FnOnce(&[u8]) -> Result<T, CredentialsError>,
) -> Option<T> {
    parse(content?).map_err(|error| faults.push((part, error))).ok()
}

/// Returns the SPIFFE ID from a certificate's URI SAN. There must be exactly one (X.509-SVID
/// section 2).
pub(super) fn spiffe_id(certificate: &CertificateDer<'_>) -> Result<SpiffeId, CredentialsError> {
    let parsed = parse(certificate)?;
    let names = parsed.subject_alternative_name().map_err(|_| CredentialsError::Unreadable("certificate"))?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri.parse()?),
        (None, _) => Err(SpiffeIdError::Missing.into()),
        (Some(_), Some(_)) => Err(SpiffeIdError::Several.into()),
    }
}

/// Returns the validity of a certificate as first and last second since 1970-01-01 UTC.
pub(super) fn validity(
    certificate: &CertificateDer<'_>,
) -> Result<(UnixSeconds, UnixSeconds), CredentialsError> {
    let validity = parse(certificate)?.validity().clone();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CredentialsError> {
    let parsed = X509Certificate::from_der(certificate.as_ref());
    parsed.map(|(_, certificate)| certificate).map_err(|_| CredentialsError::Unreadable("certificate"))
}

fn check_validity(
    certificate: &CertificateDer<'_>,
    now: UnixSeconds,
) -> Result<UnixSeconds, CredentialsError> {
    let (from, until) = validity(certificate)?;
    if now > until {
        return Err(CredentialsError::Expired { until: shown(until), now: shown(now) });
    }
    if now < from {
        return Err(CredentialsError::NotYetValid { from: shown(from), now: shown(now) });
    }
    Ok(until)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| CredentialsError::NotPem("private key"))
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, CredentialsError> {
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CredentialsError::KeyMismatch,
        _ => CredentialsError::Unreadable("private key"),
    })
}

/// Returns the CAs, and the earliest end of their certificates.
fn authorities(
    pem: &[u8],
    now: UnixSeconds,
) -> Result<(Vec<TrustAnchor<'static>>, UnixSeconds), CredentialsError> {
    let cas: Vec<CertificateDer<'static>> = all(pem, "certificate")?;
    let anchors = cas.iter().map(|ca| anchor(ca, now)).collect::<Result<_, _>>()?;
    let end = cas.iter().filter_map(|ca| validity(ca).ok()).map(|(_, until)| until).min();
    Ok((anchors, end.unwrap_or(UnixSeconds::MAX)))
}

/// Returns the lists, and the earliest due date of their successors.
fn revocation_lists(pem: &[u8]) -> Result<(Vec<CertRevocationList<'static>>, UnixSeconds), CredentialsError> {
    let lists: Vec<CertificateRevocationListDer<'static>> = all(pem, "X509 CRL")?;
    let crls = lists.iter().map(revocation_list).collect::<Result<_, _>>()?;
    Ok((crls, lists.iter().map(list_end).min().unwrap_or(UnixSeconds::MAX)))
}

fn anchor(ca: &CertificateDer<'static>, now: UnixSeconds) -> Result<TrustAnchor<'static>, CredentialsError> {
    check_validity(ca, now)?;
    let anchor =
        webpki::anchor_from_trusted_cert(ca).map_err(|_| CredentialsError::Unreadable("CA certificate"))?;
    Ok(anchor.to_owned())
}

fn revocation_list(
    der: &CertificateRevocationListDer<'_>,
) -> Result<CertRevocationList<'static>, CredentialsError> {
    let list = OwnedCertRevocationList::from_der(der)
        .map_err(|_| CredentialsError::Unreadable("revocation list"))?;
    Ok(list.into())
}

/// Returns the due date of a list's successor. A list without one never expires (RFC 5280 section
/// 5.1.2.5 requires it).
fn list_end(der: &CertificateRevocationListDer<'_>) -> UnixSeconds {
    let list = CertificateRevocationList::from_der(der).map(|(_, list)| list);
    let end = list.ok().and_then(|list| list.next_update());
    end.map_or(UnixSeconds::MAX, |end| end.timestamp())
}

/// Returns all PEM blocks of one kind. It is an error if there are none.
fn all<T: PemObject>(pem: &[u8], what: &'static str) -> Result<Vec<T>, CredentialsError> {
    let items: Vec<T> =
        T::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| CredentialsError::NotPem(what))?;
    if items.is_empty() { Err(CredentialsError::NotPem(what)) } else { Ok(items) }
}

fn at<E: Into<CredentialsError>>(part: Part) -> impl Fn(E) -> (Part, CredentialsError) {
    move |error| (part, error.into())
}
