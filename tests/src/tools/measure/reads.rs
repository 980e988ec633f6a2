//! Cost of a catalogue read: CPU time of a request, of Bridge and of servers that serve such reads
//! today.
//!
//! All servers answer with the same bytes and headers, and have the same number of workers. They
//! take turns in an order that is drawn anew in each round, at several loads. Each server is judged
//! at the load that suits it best. CPU time is the figure that counts. The load generator shares
//! the CPU with the server, so requests a second depend more on the load generator; they are shown
//! for information.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bare::FixedAnswer;
use super::draw::Draw;
use super::progress::Progress;
use super::row::{AtLoad, Better, Pair, Row, Target};
use super::server::{FILE, PRODUCT, Server, Subject, Tuning};
use super::wrk::{self, Load};
use crate::testkit::proc_stat::{cpu_time, tree_of};

/// Duration and number of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Number of rounds.
    pub rounds: usize,
    /// Duration of each measurement, in seconds.
    pub seconds: u64,
    /// Serving threads of each server, and threads of the load generator.
    pub workers: usize,
    /// The loads, as numbers of open connections.
    pub connections: &'static [usize],
}

/// A server that a user has today, and the rows in which it is the baseline.
struct Baseline {
    against: &'static str,
    subject: Subject,
    cpu: &'static str,
    at_most: Option<u64>,
    per_second: Option<&'static str>,
}

/// One measurement of a server under load.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// CPU time of a request, in nanoseconds.
    cpu: u64,
    /// Requests a second, in thousandths.
    per_second: u64,
}

/// Measures `bridge`, which answers with `answer`, in turns with all baselines. `program` is the
/// program that has the command `serve-bare`. `dir` is a folder for the servers' files.
///
/// # Errors
///
/// Fails if a server does not start, or an answer is wrong.
pub async fn measure(
    program: &Path,
    dir: &Path,
    bridge: &Subject,
    answer: &FixedAnswer,
    effort: Effort,
    draw: &mut Draw,
) -> Result<Vec<Row>> {
    let folder = |name: &str| {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).map(|()| folder).context("make a server's folder")
    };
    bridge.answers(answer).await.context("ask Bridge")?;
    let (workers, kept) = (effort.workers, answer.for_caches());
    let origin = Server::bare(program, &folder("origin")?, &kept, 1).await?;
    let shown = Server::nginx(&folder("nginx")?, &origin, &kept, workers, Tuning::AsShown).await?;
    let tuned = Server::nginx(&folder("tuned")?, &origin, &kept, workers, Tuning::Tuned).await?;
    let haproxy = Server::haproxy(&folder("haproxy")?, &origin, &kept, workers).await?;
    // From now on only a cache can answer, and each cache does.
    drop(origin);
    for cache in [&shown, &tuned, &haproxy] {
        cache.asked_for(PRODUCT).answers(&kept).await.context("ask a cache whose origin is gone")?;
    }
    let bare = Server::bare(program, &folder("bare")?, answer, workers).await?;
    let baselines = [
        Baseline {
            against: "nginx tuned",
            subject: tuned.asked_for(PRODUCT),
            cpu: "read_cpu_vs_nginx_cache_tuned",
            at_most: Some(450),
            per_second: Some("reads_per_s_vs_nginx_cache_tuned"),
        },
        Baseline {
            against: "HAProxy's cache",
            subject: haproxy.asked_for(PRODUCT),
            cpu: "read_cpu_vs_haproxy_cache",
            at_most: Some(950),
            per_second: Some("reads_per_s_vs_haproxy_cache"),
        },
        Baseline {
            against: "bare hyper",
            subject: bare.asked_for(PRODUCT),
            cpu: "read_cpu_vs_bare",
            at_most: Some(1_050),
            per_second: Some("reads_per_s_vs_bare"),
        },
        Baseline {
            against: "nginx as shown",
            subject: shown.asked_for(PRODUCT),
            cpu: "read_cpu_vs_nginx_cache",
            at_most: None,
            per_second: None,
        },
        Baseline {
            against: "nginx static, tuned",
            subject: tuned.asked_for(FILE),
            cpu: "read_cpu_vs_nginx_static",
            at_most: None,
            per_second: None,
        },
    ];
    in_turns(&baselines, bridge, effort, draw).await
}

/// Measurements of each subject, by load and by its position in the list.
type Samples = BTreeMap<(usize, usize), Vec<Sample>>;

async fn in_turns(
    baselines: &[Baseline],
    bridge: &Subject,
    effort: Effort,
    draw: &mut Draw,
) -> Result<Vec<Row>> {
    let Effort { rounds, seconds, workers, connections } = effort;
    let subjects: Vec<_> = baselines.iter().map(|baseline| &baseline.subject).chain([bridge]).collect();
    let progress = Progress::of("reads", subjects.len() * (rounds * connections.len() + 1));
    let places: Vec<_> = (0..subjects.len()).collect();
    // The first measurement is dropped. It opens connections, fills caches, and raises the CPU's
    // frequency.
    for subject in &subjects {
        sample(subject, 1, connections.first().copied().unwrap_or(1), workers).await?;
        progress.step();
    }
    let mut samples = Samples::new();
    for _ in 0..rounds {
        for load in draw.order(connections) {
            for place in draw.order(&places) {
                let Some(subject) = subjects.get(place) else { continue };
                let sample = sample(subject, seconds, load, workers).await?;
                samples.entry((load, place)).or_default().push(sample);
                progress.step();
            }
        }
    }
    let loads = |place: usize, value: fn(&Sample) -> u64| {
        let at = |load: usize| {
            let of = |place: usize| samples.get(&(load, place)).into_iter().flatten().map(value);
            let both = of(place).zip(of(baselines.len()));
            AtLoad { load, pairs: both.map(|(baseline, bridge)| Pair { baseline, bridge }).collect() }
        };
        ("connections", connections.iter().map(|load| at(*load)).collect())
    };
    let mut rows = Vec::new();
    for (place, Baseline { against, cpu, at_most, .. }) in baselines.iter().enumerate() {
        let loads = loads(place, |sample| sample.cpu);
        let target = at_most.map(Target::Ratio);
        rows.push(Row::at_best(cpu, against, "us CPU a read", loads, Better::Less, target));
    }
    for (place, Baseline { against, per_second, .. }) in baselines.iter().enumerate() {
        let Some(name) = *per_second else { continue };
        let loads = loads(place, |sample| sample.per_second);
        rows.push(Row::at_best(name, against, "reads/s", loads, Better::More, None));
    }
    Ok(rows)
}

/// Measures one server under load.
async fn sample(subject: &Subject, seconds: u64, connections: usize, threads: usize) -> Result<Sample> {
    let processes = tree_of(subject.pid);
    let before = cpu_time(&processes);
    let load = wrk::load(subject.address, &subject.path, seconds, connections, threads).await?;
    let took = cpu_time(&processes).saturating_sub(before);
    ensure!(!took.is_zero(), "no process of the server at {} worked", subject.address);
    Ok(Sample { cpu: cpu_a_request(took, &load), per_second: load.per_second })
}

/// Returns the CPU time of a request in nanoseconds, which are thousandths of a microsecond.
fn cpu_a_request(took: Duration, load: &Load) -> u64 {
    u64::try_from(took.as_nanos() / u128::from(load.requests.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_shared_out_over_the_requests() {
        let load = Load { requests: 40_000, ..Load::default() };
        assert_eq!(cpu_a_request(Duration::from_millis(1_450), &load), 36_250);
        assert_eq!(cpu_a_request(Duration::from_secs(1), &Load::default()), 1_000_000_000);
    }
}
