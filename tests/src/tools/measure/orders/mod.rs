//! Orders across a line: SQL over TLS from the far side, as a careful engineer writes it, against
//! Bridge, on one PostgreSQL in one run.
//!
//! Both sides cross a line of IP packets with the same delay and loss. In each scene (a line and a
//! mix of orders) both sides take turns in a drawn order, at several loads, and each is judged at
//! the load that suits it best. Orders also arrive at given moments, whatever has been answered, at
//! 70 % of each side's own best rate: their latency counts from their moments. The third party is
//! PostgreSQL's own limit in batches. With `--grown`, Bridge with an empty ledger takes turns with
//! a Bridge whose ledger has millions of orders.

// The parties.
mod across;
mod batch_limit;
mod sql;

// Orders and figures.
mod mix;
mod sample;

// The benches.
pub(super) mod audit;
pub mod grown;
mod rows;
mod scene;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bridge_certs::{Authority, InitOptions, IssueOptions, Role};
use sqlx::postgres::PgSslMode;

use super::draw::Draw;
use super::peers;
use super::progress::{Progress, tell};
use super::row::Row;
use crate::testkit::database::Database;
use crate::testkit::postgres::{More, Postgres};
use crate::testkit::traffic::{Course, Curve};
use crate::testkit::wan::{Conditions, Wan};
use across::{Across, set_up};
use batch_limit::BatchLimit;
use mix::{Mix, Orders};
pub(super) use sample::rate;
use sample::{Sample, median};
use scene::{SCENES, Scene};
use sql::{Arrival, Sql};

/// Part of its best rate at which each side gets the orders that come at given moments, in percent.
const OPEN_PERCENT: u64 = 70;
/// Orders of one caller in a round of the idle order.
const IDLE_ORDERS: usize = 40;
const SEED: u64 = 7;

/// Duration and number of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Number of rounds.
    pub rounds: usize,
    /// Duration of each measurement.
    pub length: Duration,
    /// Numbers of clients of the SQL.
    pub clients: &'static [usize],
    /// Numbers of callers of Bridge.
    pub callers: &'static [usize],
    /// Numbers of orders in a batch of PostgreSQL's own limit.
    pub batches: &'static [usize],
    /// Names of the scenes; all if there are none.
    pub scenes: &'static [&'static str],
}

/// Samples at one load.
#[derive(Debug)]
struct AtOneLoad {
    load: usize,
    samples: Vec<Sample>,
}

/// All that was measured in a scene.
#[derive(Debug)]
struct Measured {
    scene: &'static Scene,
    sql: Vec<AtOneLoad>,
    bridge: Vec<AtOneLoad>,
    sql_open: Vec<Sample>,
    bridge_open: Vec<Sample>,
    notes: Vec<String>,
}

/// Times of single orders at [`scene::IDLE`], in microseconds: one of each a round.
#[derive(Debug, Default)]
struct Idle {
    sql: Vec<u64>,
    bridge: Vec<u64>,
    commit: Vec<u64>,
}

/// All parties.
struct Parties {
    wan: Wan,
    sql: Sql,
    across: Across,
    limit: BatchLimit,
    mixes: Vec<Orders>,
    effort: Effort,
    /// Notes about packets that the kernel dropped. The kernel counts them from the beginning.
    dropped: Vec<String>,
}

/// One turn in a scene: a side and its load.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Sql(usize),
    Bridge(usize),
}

/// Measures all scenes. All parties use the folder `dir`.
///
/// # Errors
///
/// Fails if a party cannot be started, or an order is not placed.
pub async fn measure(dir: &Path, effort: Effort, draw: &mut Draw) -> Result<Vec<Row>> {
    let scenes: Vec<_> = SCENES
        .iter()
        .filter(|scene| effort.scenes.is_empty() || effort.scenes.contains(&scene.name))
        .collect();
    let mut mixes = Vec::new();
    for mix in [Mix::HotSku, Mix::Launch, Mix::Uniform, Mix::Invoices] {
        if mix == Mix::HotSku || scenes.iter().any(|scene| scene.mix == mix) {
            match Orders::of(mix)? {
                Some(orders) => mixes.push(orders),
                None => tell("the real invoices are left out: this machine does not have them"),
            }
        }
    }
    tell("building the agents");
    let wan = Wan::start(SEED, None).context("open the line of the SQL")?;
    let authority = Authority::init(dir.join("sql-pki"), &InitOptions::default())?;
    let cluster = Box::pin(Postgres::start_with(server(&wan, &authority)?)).await?;
    let server = cluster.server().context("PostgreSQL has ended")?;
    let across = cluster.create_database("bridge").await.map(without_tls)?;
    let across = Across::start(&dir.join("bridge"), across, &mixes, server, true).await?;
    // The other parties have tables of their own, which are the same but for the triggers.
    for name in ["sql", "batches"] {
        let database = cluster.create_database(name).await.map(without_tls)?;
        set_up(&dir.join(name), database, &mixes, false).await?;
        let off = "ALTER TABLE stock DISABLE TRIGGER USER";
        sqlx::query(off).execute(&mut cluster.connect(name).await?).await?;
    }
    let listens = (wan.far(1), cluster.address().port()).into();
    let dialled = wan.from_other_end(listens)?;
    let options = cluster.options("sql").host(&dialled.ip().to_string()).port(dialled.port());
    let options = options.ssl_mode(PgSslMode::VerifyCa).ssl_root_cert(authority.ca_path());
    let clients = effort.clients.iter().copied().max().unwrap_or(1);
    let sql = Sql::connect(&options, clients, &mixes, server).await?;
    let options = cluster.options("batches").ssl_mode(PgSslMode::Disable);
    let hot = mixes.first().context("no hot SKU")?;
    let limit = BatchLimit::connect(&options, hot, server).await?;
    let mut parties = Parties { wan, sql, across, limit, mixes, effort, dropped: Vec::new() };
    let mut measured = Vec::new();
    for scene in scenes {
        if parties.mixes.iter().all(|orders| orders.mix != scene.mix) {
            continue;
        }
        measured.push(Box::pin(parties.play(scene, draw)).await.with_context(|| scene.name.to_owned())?);
    }
    let batches = Box::pin(parties.batches(draw)).await.context("commit batches")?;
    let idle = Box::pin(parties.idle(draw)).await.context("place single orders")?;
    Ok(rows::rows(&measured, &batches, &idle))
}

/// Returns the settings of the server: as for all benches, and TLS at the far end of the line.
fn server(wan: &Wan, authority: &Authority) -> Result<More> {
    authority.issue(Role::Idc, "postgres", &IssueOptions::default()).context("issue a certificate")?;
    let read =
        |path: std::path::PathBuf| std::fs::read(&path).with_context(|| format!("read {}", path.display()));
    let certificate = read(authority.certificate_path(Role::Idc, "postgres")?)?;
    let key = read(authority.key_path(Role::Idc, "postgres")?)?;
    let rules = "host all all 127.0.0.1/32 scram-sha-256\nhostssl all all all scram-sha-256\n";
    let mut more = peers::source();
    more.settings.extend([
        format!("listen_addresses=127.0.0.1,{}", wan.far(1)),
        "max_connections=160".to_owned(),
        "hba_file=hba.conf".to_owned(),
        "ssl=on".to_owned(),
        // These paths start at the folder of the data, the one above at the folder of the cluster.
        "ssl_cert_file=../server.pem".to_owned(),
        "ssl_key_file=../server.key".to_owned(),
    ]);
    more.files = vec![("hba.conf", rules.into()), ("server.pem", certificate), ("server.key", key)];
    Ok(more)
}

/// Returns the database without TLS, because its server is on the same machine as the IDC agent.
fn without_tls(database: Database) -> Database {
    match database {
        Database::Postgres { url, password } => {
            Database::Postgres { url: format!("{url}?sslmode=disable"), password }
        }
        other => other,
    }
}

impl Parties {
    /// Measures both sides in one scene.
    async fn play(&mut self, scene: &'static Scene, draw: &mut Draw) -> Result<Measured> {
        let Effort { rounds, length, clients, callers, .. } = self.effort;
        self.set(scene.conditions());
        let at = |load: &usize| AtOneLoad { load: *load, samples: Vec::new() };
        let mut sql: Vec<_> = clients.iter().map(at).collect();
        let mut bridge: Vec<_> = callers.iter().map(at).collect();
        let sides = clients.iter().map(|load| Turn::Sql(*load));
        let turns: Vec<_> = sides.chain(callers.iter().map(|load| Turn::Bridge(*load))).collect();
        let progress = Progress::of(scene.name, rounds * (turns.len() + 2 * usize::from(scene.is_open)));
        // The first turns are dropped. They prepare statements, open connections, and show how many
        // orders a round of Bridge has to have.
        let most = callers.iter().copied().max().unwrap_or(1);
        self.sql
            .round(scene.mix, clients.iter().copied().max().unwrap_or(1), Arrival::Closed(length))
            .await?;
        let mut rate = self.closed(scene.mix, most, 2 * most).await?.per_second;
        for _ in 0..rounds {
            for turn in draw.order(&turns) {
                let (side, load, sample) = match turn {
                    Turn::Sql(load) => {
                        let sample = self.sql.round(scene.mix, load, Arrival::Closed(length)).await?;
                        (&mut sql, load, sample)
                    }
                    Turn::Bridge(load) => {
                        let count = count_in(rate, length).max(load);
                        let sample = self.closed(scene.mix, load, count).await?;
                        rate = sample.per_second;
                        (&mut bridge, load, sample)
                    }
                };
                side.iter_mut().filter(|at| at.load == load).for_each(|at| at.samples.push(sample.clone()));
                progress.step();
            }
        }
        let mut measured =
            Measured { scene, sql, bridge, sql_open: Vec::new(), bridge_open: Vec::new(), notes: Vec::new() };
        if scene.is_open {
            self.open(&mut measured, &progress, draw).await?;
        }
        measured.notes = self.line_notes();
        Ok(measured)
    }

    /// Measures orders that come at given moments, in turns.
    async fn open(&mut self, measured: &mut Measured, progress: &Progress, draw: &mut Draw) -> Result<()> {
        let Effort { rounds, length, .. } = self.effort;
        let mix = measured.scene.mix;
        let [sql, bridge] = [&measured.sql, &measured.bridge].map(|side| rows::best(side));
        let rate = |at: Option<&AtOneLoad>| {
            at.map_or(0, |at| median(&at.samples, |sample| sample.per_second)) * OPEN_PERCENT / 100
        };
        let (sql_rate, bridge_rate) = (rate(sql), rate(bridge));
        let clients = sql.map_or(1, |at| at.load);
        for round in 0..rounds as u64 {
            let moments = |rate| {
                let course = Course::new(Curve::flat(), length / 2, length / 2);
                course.moments(count_in(rate, length).max(1) as u64, SEED + round)
            };
            for turn in draw.order(&[Turn::Sql(clients), Turn::Bridge(0)]) {
                match turn {
                    Turn::Sql(clients) => {
                        let arrival = Arrival::Open(Arc::new(moments(sql_rate)));
                        measured.sql_open.push(self.sql.round(mix, clients, arrival).await?);
                    }
                    Turn::Bridge(_) => {
                        let orders = self.mixes.iter().find(|orders| orders.mix == mix).context("no mix")?;
                        measured.bridge_open.push(self.across.open(orders, &moments(bridge_rate)).await?);
                    }
                }
                progress.step();
            }
        }
        Ok(())
    }

    /// Measures PostgreSQL's own limit.
    async fn batches(&mut self, draw: &mut Draw) -> Result<Vec<AtOneLoad>> {
        let Effort { rounds, length, batches, .. } = self.effort;
        let progress = Progress::of("batches", rounds * batches.len());
        let mut measured: Vec<_> =
            batches.iter().map(|load| AtOneLoad { load: *load, samples: Vec::new() }).collect();
        self.limit.round(batches.first().copied().unwrap_or(1), length / 4).await?;
        for _ in 0..rounds {
            for load in draw.order(batches) {
                let (sample, _) = self.limit.round(load, length).await?;
                let at = measured.iter_mut().find(|at| at.load == load);
                at.into_iter().for_each(|at| at.samples.push(sample.clone()));
                progress.step();
            }
        }
        Ok(measured)
    }

    /// Measures single orders, one after the other, and the commit that each of them waits for.
    async fn idle(&mut self, draw: &mut Draw) -> Result<Idle> {
        let Effort { rounds, length, .. } = self.effort;
        self.set(Conditions::round_trip(scene::IDLE));
        let progress = Progress::of("single orders", rounds);
        let mut idle = Idle::default();
        for round in 0..=rounds {
            let (mut sql, mut bridge) = (0, 0);
            for turn in draw.order(&[Turn::Sql(1), Turn::Bridge(1)]) {
                match turn {
                    Turn::Sql(_) => {
                        sql = self.sql.round(Mix::HotSku, 1, Arrival::Closed(length)).await?.p50_us
                    }
                    Turn::Bridge(_) => bridge = self.closed(Mix::HotSku, 1, IDLE_ORDERS).await?.p50_us,
                }
            }
            let (_, commits) = self.limit.round(1, length / 4).await?;
            // The first round is dropped: it may find connections that are not ready.
            if round > 0 {
                idle.sql.push(sql);
                idle.bridge.push(bridge);
                idle.commit.push(u64::try_from(commits.quantile(500).as_micros())?);
                progress.step();
            }
        }
        Ok(idle)
    }

    async fn closed(&mut self, mix: Mix, callers: usize, count: usize) -> Result<Sample> {
        let orders = self.mixes.iter().find(|orders| orders.mix == mix).context("no orders of this mix")?;
        self.across.closed(orders, callers, count).await
    }

    /// Says how late packets left both lines since the last call, and if the kernel dropped some
    /// before the line saw them: such a packet is a loss that the scene does not have.
    fn line_notes(&mut self) -> Vec<String> {
        let lines = [("the SQL's line", Some(&self.wan)), ("Bridge's line", self.across.site().wan())];
        let mut notes = Vec::new();
        for (name, wan) in lines.into_iter().filter_map(|(name, wan)| Some((name, wan?))) {
            let late = wan.line().take_late();
            notes.push(format!(
                "{name}: 99 % of the packets left within {:?} of their time",
                late.quantile(990)
            ));
            if let Err(error) = wan.has_seen_every_packet() {
                let dropped = format!("{name}: {error:#}");
                if !self.dropped.contains(&dropped) {
                    tell(&dropped);
                    notes.push(dropped.clone());
                    self.dropped.push(dropped);
                }
            }
        }
        notes
    }

    /// Sets the conditions of both lines.
    fn set(&self, conditions: Conditions) {
        self.wan.line().set(conditions.clone());
        self.across.site().line.set(conditions);
    }
}

/// Returns the number of orders that a rate in thousandths a second gives in this time.
fn count_in(rate: u64, length: Duration) -> usize {
    let count = u128::from(rate) * length.as_millis() / 1_000_000;
    usize::try_from(count).unwrap_or(usize::MAX)
}
