//! Checks both agents' audit logs at the end of a run, by the agents' own commands: each must
//! verify, and both must agree.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bridge_protocol::audit::Entry;
use bridge_runtime::audit_log::{AuditLog, Closer};
use bridge_runtime::config::AuditConfig;
use bridge_runtime::telemetry::metrics::Metrics;
use serde::Serialize;
use serde_json::Value;
use tokio::process::Command;

use crate::testkit::process::AgentCommand;
use crate::testkit::site::Site;
use crate::testkit::tlog;

/// Most differences in a report. The others are only counted.
const TOLD: usize = 20;

/// Result of the checks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audits {
    /// True if both logs verify up to their last entry.
    pub verified: bool,
    /// Entries of both logs.
    pub entries: u64,
    /// Requests about which both logs agree.
    pub agreed: u64,
    /// Requests about which the logs differ.
    pub differing: u64,
    /// Findings, as sentences.
    pub findings: Vec<String>,
}

impl Audits {
    /// Verifies and compares the logs of a site whose agents have ended. An error in a log is a
    /// finding.
    ///
    /// # Errors
    ///
    /// Fails if a command cannot be run, or its output cannot be read.
    pub async fn of(site: &Site) -> Result<Audits> {
        let mut audits = Audits { verified: true, ..Audits::default() };
        for (agent, folder) in
            [(&site.cloud, folder(&site.cloud_dir())), (&site.idc, folder(&site.idc_dir()))]
        {
            let (key, dir) = (key(agent).await?, folder.display().to_string());
            let verify = ["verify", "--json", "--dir", &dir, "--key", &key];
            let (code, told) = audit(&agent.program, &verify).await?;
            let told: Value = serde_json::from_str(&told).with_context(|| format!("audit verify: {told}"))?;
            audits.entries += told["size"].as_u64().unwrap_or(0);
            if code != Some(0) || told["verified"] != true || told["unpublished"] != 0 {
                audits.verified = false;
                audits.findings.push(format!("the log of {} does not verify: {told}", agent.name));
            }
        }
        let [cloud, idc] = [site.cloud_dir(), site.idc_dir()].map(|dir| folder(&dir).display().to_string());
        let (_, told) = audit(&site.idc.program, &["reconcile", "--json", &cloud, &idc]).await?;
        let told: Value = serde_json::from_str(&told).with_context(|| format!("audit reconcile: {told}"))?;
        audits.agreed = told["agreed"].as_u64().unwrap_or(0);
        for kind in ["differences", "in_doubt", "not_given"] {
            let list = told[kind].as_array().with_context(|| format!("audit reconcile: {told}"))?;
            audits.differing += list.len() as u64;
            audits.findings.extend(list.iter().take(TOLD).map(|one| format!("{kind}: {one}")));
        }
        Ok(audits)
    }

    /// Returns true if both logs verify, agree, and are not empty.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.verified && self.differing == 0 && self.agreed > 0
    }
}

/// Returns the folder of an agent's log, as `site` configures it.
#[must_use]
pub fn folder(of_agent: &Path) -> PathBuf {
    of_agent.join("state").join("audit")
}

/// Opens a log below `dir` with an agent's own code and a new key.
///
/// # Errors
///
/// Fails if the log cannot be opened.
pub fn open(dir: &Path) -> Result<(AuditConfig, AuditLog, Closer)> {
    let config = AuditConfig {
        dir: dir.join("audit"),
        key_file: dir.join("audit.key"),
        origin: "bridge.internal/test".to_owned(),
        publish_every: Duration::from_millis(10),
        write_within: Duration::from_secs(5),
    };
    let (log, closer) = AuditLog::open(&config, Arc::new(Metrics::default()))?;
    Ok((config, log, closer))
}

/// Returns the entries of a verified log.
///
/// # Errors
///
/// Fails if an entry cannot be parsed.
pub fn entries(log: &tlog::Log) -> Result<Vec<Entry>> {
    Ok(log.entries.iter().map(|entry| Entry::parse(entry)).collect::<Result<_, _>>()?)
}

/// Returns the verifier key that an agent prints.
///
/// # Errors
///
/// Fails if the agent prints no key.
pub async fn key(agent: &AgentCommand) -> Result<String> {
    let config = agent.arguments.last().context("an agent without a configuration")?;
    let (code, key) = audit(&agent.program, &["key", "--config", config]).await?;
    ensure!(code == Some(0), "{} prints no verifier key: {code:?}", agent.name);
    Ok(key.trim().to_owned())
}

/// Runs `audit ...`. Returns its exit code and its output.
///
/// # Errors
///
/// Fails if the command cannot be run.
pub async fn audit(program: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(program).arg("audit").args(arguments).output().await;
    let output = output.with_context(|| format!("run {} audit", program.display()))?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
