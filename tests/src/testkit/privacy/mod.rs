//! Search for planted personal values in every place where one could leak. The demo, the faults and
//! the tests share it.
//!
//! [`Search::while_they_run`] searches both agents' memory and the answers of their admin
//! listeners. [`Search::what_is_left`] searches the agents' frames before TLS, and every file that
//! the agents left. A match is reported with its place: lane, direction and frame; agent and region
//! of memory; or file. The search also proves for each place that it works: it finds the values in
//! the orders themselves, a secret that an agent must have in memory, and orders among the frames.

mod frames;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::testkit::http::Client;
use crate::testkit::memory::{self, Region};
use crate::testkit::plan::Plan;
use crate::testkit::postgres::Postgres;
use crate::testkit::process::Running;
use crate::testkit::search::{FileHits, Hit, Needles, SearchHits};
use crate::testkit::site::{Bridge, Site};

/// Longest time that an answered value may stay in memory. A buffer is wiped when its owner next
/// runs.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// Most places in a report. Further ones are only counted.
const LEAKS_TOLD: usize = 20;

/// A search for the values of some orders.
pub struct Search {
    needles: Needles,
    searched: Searched,
}

/// Result of the search.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Searched {
    /// Personal values in all orders.
    pub planted: u64,
    /// Values that the same search finds in the orders themselves. They prove that the search can
    /// find them.
    pub found_in_the_orders: u64,
    /// Orders among the frames; `None` if no frames were kept.
    pub orders_in_frames: Option<u64>,
    /// Places that must not contain a value.
    pub places: Vec<SearchedPlace>,
    /// Places that this user may not read.
    pub not_searched: Vec<String>,
}

/// A place that was searched.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SearchedPlace {
    /// Name of the place.
    pub what: String,
    /// Number of files, mappings or texts.
    pub files: usize,
    /// Number of searched bytes.
    pub bytes: u64,
    /// Number of matches.
    pub found: u64,
    /// Places of the first matches.
    pub leaks: Vec<Leak>,
}

/// Place of a match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leak {
    /// Lane, direction and frame; region of memory; or file and byte. Then the form of the value.
    pub at: String,
    /// Number of matches there.
    pub values: u64,
}

impl SearchedPlace {
    /// Adds the matches of one file or text.
    fn add(&mut self, name: &str, seen: &SearchHits) {
        self.files += 1;
        self.bytes += seen.length;
        self.found += seen.hits;
        let leak = |hit: &Hit| Leak { at: format!("{name}, byte {}, {}", hit.at, hit.form), values: 1 };
        self.leaks.extend(seen.first.iter().map(leak));
    }
}

impl Searched {
    /// Returns the number of matches where there must be none.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.places.iter().map(|place| place.found).sum()
    }

    /// Returns true if the search would have found a value that leaked.
    #[must_use]
    pub fn can_find(&self) -> bool {
        self.planted > 0
            && self.found_in_the_orders >= self.planted
            && self.orders_in_frames.is_none_or(|orders| orders > 0)
            && !self.places.is_empty()
            && self.places.iter().all(|place| place.bytes > 0)
    }

    /// Returns the places of matches, one on each line.
    pub fn leaks(&self) -> impl Iterator<Item = String> {
        self.places.iter().filter(|place| place.found > 0).flat_map(|place| {
            let told = &place.leaks[..place.leaks.len().min(LEAKS_TOLD)];
            let more = place.found.saturating_sub(told.iter().map(|leak| leak.values).sum());
            let line = |Leak { at, values }: &Leak| format!("{values} in {}: {at}", place.what);
            told.iter().map(line).chain((more > 0).then(|| format!("{more} more in {}", place.what)))
        })
    }

    /// Checks that there is no match, and that the search works.
    ///
    /// # Errors
    ///
    /// Fails with all places if a value was found, or if the search could not have found one.
    pub fn judge(&self) -> Result<()> {
        let leaks: Vec<_> = self.leaks().collect();
        ensure!(leaks.is_empty(), "{} personal values were found:\n{}", self.found(), leaks.join("\n"));
        ensure!(self.can_find(), "the search could not have found a personal value: {self:?}");
        Ok(())
    }
}

impl Search {
    /// Makes a search for all personal values of some orders. An order is given as its values and
    /// the body that contains them.
    #[must_use]
    pub fn new<'a>(orders: impl IntoIterator<Item = (Vec<&'a str>, &'a [u8])>) -> Self {
        let (planted, bodies): (Vec<_>, Vec<_>) = orders.into_iter().unzip();
        let needles = Needles::new(planted.iter().flatten().copied());
        let of_order = |(values, body): (&Vec<&str>, &&[u8])| needles.count(body).min(values.len() as u64);
        let found_in_the_orders = planted.iter().zip(&bodies).map(of_order).sum();
        let planted = planted.iter().map(|values| values.len() as u64).sum();
        Search { needles, searched: Searched { planted, found_in_the_orders, ..Searched::default() } }
    }

    /// Makes a search for all personal values of some plans.
    #[must_use]
    pub fn of_plans<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> Self {
        let places = plans.into_iter().flat_map(Plan::places).map(|(_, place)| place);
        Search::new(places.map(|place| (place.planted.iter().map(String::as_str).collect(), &place.body[..])))
    }

    /// Searches both agents' memory once all requests are answered, and the answers of their admin
    /// listeners.
    ///
    /// # Errors
    ///
    /// Fails if an agent does not answer, or a secret that it must have in memory is not found
    /// there.
    pub async fn while_they_run(&mut self, site: &Site, bridge: &Bridge) -> Result<()> {
        let brand = site.brands().next().unwrap_or_default();
        let (token, ledger) = (site.token(brand), site.database().url());
        for (agent, name, secret) in [(&bridge.cloud, "cloud", token), (&bridge.idc, "IDC", &ledger)] {
            self.memory(agent, name, secret).await?;
            let mut admin = Client::new(agent.admin());
            let mut said = SearchedPlace {
                what: format!("what the {name} agent's admin listener says"),
                ..SearchedPlace::default()
            };
            for path in ["/metrics", "/status", "/readyz", "/healthz"] {
                let answer = admin.get(path, None).await.with_context(|| format!("ask for {path}"))?;
                said.add(path, &self.needles.find(&answer.body));
            }
            self.searched.places.push(said);
        }
        Ok(())
    }

    /// Searches the frames and all files of both sides. A temporary database's files are searched
    /// as well.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, because then the result would not be complete.
    pub fn what_is_left(&mut self, site: &Site, cluster: Option<&Postgres>) -> Result<()> {
        if let Some(frames) = site.frames() {
            self.frames(&frames)?;
        }
        self.files("files of the cloud side", &site.cloud_dir())?;
        self.files("the cloud agent's log", &site.cloud.log)?;
        self.files("the IDC agent's log", &site.idc.log)?;
        self.files("bytes on the tunnel", &site.captured()?)?;
        self.files("files of the IDC", &site.idc_dir())?;
        if let Some(cluster) = cluster {
            self.files("files of PostgreSQL", &cluster.data_dir())?;
            self.files("PostgreSQL's log", &cluster.log_file())?;
        }
        Ok(())
    }

    /// Searches a file, or every file under a folder.
    ///
    /// # Errors
    ///
    /// Fails as [`Search::what_is_left`].
    pub fn files(&mut self, what: &str, path: &Path) -> Result<()> {
        let mut place = SearchedPlace { what: what.to_owned(), ..SearchedPlace::default() };
        for FileHits { path: file, seen } in
            self.needles.search(path).with_context(|| format!("search {}", path.display()))?
        {
            let name = file.strip_prefix(path).unwrap_or(&file);
            let name = if name.as_os_str().is_empty() { path } else { name };
            place.add(&name.display().to_string(), &seen);
        }
        self.searched.places.push(place);
        Ok(())
    }

    /// Returns the result.
    #[must_use]
    pub fn end(self) -> Searched {
        self.searched
    }

    fn frames(&mut self, folder: &Path) -> Result<()> {
        let mut paths: Vec<_> =
            fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        paths.sort();
        let mut place =
            SearchedPlace { what: "the frames before TLS".to_owned(), ..SearchedPlace::default() };
        let mut orders = 0;
        for path in &paths {
            let kept = frames::search(&self.needles, path);
            let kept = kept.with_context(|| format!("search {}", path.display()))?;
            orders += kept.orders;
            place.files += 1;
            place.bytes += kept.bytes;
            place.found += kept.found;
            place.leaks.extend(kept.leaks.into_iter().map(|at| Leak { at, values: 1 }));
        }
        self.searched.orders_in_frames = Some(orders);
        self.searched.places.push(place);
        Ok(())
    }

    /// Searches the memory until no value is left or the time is over. A buffer is wiped a moment
    /// after its answer was sent.
    async fn memory(&mut self, agent: &Running, name: &str, secret: &str) -> Result<()> {
        let what = format!("the {name} agent's memory");
        let process = agent.pid().with_context(|| format!("the {name} agent has ended"))?;
        let deadline = Instant::now() + PATIENCE;
        match memory::search(&Needles::new([secret]), process) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.searched.not_searched.push(format!("{what}: {error} (root may)"));
                return Ok(());
            }
            found => {
                ensure!(found?.hits > 0, "a secret that the {name} agent has is not found in its memory")
            }
        }
        let mut found = memory::search(&self.needles, process)?;
        while found.hits > 0 && Instant::now() < deadline {
            sleep(BETWEEN_LOOKS).await;
            found = memory::search(&self.needles, process)?;
        }
        let leaks = found.places.iter().map(region).collect();
        let (files, bytes, found) = (1, found.length, found.hits);
        self.searched.places.push(SearchedPlace { what, files, bytes, found, leaks });
        Ok(())
    }
}

fn region(Region { mapping, hits, form }: &Region) -> Leak {
    let form = form.map(|form| format!(", the first {form}")).unwrap_or_default();
    let mapping: Vec<_> = mapping.split_ascii_whitespace().collect();
    Leak { at: format!("{}{form}", mapping.join(" ")), values: *hits }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searched() -> Searched {
        let place =
            SearchedPlace { what: "files".to_owned(), files: 1, bytes: 9, ..SearchedPlace::default() };
        Searched {
            planted: 9,
            found_in_the_orders: 9,
            orders_in_frames: Some(3),
            places: vec![place],
            not_searched: Vec::new(),
        }
    }

    #[test]
    fn a_search_that_could_not_find_is_no_search_that_found_nothing() {
        assert!(searched().judge().is_ok());
        let flaws: [fn(&mut Searched); 5] = [
            |searched| searched.planted = 0,
            |searched| searched.found_in_the_orders = 8,
            |searched| searched.orders_in_frames = Some(0),
            |searched| searched.places.clear(),
            |searched| searched.places[0].bytes = 0,
        ];
        for flaw in flaws {
            let mut flawed = searched();
            flaw(&mut flawed);
            assert!(flawed.judge().is_err_and(|error| error.to_string().starts_with("the search could not")));
        }
    }

    #[test]
    fn findings_are_listed_by_place_and_the_rest_is_counted() {
        let mut found = searched();
        found.places[0].found = 40;
        let leak = |index: u64| Leak { at: format!("log, byte {index}, plain"), values: 1 + index % 2 };
        found.places[0].leaks = (0..25).map(leak).collect();
        let said = found.judge().expect_err("something was found").to_string();
        assert!(
            said.starts_with("40 personal values were found:\n1 in files: log, byte 0, plain\n2 in "),
            "{said}"
        );
        assert!(said.ends_with("log, byte 19, plain\n10 more in files"), "{said}");
    }
}
