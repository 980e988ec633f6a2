//! A whole bridge on this machine: certificates, keys, tokens, two configurations, a tapped line
//! and two processes.
//!
//! ```text
//! DIR/pki/      the authority and the agents' certificates
//! DIR/cloud/    files of the cloud side: configuration, tokens, state, log
//! DIR/idc/      files of the IDC: configuration, keys, SQLite ledger, state, log
//! DIR/tunnel    every byte that crossed the tunnel
//! DIR/frames/   the agents' frames before TLS, if the [`Setup`] asks for them
//! ```
//!
//! The IDC agent dials across a [line](crate::testkit::wan), as IDC firewalls demand. A [`Setup`]
//! can make the cloud agent dial instead. The demo and the end-to-end tests use the same commands
//! and files as an operator.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bridge_certs::{Authority, InitOptions, IssueOptions, Role};
use serde_json::{Value, json};

use crate::testkit::database::Database;
use crate::testkit::frame_tap::{Credentials, FrameTap};
use crate::testkit::plan::Plan;
use crate::testkit::ports::free_address;
use crate::testkit::process::{AgentCommand, Programs, Running, run};
use crate::testkit::wan::{Line, UdpRelay, Wan};

/// Names of the two agents.
const CLOUD: &str = "demo-cloud";
const IDC: &str = "demo-idc";

/// All files and addresses that are set up before the first process starts.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    /// Bearer token of each brand.
    tokens: BTreeMap<String, String>,
    database: Database,
    programs: Programs,
    /// Command that starts the cloud agent.
    pub cloud: AgentCommand,
    /// Command that starts the IDC agent.
    pub idc: AgentCommand,
    /// Address for storefronts.
    pub storefront: SocketAddr,
    /// Address of the tunnel's listener, behind the line.
    pub tunnel: SocketAddr,
    /// Address that the dialling side dials: the near end of the line.
    pub dialled: SocketAddr,
    /// The line between the agents.
    pub line: Line,
    /// The relay or network of the line.
    carrier: Carrier,
    /// The relay that keeps the frames, behind the line.
    _frame_tap: Option<FrameTap>,
}

/// Options of a site.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// If true, every byte that crosses the tunnel is kept in the file `tunnel`.
    pub tapped: bool,
    /// If true, the agents' frames are kept in the folder `frames`. A relay with both agents' own
    /// keys ends TLS on both sides.
    pub frames: bool,
    /// If true, a WAN of IP packets (which takes root) connects the agents. If false, it is a relay
    /// of datagrams.
    pub wan: bool,
    /// If true, the cloud agent dials, so a newly added cloud agent needs no change at the IDC. If
    /// false, the IDC agent dials, as IDC firewalls demand.
    pub cloud_dials: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { tapped: true, frames: false, wan: false, cloud_dials: false }
    }
}

/// The relay or network that carries the line between the agents.
#[derive(Debug)]
enum Carrier {
    Relay(UdpRelay),
    Wan(Wan),
}

/// Both running agents.
#[derive(Debug)]
pub struct Bridge {
    /// The cloud agent.
    pub cloud: Running,
    /// The IDC agent.
    pub idc: Running,
}

impl Site {
    /// Sets up a site in the empty folder `dir` for these brands and their currencies, and makes
    /// the tables in the database.
    ///
    /// # Errors
    ///
    /// Fails if a step fails. The error names the step.
    pub async fn prepare(
        dir: &Path,
        programs: Programs,
        database: Database,
        brands: &[(&str, &str)],
        seed: u64,
    ) -> Result<Site> {
        Site::set_up(dir, programs, database, brands, seed, Setup::default()).await
    }

    /// Sets up a site with options.
    ///
    /// # Errors
    ///
    /// Fails if a step fails. The error names the step.
    pub async fn set_up(
        dir: &Path,
        programs: Programs,
        database: Database,
        brands: &[(&str, &str)],
        seed: u64,
        setup: Setup,
    ) -> Result<Site> {
        let (cloud_dir, idc_dir) = (dir.join("cloud"), dir.join("idc"));
        for dir in [&cloud_dir, &idc_dir] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let authority =
            Authority::init(dir.join("pki"), &InitOptions::default()).context("make the authority")?;
        let verifier_key = make_keys(&programs, &idc_dir).await?;
        let capture = dir.join("tunnel");
        let capture = setup.tapped.then_some(capture.as_path());
        let wan = setup.wan.then(|| Wan::start(seed, capture)).transpose().context("start the WAN")?;
        let tunnel = wan.as_ref().map_or_else(|| Ok(free_address()?), Wan::free_far_address)?;
        let (storefront, cloud_admin, idc_admin) = (free_address()?, free_address()?, free_address()?);
        for (role, name) in [(Role::Cloud, CLOUD), (Role::Idc, IDC)] {
            let issued = authority.issue(role, name, &IssueOptions::default());
            issued.with_context(|| format!("issue {name}"))?;
        }
        let frame_tap = setup.frames.then(|| frame_tap(&authority, tunnel, dir, setup)).transpose()?;
        let target = frame_tap.as_ref().map_or(tunnel, FrameTap::address);
        let (carrier, dialled) = match wan {
            Some(wan) => {
                let dialled = wan.from_other_end(target)?;
                (Carrier::Wan(wan), dialled)
            }
            None => {
                let relay = UdpRelay::start(target, capture, seed).context("start the line")?;
                let dialled = relay.address();
                (Carrier::Relay(relay), dialled)
            }
        };
        let (listen, dial) = (json!({"listen": [tunnel]}), json!({"dial": [dialled]}));
        let (cloud_way, idc_way) = if setup.cloud_dials { (dial, listen) } else { (listen, dial) };

        let mut tokens = BTreeMap::new();
        let mut brand_sections = serde_json::Map::new();
        for (brand, currency) in brands {
            let token = format!("{:032x}", rand::random::<u128>());
            let file = format!("{brand}.token");
            write_secret(&cloud_dir.join(&file), &token)?;
            brand_sections.insert((*brand).to_owned(), json!({"token_file": file, "currency": currency}));
            tokens.insert((*brand).to_owned(), token);
        }
        let cloud_tunnel = identity(&authority, Role::Cloud, CLOUD, cloud_way)?;
        let cloud_config = json!({
            "agent": {"name": CLOUD, "state_dir": "state"},
            "admin": {"listen": cloud_admin},
            "tunnel": cloud_tunnel,
            "storefront": {"listen": storefront},
            "sealing": {"verifier_keys": [verifier_key]},
            "brands": brand_sections,
        });
        let mut ledger = json!({"url": database.url()});
        if let Database::Postgres { password: Some(password), .. } = &database {
            write_secret(&idc_dir.join("database.password"), password)?;
            ledger["password_file"] = json!("database.password");
        }
        let idc_tunnel = identity(&authority, Role::Idc, IDC, idc_way)?;
        let idc_config = json!({
            "agent": {"name": IDC, "state_dir": "state"},
            "admin": {"listen": idc_admin},
            "tunnel": idc_tunnel,
            "ledger": ledger,
            "keys": {"dir": "keys"},
        });
        let cloud = agent(&programs.cloud, &cloud_dir, "bridge-cloud", cloud_admin, &cloud_config)?;
        let idc = agent(&programs.idc, &idc_dir, "bridge-idc", idc_admin, &idc_config)?;
        let site = Site {
            dir: dir.to_owned(),
            tokens,
            database,
            programs,
            cloud,
            idc,
            storefront,
            tunnel,
            dialled,
            line: carrier.line().clone(),
            carrier,
            _frame_tap: frame_tap,
        };
        site.idc_command(&["migrate"]).await.context("make the ledger's tables")?;
        Ok(site)
    }

    /// Imports a plan's stock into the ledger.
    ///
    /// # Errors
    ///
    /// Fails if the import refuses the file.
    pub async fn import(&self, plan: &Plan) -> Result<()> {
        let path = self.idc_dir().join(format!("{}-stock.csv", plan.brand));
        fs::write(&path, plan.stock_csv()?).with_context(|| format!("write {}", path.display()))?;
        self.idc_command(&["stock", "import", &path.display().to_string()])
            .await
            .context("import the stock")?;
        Ok(())
    }

    /// Starts both agents and waits until both are ready.
    ///
    /// # Errors
    ///
    /// Fails if an agent does not become ready.
    pub async fn start(&self) -> Result<Bridge> {
        // Both are started before the first wait, because each is ready only once it has a link to
        // the other.
        let (mut cloud, mut idc) = (self.cloud.spawn()?, self.idc.spawn()?);
        cloud.wait_until_ready().await?;
        idc.wait_until_ready().await?;
        Ok(Bridge { cloud, idc })
    }

    /// Cuts the line until the cloud agent has noticed, then restores it.
    ///
    /// # Errors
    ///
    /// Fails if the agent does not notice.
    pub async fn cut_line(&self, cloud: &Running) -> Result<()> {
        self.line.cut(true);
        let noticed = cloud.wait_until_not_ready().await;
        self.line.cut(false);
        noticed.context("the line is cut")
    }

    /// Returns the WAN of IP packets, if the site has one. Other programs can use its addresses as
    /// well.
    #[must_use]
    pub fn wan(&self) -> Option<&Wan> {
        match &self.carrier {
            Carrier::Wan(wan) => Some(wan),
            Carrier::Relay(_) => None,
        }
    }

    /// Returns the bearer token of a brand, or an empty text if the brand is not served.
    #[must_use]
    pub fn token(&self, brand: &str) -> &str {
        self.tokens.get(brand).map_or("", String::as_str)
    }

    /// Returns the brands that are served.
    pub fn brands(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }

    /// Returns the ledger's database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Returns the folder with all files of the cloud side.
    #[must_use]
    pub fn cloud_dir(&self) -> PathBuf {
        self.dir.join("cloud")
    }

    /// Returns the folder with all files of the IDC.
    #[must_use]
    pub fn idc_dir(&self) -> PathBuf {
        self.dir.join("idc")
    }

    /// Returns the file with every byte that has crossed the tunnel.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn captured(&self) -> Result<PathBuf> {
        self.line.flush().context("write the captured bytes")?;
        Ok(self.dir.join("tunnel"))
    }

    /// Returns the folder with the agents' frames, if they are kept.
    #[must_use]
    pub fn frames(&self) -> Option<PathBuf> {
        Some(self.dir.join("frames")).filter(|frames| frames.is_dir())
    }

    /// Sets up one more IDC agent. It has its own host name and certificate, a copy of the first
    /// agent's keys, and the same ledger. Returns its command and its folder.
    ///
    /// # Errors
    ///
    /// Fails if a step fails. The error names the step.
    pub fn add_idc(&self, name: &str) -> Result<(AgentCommand, PathBuf)> {
        let dir = self.dir.join(name);
        let keys = dir.join("keys");
        fs::create_dir_all(&keys).with_context(|| format!("make {}", keys.display()))?;
        for file in fs::read_dir(self.idc_dir().join("keys"))? {
            let file = file?;
            fs::copy(file.path(), keys.join(file.file_name())).context("copy a key")?;
        }
        let first = self.idc_dir().join("bridge-idc.toml");
        let mut config: Value = toml::from_str(&fs::read_to_string(&first)?)?;
        let authority = Authority::open(self.dir.join("pki")).context("open the authority")?;
        let issued = authority.issue(Role::Idc, name, &IssueOptions::default());
        issued.with_context(|| format!("issue {name}"))?;
        config["tunnel"] = identity(&authority, Role::Idc, name, config["tunnel"].clone())?;
        let admin = free_address()?;
        config["agent"]["name"] = json!(name);
        config["admin"]["listen"] = json!(admin);
        if let Some(file) = config["ledger"]["password_file"].as_str() {
            config["ledger"]["password_file"] = json!(self.idc_dir().join(file));
        }
        Ok((agent(&self.programs.idc, &dir, "bridge-idc", admin, &config)?, dir))
    }

    /// Returns the path of the program `bridge-idc`.
    #[must_use]
    pub fn idc_program(&self) -> &Path {
        &self.programs.idc
    }

    /// Runs `bridge-idc COMMAND --config FILE`. Returns its output.
    ///
    /// # Errors
    ///
    /// Fails if the command fails. The error contains its standard error.
    pub async fn idc_command(&self, command: &[&str]) -> Result<String> {
        let config = self.idc_dir().join("bridge-idc.toml").display().to_string();
        run(&self.programs.idc, &[command, &["--config", &config]].concat()).await
    }
}

impl Carrier {
    fn line(&self) -> &Line {
        match self {
            Carrier::Relay(relay) => relay.line(),
            Carrier::Wan(wan) => wan.line(),
        }
    }
}

/// Makes the IDC's keys. Returns the verifier key that the cloud agent pins.
async fn make_keys(programs: &Programs, idc_dir: &Path) -> Result<String> {
    let keys = idc_dir.join("keys").display().to_string();
    run(&programs.idc, &["keys", "init", "--dir", &keys]).await.context("make the IDC's keys")?;
    let shown =
        run(&programs.idc, &["keys", "show", "--dir", &keys]).await.context("show the verifier key")?;
    let key = shown.trim();
    ensure!(key.split('+').count() >= 3, "bridge-idc keys show printed no verifier key");
    Ok(key.to_owned())
}

/// Starts the relay that keeps the frames, in front of the listening agent.
fn frame_tap(authority: &Authority, tunnel: SocketAddr, dir: &Path, setup: Setup) -> Result<FrameTap> {
    let credentials = |side, role, name| -> Result<Credentials> {
        let (certificate, key) = (authority.certificate_path(role, name)?, authority.key_path(role, name)?);
        Ok(Credentials { side, certificate, key })
    };
    let (cloud, idc) = (credentials("cloud", Role::Cloud, CLOUD)?, credentials("idc", Role::Idc, IDC)?);
    let (dials, listens) = if setup.cloud_dials { (cloud, idc) } else { (idc, cloud) };
    FrameTap::start(tunnel.ip(), tunnel, dials, listens, &dir.join("frames"))
        .context("start the relay that keeps frames")
}

/// Adds an agent's certificate and key to its `[tunnel]` section. `way` has the address to listen
/// on or to dial.
fn identity(authority: &Authority, role: Role, name: &str, mut way: Value) -> Result<Value> {
    way["certificate"] = json!(authority.certificate_path(role, name)?);
    way["key"] = json!(authority.key_path(role, name)?);
    way["ca"] = json!(authority.ca_path());
    way["crl"] = json!(authority.crl_path());
    Ok(way)
}

/// Writes an agent's configuration, and returns the command that starts the agent.
fn agent(program: &Path, dir: &Path, name: &str, admin: SocketAddr, config: &Value) -> Result<AgentCommand> {
    let path = dir.join(format!("{name}.toml"));
    let text = toml::to_string(config).with_context(|| format!("put {name}'s configuration into TOML"))?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let arguments = vec!["serve".to_owned(), "--config".to_owned(), path.display().to_string()];
    Ok(AgentCommand {
        name: name.to_owned(),
        program: program.to_owned(),
        arguments,
        log: dir.join(format!("{name}.log")),
        admin,
    })
}

/// Writes a file that only its owner may read, as the agents demand for secrets.
fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| std::io::Write::write_all(&mut file, secret.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

/// Sets `section.key`, or `section.NAME.key`, in an agent's configuration file.
///
/// # Errors
///
/// Fails if the file cannot be read or written, or is not TOML.
pub fn configure(file: &Path, key: &str, value: impl Into<toml::Value>) -> Result<()> {
    let mut config: toml::Table = fs::read_to_string(file)?.parse()?;
    let (sections, key) = key.rsplit_once('.').context("a key is section.key")?;
    let mut section = &mut config;
    for name in sections.split('.') {
        let inner = section.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        section = inner.as_table_mut().context("a section is a table")?;
    }
    section.insert(key.to_owned(), value.into());
    fs::write(file, config.to_string()).with_context(|| format!("write {}", file.display()))
}
