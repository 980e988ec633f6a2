//! openssl(1) as an independent check of every certificate and revocation list that the library
//! makes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use bridge_certs::{Authority, InitOptions, IssueOptions, Role};

const DAY: Duration = Duration::from_secs(86_400);

struct Pki {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(dir.path(), &InitOptions::default()).unwrap();
        Self { dir, authority }
    }

    fn issue(&self, role: Role, name: &str, options: &IssueOptions) -> PathBuf {
        self.authority.issue(role, name, options).unwrap();
        self.authority.certificate_path(role, name).unwrap()
    }

    /// Returns openssl's verdict on a certificate under this authority and its revocation list.
    fn verify(&self, certificate: &Path, purpose: &str) -> Result<(), String> {
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-crl_check", "-purpose", purpose, "-CAfile"])
            .arg(self.dir.path().join("ca.pem"))
            .arg("-CRLfile")
            .arg(self.dir.path().join("crl.pem"))
            .arg(certificate)
            .output()
            .expect("openssl(1) is installed");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    #[track_caller]
    fn accepts(&self, certificate: &Path) {
        for purpose in ["sslclient", "sslserver"] {
            self.verify(certificate, purpose).unwrap();
        }
    }

    #[track_caller]
    fn refuses(&self, certificate: &Path, reason: &str) {
        let said = self.verify(certificate, "sslclient").unwrap_err();
        assert!(said.contains(reason), "openssl refuses it for another reason than {reason:?}:\n{said}");
    }
}

fn text(kind: &str, path: &Path) -> String {
    let output = Command::new("openssl").args([kind, "-noout", "-text", "-in"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_issued_certificate_is_accepted_as_client_and_as_server() {
    let pki = Pki::new();
    let cloud = pki.issue(Role::Cloud, "seoul", &IssueOptions::default());
    let idc = pki.issue(Role::Idc, "pangyo", &IssueOptions { days: 1, ..IssueOptions::default() });
    pki.accepts(&cloud);
    pki.accepts(&idc);
    pki.authority.renew(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    pki.accepts(&cloud);
}

#[test]
fn an_agent_certificate_has_the_profile_of_an_agent() {
    let pki = Pki::new();
    let said = text("x509", &pki.issue(Role::Cloud, "seoul", &IssueOptions::default()));
    for part in [
        "ecdsa-with-SHA256",
        "NIST CURVE: P-256",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "URI:spiffe://bridge.internal/cloud/seoul",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
        "Subject: O = Bridge, OU = cloud, CN = seoul",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn an_authority_can_sign_agents_and_lists_and_no_other_authority() {
    let pki = Pki::new();
    let said = text("x509", &pki.authority.ca_path());
    for part in [
        "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0",
        "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign",
        "URI:spiffe://bridge.internal\n",
        "X509v3 Subject Key Identifier",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn revoking_an_agent_revokes_all_its_certificates_and_nobody_else_s() {
    let pki = Pki::new();
    let cloud = pki.issue(Role::Cloud, "seoul", &IssueOptions::default());
    let older = pki.dir.path().join("older.pem");
    std::fs::copy(&cloud, &older).unwrap();
    pki.authority.renew(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    let same_name = pki.issue(Role::Idc, "seoul", &IssueOptions::default());
    let same_start = pki.issue(Role::Cloud, "seoul-2", &IssueOptions::default());

    pki.authority.revoke(Role::Cloud, "seoul").unwrap();
    pki.refuses(&cloud, "certificate revoked");
    pki.refuses(&older, "certificate revoked");
    pki.accepts(&same_name);
    pki.accepts(&same_start);

    // The next revocation and a refresh keep the earlier entries.
    pki.authority.revoke(Role::Idc, "seoul").unwrap();
    pki.authority.refresh_crl(7).unwrap();
    pki.refuses(&older, "certificate revoked");
    pki.refuses(&same_name, "certificate revoked");
    let said = text("crl", &pki.authority.crl_path());
    assert_eq!(said.matches("Serial Number:").count(), 3, "{said}");
    assert!(said.contains("X509v3 CRL Number: \n                4\n"), "{said}");
}

#[test]
fn an_expired_certificate_is_refused() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let over = IssueOptions {
        not_before: Some(now - 2 * DAY),
        not_after: Some(now - DAY),
        ..IssueOptions::default()
    };
    pki.refuses(&pki.issue(Role::Cloud, "seoul", &over), "certificate has expired");
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_refused() {
    let pki = Pki::new();
    let later = IssueOptions { not_before: Some(SystemTime::now() + DAY), ..IssueOptions::default() };
    pki.refuses(&pki.issue(Role::Cloud, "seoul", &later), "certificate is not yet valid");
}

#[test]
fn another_authoritys_certificate_is_refused_even_in_the_same_domain() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let certificate = theirs.issue(Role::Cloud, "seoul", &IssueOptions::default());
    theirs.accepts(&certificate);
    ours.refuses(&certificate, "unable to get local issuer certificate");
}
