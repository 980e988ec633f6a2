//! Both agents' audit logs at the end of a run, by the agents' own commands: does each verify, and do they agree?

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

/// Differences that are told; the rest is counted.
const TOLD: usize = 20;

/// What became of the logs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audits {
    /// Both logs verify up to their last entry.
    pub verified: bool,
    /// Entries of both.
    pub entries: u64,
    /// Requests about which both logs say the same.
    pub agreed: u64,
    /// Requests about which they do not.
    pub differing: u64,
    /// What is wrong, as sentences.
    pub findings: Vec<String>,
}

impl Audits {
    /// Verifies and compares the logs of a site whose agents have ended.
    ///
    /// # Errors
    /// When a command cannot be run, or says what cannot be understood. What it finds wrong is a finding.
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

    /// Whether both verify and agree, with something in them.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.verified && self.differing == 0 && self.agreed > 0
    }
}

/// Where an agent has its log, as `site` configures it.
#[must_use]
pub fn folder(of_agent: &Path) -> PathBuf {
    of_agent.join("state").join("audit")
}

/// Opens a log below `dir` by an agent's own code, under a key of its own.
///
/// # Errors
/// When it cannot be opened.
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

/// What is in a log that verifies.
///
/// # Errors
/// When it does not, or holds what is no entry.
pub fn entries(log: &tlog::Log) -> Result<Vec<Entry>> {
    Ok(log.entries.iter().map(|entry| Entry::parse(entry)).collect::<Result<_, _>>()?)
}

/// The verifier key that an agent prints.
///
/// # Errors
/// When it prints none.
pub async fn key(agent: &AgentCommand) -> Result<String> {
    let config = agent.arguments.last().context("an agent without a configuration")?;
    let (code, key) = audit(&agent.program, &["key", "--config", config]).await?;
    ensure!(code == Some(0), "{} prints no verifier key: {code:?}", agent.name);
    Ok(key.trim().to_owned())
}

/// Runs `audit ...`; its exit code and what it printed.
///
/// # Errors
/// When it cannot be run.
pub async fn audit(program: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(program).arg("audit").args(arguments).output().await;
    let output = output.with_context(|| format!("run {} audit", program.display()))?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
