//! Both agents' configuration. Errors are reported, no message repeats the content of a secret
//! file, and the output of `--print-config` is a valid configuration itself.
//!
//! An input is TOML. After a zero byte, it may contain lines of environment variables,
//! `NAME=VALUE`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bridge_cloud::config::CloudConfig;
use bridge_idc::config::IdcConfig;
use bridge_runtime::config::sample::complete;

use super::{SECRET, demand};
use crate::tools::fuzz::hunt::{Target, Verdict};
use crate::tools::fuzz::mutate;

/// `CloudConfig::load` and `IdcConfig::load`. Each gets every input.
pub(super) const TARGET: Target = Target { name: "config", corpus, change: mutate::lines, check };

const CLOUD: &str = include_str!("../../../../../bridge-cloud/samples/bridge-cloud.toml");
const IDC: &str = include_str!("../../../../../bridge-idc/samples/bridge-idc.toml");
/// All files that the samples name.
const FILES: [&str; 9] = [
    "certs/cloud-1.pem",
    "certs/cloud-1.key",
    "certs/idc-1.pem",
    "certs/idc-1.key",
    "certs/ca.pem",
    "certs/crl.pem",
    "secrets/my-brand.token",
    "secrets/ledger.password",
    "secrets/gateway.key",
];

fn corpus() -> Vec<Vec<u8>> {
    // Without comments, because a change to a comment has no effect.
    let settings = |sample: &str| {
        let lines = sample.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    };
    let overlay = "\0BRIDGE_CLOUD__STOREFRONT__LINES_MAX=7\nBRIDGE_CLOUD__TUNNEL__LISTEN=127.0.0.1:1,[::1]:2";
    let texts = [settings(CLOUD), settings(IDC), settings(&complete(CLOUD)), settings(&complete(IDC))];
    let overlaid = settings(CLOUD) + overlay;
    texts.into_iter().chain([overlaid]).map(String::into_bytes).collect()
}

fn check(input: &[u8]) -> Result<Verdict, String> {
    let folder = folder().map_err(|error| format!("the folder cannot be made: {error}"))?;
    let file = folder.path().join("bridge.toml");
    let (toml, environment) = match input.iter().position(|byte| *byte == 0) {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, &[][..]),
    };
    let environment = String::from_utf8_lossy(environment);
    let environment = || environment.lines().filter_map(|line| line.split_once('=')).map(owned);
    let nothing = std::iter::empty::<(String, String)>;

    let mut verdict = Verdict::Refused;
    for load in [cloud, idc] {
        write(&file, toml)?;
        let loaded = load(&file, environment().collect());
        let text = loaded.as_ref().unwrap_or_else(|mistakes| mistakes);
        demand(!text.is_empty(), "refused without a reason")?;
        demand(!text.contains(SECRET), &format!("a secret is shown: {text}"))?;
        if let Ok(effective) = loaded {
            write(&file, effective.as_bytes())?;
            let again = load(&file, nothing().collect());
            demand(again.as_ref() == Ok(&effective), &format!("{effective:?} is read as {again:?}"))?;
            verdict = Verdict::Accepted;
        }
    }
    Ok(verdict)
}

fn cloud(file: &Path, environment: Vec<(String, String)>) -> Result<String, String> {
    let config = CloudConfig::load(file, environment.into_iter());
    config.map(|config| config.effective).map_err(|mistakes| mistakes.to_string())
}

fn idc(file: &Path, environment: Vec<(String, String)>) -> Result<String, String> {
    let config = IdcConfig::load(file, environment.into_iter());
    config.map(|config| config.effective).map_err(|mistakes| mistakes.to_string())
}

/// Makes a folder with the files that the samples name. Each contains a secret.
fn folder() -> io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for name in ["certs", "secrets"] {
        fs::create_dir(folder.path().join(name))?;
    }
    for name in FILES {
        let path = folder.path().join(name);
        fs::write(&path, format!("{SECRET}0123456789abcdef\n"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    }
    Ok(folder)
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(file, bytes).map_err(|error| format!("the file cannot be written: {error}"))
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
