//! The configuration of bridge-cloud: every key with its type and its default, one line each.
//!
//! It is read once at the start into plain structs for the parts of the agent.
//! `samples/bridge-cloud.toml` explains each key to the operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bridge_protocol::domain::identity::Role;
use bridge_protocol::domain::{Brand, Currency};
use bridge_protocol::wire::frame::ORDER_BODY_BYTES_MAX;
use bridge_runtime::config::{
    AdminConfig, AgentConfig, AuditConfig, Bounds, ByteSize, LogConfig, Mistakes, Reader, Secret, Section,
    TunnelConfig,
};

/// The whole configuration of bridge-cloud.
pub struct CloudConfig {
    /// `[agent]`
    pub agent: AgentConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[audit]`
    pub audit: AuditConfig,
    /// `[tunnel]`
    pub tunnel: TunnelConfig,
    /// `[storefront]`
    pub storefront: StorefrontConfig,
    /// `[sealing]`
    pub sealing: SealingConfig,
    /// `[orders]`
    pub orders: OrdersConfig,
    /// `[payments]`
    pub payments: PaymentsConfig,
    /// `[catalogue]`
    pub catalogue: CatalogueConfig,
    /// `[brands.NAME]` by name; at least one.
    pub brands: BTreeMap<Brand, BrandConfig>,
    /// The whole configuration as TOML with defaults and without secrets, as `--print-config` shows
    /// it.
    pub effective: String,
    /// Bounds of all settings that have some.
    pub bounds: Vec<Bounds>,
    /// Sentences about settings that may be right, but rarely are.
    pub warnings: Vec<String>,
}

impl CloudConfig {
    /// Reads `path`, overlaid by the variables that start with `BRIDGE_CLOUD__`.
    ///
    /// # Errors
    ///
    /// Returns all mistakes if there are any.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Mistakes> {
        Self::load_and_check(path, environment, |_, _| ())
    }

    /// Does the same as [`Self::load`] with more checks, whose mistakes are reported with all
    /// others. The checks get a placeholder for each value that could not be read.
    ///
    /// # Errors
    ///
    /// Returns all mistakes if there are any.
    pub fn load_and_check(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        check: impl FnOnce(&Self, &mut Reader),
    ) -> Result<Self, Mistakes> {
        let mut reader = Reader::open(path, "BRIDGE_CLOUD", environment)?;
        let agent = AgentConfig::read(&mut reader);
        let admin = AdminConfig::read(&mut reader, "127.0.0.1:9080");
        let log = LogConfig::read(&mut reader);
        let audit = AuditConfig::read(&mut reader, Role::Cloud, &agent);
        let tunnel = TunnelConfig::read(&mut reader);
        let storefront = StorefrontConfig::read(&mut reader);
        let sealing = SealingConfig::read(&mut reader);
        let orders = OrdersConfig::read(&mut reader);
        let payments = PaymentsConfig::read(&mut reader);
        let catalogue = CatalogueConfig::read(&mut reader);
        let own = [("admin.listen", admin.listen), ("storefront.listen", storefront.listen)];
        reader.refuse_shared(&[&tunnel.tcp_listeners()[..], &own].concat());
        let brands = reader.named("brands", BrandConfig::read);
        if brands.is_empty() {
            reader.refuse("brands", "has none: add a section [brands.NAME] for each brand this agent serves");
        }
        refuse_shared_tokens(&mut reader, &brands);
        // Nothing is left out here: an invalid brand or name is already a mistake.
        let brand = |(name, settings): (String, BrandSettings)| {
            let BrandSettings { token, currency, weight } = settings;
            let when_idc_is_down = WhenIdcIsDown::Refuse;
            let config = BrandConfig { token, currency: currency?, weight, when_idc_is_down };
            Some((Brand::new(&name).ok()?, config))
        };
        let brands = brands.into_iter().filter_map(brand).collect();
        let mut config = Self {
            agent,
            admin,
            log,
            audit,
            tunnel,
            storefront,
            sealing,
            orders,
            payments,
            catalogue,
            brands,
            effective: String::new(),
            bounds: reader.bounds(),
            warnings: Vec::new(),
        };
        check(&config, &mut reader);
        config.warnings = reader.warnings();
        config.effective = reader.finish()?;
        Ok(config)
    }
}

/// `[storefront]`: the HTTP listener for shops, and its limits.
#[derive(Clone, Debug)]
pub struct StorefrontConfig {
    /// Address of the listener. It speaks clear text, so keep it on loopback or in a private
    /// network.
    pub listen: SocketAddr,
    /// Number of serving threads; 0 means one for each core.
    pub workers: usize,
    /// Longest time for a request's head.
    pub header_timeout: Duration,
    /// Longest time for a request's body.
    pub body_timeout: Duration,
    /// Time without a request after which a connection is closed.
    pub idle_timeout: Duration,
    /// Time after which a connection is closed if its caller takes almost nothing of an answer.
    /// Over HTTP/2 only the stream is reset.
    pub stall_timeout: Duration,
    /// Time after which a write without a receipt is answered 202, because its outcome is unknown.
    pub answer_within: Duration,
    /// Most connections at a time. A further one closes the connection that has been idle the
    /// longest.
    pub connections_max: usize,
    /// Largest body. A larger one is answered 413 without parsing.
    pub body_max: ByteSize,
    /// Most lines of one order.
    pub lines_max: usize,
}

impl StorefrontConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("storefront");
        // A body that is accepted from a caller must fit into a frame.
        let body_max = format!("{} KiB", ORDER_BODY_BYTES_MAX / 1024);
        Self {
            listen: section.or("listen", "127.0.0.1:8080"),
            workers: section.number("workers", 0..=256, 0),
            header_timeout: section.within("header_timeout", "500ms"..="10m", "5s"),
            body_timeout: section.within("body_timeout", "500ms"..="10m", "10s"),
            idle_timeout: section.within("idle_timeout", "500ms"..="1h", "60s"),
            stall_timeout: section.within("stall_timeout", "500ms"..="10m", "10s"),
            answer_within: section.within("answer_within", "500ms"..="10m", "10s"),
            connections_max: section.number("connections_max", 1..=1_000_000, 10_000),
            body_max: section.within("body_max", "4 KiB"..=&body_max, "256 KiB"),
            lines_max: section.number("lines_max", 1..=2_000, 2_000),
        }
    }
}

/// `[sealing]`: the keys whose signatures on sealing keys are trusted.
#[derive(Clone, Debug)]
pub struct SealingConfig {
    /// Signing keys of the IDC agents as C2SP signed-note verifier keys, `name+hash+base64`; at
    /// least one.
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

/// `[orders]`: limits of waiting orders.
#[derive(Clone, Debug)]
pub struct OrdersConfig {
    /// Orders of all brands that wait for a link. Above it, a further order of a brand that has its
    /// share is answered 503. The same goes for questions about orders, which are counted apart.
    pub queue_max: usize,
    /// Time for which an order of unknown outcome is settled.
    pub settle_for: Duration,
    /// Orders of unknown outcome at a time. Above it no new ones are taken.
    pub settling_max: usize,
}

impl OrdersConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("orders");
        Self {
            queue_max: section.number("queue_max", 1..=1_000_000, 4_096),
            settle_for: section.within("settle_for", "1s"..="24h", "10m"),
            settling_max: section.number("settling_max", 1..=10_000_000, 100_000),
        }
    }
}

/// `[payments]`: limits of waiting payments.
#[derive(Clone, Debug)]
pub struct PaymentsConfig {
    /// Payments of all brands that wait for a link. Above it, a further payment of a brand that has
    /// its share is answered 503. The same goes for questions about payments, which are counted
    /// apart.
    pub queue_max: usize,
    /// Time after which a payment without an outcome is answered 202.
    pub answer_within: Duration,
    /// Time for which a payment of unknown outcome is settled.
    pub settle_for: Duration,
    /// Payments of unknown outcome at a time.
    pub settling_max: usize,
}

impl PaymentsConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("payments");
        Self {
            queue_max: section.number("queue_max", 1..=1_000_000, 512),
            answer_within: section.within("answer_within", "500ms"..="10m", "15s"),
            settle_for: section.within("settle_for", "1s"..="24h", "10m"),
            settling_max: section.number("settling_max", 1..=10_000_000, 10_000),
        }
    }
}

/// `[catalogue]`: catalogue reads and the replica.
#[derive(Clone, Debug)]
pub struct CatalogueConfig {
    /// Time in which an answer may be reused: `Cache-Control: max-age`, in whole seconds.
    pub max_age: Duration,
    /// Longest wait of a read for the position in its `Bridge-Min-Seq`.
    pub min_seq_wait: Duration,
    /// Pause between two snapshots for the warm start.
    pub snapshot_every: Duration,
    /// Interval at which the replica is compared with its source by checksums.
    pub sums_every: Duration,
}

impl CatalogueConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("catalogue");
        Self {
            max_age: section.within("max_age", "1ms"..="24h", "1s"),
            min_seq_wait: section.within("min_seq_wait", "1ms"..="1m", "500ms"),
            snapshot_every: section.within("snapshot_every", "100ms"..="24h", "60s"),
            sums_every: section.within("sums_every", "1s"..="24h", "10m"),
        }
    }
}

/// `[brands.NAME]`: one shop.
pub struct BrandConfig {
    /// Bearer token of its storefront, from `token_file`.
    pub token: Secret,
    /// ISO 4217 code of its prices.
    pub currency: Currency,
    /// Weight of its share of links and queues.
    pub weight: usize,
    /// Handling of an order that no link can take.
    pub when_idc_is_down: WhenIdcIsDown,
}

/// Settings of a brand. The currency is `None` if it is invalid, which is already reported.
struct BrandSettings {
    token: Secret,
    currency: Option<Currency>,
    weight: usize,
}

/// Handling of an order that no link can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenIdcIsDown {
    /// It is answered 503 with a time to come back.
    #[default]
    Refuse,
}

impl BrandConfig {
    fn read(section: &mut Section<'_>) -> BrandSettings {
        let token: Secret = section.required("token_file");
        // RFC 9110 section 5.5 allows nothing else in a field's value, so such a token could never
        // arrive.
        if !token.expose().iter().all(u8::is_ascii_graphic) {
            section.refuse(
                "token_file",
                "must name a file with one token of visible ASCII characters, without spaces",
            );
        }
        let code: String = section.required("currency");
        let currency = Currency::new(&code).map_err(|_not_one| {
            section.refuse("currency", format!("must be an ISO 4217 code such as \"KRW\", is {code:?}"));
        });
        let weight = section.number("weight", 1..=1_000, 1);
        let when_idc_is_down: String = section.or("when_idc_is_down", "refuse");
        match when_idc_is_down.as_str() {
            "refuse" => (),
            "accept" => section.refuse(
                "when_idc_is_down",
                "\"accept\" needs the outbox, which this version does not have: use \"refuse\"",
            ),
            other => section.refuse("when_idc_is_down", format!("must be \"refuse\", is {other:?}")),
        }
        BrandSettings { token, currency: currency.ok(), weight }
    }
}

/// A token is the only proof of a caller's brand. So each brand needs its own.
fn refuse_shared_tokens(reader: &mut Reader, brands: &BTreeMap<String, BrandSettings>) {
    let mut owners: BTreeMap<&[u8], &str> = BTreeMap::new();
    // A token that could not be read is empty, and already reported.
    let tokens = brands.iter().map(|(name, settings)| (name, settings.token.expose()));
    for (name, token) in tokens.filter(|(_, token)| !token.is_empty()) {
        match owners.get(token) {
            Some(first) => reader.refuse(
                &format!("brands.{name}.token_file"),
                format!(
                    "must name a file with a token of this brand alone: brands.{first}.token_file has the same one, and whoever \
                     shows it could order and look up orders of both; write another one into a file of its own"
                ),
            ),
            None => drop(owners.insert(token, name)),
        }
    }
}

fn is_verifier_key(key: &str) -> bool {
    let mut parts = key.splitn(3, '+');
    let (name, hash, base64) = (parts.next(), parts.next(), parts.next());
    name.is_some_and(|name| !name.is_empty() && !name.contains(char::is_whitespace))
        && hash.is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        && base64.is_some_and(|base64| !base64.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use bridge_runtime::config::sample::{complete, settings};

    use super::*;

    const SAMPLE: &str = include_str!("../samples/bridge-cloud.toml");
    const FILES: [&str; 5] =
        ["certs/cloud-1.pem", "certs/cloud-1.key", "certs/ca.pem", "certs/crl.pem", "secrets/my-brand.token"];

    /// Loads `toml` from a folder that has the files of the sample.
    fn load(toml: &str) -> Result<CloudConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        for name in FILES {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "hunter2\n").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let path = folder.path().join("bridge-cloud.toml");
        fs::write(&path, toml).unwrap();
        CloudConfig::load(&path, std::iter::empty())
            .map_err(|mistakes| mistakes.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn the_sample_names_every_setting_with_its_default() {
        let all = complete(SAMPLE);
        // A difference between the reader and the sample fails the test: a missing or additional
        // setting, or another default.
        assert_eq!(settings(&load(SAMPLE).unwrap().effective), settings(&all));
        assert_eq!(settings(&load(&all).unwrap().effective), settings(&all));
    }

    #[test]
    fn the_effective_configuration_is_one_itself_and_shows_no_secret() {
        let config = load(SAMPLE).unwrap();
        assert_eq!(config.brands[&Brand::new("my-brand").unwrap()].token.expose(), b"hunter2");
        assert!(!config.effective.contains("hunter2"));
        assert_eq!(load(&config.effective).unwrap().effective, config.effective);
    }

    #[test]
    fn five_mistakes_are_told_together_each_with_its_line() {
        let toml = SAMPLE
            .replace("name = \"cloud-1\"", "name = \"Cloud 1\"")
            .replace("#order_lanes = 4", "order_lanes = 40")
            .replace("#workers = 0", "worker = 1")
            .replace("currency = \"KRW\"", "currency = \"Won\"")
            .replace("#when_idc_is_down = \"refuse\"", "when_idc_is_down = \"accept\"");
        let line = |text: &str| 1 + toml.lines().position(|line| line.starts_with(text)).unwrap();
        let mistakes = load(&toml).err().unwrap();
        let expected = [
            ("name = \"Cloud", "agent.name: must be a name of 1 to 32"),
            ("order_lanes", "tunnel.order_lanes: must be 1 to 16, is 40"),
            ("worker", "storefront.worker: is not a known setting: did you mean storefront.workers?"),
            ("currency", "brands.my-brand.currency: must be an ISO 4217 code such as \"KRW\", is \"Won\""),
            ("when_idc_is_down", "brands.my-brand.when_idc_is_down: \"accept\" needs the outbox"),
        ];
        assert_eq!(mistakes.lines().count(), expected.len(), "{mistakes}");
        for (mistake, (at, problem)) in mistakes.lines().zip(expected) {
            let start = format!("bridge-cloud.toml:{}: {problem}", line(at));
            assert!(mistake.starts_with(&start), "{mistake} should start with {start}");
        }
    }

    #[test]
    fn an_agent_without_brands_or_verifier_keys_is_refused() {
        let (common, _) = SAMPLE.split_once("[brands.my-brand]").unwrap();
        let mistakes = load(&common.replace("verifier_keys = [", "verifier_keys = [] # [")).err().unwrap();
        assert!(mistakes.contains("sealing.verifier_keys: must hold at least one key"), "{mistakes}");
        assert!(mistakes.contains("brands: has none"), "{mistakes}");
        assert_eq!(mistakes.lines().count(), 2, "{mistakes}");
    }

    #[test]
    fn brands_that_share_a_token_are_each_refused_with_other_mistakes() {
        let brand = "[brands.NAME]\ntoken_file = \"secrets/my-brand.token\"\ncurrency = \"KRW\"\n";
        let other = |name: &str| brand.replace("NAME", name);
        // The last brand's token file is another file with the same content.
        let copied = other("tea").replace("secrets/my-brand.token", "certs/ca.pem");
        let hats = other("hats").replace("KRW", "Won");
        let toml = format!("{SAMPLE}\n{hats}{}{copied}", other("shoes"));
        let mistakes = load(&toml).err().unwrap();
        let line = |text: &str| 2 + toml.lines().position(|line| line == text).unwrap();
        for (name, section) in
            [("shoes", "[brands.shoes]"), ("tea", "[brands.tea]"), ("my-brand", "[brands.my-brand]")]
        {
            let at = if name == "my-brand" {
                String::new()
            } else {
                format!("bridge-cloud.toml:{}: ", line(section))
            };
            let expected =
                format!("{at}brands.{name}.token_file: must name a file with a token of this brand alone");
            assert!(mistakes.contains(&expected), "{expected} in {mistakes}");
        }
        assert!(mistakes.contains("brands.hats.token_file has the same one"), "{mistakes}");
        assert!(mistakes.contains("brands.hats.currency: must be an ISO 4217 code"), "{mistakes}");
        assert!(!mistakes.contains("hunter2"), "{mistakes}");
        assert_eq!(mistakes.lines().count(), 4, "{mistakes}");
    }

    #[test]
    fn a_weight_of_zero_or_beyond_1000_is_refused() {
        for weight in ["0", "1001", "-1"] {
            let mistakes = load(&SAMPLE.replace("#weight = 1", &format!("weight = {weight}"))).err().unwrap();
            assert!(
                mistakes.contains(&format!("brands.my-brand.weight: must be 1 to 1000, is {weight}")),
                "{mistakes}"
            );
        }
        let heavy = load(&SAMPLE.replace("#weight = 1", "weight = 1000")).unwrap();
        assert_eq!(heavy.brands[&Brand::new("my-brand").unwrap()].weight, 1_000);
    }

    #[test]
    fn a_brand_whose_name_cannot_stand_in_a_url_is_refused() {
        let mistakes = load(&SAMPLE.replace("[brands.my-brand]", "[brands.\"My.Brand\"]")).err().unwrap();
        assert!(
            mistakes.contains(": brands.\"My.Brand\": must be a name of 1 to 32 lower-case"),
            "{mistakes}"
        );
    }
}
