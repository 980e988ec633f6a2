//! A question and its answer across a line of 10 ms, without loss and with 1 %: a pair of HAProxies
//! with mutual TLS against Bridge's tunnel.
//!
//! The question is the state of an order. The cloud agent cannot know it, so the question goes over
//! the order link to the data centre, which reads its ledger. On the other side, the far HAProxy
//! asks a server that has the same answer ready. Both cross the same line of IP packets, and each
//! protocol repairs the losses in its own way.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bridge_certs::Authority;
use tokio::task::JoinSet;

use super::bare::FixedAnswer;
use super::draw::Draw;
use super::freshness::ROUND_TRIP;
use super::haproxy_pair::HaproxyPair;
use super::machine::cores;
use super::progress::{Progress, tell};
use super::row::{Middle, Pair, Row, Target};
use super::server::Server;
use crate::testkit::database::Database;
use crate::testkit::generated;
use crate::testkit::histogram::Histogram;
use crate::testkit::http::Client;
use crate::testkit::load::{self, Outcome, replay};
use crate::testkit::machine::{Need, make_ready};
use crate::testkit::process::Programs;
use crate::testkit::site::{Bridge, Setup, Site};
use crate::testkit::wan::{Conditions, Wan};

/// Programs that this bench needs.
pub(super) const NEEDS: [Need; 1] = [Need { program: "haproxy", package: "haproxy" }];
/// Number of simultaneous callers, and of the questions that they ask together in a round.
const FEW: (usize, usize) = (64, 6_000);
const MANY: (usize, usize) = (512, 20_000);
/// Losses in packets of a million: none, and 1 %.
const LOSSES: [u32; 2] = [0, 10_000];
const SEED: u64 = 7;
const AGAINST: &str = "HAProxy pair, mTLS";

/// One side: its address, and the question.
struct Side {
    address: SocketAddr,
    path: String,
    token: Option<String>,
}

/// Figures of one side in one round: the time of a question with few callers, and the rate with
/// many.
#[derive(Clone, Copy, Debug)]
struct Round {
    p50_us: u64,
    p99_us: u64,
    /// Questions a second, in thousandths.
    per_second: u64,
}

/// A function that selects one figure of a round.
type Figure = fn(&Round) -> u64;

/// All rounds at one loss.
#[derive(Debug, Default)]
struct AtLoss {
    haproxy: Vec<Round>,
    bridge: Vec<Round>,
}

/// Measures this number of rounds at each loss, with one in `share` of their questions. Both sides
/// use the folder `dir`.
pub(super) async fn measure(
    program: &Path,
    dir: &Path,
    rounds: usize,
    share: usize,
    draw: &mut Draw,
) -> Result<Vec<Row>> {
    make_ready(&NEEDS).await?;
    tell("building the agents");
    let database = Database::Sqlite(dir.join("idc").join("ledger.db"));
    let plan = Arc::new(generated::hot(SEED, 1));
    let setup = Setup { tapped: false, wan: true, ..Setup::default() };
    let brands = [(plan.brand.as_str(), plan.currency)];
    let site = Site::set_up(dir, Programs::build()?, database, &brands, SEED, setup).await?;
    site.import(&plan).await?;
    let wan = site.wan().context("the agents have a line of IP packets")?;
    wan.line().set(Conditions::round_trip(ROUND_TRIP));
    let agents = site.start().await?;
    let (bridge, answer) = question(&site, &plan).await?;
    let origin = Server::bare(program, dir, &answer, cores()).await?;
    let authority = Authority::open(site.cloud_dir().with_file_name("pki")).context("open the authority")?;
    let pair = HaproxyPair::start(dir, wan, &authority, &origin, &bridge.path, &answer).await?;
    let haproxy = Side { address: pair.address, path: bridge.path.clone(), token: None };
    let measured = in_turns(wan, &haproxy, &bridge, rounds, share, draw).await?;
    still_run(agents).await?;
    Ok(rows(&measured))
}

/// Places an order, and makes the question for its state.
async fn question(site: &Site, plan: &Arc<crate::testkit::plan::Plan>) -> Result<(Side, FixedAnswer)> {
    let token = site.token(&plan.brand).to_owned();
    let options = load::Options {
        storefront: site.storefront,
        token: token.clone(),
        callers: 1,
        patience: Duration::from_secs(60),
        title: String::new(),
    };
    let report = replay(plan, &options).await;
    let placed = report.settled.iter().find_map(|settled| match &settled.outcome {
        Outcome::Placed { order } => Some(order.clone()),
        _ => None,
    });
    let path = format!("/v1/{}/orders/{}", plan.brand, placed.context("the order was not placed")?);
    let answer = Client::new(site.storefront).get(&path, Some(&token)).await.context("ask for the order")?;
    ensure!(answer.status == http::StatusCode::OK, "the order is answered with {}", answer.status);
    Ok((Side { address: site.storefront, path, token: Some(token) }, FixedAnswer::like(&answer)?))
}

async fn in_turns(
    wan: &Wan,
    haproxy: &Side,
    bridge: &Side,
    rounds: usize,
    share: usize,
    draw: &mut Draw,
) -> Result<[AtLoss; 2]> {
    let progress = Progress::of("tunnel", rounds * LOSSES.len());
    let mut measured = [AtLoss::default(), AtLoss::default()];
    // A first round without measurement opens the connections and fills the caches.
    for side in [haproxy, bridge] {
        side.round(4 * share).await?;
    }
    for _ in 0..rounds {
        for at in draw.order(&[0, 1]) {
            wan.line().set(Conditions::round_trip(ROUND_TRIP).losing(LOSSES[at]));
            if draw.first_of_two() {
                measured[at].haproxy.push(haproxy.round(share).await?);
                measured[at].bridge.push(bridge.round(share).await?);
            } else {
                measured[at].bridge.push(bridge.round(share).await?);
                measured[at].haproxy.push(haproxy.round(share).await?);
            }
            progress.step();
        }
    }
    wan.has_seen_every_packet()?;
    let late = wan.line().take_late();
    tell(&format!(
        "half of the packets left the line within {:?}, 99 % within {:?}",
        late.quantile(500),
        late.quantile(990)
    ));
    Ok(measured)
}

impl Side {
    async fn round(&self, share: usize) -> Result<Round> {
        let (callers, questions) = FEW;
        let (few, _) = self.ask(callers, questions / share).await?;
        let (callers, questions) = MANY;
        let (many, took) = self.ask(callers, questions / share).await?;
        let us = |permille| u64::try_from(few.quantile(permille).as_micros()).unwrap_or(u64::MAX);
        let nanos = took.as_nanos().max(1);
        let per_second = u64::try_from(u128::from(many.count()) * 1_000_000_000_000 / nanos)?;
        Ok(Round { p50_us: us(500), p99_us: us(990), per_second })
    }

    /// Asks this number of questions with this number of callers, each of which asks one after the
    /// other. Returns the time of each question.
    async fn ask(&self, callers: usize, questions: usize) -> Result<(Histogram, Duration)> {
        let (began, asked) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
        let mut all = JoinSet::new();
        for _ in 0..callers {
            let (mut client, asked) = (Client::new(self.address), Arc::clone(&asked));
            let (path, token) = (self.path.clone(), self.token.clone());
            all.spawn(async move {
                let mut took = Histogram::default();
                while asked.fetch_add(1, Ordering::Relaxed) < questions {
                    let began = Instant::now();
                    let answer = client.get(&path, token.as_deref()).await.context("ask")?;
                    ensure!(
                        answer.status == http::StatusCode::OK,
                        "{path} is answered with {}",
                        answer.status
                    );
                    took.record(began.elapsed());
                }
                Ok(took)
            });
        }
        let mut took = Histogram::default();
        while let Some(caller) = all.join_next().await {
            took.merge(&caller.context("a caller panicked")??);
        }
        Ok((took, began.elapsed()))
    }
}

/// Checks that both agents still run. Otherwise the figures are not valid.
async fn still_run(mut agents: Bridge) -> Result<()> {
    for agent in [&mut agents.cloud, &mut agents.idc] {
        let ended = agent.ended_within(Duration::ZERO).await?;
        ensure!(ended.is_none(), "an agent has ended: see {}", agent.log().display());
    }
    Ok(())
}

fn rows(measured: &[AtLoss; 2]) -> Vec<Row> {
    let [lossless, lossy] = measured;
    let row = |name, unit: &str, at: &AtLoss, figure: Figure, target| Row {
        name,
        against: AGAINST,
        unit: unit.to_owned(),
        middle: Middle::Median,
        pairs: at.pairs(figure),
        target,
        loads: None,
        notes: Vec::new(),
    };
    let (p50, p99): (Figure, Figure) = (|round| round.p50_us, |round| round.p99_us);
    let per_second: Figure = |round| round.per_second;
    let (many, few) = ("questions/s at 512 callers", "ms at 64 callers");
    vec![
        row("relay_p50_vs_haproxy", few, lossless, p50, None),
        row("relay_p99_vs_haproxy", few, lossless, p99, None),
        row("relay_per_s", many, lossless, per_second, None),
        row("relay_loss1_p50_vs_haproxy", few, lossy, p50, None),
        row("relay_loss1_p99_vs_haproxy", few, lossy, p99, Some(Target::Bridge(30_000))),
        row("relay_loss1_per_s", many, lossy, per_second, Some(Target::BridgeAtLeast(20_000_000))),
    ]
}

impl AtLoss {
    fn pairs(&self, figure: Figure) -> Vec<Pair> {
        let both = self.haproxy.iter().zip(&self.bridge);
        both.map(|(haproxy, bridge)| Pair { baseline: figure(haproxy), bridge: figure(bridge) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_has_its_rows_and_the_design_s_targets() {
        let round = |p99_us, per_second| Round { p50_us: p99_us / 2, p99_us, per_second };
        let lossless = AtLoss { haproxy: vec![round(18_000, 9)], bridge: vec![round(14_000, 8)] };
        let lossy = AtLoss { haproxy: vec![round(252_000, 7)], bridge: vec![round(29_000, 20_000_000)] };
        let rows = rows(&[lossless, lossy]);
        let figures = rows.iter().map(|row| (row.name, row.baseline(), row.bridge(), row.reached()));
        let expected = [
            ("relay_p50_vs_haproxy", 9_000, 7_000, None),
            ("relay_p99_vs_haproxy", 18_000, 14_000, None),
            ("relay_per_s", 9, 8, None),
            ("relay_loss1_p50_vs_haproxy", 126_000, 14_500, None),
            ("relay_loss1_p99_vs_haproxy", 252_000, 29_000, Some(true)),
            ("relay_loss1_per_s", 7, 20_000_000, Some(true)),
        ];
        assert_eq!(figures.collect::<Vec<_>>(), expected);
    }
}
