//! rustls as a second check: the agents' own TLS on each kind of certificate.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridge_certs::{Ca, Crl, Issued, RevocationStatus, Revoked, Role, Validity, inspect_pem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error, RootCertStore};

const DAY: Duration = Duration::from_secs(86_400);

fn ca() -> Ca {
    Ca::generate("bridge.internal", month()).unwrap()
}

fn month() -> Validity {
    Validity::days(SystemTime::now(), 30).unwrap()
}

fn verify(ca: &Ca, crl: &str, certificate_pem: &str) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls([CertificateRevocationListDer::from_pem_slice(crl.as_bytes()).unwrap()])
        .enforce_revocation_expiration()
        .build()
        .unwrap();
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).unwrap();
    verifier.verify_client_cert(&certificate, &[], UnixTime::now()).map(drop)
}

#[track_caller]
fn refused_as(ca: &Ca, issued: &Issued, expected: &str) {
    let crl = ca.sign_crl(1, &[], month()).unwrap();
    let error = verify(ca, &crl, &issued.certificate_pem).unwrap_err();
    assert!(format!("{error:?}").contains(expected), "{error:?} is not {expected}");
}

#[test]
fn a_good_certificate_is_accepted_and_its_key_fits() {
    let ca = ca();
    let issued = ca.issue(Role::Idc, "pangyo", month()).unwrap();
    verify(&ca, &ca.sign_crl(1, &[], month()).unwrap(), &issued.certificate_pem).unwrap();

    let certificate = CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::sign::CertifiedKey::from_der(vec![certificate], key, &provider).unwrap().keys_match().unwrap();
}

#[test]
fn a_revoked_certificate_is_refused_as_revoked() {
    let ca = ca();
    let [revoked, other] = ["seoul", "busan"].map(|name| ca.issue(Role::Cloud, name, month()).unwrap());
    let entry = Revoked { serial: revoked.serial.clone(), at: SystemTime::now() };
    let crl = ca.sign_crl(2, &[entry], month()).unwrap();
    let error = verify(&ca, &crl, &revoked.certificate_pem).unwrap_err();
    assert_eq!(error, Error::InvalidCertificate(CertificateError::Revoked));
    verify(&ca, &crl, &other.certificate_pem).unwrap();
}

#[test]
fn a_revocation_list_that_is_past_due_is_refused() {
    let ca = ca();
    let issued = ca.issue(Role::Cloud, "seoul", month()).unwrap();
    let now = SystemTime::now();
    let crl = ca.sign_crl(1, &[], Validity::new(now - 2 * DAY, now - DAY).unwrap()).unwrap();
    let error = format!("{:?}", verify(&ca, &crl, &issued.certificate_pem).unwrap_err());
    assert!(error.contains("ExpiredRevocationList"), "{error}");
    let crl = Crl::from_pem(&crl).unwrap();
    let seen = inspect_pem(&issued.certificate_pem, Some(&crl), now).unwrap();
    assert_eq!(seen.revocation, RevocationStatus::ListOverdue);
}

#[test]
fn expired_future_and_foreign_certificates_are_each_refused_by_name() {
    let (ca, now) = (ca(), SystemTime::now());
    let expired = ca.issue(Role::Cloud, "seoul", Validity::new(now - 2 * DAY, now - DAY).unwrap()).unwrap();
    refused_as(&ca, &expired, "Expired");
    let future = ca.issue(Role::Cloud, "seoul", Validity::new(now + DAY, now + 2 * DAY).unwrap()).unwrap();
    refused_as(&ca, &future, "NotValidYet");
    let foreign = self::ca().issue(Role::Cloud, "seoul", month()).unwrap();
    refused_as(&ca, &foreign, "UnknownIssuer");
}

#[test]
fn an_unchecked_certificate_carries_exactly_the_uri_it_was_given() {
    let ca = ca();
    let crl = ca.sign_crl(1, &[], month()).unwrap();
    for uri in [None, Some("spiffe://x/other/a"), Some("https://example.com/")] {
        let issued = ca.issue_unchecked(uri, month()).unwrap();
        verify(&ca, &crl, &issued.certificate_pem)
            .expect("its chain is good, its identity is what an agent refuses");
        let seen = inspect_pem(&issued.certificate_pem, None, SystemTime::now()).unwrap();
        assert_eq!(seen.spiffe_id.as_deref(), uri.filter(|uri| uri.starts_with("spiffe:")));
    }
}

#[test]
fn no_certificate_outlives_its_authority() {
    let ca = ca();
    let issued = ca.issue(Role::Cloud, "seoul", Validity::days(SystemTime::now(), 365).unwrap()).unwrap();
    assert_eq!(issued.validity.not_after(), ca.validity().not_after());
}

#[test]
fn no_debug_output_shows_a_key() {
    let ca = ca();
    let issued = ca.issue(Role::Cloud, "seoul", month()).unwrap();
    let said = format!("{ca:?} {issued:?}");
    for pem in [ca.key_pem(), issued.key_pem] {
        let line = pem.lines().nth(1).unwrap();
        assert!(!said.contains(line));
    }
    assert!(!said.contains("PRIVATE"), "{said}");
}
