//! The certificate authority in memory: a key, its certificate, and its signatures.
//!
//! Role: the profile of every certificate and revocation list of a bridge (ECDSA P-256; RFC 5280,
//! X509-SVID). Neighbours: `authority` keeps one in a directory. Tests use it directly, also for
//! certificates that agents must refuse. It never touches a file and never reads the clock.

use std::fmt;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::identity::AgentIdentity;
use crate::inspection::{self, Names};
use crate::{CertsError, Revoked, Role, Serial, TrustDomain, Validity};

/// Organization in the subject of every certificate.
const ORGANIZATION: &str = "Bridge";

/// A private certificate authority, which can sign.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    name: String,
    trust_domain: TrustDomain,
    validity: Validity,
}

/// A new certificate with its private key.
pub struct Issued {
    /// The certificate (PEM).
    pub certificate_pem: String,
    /// Its private key (PKCS#8 PEM), wiped from memory when dropped.
    pub key_pem: Zeroizing<String>,
    /// Certificate of the authority that signed it (PEM).
    pub ca_pem: String,
    /// The identity in it. `None` only in certificates that tests make for agents to refuse.
    pub spiffe_id: Option<String>,
    /// Serial number, by which a revocation list names it.
    pub serial: Serial,
    /// Its validity. It is shorter than requested if the authority's own certificate expires
    /// earlier.
    pub validity: Validity,
}

impl Ca {
    /// Makes a new authority with a new key for a trust domain.
    ///
    /// # Errors
    ///
    /// Fails if the trust domain is invalid or signing fails.
    pub fn generate(trust_domain: &str, validity: Validity) -> Result<Self, CertsError> {
        let trust_domain = TrustDomain::parse(trust_domain)?;
        let serial = Serial::random();
        // Each authority has its own name. So a certificate of another one is reported as such, and
        // not as one with a bad signature.
        let common_name = format!("Bridge CA {:.8}", serial.to_string());
        let mut params = profile(&serial, validity, &[(DnType::CommonName, &common_name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&trust_domain.spiffe_id())?];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // It is read back as in every later run, so that an unreadable authority is never written.
        Self::from_pem(&params.self_signed(&key)?.pem(), &Zeroizing::new(key.serialize_pem()))
    }

    /// Reads an authority that [`Self::generate`] made, from its certificate and its key.
    ///
    /// # Errors
    ///
    /// Fails if they cannot be read, do not belong together, or were not made by
    /// [`Self::generate`].
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, CertsError> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|_| CertsError::malformed("the authority has no certificate in PEM form"))?;
        let (_, certificate) = X509Certificate::from_der(&der)
            .map_err(|_| CertsError::malformed("the authority's certificate cannot be read"))?;
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| CertsError::malformed("the authority's key is no private key in PKCS#8 PEM form"))?;
        if key.public_key_raw() != &*certificate.public_key().subject_public_key.data {
            return Err(CertsError::malformed("the authority's key and certificate do not belong together"));
        }
        let Names { subject: name, spiffe_id, .. } = Names::of(&certificate);
        let trust_domain = spiffe_id.as_deref().and_then(TrustDomain::from_spiffe_id);
        let (true, Some(trust_domain)) = (certificate.is_ca(), trust_domain) else {
            return Err(CertsError::malformed("the authority's certificate is not one that `init` made"));
        };
        let validity = inspection::validity(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self { issuer, certificate_pem: certificate_pem.to_owned(), name, trust_domain, validity })
    }

    /// Signs a certificate for an agent, with a new key.
    ///
    /// # Errors
    ///
    /// Fails if the name or the validity is invalid, or if the authority has expired.
    pub fn issue(&self, role: Role, name: &str, validity: Validity) -> Result<Issued, CertsError> {
        self.issue_to(&AgentIdentity::new(role, name)?, validity)
    }

    /// Signs a certificate with any URI or none, with a new key. Agents must refuse it.
    ///
    /// # Errors
    ///
    /// Fails if the validity is invalid, or if the authority has expired.
    #[cfg(any(test, feature = "testing"))]
    pub fn issue_unchecked(&self, uri: Option<&str>, validity: Validity) -> Result<Issued, CertsError> {
        self.sign(&[(DnType::CommonName, "unchecked")], uri, validity)
    }

    /// Signs a revocation list. `number` must be higher than the previous list's. The next list is
    /// due at the end of `validity`.
    ///
    /// # Errors
    ///
    /// Fails if a time is invalid or signing fails.
    pub fn sign_crl(
        &self,
        number: u64,
        revoked: &[Revoked],
        validity: Validity,
    ) -> Result<String, CertsError> {
        let revoked_certs = revoked.iter().map(Revoked::to_rcgen).collect::<Result<_, _>>()?;
        let list = CertificateRevocationListParams {
            this_update: validity.not_before_utc(),
            next_update: validity.not_after_utc(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    /// Returns the authority's certificate (PEM), which agents trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Returns the authority's private key (PKCS#8 PEM), wiped from memory when dropped.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Returns its distinguished name, which is the issuer of everything that it signs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the trust domain of all its identities.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Returns the validity of the authority's own certificate.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(crate) fn issue_to(&self, agent: &AgentIdentity, validity: Validity) -> Result<Issued, CertsError> {
        let subject =
            [(DnType::OrganizationalUnitName, &*agent.role.to_string()), (DnType::CommonName, agent.name())];
        self.sign(&subject, Some(&agent.spiffe_id(&self.trust_domain)), validity)
    }

    fn sign(
        &self,
        subject: &[(DnType, &str)],
        identity: Option<&str>,
        validity: Validity,
    ) -> Result<Issued, CertsError> {
        let validity = validity.within(&self.validity)?;
        let serial = Serial::random();
        let mut params = profile(&serial, validity, subject);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Either side may dial, so each agent can be a client or a server.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = identity.map(uri).transpose()?.into_iter().collect();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Ok(Issued {
            certificate_pem: params.signed_by(&key, &self.issuer)?.pem(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            ca_pem: self.certificate_pem.clone(),
            spiffe_id: identity.map(str::to_owned),
            serial,
            validity,
        })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca")
            .field("name", &self.name)
            .field("trust_domain", &self.trust_domain)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("spiffe_id", &self.spiffe_id)
            .field("serial", &self.serial)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// Returns the common part of the certificates of authorities and agents.
fn profile(serial: &Serial, validity: Validity, subject: &[(DnType, &str)]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial.to_rcgen());
    params.not_before = validity.not_before_utc();
    params.not_after = validity.not_after_utc();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params
}

fn uri(uri: &str) -> Result<SanType, CertsError> {
    Ok(SanType::URI(uri.try_into()?))
}
