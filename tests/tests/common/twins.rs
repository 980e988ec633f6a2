//! A second agent on each side of a site. Each cloud agent is linked with each IDC agent.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use bridge_certs::{Authority, IssueOptions, Role};
use bridge_tests::testkit::http::Client;
use bridge_tests::testkit::ports::free_address;
use bridge_tests::testkit::process::{AgentCommand, Running};
use bridge_tests::testkit::site::{Bridge, Site, configure};

use super::{metric, until};

/// Commands that start the second agents.
pub(crate) struct Twins {
    /// The second cloud agent.
    pub(crate) cloud: AgentCommand,
    /// The second IDC agent.
    pub(crate) idc: AgentCommand,
    /// Storefront address of the second cloud agent.
    pub(crate) storefront: SocketAddr,
}

/// All four agents, running.
pub(crate) struct Four {
    /// The first agents.
    pub(crate) bridge: Bridge,
    /// The second cloud agent.
    pub(crate) cloud: Running,
    /// The second IDC agent.
    pub(crate) idc: Running,
}

impl Twins {
    /// Sets up the second agents. Both IDC agents dial both cloud agents.
    pub(crate) fn beside(site: &Site) -> Result<Twins> {
        let authority = Authority::open(site.cloud_dir().with_file_name("pki"))?;
        let (storefront, tunnel) = (free_address()?, free_address()?);
        let cloud_config = site.cloud_dir().join("bridge-cloud.toml");
        let idc_config = site.idc_dir().join("bridge-idc.toml");
        let both = [site.dialled, tunnel].map(|address| address.to_string().into());
        configure(&idc_config, "tunnel.dial", toml::Value::Array(both.to_vec()))?;
        let idc = twin(&authority, &site.idc, &idc_config, Role::Idc, "second-idc")?;
        let cloud = twin(&authority, &site.cloud, &cloud_config, Role::Cloud, "second-cloud")?;
        let file = cloud_config.with_file_name("second-cloud.toml");
        configure(&file, "storefront.listen", storefront.to_string())?;
        configure(&file, "tunnel.listen", toml::Value::Array(vec![tunnel.to_string().into()]))?;
        Ok(Twins { cloud, idc, storefront })
    }

    /// Starts all four agents, and waits until each has two links.
    pub(crate) async fn start(&self, site: &Site) -> Result<Four> {
        let bridge = site.start().await?;
        let (cloud, idc) = (self.cloud.start().await?, self.idc.start().await?);
        until("both cloud agents have both links", async || {
            for agent in [&site.cloud, &self.cloud] {
                let text = Client::new(agent.admin).get("/metrics", None).await?.body;
                if metric(&String::from_utf8_lossy(&text), "bridge_links_up{transport=\"quic\"}")? < 2 {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await?;
        Ok(Four { bridge, cloud, idc })
    }
}

/// Makes a copy of an agent with another name, certificate, state folder and admin address.
fn twin(
    authority: &Authority,
    agent: &AgentCommand,
    config: &Path,
    role: Role,
    name: &str,
) -> Result<AgentCommand> {
    authority.issue(role, name, &IssueOptions::default())?;
    let (file, admin) = (config.with_file_name(format!("{name}.toml")), free_address()?);
    fs::copy(config, &file)?;
    configure(&file, "agent.name", name)?;
    configure(&file, "agent.state_dir", format!("state-{name}"))?;
    configure(&file, "admin.listen", admin.to_string())?;
    let certificate = authority.certificate_path(role, name)?.display().to_string();
    configure(&file, "tunnel.certificate", certificate)?;
    configure(&file, "tunnel.key", authority.key_path(role, name)?.display().to_string())?;
    let mut agent = agent.clone();
    agent.name = name.to_owned();
    agent.log = file.with_extension("log");
    agent.admin = admin;
    *agent.arguments.last_mut().context("no arguments")? = file.display().to_string();
    Ok(agent)
}
