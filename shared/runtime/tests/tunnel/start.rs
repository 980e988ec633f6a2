//! Tests of the errors with which a tunnel refuses to start, and of their texts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use bridge_protocol::domain::identity::Role;
use bridge_runtime::tunnel::{Tunnel, TunnelError};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::agents::{Home, Log, ca, issue, span, write_key};

const HOUR: i64 = 3600;

fn home() -> Home {
    let ca = ca();
    Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening()
}

fn refusal(home: Home) -> String {
    match home.try_start(Role::Idc) {
        Ok(_) => panic!("the tunnel started"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_check_needs_no_socket_and_reports_every_file_with_its_setting() {
    let mut home = home();
    assert_eq!(Tunnel::faults(&home.config, Role::Idc), BTreeMap::new());
    let other = self::home();
    // The key is another certificate's, the revocation list is none, and an entry names no agent.
    home.config.key = other.config.key.clone();
    home.config.crl = home.config.ca.clone();
    home.config.allow = vec!["spiffe://bridge.test/dba/kim".to_owned()];
    let faults = Tunnel::faults(&home.config, Role::Cloud);
    let expected = [
        ("tunnel.allow", "\"spiffe://bridge.test/dba/kim\" "),
        ("tunnel.certificate", "the certificate is that of spiffe://bridge.test/idc/vault"),
        ("tunnel.crl", "holds no PEM X509 CRL"),
        ("tunnel.key", "does not belong to the certificate"),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for ((setting, said), (expected, part)) in faults.iter().zip(expected) {
        assert!(*setting == expected && said.len() == 1 && said[0].contains(part), "{setting}: {said:?}");
    }
    // A missing file hides no fault of another one.
    home.config.certificate = "nowhere.pem".into();
    let faults = Tunnel::faults(&home.config, Role::Cloud);
    assert!(faults["tunnel.certificate"][0].contains("cannot read nowhere.pem"), "{faults:?}");
    assert!(!faults.contains_key("tunnel.key") && faults.contains_key("tunnel.crl"), "{faults:?}");
}

#[test]
fn a_certificate_of_another_authority_is_doubted() {
    let (mut home, other) = (home(), home());
    assert_eq!(Tunnel::refusal_of_itself(&home.config, Role::Idc), None);
    (home.config.ca, home.config.crl) = (other.config.ca.clone(), other.config.crl.clone());
    assert_eq!(Tunnel::faults(&home.config, Role::Idc), BTreeMap::new());
    assert!(Tunnel::refusal_of_itself(&home.config, Role::Idc).is_some());
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let home = home();
    fs::remove_file(&home.config.crl).unwrap();
    assert!(refusal(home).contains("crl.pem: No such file"));
}

#[tokio::test]
async fn a_file_that_is_not_pem_is_named() {
    for file in ["agent.pem", "agent.key", "ca.pem", "crl.pem"] {
        let home = home();
        fs::write(home.dir.path().join(file), "hello").unwrap();
        let said = refusal(home);
        assert!(said.contains(file) && said.contains("holds no PEM"), "{said}");
    }
}

#[tokio::test]
async fn a_damaged_certificate_is_named() {
    let home = home();
    let damaged = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    fs::write(&home.config.ca, damaged).unwrap();
    let said = refusal(home);
    assert!(said.contains("ca.pem holds a certificate that cannot be read"), "{said}");
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused() {
    let home = home();
    write_key(&home.config.key, &issue(&ca(), Role::Idc, "other").key_pem, 0o600);
    let said = refusal(home);
    assert!(said.contains("agent.key does not belong to the certificate"), "{said}");
}

#[tokio::test]
async fn a_key_that_everybody_can_read_is_refused() {
    let home = home();
    fs::set_permissions(&home.config.key, fs::Permissions::from_mode(0o644)).unwrap();
    let said = refusal(home);
    assert!(said.contains("mode 0644") && said.contains("chmod 600"), "{said}");
}

#[tokio::test]
async fn an_own_certificate_that_is_over_or_not_begun_is_refused() {
    let ca = ca();
    for (validity, words) in [(span(-2 * HOUR, -HOUR), "renew"), (span(HOUR, 2 * HOUR), "is valid from")] {
        let issued = ca.issue(Role::Idc, "vault", validity).unwrap();
        let said = refusal(Home::new(&ca, &issued).listening());
        assert!(
            said.contains("agent.pem") && said.contains(words) && said.contains("the clock here says"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_certificate_of_the_other_role_is_refused() {
    let ca = ca();
    let said = refusal(Home::new(&ca, &issue(&ca, Role::Cloud, "shop")).listening());
    assert!(said.contains("spiffe://bridge.test/cloud/shop") && said.contains("of the role idc"), "{said}");
}

#[tokio::test]
async fn an_allow_list_that_names_no_agent_is_refused() {
    let home = home().with(|config| config.allow = vec!["spiffe://bridge.test/dba/kim".to_owned()]);
    let said = refusal(home);
    assert!(said.contains("tunnel.allow") && said.contains("dba/kim"), "{said}");
}

#[tokio::test]
async fn a_listen_address_in_use_is_named() {
    let first = home().start(Role::Idc);
    let address = first.address();
    let second = home().with(|config| config.listen = vec![address]).try_start(Role::Idc);
    let Err(error @ TunnelError::Transport(_)) = second else { panic!("the tunnel started") };
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn when_certificates_and_revocation_list_end_is_known_and_follows_their_files() {
    let ca = ca();
    let issued = ca.issue(Role::Idc, "vault", span(-HOUR, 48 * HOUR)).unwrap();
    let home = Home::new(&ca, &issued).listening();
    let put =
        |hours| fs::write(&home.config.crl, ca.sign_crl(2, &[], span(-48 * HOUR, hours * HOUR)).unwrap());
    put(24).unwrap();
    let agent = home.start(Role::Idc);
    let hours = || -> Vec<(&str, i64)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let left = |ends_at: i64| (ends_at - now + 1_800).div_euclid(3_600);
        agent.handle.expiries().iter().map(|expiry| (expiry.what.as_str(), left(expiry.ends_at))).collect()
    };
    assert_eq!([hours()[0], hours()[2]], [("certificate", 48), ("revocation_list", 24)]);
    assert!(matches!(hours()[1], ("ca", left) if left > 48));
    fs::write(&agent.home.config.crl, ca.sign_crl(3, &[], span(-48 * HOUR, -HOUR)).unwrap()).unwrap();
    agent.handle.reload_identity();
    crate::agents::eventually("it is read again", || hours()[2] == ("revocation_list", -1)).await;
}

#[tokio::test]
async fn an_agent_that_its_peers_will_refuse_is_warned_about() {
    let (log, ca, other) = (Log::capture(), ca(), ca());
    let _foreign = Home::new(&ca, &issue(&other, Role::Idc, "foreign")).listening().start(Role::Idc);
    assert_eq!(log.lines(&["WARN", "idc/foreign", "would be refused", "not from the CA"]).len(), 1);
    let issued = issue(&ca, Role::Idc, "revoked");
    let home = Home::new(&ca, &issued).listening();
    home.revoke(&ca, 2, &[&issued]);
    let _revoked = home.start(Role::Idc);
    assert_eq!(log.lines(&["WARN", "idc/revoked", "would be refused", "is revoked"]).len(), 1);
}

#[tokio::test]
async fn new_files_that_cannot_be_used_leave_the_old_ones_in_force() {
    let (log, ca) = (Log::capture(), ca());
    let agent = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening().start(Role::Idc);
    fs::write(&agent.home.config.ca, "half a file").unwrap();
    agent.handle.reload_identity();
    let told = || !log.lines(&["WARN", "the old ones stay in force", "ca.pem"]).is_empty();
    crate::agents::eventually("it is told", told).await;
    let noted = || agent.handle.note().is_some_and(|note| note.contains("ca.pem"));
    crate::agents::eventually("it is noted", noted).await;
    let mut cloud =
        Home::new(&ca, &issue(&ca, Role::Cloud, "shop")).dialling(agent.address()).start(Role::Cloud);
    cloud.up().await;
    fs::write(&agent.home.config.ca, ca.certificate_pem()).unwrap();
    agent.handle.reload_identity();
    crate::agents::eventually("it is mended", || agent.handle.note().is_none()).await;
}

#[tokio::test]
async fn what_a_start_refuses_never_comes_into_force_while_the_agent_runs() {
    let ca = ca();
    let own = issue(&ca, Role::Cloud, "shop");
    let mut idc = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening().start(Role::Idc);
    let mut cloud = Home::new(&ca, &own).dialling(idc.address()).start(Role::Cloud);
    idc.up().await;
    cloud.up().await;
    let put = |issued: &bridge_certs::Issued| {
        fs::write(&cloud.home.config.certificate, &issued.certificate_pem).unwrap();
        write_key(&cloud.home.config.key, &issued.key_pem, 0o600);
        cloud.handle.reload_identity();
    };
    for (issued, words) in [
        (
            issue(&ca, Role::Idc, "vault"),
            "spiffe://bridge.test/idc/vault, and this agent is of the role cloud",
        ),
        (
            issue(&ca, Role::Cloud, "other"),
            "cloud/other, and this agent runs as spiffe://bridge.test/cloud/shop",
        ),
    ] {
        put(&issued);
        let noted = || cloud.handle.note().is_some_and(|note| note.contains(words));
        crate::agents::eventually("it is noted", noted).await;
        assert_eq!((cloud.handle.status().len(), idc.handle.status().len()), (1, 1), "the link stays");
    }
    put(&own);
    crate::agents::eventually("it is its own again", || cloud.handle.note().is_none()).await;
    assert_eq!((cloud.handle.status().len(), idc.handle.status().len()), (1, 1), "the link stays");
}

#[tokio::test]
async fn a_named_pipe_instead_of_a_file_is_noted_and_stops_nobody() {
    let ca = ca();
    let agent = Home::new(&ca, &issue(&ca, Role::Idc, "vault")).listening().start(Role::Idc);
    let files = [&agent.home.config.crl, &agent.home.config.key];
    for path in files {
        let (good, name) = (fs::read(path).unwrap(), path.file_name().unwrap().to_str().unwrap());
        fs::remove_file(path).unwrap();
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        agent.handle.reload_identity();
        let words = format!("{name} is not a regular file");
        // This runtime has one thread. If it waited for the pipe, the test would stop here.
        let noted = || agent.handle.note().is_some_and(|note| note.contains(&words));
        crate::agents::eventually("the missing file is noted", noted).await;
        fs::remove_file(path).unwrap();
        write_key(path, std::str::from_utf8(&good).unwrap(), 0o600);
        agent.handle.reload_identity();
        crate::agents::eventually("it is mended", || agent.handle.note().is_none()).await;
    }
}
