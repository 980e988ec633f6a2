//! The configuration of bridge-idc: every setting with its type and its default.
//!
//! It is read once at the start into plain structs. Each part of the agent gets its own struct.
//! `samples/bridge-idc.toml` explains every setting to an operator.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bridge_protocol::domain::Brand;
use bridge_protocol::domain::identity::Role;
use bridge_runtime::config::{
    AdminConfig, AgentConfig, AuditConfig, Bounds, LogConfig, Mistakes, Reader, Secret, TunnelConfig,
};

use crate::database::COMMITTERS_MAX;
pub use crate::database::LedgerUrl;
use crate::payments::config::{GatewayKind, PaymentsConfig};

/// The whole configuration of bridge-idc.
pub struct IdcConfig {
    /// Section `[agent]`.
    pub agent: AgentConfig,
    /// Section `[admin]`.
    pub admin: AdminConfig,
    /// Section `[log]`.
    pub log: LogConfig,
    /// Section `[audit]`.
    pub audit: AuditConfig,
    /// Section `[tunnel]`.
    pub tunnel: TunnelConfig,
    /// Section `[ledger]`.
    pub ledger: LedgerConfig,
    /// Section `[keys]`.
    pub keys: KeysConfig,
    /// Section `[orders]`.
    pub orders: OrdersConfig,
    /// Section `[catalogue]`.
    pub catalogue: CatalogueConfig,
    /// Section `[payments]`.
    pub payments: PaymentsConfig,
    /// Section `[brands.NAME]`: weights of the named brands.
    pub weights: BTreeMap<Brand, usize>,
    /// The whole configuration as TOML, with defaults and without secrets, for `--print-config`.
    pub effective: String,
    /// The settings that have a smallest and a largest value.
    pub bounds: Vec<Bounds>,
    /// Sentences about settings that may be right, but rarely are.
    pub warnings: Vec<String>,
}

impl IdcConfig {
    /// Reads the file at `path`. Environment variables that start with `BRIDGE_IDC__` override its
    /// settings.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read or a setting is wrong. All mistakes are reported together.
    pub fn load(path: &Path, environment: impl Iterator<Item = (String, String)>) -> Result<Self, Mistakes> {
        Self::load_and_check(path, environment, |_, _| ())
    }

    /// Does the same as [`Self::load`] with more checks, whose mistakes are reported with all
    /// others. The checks get a placeholder for each value that could not be read.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, a setting is wrong or a check refused one.
    pub fn load_and_check(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
        check: impl FnOnce(&Self, &mut Reader),
    ) -> Result<Self, Mistakes> {
        let mut reader = Reader::open(path, "BRIDGE_IDC", environment)?;
        let agent = AgentConfig::read(&mut reader);
        let admin = AdminConfig::read(&mut reader, "127.0.0.1:9081");
        let log = LogConfig::read(&mut reader);
        let audit = AuditConfig::read(&mut reader, Role::Idc, &agent);
        let tunnel = TunnelConfig::read(&mut reader);
        let ledger = LedgerConfig::read(&mut reader);
        let keys = KeysConfig::read(&mut reader);
        let orders = OrdersConfig::read(&mut reader);
        let catalogue = CatalogueConfig::read(&mut reader);
        let payments = PaymentsConfig::read(&mut reader);
        let webhooks = payments.webhook_listen.filter(|_| payments.gateway != GatewayKind::Off);
        let webhooks = webhooks.map(|address| ("payments.webhook_listen", address));
        let own = [("admin.listen", admin.listen)].into_iter().chain(webhooks);
        let listeners: Vec<_> = tunnel.tcp_listeners().into_iter().chain(own).collect();
        reader.refuse_shared(&listeners);
        let weights = reader.named("brands", |section| section.number("weight", 1..=1_000, 1));
        let mut config = Self {
            agent,
            admin,
            log,
            audit,
            tunnel,
            ledger,
            keys,
            orders,
            catalogue,
            payments,
            // Nothing is left out here: an invalid name is already a mistake.
            weights: weights
                .into_iter()
                .filter_map(|(name, weight)| Some((Brand::new(&name).ok()?, weight)))
                .collect(),
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

/// Section `[ledger]`: the database that orders are committed to.
pub struct LedgerConfig {
    /// Kind and location of the database.
    pub url: LedgerUrl,
    /// Password of the database, from `password_file`. It is never part of the URL.
    pub password: Option<Secret>,
    /// Most connections to the database, 1 to 64. On SQLite, one of them writes and the others
    /// read.
    pub connections: u32,
    /// True if `serve` applies missing migrations before it starts.
    pub migrate: bool,
    /// Risk of an unprotected connection to the database, if `allow_unprotected` accepts it. `None`
    /// if the connection is protected.
    pub unprotected: Option<&'static str>,
}

impl LedgerConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("ledger");
        let mut config = Self {
            url: section.required("url"),
            password: section.optional("password_file"),
            connections: section.number("connections", 1..=64, 8),
            migrate: section.or("migrate", "true"),
            unprotected: None,
        };
        let allowed: bool = section.or("allow_unprotected", "false");
        config.unprotected = config.url.unprotected();
        if let Some(why) = config.unprotected.filter(|_| !allowed) {
            section.refuse(
                "url",
                format!(
                    "must end in ?sslmode=verify-full for another host, with &sslrootcert=FILE for an authority of your \
                     own: {why}; ledger.allow_unprotected = true takes that risk"
                ),
            );
        }
        config
    }
}

/// Section `[keys]`: the keys that only the IDC has.
#[derive(Clone, Debug)]
pub struct KeysConfig {
    /// Folder of the keys, which `bridge-idc keys init` fills.
    pub dir: PathBuf,
}

impl KeysConfig {
    fn read(reader: &mut Reader) -> Self {
        Self { dir: reader.section("keys").required("dir") }
    }
}

/// Section `[orders]`: limits for the commits of orders.
#[derive(Clone, Debug)]
pub struct OrdersConfig {
    /// Transactions side by side on PostgreSQL, 1 to 8. SQLite has one writer.
    pub committers: usize,
    /// Most orders in one transaction, 1 to 4096.
    pub batch_max: usize,
    /// Most order lines in one transaction. It is at least the most lines of one order.
    pub batch_lines_max: usize,
    /// Most orders that are received and not yet answered, over all links.
    pub window_max: usize,
    /// Most lines in one order.
    pub lines_max: usize,
}

impl OrdersConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("orders");
        Self {
            committers: section.number("committers", 1..=COMMITTERS_MAX as u64, 2),
            batch_max: section.number("batch_max", 1..=4_096, 1_024),
            batch_lines_max: section.number("batch_lines_max", 2_000..=65_536, 8_192),
            window_max: section.number("window_max", 1..=1_000_000, 8_192),
            lines_max: section.number("lines_max", 1..=2_000, 2_000),
        }
    }
}

/// Section `[catalogue]`: limits for the change log and for its publication.
#[derive(Clone, Debug)]
pub struct CatalogueConfig {
    /// Most rows of the change log that are kept for replicas. A replica that is further behind
    /// fetches the whole catalogue again.
    pub changes_kept: u64,
    /// Longest time that a row of the change log is kept.
    pub changes_kept_for: Duration,
    /// Interval at which replicas get the source's position while nothing changes.
    pub heartbeat: Duration,
    /// Most database reads for replicas at a time. The limit leaves connections for orders.
    pub reads_max: usize,
}

impl CatalogueConfig {
    fn read(reader: &mut Reader) -> Self {
        let mut section = reader.section("catalogue");
        Self {
            changes_kept: section.number("changes_kept", 1_000..=1_000_000_000, 1_000_000),
            changes_kept_for: section.within("changes_kept_for", "1m"..="24h", "24h"),
            heartbeat: section.within("heartbeat", "100ms"..="1m", "1s"),
            reads_max: section.number("reads_max", 1..=64, 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use bridge_runtime::config::sample::{complete, settings};

    use super::*;

    const SAMPLE: &str = include_str!("../samples/bridge-idc.toml");
    const FILES: [&str; 6] = [
        "certs/idc-1.pem",
        "certs/idc-1.key",
        "certs/ca.pem",
        "certs/crl.pem",
        "secrets/ledger.password",
        "secrets/gateway.key",
    ];

    /// Loads `toml` from a folder that has the files that the sample names.
    fn load(toml: &str) -> Result<IdcConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        for name in FILES {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "hunter2\n").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let path = folder.path().join("bridge-idc.toml");
        fs::write(&path, toml).unwrap();
        IdcConfig::load(&path, std::iter::empty())
            .map_err(|mistakes| mistakes.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn the_sample_names_every_setting_with_its_default() {
        let all = complete(SAMPLE);
        // A setting that only one side has, or another default, shows as a difference.
        assert_eq!(settings(&load(&all).unwrap().effective), settings(&all));
        let mut with_defaults = settings(&load(SAMPLE).unwrap().effective);
        with_defaults.insert("[ledger] password_file = \"secrets/ledger.password\"".to_owned());
        with_defaults.insert("[payments] secret_key_file = \"secrets/gateway.key\"".to_owned());
        with_defaults.insert("[payments] webhook_listen = \"127.0.0.1:9082\"".to_owned());
        assert_eq!(with_defaults, settings(&all));
    }

    #[test]
    fn the_effective_configuration_is_one_itself_and_shows_no_secret() {
        let config = load(&SAMPLE.replace("#password_file", "password_file")).unwrap();
        assert_eq!(config.ledger.password.unwrap().expose(), b"hunter2");
        assert!(!config.effective.contains("hunter2"));
        assert_eq!(load(&config.effective).unwrap().effective, config.effective);
    }

    #[test]
    fn a_brands_weight_is_1_to_1000_and_needs_no_section() {
        let weights = |toml: &str| load(toml).map(|config| config.weights.into_values().collect::<Vec<_>>());
        assert_eq!(weights(SAMPLE), Ok(vec![1]));
        assert_eq!(weights(&SAMPLE.replace("#weight = 1", "weight = 1000")), Ok(vec![1_000]));
        assert_eq!(weights(&SAMPLE.replace("[brands.my-brand]", "")), Ok(vec![]));
        for weight in ["0", "1001"] {
            let mistakes =
                weights(&SAMPLE.replace("#weight = 1", &format!("weight = {weight}"))).unwrap_err();
            assert!(mistakes.contains("brands.my-brand.weight: must be 1 to 1000"), "{mistakes}");
        }
        let mistakes = weights(&SAMPLE.replace("brands.my-brand", "brands.\"My.Brand\"")).unwrap_err();
        assert!(mistakes.contains("My.Brand"), "{mistakes}");
    }

    #[test]
    fn nothing_that_is_taken_at_a_time_can_be_none() {
        for (section, setting) in [
            ("orders", "committers"),
            ("orders", "batch_max"),
            ("orders", "window_max"),
            ("orders", "lines_max"),
            ("ledger", "connections"),
            ("catalogue", "reads_max"),
            ("payments", "window"),
            ("payments", "calls_max"),
            ("payments", "doubts_max"),
        ] {
            let mut table: toml::Table = SAMPLE.parse().unwrap();
            let settings = table.entry(section).or_insert(toml::Table::new().into());
            settings.as_table_mut().unwrap().insert(setting.to_owned(), 0.into());
            let mistakes = load(&table.to_string()).err().unwrap_or_default();
            assert!(
                mistakes.contains(&format!("{section}.{setting}: must be 1 to ")),
                "{setting}: {mistakes}"
            );
        }
    }

    #[test]
    fn a_gateway_s_key_is_read_from_its_file_and_shown_nowhere() {
        let toml = SAMPLE
            .replace("#gateway = \"off\"", "gateway = \"toss\"")
            .replace("#secret_key_file", "secret_key_file");
        let config = load(&toml).unwrap();
        assert_eq!(config.payments.secret_key.as_ref().unwrap().expose(), b"hunter2");
        assert!(!config.effective.contains("hunter2"));
        assert!(config.payments.adapter().unwrap().is_some());
    }

    #[test]
    fn all_payment_mistakes_are_reported_at_once_without_repeating_a_url() {
        let with = |settings: &str| SAMPLE.replace("[payments]\n", &format!("[payments]\n{settings}\n"));
        let toml = with(concat!(
            "gateway = \"sandbox\"\n",
            "base_url = \"https://key:hunter2@example.com\"\n",
            "retry_max = \"10ms\"\ncalls_max = 0"
        ));
        let mistakes = load(&toml).err().unwrap();
        for expected in [
            "payments.base_url: must be an https:// URL",
            "payments.secret_key_file: must name",
            "payments.retry_max: must not be shorter",
            "payments.calls_max: must be 1 to",
        ] {
            assert!(mistakes.contains(expected), "{expected}: {mistakes}");
        }
        assert!(!mistakes.contains("hunter2"), "{mistakes}");
        for (url, right) in [
            ("http://127.0.0.1:9090", true),
            ("http://[::1]:9090", true),
            ("https://127.0.0.1:9090", true),
            ("http://example.com", false),
            ("https://example.com/?key=1", false),
            ("ftp://127.0.0.1", false),
            ("127.0.0.1:9090", false),
            ("", false),
        ] {
            let toml = with(&format!("base_url = \"{url}\""));
            let wrong = load(&toml).err().is_some_and(|mistakes| mistakes.contains("payments.base_url"));
            assert_eq!(wrong, !right, "{url}");
        }
    }

    fn with_url(url: &str) -> Result<LedgerUrl, String> {
        load(&SAMPLE.replace("sqlite:ledger.db", url)).map(|config| config.ledger.url)
    }

    #[test]
    fn a_ledger_is_an_sqlite_file_or_a_postgres_url() {
        assert!(matches!(with_url("sqlite:ledger.db"), Ok(LedgerUrl::Sqlite(path)) if path.is_absolute()));
        assert_eq!(with_url("sqlite:///var/lib/l.db"), Ok(LedgerUrl::Sqlite("/var/lib/l.db".into())));
        let url = "postgres://bridge@db:5432/orders?sslmode=verify-full";
        assert_eq!(with_url(url), Ok(LedgerUrl::Postgres(url.to_owned())));
        for url in ["sqlite:", "sqlite::memory:", "mysql://db/orders", "ledger.db"] {
            let mistakes = with_url(url).err().unwrap_or_default();
            assert!(mistakes.contains("ledger.url: must "), "{url}: {mistakes}");
        }
    }

    #[test]
    fn a_database_on_another_host_must_prove_that_it_is_the_one() {
        for (url, protected) in [
            ("postgres://bridge@db/orders?sslmode=verify-full", true),
            ("postgres://bridge@db/orders?sslmode=verify-full&sslrootcert=/etc/ca.pem", true),
            ("postgres://bridge@127.0.0.1:5433/orders", true),
            ("postgres://bridge@[::1]/orders?sslmode=disable", true),
            ("postgres://bridge@localhost/orders", true),
            ("postgres://bridge@%2Frun%2Fpostgresql/orders", true),
            ("postgres:///orders?host=/run/postgresql", true),
            ("postgres://bridge@db/orders", false),
            ("postgres://bridge@10.0.0.7/orders?sslmode=prefer", false),
            ("postgres://bridge@db/orders?sslmode=require", false),
            ("postgres://bridge@db/orders?sslmode=verify-ca&sslrootcert=/etc/ca.pem", false),
            ("postgres://bridge@127.0.0.1/orders?host=db", false),
            ("postgres://bridge@localhost/orders?hostaddr=10.0.0.7", false),
            ("postgres://bridge@localhost.example.com/orders", false),
            ("postgres://bridge@db/orders?sslmode=strict", false),
        ] {
            let refused = with_url(url).err().unwrap_or_default();
            assert_eq!(
                refused.contains("ledger.url: must end in ?sslmode=verify-full"),
                !protected,
                "{url}: {refused}"
            );
            assert!(protected || refused.contains("ledger.allow_unprotected"), "{refused}");
        }
        let taken = SAMPLE
            .replace("sqlite:ledger.db", "postgres://bridge@db/orders")
            .replace("#allow_unprotected = false", "allow_unprotected = true");
        assert!(load(&taken).unwrap().ledger.unprotected.is_some());
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        for url in
            ["postgres://bridge:hunter2@db/orders", "postgres://db/orders?user=bridge&password=hunter2"]
        {
            let mistakes = with_url(url).err().unwrap();
            assert!(mistakes.contains("ledger.url: must not hold the password"), "{mistakes}");
            assert!(!mistakes.contains("hunter2"), "{mistakes}");
        }
    }
}
