//! An authority's directory: its files, their modes, and protection from overwriting.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bridge_certs::{Authority, CertsError, InitOptions, IssueOptions, RevocationStatus, Role, inspect};

const DAY: Duration = Duration::from_secs(86_400);

fn pki() -> (tempfile::TempDir, Authority) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::init(dir.path(), &InitOptions::default()).unwrap();
    (dir, authority)
}

/// Returns all files under a directory with their contents.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.append(&mut snapshot(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn keys_are_0600_and_everything_else_is_public() {
    let (dir, authority) = pki();
    authority.issue(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    authority.renew(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    let files = snapshot(dir.path());
    let names: Vec<_> = files
        .keys()
        .filter(|path| path.parent() == Some(dir.path()))
        .map(|path| path.file_name().unwrap())
        .collect();
    assert_eq!(names, ["ca.key", "ca.pem", "cloud-seoul.key", "cloud-seoul.pem", "crl.pem"]);
    for (path, contents) in files {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let is_key = path.extension().unwrap() == "key";
        // The umask of the test's user may remove bits from the public files.
        assert!(if is_key { mode == 0o600 } else { mode & 0o600 == 0o600 }, "{} is {mode:o}", path.display());
        assert_eq!(is_key, String::from_utf8_lossy(&contents).contains("PRIVATE KEY"), "{}", path.display());
    }
}

#[test]
fn nothing_is_overwritten_without_force() {
    let (dir, authority) = pki();
    authority.issue(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    let before = snapshot(dir.path());

    let error = Authority::init(dir.path(), &InitOptions::default()).unwrap_err().to_string();
    assert!(error.contains("ca.pem exists") && error.contains("--force"), "{error}");
    let error = authority.issue(Role::Cloud, "seoul", &IssueOptions::default()).unwrap_err().to_string();
    assert!(error.contains("cloud-seoul.pem exists") && error.contains("--force"), "{error}");
    assert_eq!(snapshot(dir.path()), before);

    // A key without its certificate is protected too.
    fs::remove_file(dir.path().join("cloud-seoul.pem")).unwrap();
    let error = authority.issue(Role::Cloud, "seoul", &IssueOptions::default()).unwrap_err().to_string();
    assert!(error.contains("cloud-seoul.key exists"), "{error}");
}

#[test]
fn force_replaces_certificate_and_key() {
    let (_dir, authority) = pki();
    let force = IssueOptions { force: true, ..IssueOptions::default() };
    let first = authority.issue(Role::Cloud, "seoul", &force).unwrap();
    let second = authority.issue(Role::Cloud, "seoul", &force).unwrap();
    assert_ne!(first.serial, second.serial);
    assert_ne!(*first.key_pem, *second.key_pem);
    let on_disk = fs::read_to_string(authority.key_path(Role::Cloud, "seoul").unwrap()).unwrap();
    assert_eq!(on_disk, *second.key_pem);
}

#[test]
fn renewing_makes_a_new_key_and_warns_of_the_old_certificate() {
    let (_dir, authority) = pki();
    let old = authority.issue(Role::Idc, "pangyo", &IssueOptions::default()).unwrap();
    let renewal =
        authority.renew(Role::Idc, "pangyo", &IssueOptions { days: 60, ..IssueOptions::default() }).unwrap();
    assert_ne!(*renewal.issued.key_pem, *old.key_pem);
    assert_eq!(renewal.issued.spiffe_id, old.spiffe_id);
    let still_valid: Vec<_> = renewal.still_valid.iter().map(|certificate| &certificate.serial).collect();
    assert_eq!(still_valid, [&old.serial]);
}

#[test]
fn an_expired_certificate_can_be_renewed_and_is_not_called_valid() {
    let (_dir, authority) = pki();
    let now = SystemTime::now();
    let over = IssueOptions {
        not_before: Some(now - 2 * DAY),
        not_after: Some(now - DAY),
        ..IssueOptions::default()
    };
    authority.issue(Role::Cloud, "seoul", &over).unwrap();
    let renewal = authority.renew(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    assert!(renewal.still_valid.is_empty(), "{:?}", renewal.still_valid);
}

#[test]
fn a_revoked_agent_comes_back_only_on_purpose() {
    let (_dir, authority) = pki();
    let options = IssueOptions::default();
    authority.issue(Role::Cloud, "seoul", &options).unwrap();
    assert_eq!(authority.revoke(Role::Cloud, "seoul").unwrap().newly_revoked.len(), 1);
    let again = authority.revoke(Role::Cloud, "seoul").unwrap();
    assert_eq!((again.newly_revoked.len(), again.crl.revoked.len(), again.crl.number), (0, 1, 3));

    let error = authority.renew(Role::Cloud, "seoul", &options).unwrap_err();
    assert!(matches!(error, CertsError::Revoked { .. }), "{error}");

    authority.issue(Role::Cloud, "seoul", &IssueOptions { force: true, ..options.clone() }).unwrap();
    let path = authority.certificate_path(Role::Cloud, "seoul").unwrap();
    let seen = inspect(&path, Some(&authority.crl_path()), SystemTime::now()).unwrap();
    assert_eq!(seen.revocation, RevocationStatus::NotRevoked);
    authority.renew(Role::Cloud, "seoul", &options).unwrap();
}

#[test]
fn an_agent_without_certificate_can_be_neither_renewed_nor_revoked() {
    let (dir, authority) = pki();
    authority.issue(Role::Idc, "seoul", &IssueOptions::default()).unwrap();
    let before = snapshot(dir.path());
    for error in [
        authority.renew(Role::Cloud, "seoul", &IssueOptions::default()).unwrap_err(),
        authority.revoke(Role::Cloud, "seoul").unwrap_err(),
    ] {
        assert!(matches!(error, CertsError::NeverIssued { .. }), "{error}");
    }
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn an_authority_is_opened_with_the_trust_domain_it_was_made_with() {
    let dir = tempfile::tempdir().unwrap();
    let options = InitOptions { trust_domain: "shop.example".to_owned(), ..InitOptions::default() };
    Authority::init(dir.path().join("new/pki"), &options).unwrap();
    let authority = Authority::open(dir.path().join("new/pki")).unwrap();
    let issued = authority.issue(Role::Idc, "pangyo", &IssueOptions::default()).unwrap();
    assert_eq!(issued.spiffe_id.as_deref(), Some("spiffe://shop.example/idc/pangyo"));
}

#[test]
fn a_replaced_authority_knows_nothing_of_what_the_old_one_issued() {
    let (dir, authority) = pki();
    authority.issue(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    let path = authority.certificate_path(Role::Cloud, "seoul").unwrap();
    let new = Authority::init(dir.path(), &InitOptions { force: true, ..InitOptions::default() }).unwrap();
    let error = new.revoke(Role::Cloud, "seoul").unwrap_err();
    assert!(matches!(error, CertsError::NeverIssued { .. }), "{error}");
    let seen = inspect(&path, Some(&new.crl_path()), SystemTime::now()).unwrap();
    assert_eq!(seen.revocation, RevocationStatus::ListOfAnotherAuthority);
}

#[test]
fn damaged_files_are_named_and_nothing_is_written() {
    let (dir, authority) = pki();
    authority.issue(Role::Cloud, "seoul", &IssueOptions::default()).unwrap();
    let (_other_dir, other) = pki();
    let other_key = other.ca().key_pem().to_string();
    let record = snapshot(&dir.path().join("issued")).into_keys().next().unwrap();
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let other_crl = fs::read_to_string(other.crl_path()).unwrap();
    let cases = [
        (dir.path().join("ca.pem"), String::new(), "the authority has no certificate"),
        (dir.path().join("ca.pem"), junk.clone(), "cannot be read"),
        (dir.path().join("ca.pem"), fs::read_to_string(&record).unwrap(), "do not belong together"),
        (dir.path().join("ca.key"), "not a key".to_owned(), "no private key"),
        (dir.path().join("ca.key"), other_key, "do not belong together"),
        (dir.path().join("crl.pem"), junk.clone(), "no certificate revocation list"),
        (dir.path().join("crl.pem"), other_crl, "another authority"),
        (record, junk, "cannot be read"),
    ];
    for (path, contents, reason) in cases {
        let good = fs::read(&path).unwrap();
        fs::write(&path, contents).unwrap();
        let before = snapshot(dir.path());
        let error = Authority::open(dir.path())
            .and_then(|authority| authority.revoke(Role::Cloud, "seoul"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{}: {error}", path.display());
        assert!(error.contains(dir.path().to_str().unwrap()), "the error names no file: {error}");
        assert_eq!(snapshot(dir.path()), before);
        fs::write(&path, good).unwrap();
    }
    Authority::open(dir.path()).unwrap().revoke(Role::Cloud, "seoul").unwrap();
}

#[test]
fn simultaneous_runs_lose_no_revocation() {
    let (dir, authority) = pki();
    let names: Vec<String> = (0..8).map(|number| format!("agent-{number}")).collect();
    for name in &names {
        authority.issue(Role::Cloud, name, &IssueOptions::default()).unwrap();
    }
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| Authority::open(dir.path()).unwrap().revoke(Role::Cloud, name).unwrap());
        }
    });
    let crl = authority.crl().unwrap();
    assert_eq!((crl.revoked.len(), crl.number), (8, 9));
}
