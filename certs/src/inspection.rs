//! Explanation of a certificate or a revocation list.
//!
//! Role: reads any X.509 certificate or list and explains it. `authority` also uses it to find the
//! certificates of an agent. Neighbours: `crl` knows the revoked ones. It never says that a
//! certificate or a list is trusted, because it checks no signature.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_EC_P256;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::{CertsError, Crl, Serial, Validity, files};

/// The content of a certificate. In JSON, times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Its subject, as a distinguished name.
    pub subject: String,
    /// Its issuer, as a distinguished name.
    pub issuer: String,
    /// Its SPIFFE ID; `None` if it has no URI, or more than one (which X509-SVID forbids).
    pub spiffe_id: Option<String>,
    /// Its serial number.
    pub serial: Serial,
    /// Its validity.
    #[serde(flatten)]
    pub validity: Validity,
    /// Whole days until it expires, rounded down; negative afterwards.
    pub days_left: i64,
    /// SHA-256 of the whole certificate, in the form of `openssl x509 -fingerprint`.
    pub fingerprint_sha256: String,
    /// Kind and size of its public key.
    pub key_algorithm: String,
    /// Its status in the revocation list.
    pub revocation: RevocationStatus,
}

/// Status of a certificate in a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationStatus {
    /// No list was given.
    NotChecked,
    /// The list belongs to another authority and says nothing about this certificate.
    ListOfAnotherAuthority,
    /// It is not on the list, but a newer list is due, which may have it.
    ListOverdue,
    /// It is not on the list.
    NotRevoked,
    /// It is on the list.
    Revoked,
}

impl fmt::Display for RevocationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotChecked => "not checked, no revocation list given",
            Self::ListOfAnotherAuthority => "not checked, the revocation list is another authority's",
            Self::ListOverdue => "not on the revocation list, which is overdue: sign it again",
            Self::NotRevoked => "not revoked",
            Self::Revoked => "REVOKED",
        })
    }
}

/// Explains the first certificate in the PEM file at `path`, and looks it up in the revocation list
/// at `crl`.
///
/// # Errors
///
/// Fails if a file cannot be read, or has no certificate or list.
pub fn inspect(path: &Path, crl: Option<&Path>, now: SystemTime) -> Result<Inspection, CertsError> {
    let read_crl = |path: &Path| Crl::from_pem(&files::read(path)?).map_err(|error| error.in_file(path));
    let crl = crl.map(read_crl).transpose()?;
    inspect_pem(&files::read(path)?, crl.as_ref(), now).map_err(|error| error.in_file(path))
}

/// The content of a revocation list. In JSON, times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize)]
pub struct ListInspection {
    /// Its issuer, as a distinguished name.
    pub issuer: String,
    /// Its number, which grows with each list of an authority.
    pub number: u64,
    /// Time of the signature, and due date of the next list.
    #[serde(flatten)]
    pub validity: Validity,
    /// Whole days until the next list is due, rounded down; negative afterwards.
    pub days_left: i64,
    /// Revoked certificates, in the order of revocation.
    pub revoked: Vec<Serial>,
}

/// Explains the first revocation list in the PEM file at `path`. Returns `None` if the file has a
/// certificate or has no list.
///
/// # Errors
///
/// Fails if the file cannot be read, or if its list cannot.
pub fn inspect_list(path: &Path, now: SystemTime) -> Result<Option<ListInspection>, CertsError> {
    let pem = files::read(path)?;
    let is_list = CertificateDer::from_pem_slice(pem.as_bytes()).is_err()
        && CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).is_ok();
    if !is_list {
        return Ok(None);
    }
    let Crl { issuer, number, validity, revoked } =
        Crl::from_pem(&pem).map_err(|error| error.in_file(path))?;
    let revoked = revoked.into_iter().map(|revoked| revoked.serial).collect();
    Ok(Some(ListInspection { issuer, number, validity, days_left: validity.days_left(now), revoked }))
}

/// Explains the first certificate in a PEM text.
///
/// # Errors
///
/// Fails if there is no certificate, or if it cannot be read.
pub fn inspect_pem(pem: &str, crl: Option<&Crl>, now: SystemTime) -> Result<Inspection, CertsError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| CertsError::malformed("there is neither a certificate nor a revocation list in it"))?;
    let (_, certificate) = X509Certificate::from_der(&der)
        .map_err(|_| CertsError::malformed("its certificate cannot be read"))?;
    let Names { subject, issuer, spiffe_id } = Names::of(&certificate);
    let serial = Serial::from_der(certificate.raw_serial());
    let validity = validity(&certificate)?;
    let revocation = match crl {
        None => RevocationStatus::NotChecked,
        Some(crl) if crl.issuer != issuer => RevocationStatus::ListOfAnotherAuthority,
        Some(crl) if crl.lists(&serial) => RevocationStatus::Revoked,
        Some(crl) if crl.validity.not_after() < now => RevocationStatus::ListOverdue,
        Some(_) => RevocationStatus::NotRevoked,
    };
    Ok(Inspection {
        subject,
        issuer,
        spiffe_id,
        serial,
        validity,
        days_left: validity.days_left(now),
        fingerprint_sha256: Sha256::digest(&der)
            .iter()
            .map(|octet| format!("{octet:02X}"))
            .collect::<Vec<_>>()
            .join(":"),
        key_algorithm: key_algorithm(certificate.public_key()),
        revocation,
    })
}

/// The names in a certificate.
pub(crate) struct Names {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) spiffe_id: Option<String>,
}

impl Names {
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        let alternative_names = certificate.subject_alternative_name().ok().flatten();
        let mut uris = alternative_names.iter().flat_map(|names| &names.value.general_names).filter_map(
            |name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            },
        );
        let spiffe_id = match (uris.next(), uris.next()) {
            (Some(uri), None) if uri.starts_with("spiffe://") => Some(uri.to_owned()),
            _ => None,
        };
        Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            spiffe_id,
        }
    }
}

/// Returns a certificate's validity.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, CertsError> {
    let validity = certificate.validity();
    Validity::from_asn1(validity.not_before, validity.not_after)
}

fn key_algorithm(key: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = &key.algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match key.parsed() {
        Ok(PublicKey::EC(_)) if curve == Some(OID_EC_P256) => "ECDSA P-256".to_owned(),
        Ok(PublicKey::EC(point)) => format!("ECDSA, {} bits", point.key_size()),
        Ok(PublicKey::RSA(rsa)) => format!("RSA, {} bits", rsa.key_size()),
        _ => algorithm.algorithm.to_string(),
    }
}
