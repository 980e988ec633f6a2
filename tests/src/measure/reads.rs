//! What a catalogue read costs: CPU time a request, of Bridge and of what serves such reads today.
//!
//! All of them answer the very same bytes, with the same number of workers, to the same load, one after the other in
//! each round. CPU time is what counts: the load shares the processors with what it is put on, so requests a second say
//! more about the load. They are told for information.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::bare::Answer;
use super::progress::Progress;
use super::row::{Middle, Pair, Row, Target};
use super::server::{FILE, Files, PRODUCT, Server, Subject};
use super::wrk::{self, Load};
use crate::proc_stat::{cpu_time, tree_of};

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How often each is put under load.
    pub rounds: usize,
    /// How long each time, in seconds.
    pub seconds: u64,
    /// Serving threads of each server, and threads of the load.
    pub workers: usize,
}

/// What a user has today, and the rows that it stands in.
struct Baseline {
    against: &'static str,
    subject: Subject,
    cpu: &'static str,
    at_most: Option<u64>,
    per_second: Option<&'static str>,
}

/// What one server took under load, once.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// CPU time a request, in nanoseconds.
    cpu: u64,
    /// Requests a second, in thousandths.
    per_second: u64,
}

/// Measures `bridge`, which answers `answer`, in turns with all baselines. `program` is the one that knows `serve-bare`,
/// `dir` a folder for what the servers need.
///
/// # Errors
/// When a server does not start, or anything but good answers comes back.
pub async fn measure(
    program: &Path,
    dir: &Path,
    bridge: &Subject,
    answer: &Answer,
    effort: Effort,
) -> Result<Vec<Row>> {
    let folder = |name: &str| {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).map(|()| folder).context("make a server's folder")
    };
    let workers = effort.workers;
    let origin = Server::bare(program, &folder("origin")?, answer, 1).await?;
    let nginx = Server::nginx(&folder("nginx")?, &origin, answer, workers, Files::Opened).await?;
    let tuned = Server::nginx(&folder("tuned")?, &origin, answer, workers, Files::KeptOpen).await?;
    let haproxy = Server::haproxy(&folder("haproxy")?, &origin, answer, workers).await?;
    // From now on only a cache can answer, and each of them does.
    drop(origin);
    for cache in [&nginx, &tuned, &haproxy] {
        cache.answers(PRODUCT, answer).await.context("ask a cache whose origin is gone")?;
    }
    let bare = Server::bare(program, &folder("bare")?, answer, workers).await?;
    let baselines = [
        Baseline {
            against: "nginx proxy_cache",
            subject: nginx.asked_for(PRODUCT),
            cpu: "read_cpu_vs_nginx_cache",
            at_most: Some(450),
            per_second: Some("reads_per_s_vs_nginx_cache"),
        },
        Baseline {
            against: "HAProxy's cache",
            subject: haproxy.asked_for(PRODUCT),
            cpu: "read_cpu_vs_haproxy_cache",
            at_most: Some(700),
            per_second: Some("reads_per_s_vs_haproxy_cache"),
        },
        Baseline {
            against: "bare hyper",
            subject: bare.asked_for(PRODUCT),
            cpu: "read_cpu_vs_bare",
            at_most: Some(1_150),
            per_second: Some("reads_per_s_vs_bare"),
        },
        Baseline {
            against: "nginx, files open",
            subject: tuned.asked_for(PRODUCT),
            cpu: "read_cpu_vs_nginx_cache_tuned",
            at_most: None,
            per_second: None,
        },
        Baseline {
            against: "nginx static file",
            subject: tuned.asked_for(FILE),
            cpu: "read_cpu_vs_nginx_static",
            at_most: None,
            per_second: None,
        },
    ];
    in_turns(&baselines, bridge, effort).await
}

async fn in_turns(baselines: &[Baseline], bridge: &Subject, effort: Effort) -> Result<Vec<Row>> {
    let subjects: Vec<_> = baselines.iter().map(|baseline| &baseline.subject).chain([bridge]).collect();
    let progress = Progress::of("reads", subjects.len() * (effort.rounds + 1));
    // Once for nothing: connections, caches and frequencies find their places.
    for subject in &subjects {
        sample(subject, 1, effort.workers).await?;
        progress.step();
    }
    let mut rounds: Vec<Vec<Sample>> = Vec::new();
    for _ in 0..effort.rounds {
        let mut round = Vec::new();
        for subject in &subjects {
            round.push(sample(subject, effort.seconds, effort.workers).await?);
            progress.step();
        }
        rounds.push(round);
    }
    let pairs = |index: usize, value: fn(&Sample) -> u64| {
        let both = rounds.iter().filter_map(|round| Some((round.get(index)?, round.last()?)));
        both.map(|(baseline, bridge)| Pair { baseline: value(baseline), bridge: value(bridge) }).collect()
    };
    let row = |name, against, unit: &str, pairs, target| Row {
        name,
        against,
        unit: unit.to_owned(),
        middle: Middle::Median,
        pairs,
        target,
    };
    let mut rows = Vec::new();
    for (index, Baseline { against, cpu, at_most, .. }) in baselines.iter().enumerate() {
        let pairs = pairs(index, |sample| sample.cpu);
        rows.push(row(cpu, against, "us CPU a read", pairs, at_most.map(Target::Ratio)));
    }
    for (index, Baseline { against, per_second, .. }) in baselines.iter().enumerate() {
        let pairs = pairs(index, |sample| sample.per_second);
        rows.extend(per_second.map(|name| row(name, against, "reads/s", pairs, None)));
    }
    Ok(rows)
}

/// One server under load for a while.
async fn sample(subject: &Subject, seconds: u64, threads: usize) -> Result<Sample> {
    let processes = tree_of(subject.pid);
    let before = cpu_time(&processes);
    let load = wrk::load(subject.address, &subject.path, seconds, threads).await?;
    let took = cpu_time(&processes).saturating_sub(before);
    ensure!(!took.is_zero(), "no process of the server at {} worked", subject.address);
    Ok(Sample { cpu: cpu_a_request(took, &load), per_second: load.per_second })
}

/// In nanoseconds, which are thousandths of a microsecond.
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
