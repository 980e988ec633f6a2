//! The certificate revocation list: serials that are no longer trusted, and the due date of the
//! next list.
//!
//! Role: reads a list back, so that the next one contains all of its entries. Neighbours: `ca`
//! signs it, `authority` keeps it, `inspection` looks a certificate up in it. It never verifies the
//! signature. The agents, who rely on the list, do.

use std::time::SystemTime;

use rcgen::RevokedCertParams;
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::validity::utc;
use crate::{CertsError, Serial, Validity};

/// One revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number.
    pub serial: Serial,
    /// Time of the revocation.
    pub at: SystemTime,
}

impl Revoked {
    pub(crate) fn to_rcgen(&self) -> Result<RevokedCertParams, CertsError> {
        Ok(RevokedCertParams {
            serial_number: self.serial.to_rcgen(),
            revocation_time: utc(self.at)?,
            reason_code: None,
            invalidity_date: None,
        })
    }
}

/// A revocation list as read from its file.
#[derive(Clone, Debug)]
pub struct Crl {
    /// Name of the authority that signed it.
    pub issuer: String,
    /// Number of the list, which grows with each list of an authority.
    pub number: u64,
    /// Time of the signature, and due date of the next list.
    pub validity: Validity,
    /// Revoked certificates, in the order of revocation.
    pub revoked: Vec<Revoked>,
}

impl Crl {
    /// Reads the first revocation list in a PEM text.
    ///
    /// # Errors
    ///
    /// Fails if there is none, or if it cannot be read.
    pub fn from_pem(pem: &str) -> Result<Self, CertsError> {
        let malformed = || CertsError::malformed("its revocation list cannot be read");
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| CertsError::malformed("there is no certificate revocation list in it"))?;
        let (_, list) = CertificateRevocationList::from_der(&der).map_err(|_| malformed())?;
        let next_update = list.next_update().ok_or_else(malformed)?;
        Ok(Self {
            issuer: list.issuer().to_string(),
            number: list.crl_number().and_then(|number| number.try_into().ok()).ok_or_else(malformed)?,
            validity: Validity::from_asn1(list.last_update(), next_update)?,
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| Revoked {
                    serial: Serial::from_der(entry.raw_serial()),
                    at: entry.revocation_date.to_datetime().into(),
                })
                .collect(),
        })
    }

    /// Returns true if a serial is on the list.
    pub fn lists(&self, serial: &Serial) -> bool {
        self.revoked.iter().any(|revoked| revoked.serial == *serial)
    }
}
