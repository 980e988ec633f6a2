//! What each request needs to itself while it is committed, and at which committer: so that no two of them meet in the database.
//!
//! Pure. What is needed is known by a hash. Two things with the same hash wait for each other without need, and that is all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bridge_protocol::domain::{Brand, Sku};

use crate::orders::planner::{Action, Request};
use crate::orders::store::COMMITTERS_MAX;

/// What a request needs. That of a cancellation is known in part: which stock it gives back, the ledger knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::orders::core) struct Needs {
    /// Its key and its order.
    identities: [u64; 2],
    brand: u64,
    stock: Vec<u64>,
}

impl Needs {
    /// What this request needs.
    pub(super) fn of(request: &Request) -> Self {
        let brand = &request.brand;
        let order = request.action.order();
        Self {
            identities: [hash(0, request.key.as_bytes()), hash(1, order.as_bytes())],
            brand: hash(2, brand.as_str()),
            stock: match &request.action {
                Action::Place(placement) => {
                    placement.terms.lines().iter().map(|line| stock(brand, &line.sku)).collect()
                }
                Action::Cancel { .. } => Vec::new(),
            },
        }
    }

    /// Whether it is known to need this stock.
    pub(in crate::orders::core) fn has_stock(&self, brand: &Brand, sku: &Sku) -> bool {
        self.stock.contains(&stock(brand, sku))
    }

    /// It turned out to need this stock as well.
    pub(super) fn add_stock(&mut self, brand: &Brand, sku: &Sku) {
        self.stock.push(stock(brand, sku));
    }

    /// Its key and its order.
    pub(super) fn identities(&self) -> [u64; 2] {
        self.identities
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        self.identities.into_iter().chain(self.stock.iter().copied())
    }
}

fn stock(brand: &Brand, sku: &Sku) -> u64 {
    hash(3, &(brand.as_str(), sku.as_str()))
}

/// The same in each process: the simulation repeats what an agent does.
fn hash(kind: u8, of: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    of.hash(&mut hasher);
    hasher.finish()
}

/// All claims: of the requests that wait for a committer, and of those that one is committing.
#[derive(Debug)]
pub(super) struct Claims {
    committers: usize,
    claims: HashMap<u64, Claimants>,
    /// Requests of each brand, by committer; not all of them 0.
    brands: HashMap<u64, [usize; COMMITTERS_MAX]>,
    /// Lines, by committer.
    lines: [usize; COMMITTERS_MAX],
    /// Claims given so far: their numbers ascend.
    given: u64,
    /// How often something was released.
    releases: u64,
}

/// Who claims one thing, in the order of their numbers: one committer after the other, nearly always a single one.
#[derive(Debug)]
struct Claimants {
    first: Stretch,
    later: Vec<Stretch>,
}

/// Claims of one committer, with no other one's between them.
#[derive(Debug)]
struct Stretch {
    committer: usize,
    /// The number of its first claim.
    from: u64,
    /// How many there are; never 0.
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

    /// Whether nobody with another committer has claimed it before this number.
    fn is_first(&self, number: u64) -> bool {
        self.later.first().is_none_or(|next| number < next.from)
    }

    /// One claim less; whether that was the last one.
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
    /// Nobody claims anything.
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

    /// How often something was released: what could not be committed then may be now.
    pub(super) fn releases(&self) -> u64 {
        self.releases
    }

    /// The committer that owns what is needed: where the last request about the same order or key is; or else the last one of the
    /// SKU of which most are under way. What nobody owns goes to the committer with the fewest lines; but a cancellation to the
    /// one with most requests of its brand, where its stock is likely to be.
    pub(super) fn owner(&self, needs: &Needs) -> usize {
        let identity = needs.identities.iter().find_map(|need| self.claims.get(need));
        let hottest =
            || needs.stock.iter().filter_map(|need| self.claims.get(need)).max_by_key(|of| of.requests());
        let of_its_brand = || {
            let requests = self.brands.get(&needs.brand).filter(|_| needs.stock.is_empty())?;
            (0..self.committers).rev().max_by_key(|committer| requests[*committer])
        };
        identity
            .or_else(hottest)
            .map(|claimants| claimants.last().committer)
            .or_else(of_its_brand)
            .or_else(|| (0..self.committers).min_by_key(|committer| self.lines[*committer]))
            .unwrap_or(0)
    }

    /// Claims what is needed for a committer, behind everybody who has claimed any of it; the claim's number.
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

    /// Whether nothing of what is needed is claimed by an earlier request of another committer.
    pub(super) fn is_ready(&self, needs: &Needs, number: u64) -> bool {
        needs.all().all(|need| self.claims.get(&need).is_none_or(|claimants| claimants.is_first(number)))
    }

    /// Gives back what was claimed.
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

    /// Whether nothing at all is claimed.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.brands.is_empty() && self.lines.iter().all(|lines| *lines == 0)
    }
}
