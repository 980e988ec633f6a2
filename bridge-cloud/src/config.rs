//! The configuration of bridge-cloud: every key, its type and its default, one line each.
//!
//! Read once at the start into plain structs, which the parts of the agent are given. `samples/bridge-cloud.toml` explains
//! each key to whoever runs it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bridge_runtime::config::{
    AdminConfig, AgentConfig, ByteSize, LogConfig, Mistakes, NAME_RULE, Reader, Secret, Section,
    TunnelConfig, is_name,
};

/// Everything that bridge-cloud is told.
pub struct CloudConfig {
    /// `[agent]`
    pub agent: AgentConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[tunnel]`
    pub tunnel: TunnelConfig,
    /// `[storefront]`
    pub storefront: StorefrontConfig,
    /// `[sealing]`
    pub sealing: SealingConfig,
    /// `[orders]`
    pub orders: OrdersConfig,
    /// `[brands.NAME]` by name, at least one.
    pub brands: BTreeMap<String, BrandConfig>,
    /// All of it as TOML, defaults included, without any secret: what `--print-config` shows.
    pub effective: String,
}

impl CloudConfig {
    /// Reads `path`, overlaid by the variables that start with `BRIDGE_CLOUD__`.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Mistakes> {
        let mut reader = Reader::open(path, "BRIDGE_CLOUD", environment)?;
        let agent = AgentConfig::read(&mut reader);
        let admin = AdminConfig::read(&mut reader, "127.0.0.1:9080");
        let log = LogConfig::read(&mut reader);
        let tunnel = TunnelConfig::read(&mut reader);
        let storefront = StorefrontConfig::read(&mut reader);
        let sealing = SealingConfig::read(&mut reader);
        let orders = OrdersConfig::read(&mut reader);
        let brands = reader.named("brands", BrandConfig::read);
        if brands.is_empty() {
            reader.refuse("brands", "has none: add a section [brands.NAME] for each brand this agent serves");
        }
        let effective = reader.finish()?;
        Ok(Self { agent, admin, log, tunnel, storefront, sealing, orders, brands, effective })
    }
}

/// `[storefront]`: the HTTP listener that shops call, and its limits.
#[derive(Clone, Debug)]
pub struct StorefrontConfig {
    /// Clear text, so keep it on loopback or in a network of your own.
    pub listen: SocketAddr,
    /// Serving threads; 0 is one a core.
    pub workers: usize,
    /// A caller has this long for a request's head.
    pub header_timeout: Duration,
    /// And this long for its body.
    pub body_timeout: Duration,
    /// A write that has no receipt by then is answered 202: its outcome is unknown.
    pub answer_within: Duration,
    /// Connections at a time; more wait in the kernel.
    pub connections_max: usize,
    /// A larger body is 413 before it is parsed.
    pub body_max: ByteSize,
    /// Lines in one order.
    pub lines_max: usize,
}

impl StorefrontConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("storefront");
        Self {
            listen: section.or("listen", "127.0.0.1:8080"),
            workers: section.number("workers", 0..=1024, 0),
            header_timeout: section.or("header_timeout", "5s"),
            body_timeout: section.or("body_timeout", "10s"),
            answer_within: section.or("answer_within", "10s"),
            connections_max: section.number("connections_max", 1..=1_000_000, 10_000),
            body_max: section.or("body_max", "256 KiB"),
            lines_max: section.number("lines_max", 1..=2_000, 2_000),
        }
    }
}

/// `[sealing]`: whose sealing keys this agent believes.
#[derive(Clone, Debug)]
pub struct SealingConfig {
    /// The signing keys of the IDCs as C2SP signed-note verifier keys, `name+hash+base64`; at least one.
    pub verifier_keys: Vec<String>,
}

impl SealingConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("sealing");
        let config = Self { verifier_keys: section.list("verifier_keys") };
        if config.verifier_keys.is_empty() {
            section.refuse("verifier_keys", "must hold at least one key: bridge-idc keys show prints it");
        }
        if !config.verifier_keys.iter().all(|key| is_verifier_key(key)) {
            section.refuse("verifier_keys", "must hold verifier keys such as \"seoul+1f2e3d4c+BASE64\"");
        }
        config
    }
}

/// `[orders]`: how many orders wait, and for how long.
#[derive(Clone, Debug)]
pub struct OrdersConfig {
    /// Orders waiting for a link; the next one is answered 503.
    pub queue_max: usize,
    /// For this long an order of unknown outcome is asked about.
    pub settle_for: Duration,
    /// Orders of unknown outcome at a time; beyond it no new ones are taken.
    pub settling_max: usize,
}

impl OrdersConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("orders");
        Self {
            queue_max: section.number("queue_max", 1..=1_000_000, 4_096),
            settle_for: section.or("settle_for", "10m"),
            settling_max: section.number("settling_max", 1..=10_000_000, 100_000),
        }
    }
}

/// `[brands.NAME]`: one shop.
pub struct BrandConfig {
    /// The bearer token its storefront shows, from `token_file`.
    pub token: Secret,
    /// ISO 4217 code of its prices.
    pub currency: String,
    /// What becomes of an order when no link can take it.
    pub when_idc_is_down: WhenIdcIsDown,
}

/// What becomes of an order when no link can take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenIdcIsDown {
    /// 503 with a time to come back.
    #[default]
    Refuse,
}

impl BrandConfig {
    fn read(name: &str, section: &mut Section<'_>) -> Self {
        let when_idc_is_down: String = section.or("when_idc_is_down", "refuse");
        if when_idc_is_down == "accept" {
            section.refuse(
                "when_idc_is_down",
                "\"accept\" needs the outbox, which this version does not have: use \"refuse\"",
            );
        } else if when_idc_is_down != "refuse" {
            section.refuse("when_idc_is_down", format!("must be \"refuse\", is {when_idc_is_down:?}"));
        }
        let config = Self {
            token: section.required("token_file"),
            currency: section.required("currency"),
            when_idc_is_down: WhenIdcIsDown::Refuse,
        };
        if !is_name(name) {
            section.refuse("token_file", format!("stands under a brand name that is none: it {NAME_RULE}"));
        }
        // RFC 9110 section 5.5 keeps everything else out of a field's value, so such a token could never arrive.
        if !config.token.expose().iter().all(u8::is_ascii_graphic) {
            section.refuse(
                "token_file",
                "must name a file with one token of visible ASCII characters, without spaces",
            );
        }
        if config.currency.len() != 3 || !config.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            section.refuse(
                "currency",
                format!("must be an ISO 4217 code such as \"KRW\", is {:?}", config.currency),
            );
        }
        config
    }
}

fn is_verifier_key(key: &str) -> bool {
    let mut parts = key.splitn(3, '+');
    let (name, hash, base64) = (parts.next(), parts.next(), parts.next());
    name.is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
        && hash.is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && base64.is_some_and(|base64| !base64.is_empty())
}
