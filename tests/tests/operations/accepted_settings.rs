//! Tests that whatever `check` accepts works. Both agents run with every setting at a bound, and
//! each time an order is placed and paid.
//!
//! The settings and their bounds come from the configuration's own table, so a new setting cannot
//! be forgotten. They are set in groups. A group that does not work is halved until only the
//! settings at fault are left.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{Shop, configure, order_at, postgres, site_on, until};
use anyhow::{Context, Result, bail, ensure};
use bridge_cloud::config::CloudConfig;
use bridge_idc::config::IdcConfig;
use bridge_runtime::config::Bounds;
use bridge_tests::testkit::database::Database;
use bridge_tests::testkit::http::{Client, HttpAnswer};
use bridge_tests::testkit::payers::TestGateway;
use bridge_tests::testkit::sandbox::Rates;
use bridge_tests::testkit::site::Site;
use bytes::Bytes;
use serde_json::json;

/// One setting of one agent, at one of its bounds.
#[derive(Clone, Debug)]
struct Edge {
    file: PathBuf,
    key: String,
    /// The value in TOML.
    value: String,
}

/// Returns true if a setting gets its largest value. The arguments are true for the cloud agent,
/// and the setting's index in the table of both agents.
type Pattern = fn(bool, usize) -> bool;

/// Patterns in which each two settings are at equal and at opposite bounds: all settings alike, the
/// agents opposite, and settings divided by each bit of the index.
const PATTERNS: [(&str, Pattern); 10] = [
    ("all smallest", |_, _| false),
    ("all largest", |_, _| true),
    ("the cloud's largest, the IDC's smallest", |is_cloud, _| is_cloud),
    ("the cloud's smallest, the IDC's largest", |is_cloud, _| !is_cloud),
    ("by 1", |_, place| place & 1 == 0),
    ("by 2", |_, place| place & 2 == 0),
    ("by 4", |_, place| place & 4 == 0),
    ("by 8", |_, place| place & 8 == 0),
    ("by 16", |_, place| place & 16 == 0),
    ("by 32", |_, place| place & 32 == 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_with_every_setting_at_either_bound() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let database = Database::Sqlite(dir.path().join("idc").join("ledger.db"));
    let stand = Stand::new(site_on(dir.path(), database, &["edges"]).await?).await?;
    for (name, pattern) in PATTERNS {
        stand.works(name, pattern).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgresql_as_well() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (_cluster, database) = postgres().await?;
    let stand = Stand::new(site_on(dir.path(), database, &["edges"]).await?).await?;
    for (name, pattern) in PATTERNS.into_iter().take(4) {
        stand.works(name, pattern).await?;
    }
    Ok(())
}

/// A site whose configurations change again and again.
struct Stand {
    site: Site,
    /// Each agent's configuration file and its first contents.
    files: [(PathBuf, String); 2],
    bounds: Vec<(bool, Bounds)>,
    _gateway: TestGateway,
}

impl Stand {
    async fn new(site: Site) -> Result<Self> {
        let gateway = TestGateway::open(&site, Rates::default()).await?;
        let paths = [site.cloud_dir().join("bridge-cloud.toml"), site.idc_dir().join("bridge-idc.toml")];
        let cloud = check_cloud(&paths[0]).map_err(anyhow::Error::msg)?;
        let idc = check_idc(&paths[1]).map_err(anyhow::Error::msg)?;
        ensure!(cloud.len() > 10 && idc.len() > 10, "the tables are empty: {cloud:?} {idc:?}");
        let bounds = cloud.into_iter().map(|bounds| (true, bounds));
        let bounds = bounds.chain(idc.into_iter().map(|bounds| (false, bounds))).collect();
        let texts = [fs::read_to_string(&paths[0])?, fs::read_to_string(&paths[1])?];
        let [cloud, idc] = paths;
        let [cloud_text, idc_text] = texts;
        let files = [(cloud, cloud_text), (idc, idc_text)];
        Ok(Self { site, files, bounds, _gateway: gateway })
    }

    /// Checks that both agents work with a pattern of bounds. The error names the settings at
    /// fault.
    async fn works(&self, name: &str, is_large: Pattern) -> Result<()> {
        let edges = self.bounds.iter().enumerate().map(|(place, (is_cloud, bounds))| {
            let large = is_large(*is_cloud, place);
            let value = if large { &bounds.largest } else { &bounds.smallest };
            let file = &self.files[usize::from(!is_cloud)].0;
            Edge { file: file.clone(), key: bounds.key.clone(), value: value.clone() }
        });
        let mut edges: Vec<_> = edges.collect();
        // `check` may refuse and name a setting that contradicts another one. The test goes on
        // without that setting.
        while let Some(refused) = self.refused(&edges)? {
            ensure!(!name.starts_with("all "), "{name}: the bounds contradict each other: {refused}");
            let named = |edge: &Edge| refused.contains(&format!(" {}: ", edge.key));
            // First removes the setting that the refusal is about. If that setting already has its
            // default, removes the settings that the refusal also names.
            let others = |edge: &Edge| refused.contains(&edge.key);
            let left = edges.len();
            let concerned = edges.iter().any(named);
            edges.retain(|edge| if concerned { !named(edge) } else { !others(edge) });
            ensure!(edges.len() < left, "{name}: refused for another reason: {refused}");
        }
        let Err(error) = self.order(&edges).await else { return Ok(()) };
        let blamed = self.blamed(edges).await?;
        bail!("{name}: with {blamed:#?} no order is placed and paid: {error:#}")
    }

    /// Returns a small group of settings, found by halving, with which the agents still do not
    /// work.
    async fn blamed(&self, mut edges: Vec<Edge>) -> Result<Vec<Edge>> {
        loop {
            let (one, other) = edges.split_at(edges.len() / 2);
            let mut smaller = None;
            for half in [one, other] {
                if !half.is_empty() && self.refused(half)?.is_none() && self.order(half).await.is_err() {
                    smaller = Some(half.to_vec());
                    break;
                }
            }
            match smaller {
                Some(half) => edges = half,
                None => return Ok(edges),
            }
        }
    }

    /// Writes both configurations. Returns what `check` refuses, if anything.
    fn refused(&self, edges: &[Edge]) -> Result<Option<String>> {
        for (file, text) in &self.files {
            fs::write(file, text)?;
        }
        for Edge { file, key, value } in edges {
            let value: toml::Table = format!("value = {value}").parse()?;
            configure(file, key, value["value"].clone())?;
        }
        let mistakes = [check_cloud(&self.files[0].0).err(), check_idc(&self.files[1].0).err()];
        let mistakes: Vec<_> = mistakes.into_iter().flatten().collect();
        Ok((!mistakes.is_empty()).then(|| mistakes.join("\n")))
    }

    /// Starts both agents with these settings, then places and pays an order.
    async fn order(&self, edges: &[Edge]) -> Result<()> {
        ensure!(self.refused(edges)?.is_none(), "`check` refuses these settings");
        let mut bridge = self.site.start().await?;
        let place = Shop::open(&self.site, "edges").order(&[(0, 1)]);
        let placed = self.created("/v1/edges/orders", place.body).await?;
        let order = order_at(&placed)?;
        let body = json!({
            "amount": {"amount": place.total_minor, "currency": "KRW"},
            "payment_key": format!("tgen_{order}"),
        });
        self.created(&format!("/v1/edges/orders/{order}/payments"), body.to_string().into()).await?;
        bridge.cloud.kill9().await?;
        bridge.idc.kill9().await
    }

    /// Posts a request until it succeeds. The smallest queue holds one request, so a caller may be
    /// told to retry.
    async fn created(&self, path: &str, body: Bytes) -> Result<HttpAnswer> {
        let (token, key) = (self.site.token("edges"), format!("{:032x}", rand::random::<u128>()));
        let mut created = None;
        until(path, async || {
            // Opens a new connection, since the smallest limit of connections is one.
            let mut client = Client::new(self.site.storefront);
            let answer =
                client.post(path, Some(token), Some(&key), body.clone()).await.context("no answer")?;
            let status = answer.status.as_u16();
            ensure!(matches!(status, 201 | 202 | 409 | 429 | 503), "{status} {}", answer.json());
            created = (status == 201).then_some(answer);
            Ok(created.is_some())
        })
        .await?;
        created.context("the request never succeeded")
    }
}

fn check_cloud(file: &Path) -> Result<Vec<Bounds>, String> {
    let checked = CloudConfig::load(file, std::iter::empty());
    checked.map(|config| config.bounds).map_err(|mistakes| mistakes.to_string())
}

fn check_idc(file: &Path) -> Result<Vec<Bounds>, String> {
    let checked = IdcConfig::load(file, std::iter::empty());
    checked.map(|config| config.bounds).map_err(|mistakes| mistakes.to_string())
}
