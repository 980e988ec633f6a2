//! Claims of requests on keys, orders and stock while a committer has them, so that no two
//! committers need the same row in the database.
//!
//! A pure data structure. A need is known by its hash. If two needs have the same hash, one request
//! waits without need, which does no harm.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bridge_protocol::domain::{Brand, Sku};

use crate::orders::planner::{Action, Awaited, Request};
use crate::orders::store::COMMITTERS_MAX;

/// Needs of a request: its key, its order, its stock and its launches. The stock of a cancellation
/// is unknown here, because only the ledger has the order's lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::orders::core) struct Needs {
    /// Hashes of the request's key and of its order.
    identities: [u64; 2],
    brand: u64,
    /// Hashes of the rows that the request needs: stock, and launches that are known to sell it.
    rows: Vec<u64>,
}

impl Needs {
    /// Returns the needs of a request.
    pub(super) fn of(request: &Request) -> Self {
        let brand = &request.brand;
        let order = request.action.order();
        Self {
            identities: [hash(0, request.key.as_bytes()), hash(1, order.as_bytes())],
            brand: hash(2, brand.as_str()),
            rows: match &request.action {
                Action::Place(placement) => {
                    placement.terms.lines().iter().map(|line| stock(brand, &line.sku)).collect()
                }
                Action::Cancel { .. } => Vec::new(),
            },
        }
    }

    /// Returns true if this is a row that committers claim, and not among the known needs.
    pub(in crate::orders::core) fn lacks(&self, awaited: &Awaited) -> bool {
        row(awaited).is_some_and(|row| !self.rows.contains(&row))
    }

    /// Adds a row that the request turned out to need.
    pub(super) fn add(&mut self, awaited: &Awaited) {
        self.rows.extend(row(awaited));
    }

    /// Returns the hashes of the request's key and of its order.
    pub(super) fn identities(&self) -> [u64; 2] {
        self.identities
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.identities.into_iter().chain(self.rows.iter().copied())
    }
}

/// Launches by the SKUs that they are known to sell, learned from requests that met a launch of
/// another committer. It only chooses committers: an entry of an ended launch does no harm.
#[derive(Debug, Default)]
pub(super) struct KnownLaunches(HashMap<u64, u64>);

/// Most SKUs whose launch is remembered. Beyond that, all are learned again.
const LAUNCHED_SKUS_MAX: usize = 16_384;

impl KnownLaunches {
    /// Learns from a request with a single line: the launch sells its SKU. With several lines it is
    /// unknown which of them the launch sells.
    pub(super) fn learn(&mut self, request: &Request, awaited: &Awaited) {
        let (Action::Place(placement), Awaited::Launch { .. }) = (&request.action, awaited) else { return };
        let ([line], Some(launch)) = (placement.terms.lines(), row(awaited)) else { return };
        if self.0.len() >= LAUNCHED_SKUS_MAX {
            self.0.clear();
        }
        self.0.insert(stock(&request.brand, &line.sku), launch);
    }

    /// Adds the launches of a request's SKUs to its needs.
    pub(super) fn add_to(&self, needs: &mut Needs) {
        if self.0.is_empty() {
            return;
        }
        let mut launches = Vec::from_iter(needs.rows.iter().filter_map(|row| self.0.get(row)).copied());
        launches.sort_unstable();
        launches.dedup();
        needs.rows.extend(launches);
    }
}

/// Returns the hash of a row that committers claim.
fn row(awaited: &Awaited) -> Option<u64> {
    match awaited {
        Awaited::Stock { brand, sku } => Some(stock(brand, sku)),
        Awaited::Launch { brand, launch_id } => Some(hash(4, &(brand.as_str(), launch_id))),
        Awaited::Order(_) | Awaited::Brand(_) => None,
    }
}

fn stock(brand: &Brand, sku: &Sku) -> u64 {
    hash(3, &(brand.as_str(), sku.as_str()))
}

/// Returns a hash that is the same in each process, so that the simulation can repeat a run from
/// its seed.
fn hash(kind: u8, of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    of.hash(&mut hasher);
    hasher.finish()
}

/// All claims, by requests that wait for a committer or are in its batch.
#[derive(Debug)]
pub(super) struct Claims {
    committers: usize,
    claims: HashMap<u64, Claimants>,
    /// Number of requests of each brand, by committer. At least one number is not 0.
    brands: HashMap<u64, [usize; COMMITTERS_MAX]>,
    /// Number of lines by committer.
    lines: [usize; COMMITTERS_MAX],
    /// Number of claims so far. Each claim gets the next number.
    given: u64,
    /// Number of releases so far.
    releases: u64,
}

/// Claims on one need, in the order of their numbers, as stretches of one committer each. There is
/// nearly always a single stretch.
#[derive(Debug)]
struct Claimants {
    first: Stretch,
    later: Vec<Stretch>,
}

/// Consecutive claims of one committer, with no other committer's between them.
#[derive(Debug)]
struct Stretch {
    committer: usize,
    /// Number of the first claim.
    from: u64,
    /// Number of claims in the stretch; never 0.
    requests: usize,
}

impl Claimants {
    fn last(&self) -> &Stretch {
        self.later.last().unwrap_or(&self.first)
    }

    fn last_mut(&mut self) -> &mut Stretch {
        self.later.last_mut().unwrap_or(&mut self.first)
    }

    fn requests(&self) -> usize {
        self.first.requests + self.later.iter().map(|stretch| stretch.requests).sum::<usize>()
    }

    /// Returns true if no other committer has a claim before this number.
    fn is_first(&self, number: u64) -> bool {
        self.later.first().is_none_or(|next| number < next.from)
    }

    /// Removes one claim. Returns true if it was the last one.
    fn release(&mut self, number: u64) -> bool {
        let at = self.later.partition_point(|stretch| stretch.from <= number);
        let stretch = if at == 0 { &mut self.first } else { &mut self.later[at - 1] };
        stretch.requests -= 1;
        if stretch.requests > 0 {
            return false;
        }
        match (at, self.later.is_empty()) {
            (0, true) => return true,
            (0, false) => self.first = self.later.remove(0),
            (at, _) => drop(self.later.remove(at - 1)),
        }
        false
    }
}

impl Claims {
    /// Creates an empty set of claims.
    pub(super) fn new(committers: usize) -> Self {
        Self {
            committers,
            claims: HashMap::new(),
            brands: HashMap::new(),
            lines: [0; COMMITTERS_MAX],
            given: 0,
            releases: 0,
        }
    }

    /// Returns the number of releases so far. After a release, requests that were not ready may be.
    pub(super) fn releases(&self) -> u64 {
        self.releases
    }

    /// Returns the committer for a request with these needs. It is the one that has the last
    /// request about the same order or key. Otherwise it is the one that has the last request for
    /// the most wanted SKU. Otherwise it is the committer with the fewest lines. A cancellation
    /// without such a claim goes to the committer with most requests of its brand, where its stock
    /// probably is.
    pub(super) fn owner(&self, needs: &Needs) -> usize {
        let identity = needs.identities.iter().find_map(|need| self.claims.get(need));
        let hottest =
            || needs.rows.iter().filter_map(|need| self.claims.get(need)).max_by_key(|of| of.requests());
        let of_its_brand = || {
            let requests = self.brands.get(&needs.brand).filter(|_| needs.rows.is_empty())?;
            (0..self.committers).rev().max_by_key(|committer| requests[*committer])
        };
        identity
            .or_else(hottest)
            .map(|claimants| claimants.last().committer)
            .or_else(of_its_brand)
            .or_else(|| (0..self.committers).min_by_key(|committer| self.lines[*committer]))
            .unwrap_or(0)
    }

    /// Claims the needs for a committer, after all earlier claims on them. Returns the number of
    /// the claim.
    pub(super) fn claim(&mut self, needs: &Needs, lines: usize, committer: usize) -> u64 {
        self.given += 1;
        let number = self.given;
        for need in needs.all() {
            let stretch = || Stretch { committer, from: number, requests: 1 };
            let Some(claimants) = self.claims.get_mut(&need) else {
                self.claims.insert(need, Claimants { first: stretch(), later: Vec::new() });
                continue;
            };
            match claimants.last_mut() {
                last if last.committer == committer => last.requests += 1,
                _ => claimants.later.push(stretch()),
            }
        }
        self.brands.entry(needs.brand).or_default()[committer] += 1;
        self.lines[committer] += lines;
        number
    }

    /// Returns true if no earlier request of another committer claims any of the needs.
    pub(super) fn is_ready(&self, needs: &Needs, number: u64) -> bool {
        needs.all().all(|need| self.claims.get(&need).is_none_or(|claimants| claimants.is_first(number)))
    }

    /// Releases the claim on these needs.
    pub(super) fn release(&mut self, needs: &Needs, number: u64, lines: usize, committer: usize) {
        self.releases += 1;
        for need in needs.all() {
            if self.claims.get_mut(&need).is_some_and(|claimants| claimants.release(number)) {
                self.claims.remove(&need);
            }
        }
        self.lines[committer] -= lines;
        if let Some(requests) = self.brands.get_mut(&needs.brand) {
            requests[committer] -= 1;
            if requests.iter().all(|requests| *requests == 0) {
                self.brands.remove(&needs.brand);
            }
        }
    }

    /// Returns true if there are no claims.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.brands.is_empty() && self.lines.iter().all(|lines| *lines == 0)
    }
}
