//! The built command, run like a person or a script runs it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn bridge_certs(dir: &Path, arguments: &str) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_bridge-certs"))
        .env_remove("BRIDGE_CERTS_DIR")
        .current_dir(dir)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    Run {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[track_caller]
fn done(dir: &Path, arguments: &str) -> String {
    let run = bridge_certs(dir, arguments);
    assert_eq!(run.code, 0, "{arguments}: {}", run.stderr);
    run.stdout
}

#[track_caller]
fn fails(dir: &Path, arguments: &str, code: i32, says: &str) {
    let run = bridge_certs(dir, arguments);
    assert_eq!(run.code, code, "{arguments}: {}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains(says), "{arguments}: {:?} does not contain {says:?}", run.stderr);
    assert_eq!(run.stdout, "", "{arguments} fails and prints a result");
}

#[test]
fn a_read_only_key_is_renewed_by_its_owner_alone() {
    /// A user other than root: root may write regardless of the mode.
    const OWNER: u32 = 4_000_000;
    const SOMEBODY: u32 = 4_000_001;
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    // Other users may have no access to the build folder.
    let program = dir.join("bridge-certs");
    fs::copy(env!("CARGO_BIN_EXE_bridge-certs"), &program).unwrap();
    let is_root = chown(dir, Some(OWNER), Some(OWNER)).is_ok();
    let run_as = |user: u32, arguments: &str| {
        let mut command = Command::new(&program);
        if is_root {
            command.uid(user).gid(user);
        }
        command.env_remove("BRIDGE_CERTS_DIR").current_dir(dir).args(arguments.split_whitespace());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for arguments in ["init", "issue cloud seoul"] {
        assert_eq!(run_as(OWNER, arguments), (Some(0), String::new()), "{arguments}");
    }
    let files = ["pki/cloud-seoul.key", "pki/cloud-seoul.pem"].map(|file| dir.join(file));
    let modes = || files.clone().map(|file| fs::metadata(file).unwrap().permissions().mode() & 0o777);
    let contents = || files.clone().map(|file| fs::read(file).unwrap());
    for (file, mode) in files.iter().zip([0o400, 0o444]) {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = contents();
    if is_root {
        // The folder allows replacing names, but the file belongs to another user.
        fs::set_permissions(dir.join("pki"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_ne!(run_as(SOMEBODY, "renew cloud seoul").0, Some(0));
        assert_eq!(contents(), before);
    }
    let (code, said) = run_as(OWNER, "renew cloud seoul");
    assert_eq!(code, Some(0), "{said}");
    let after = contents();
    assert!(before[0] != after[0] && before[1] != after[1], "both are new");
    assert_eq!(modes(), [0o400, 0o444], "and as read-only as they were");
}

#[test]
fn the_life_of_a_certificate_from_init_to_revocation() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    assert!(done(dir, "init --trust-domain shop.example").contains("shop.example"));
    assert!(done(dir, "issue cloud seoul").contains("spiffe://shop.example/cloud/seoul"));
    assert!(done(dir, "issue idc pangyo --days 90").contains("pki/idc-pangyo.key"));
    let old = done(dir, "inspect pki/cloud-seoul.pem");
    assert!(old.contains("not revoked"), "{old}");
    let renewed = done(dir, "renew cloud seoul");
    assert!(renewed.contains("still valid"), "{renewed}");
    let revoked = done(dir, "revoke cloud seoul");
    assert_eq!(
        revoked.matches("\nrevoked ").count() + usize::from(revoked.starts_with("revoked ")),
        2,
        "{revoked}"
    );
    assert!(revoked.contains("list 2 with 2 entries"), "{revoked}");
    assert!(done(dir, "crl --days 7").contains("list 3 with 2 entries"));

    let run = bridge_certs(dir, "inspect pki/cloud-seoul.pem");
    assert_eq!(run.code, 0);
    assert!(
        run.stdout.contains("REVOKED") && run.stderr.contains("warning:"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    fails(dir, "renew cloud seoul", 1, "is revoked");
}

#[test]
fn inspect_agrees_with_openssl_and_prints_one_json_object() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    done(dir, "--dir a init");
    done(dir, "--dir a issue cloud seoul");
    let json = done(dir, "inspect a/cloud-seoul.pem --crl a/crl.pem --json");
    let seen: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(seen["spiffe_id"], "spiffe://bridge.internal/cloud/seoul");
    assert_eq!(seen["key_algorithm"], "ECDSA P-256");
    assert_eq!(seen["revocation"], "not-revoked");
    assert!((29..=30).contains(&seen["days_left"].as_i64().unwrap()), "{json}");

    let openssl = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-fingerprint", "-sha256", "-in"])
        .arg(dir.join("a/cloud-seoul.pem"))
        .output()
        .unwrap();
    let openssl = String::from_utf8(openssl.stdout).unwrap();
    let serial = seen["serial"].as_str().unwrap().to_uppercase();
    assert!(openssl.contains(&format!("serial={serial}\n")), "{openssl}{json}");
    assert!(
        openssl.contains(&format!("Fingerprint={}\n", seen["fingerprint_sha256"].as_str().unwrap())),
        "{openssl}{json}"
    );
}

#[test]
fn inspect_shows_the_end_of_a_revocation_list() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    done(dir, "init");
    let issued = done(dir, "issue cloud seoul");
    done(dir, "revoke cloud seoul");
    let list = done(dir, "inspect pki/crl.pem");
    let serial = issued.lines().find_map(|line| line.strip_prefix("serial       ")).unwrap();
    assert!(list.contains("number       2") && list.contains("(29 days left)"), "{list}");
    assert!(list.contains(&format!("revoked      {serial}")), "{list}");
    done(dir, "crl --days 3");
    let run = bridge_certs(dir, "inspect pki/crl.pem --json");
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(json["days_left"] == 2 && json["revoked"][0] == serial, "{json}");
    assert!(run.stderr.contains("2 days left: sign it again"), "{}", run.stderr);
}

#[test]
fn inspect_warns_when_fewer_than_seven_days_are_left() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    done(dir, "init");
    done(dir, "issue cloud short --days 7");
    done(dir, "issue cloud long --days 8");
    let short = bridge_certs(dir, "inspect pki/cloud-short.pem --json");
    assert!(short.stderr.contains("has 6 days left: renew it"), "{}", short.stderr);
    serde_json::from_str::<serde_json::Value>(&short.stdout).expect("the warning is not on standard output");
    assert_eq!(bridge_certs(dir, "inspect pki/cloud-long.pem").stderr, "");
}

#[test]
fn what_cannot_be_asked_for_is_exit_code_2_and_writes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    for (arguments, says) in [
        ("", "Usage"),
        ("frobnicate", "unrecognized"),
        ("init --trust-domain Shop/", "no trust domain"),
        ("init --days 0", "--days"),
        ("init --days 4000000000", "fewer days"),
    ] {
        fails(dir, arguments, 2, says);
    }
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    done(dir, "init");
    for (arguments, says) in [
        ("issue cloud Seoul", "no agent name"),
        ("issue cloud ../seoul", "no agent name"),
        ("issue cloud -- -seoul", "no agent name"),
        ("issue storefront seoul", "possible values: cloud, idc"),
        ("issue cloud", "NAME"),
        ("issue cloud seoul --days 0", "--days"),
    ] {
        fails(dir, arguments, 2, says);
    }
    assert_eq!(fs::read_dir(dir.join("pki/issued")).unwrap().count(), 0);
}

#[test]
fn a_failed_command_exits_with_1_the_file_and_the_remedy() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    fails(dir, "issue cloud seoul", 1, "bridge-certs --dir pki init");
    fails(dir, "inspect absent.pem", 1, "cannot read absent.pem");
    done(dir, "init");
    fails(dir, "init", 1, "pki/ca.pem exists: there is an authority already, and it stays as it is");
    fails(
        dir,
        "init",
        1,
        "--force would replace it here, and every certificate that it signed would be void",
    );
    done(dir, "issue cloud seoul");
    fails(dir, "issue cloud seoul", 1, "pki/cloud-seoul.pem exists");
    done(dir, "issue cloud seoul --force");
    fails(dir, "revoke idc seoul", 1, "bridge-certs issue idc seoul");
    fails(dir, "inspect pki/ca.key", 1, "pki/ca.key: there is neither a certificate nor a revocation list");
    fails(dir, "inspect pki/cloud-seoul.pem --crl absent.pem", 1, "cannot read absent.pem");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "init");
    let pki = dir.path().join("pki");
    let certificate = pki.join("ca.pem").display().to_string();
    for arguments in [&["inspect", &certificate][..], &["inspect", &certificate, "--json"], &["crl"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-certs"));
        let output = command.arg("--dir").arg(&pki).args(arguments).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {said}");
    }
}

#[test]
fn a_linked_certificate_stays_a_link_and_its_key_keeps_its_group() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    done(dir.path(), "init");
    done(dir.path(), "issue cloud seoul");
    let [certificate, key] =
        ["cloud-seoul.pem", "cloud-seoul.key"].map(|name| dir.path().join("pki").join(name));
    let elsewhere = dir.path().join("pki/elsewhere.pem");
    fs::rename(&certificate, &elsewhere).unwrap();
    symlink("elsewhere.pem", &certificate).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::read_to_string(&elsewhere).unwrap();
    done(dir.path(), "renew cloud seoul");
    assert!(certificate.symlink_metadata().unwrap().is_symlink());
    assert_ne!(fs::read_to_string(&elsewhere).unwrap(), before);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn help_shows_examples_and_no_output_ever_shows_a_key() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let help = done(dir, "--help");
    assert!(help.contains("Examples:") && help.contains("issue cloud seoul"), "{help}");
    let mut said = done(dir, "init");
    said += &done(dir, "issue cloud seoul");
    said += &done(dir, "renew cloud seoul");
    for key in ["pki/ca.key", "pki/cloud-seoul.key"] {
        let key = fs::read_to_string(dir.join(key)).unwrap();
        assert!(!said.contains(key.lines().nth(1).unwrap()));
    }
}
