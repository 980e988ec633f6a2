//! Launches as data: the terms of one, every check of them, and its state at a time.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use super::launch_id::{LaunchId, LaunchName};
use crate::domain::{Brand, Sku, UnixMicros};

/// Most SKUs of one launch.
pub const SKUS_MAX: usize = 200;

/// Most units of one launch.
pub const UNITS_MAX: u32 = 10_000_000;

/// Most admitted places a minute.
pub const RATE_MAX: u32 = 6_000_000;

/// Shortest and longest session, and claim window.
pub const TIMES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3_600)];

/// Longest time from opening to end.
pub const LENGTH_MAX: Duration = Duration::from_secs(31 * 86_400);

/// Places that are admitted in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionRate {
    /// This many places a minute, not counting places that nobody claims.
    PerMinute(u32),
    /// As many as the database takes, told by credits.
    Auto,
}

impl AdmissionRate {
    /// Reads the text that [`fmt::Display`] writes: `auto`, or a number from 1 to [`RATE_MAX`].
    pub fn parse(text: &str) -> Option<Self> {
        if text == "auto" {
            return Some(Self::Auto);
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let rate = text.parse().ok().filter(|rate| digits && (1..=RATE_MAX).contains(rate));
        rate.map(Self::PerMinute)
    }
}

impl fmt::Display for AdmissionRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerMinute(rate) => rate.fmt(f),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// A launch, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Brand and name.
    pub id: LaunchId,
    /// Opening: who enters before it takes part in the draw.
    pub opens_at: UnixMicros,
    /// End, unless all units are sold or an operator ends it before.
    pub ends_at: UnixMicros,
    /// SKUs that are sold to admitted entrants alone; each once, at least one.
    pub skus: Vec<Sku>,
    /// Units of all SKUs together: 1 to [`UNITS_MAX`].
    pub units: u32,
    /// Most units a customer: 1 to `units`.
    pub limit: u32,
    /// Pace of the admission.
    pub rate: AdmissionRate,
    /// Time that a session has to order.
    pub session: Duration,
    /// Time in which an admitted place must be claimed.
    pub claim_window: Duration,
}

/// The terms of a launch as an operator types them, or as a row has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchTerms {
    /// Brand.
    pub brand: String,
    /// Name within the brand.
    pub name: String,
    /// Opening.
    pub opens_at: UnixMicros,
    /// End.
    pub ends_at: UnixMicros,
    /// SKUs.
    pub skus: Vec<String>,
    /// Units of all SKUs together.
    pub units: i64,
    /// Most units a customer.
    pub limit: i64,
    /// A number of places a minute, or `auto`.
    pub rate: String,
    /// Length of a session in seconds.
    pub session_seconds: i64,
    /// Claim window in seconds.
    pub claim_seconds: i64,
}

/// A mistake in the terms of a launch. An operator reads it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchMistake {
    /// The brand is not in the form of one.
    #[error("brand: it has 1 to 32 characters of a-z, 0-9 and -")]
    Brand,
    /// The name is not in the form of one.
    #[error("name: it has 1 to 32 characters of a-z, 0-9 and -")]
    Name,
    /// The brand has or had a launch of this name.
    #[error("name: the brand has a launch {0} already, and a name is never used again")]
    NameTaken(LaunchName),
    /// The opening has passed.
    #[error("opens_at: {opens_at} is in the past; it is {now}")]
    InThePast {
        /// The opening.
        opens_at: UnixMicros,
        /// The current time.
        now: UnixMicros,
    },
    /// The end is not after the opening.
    #[error("ends_at: it is not after opens_at")]
    EndsBeforeItOpens,
    /// The launch is too long.
    #[error("ends_at: it is more than 31 days after opens_at")]
    TooLong,
    /// There is no SKU.
    #[error("skus: a launch has at least one SKU")]
    NoSku,
    /// There are too many SKUs.
    #[error("skus: a launch has at most {SKUS_MAX} SKUs")]
    TooManySkus,
    /// A SKU is not in the form of one.
    #[error("skus: number {0} is no SKU: 1 to 64 printable ASCII characters, no space at either end")]
    Sku(usize),
    /// A SKU stands twice.
    #[error("skus: {0} stands twice")]
    SkuTwice(Sku),
    /// Another launch sells the SKU at the same time.
    #[error("skus: launch {launch} sells {sku} at the same time")]
    SkuTaken {
        /// The SKU.
        sku: Sku,
        /// The other launch.
        launch: LaunchName,
    },
    /// The number of units is out of range.
    #[error("units: 1 to {UNITS_MAX}")]
    Units,
    /// The limit is out of range.
    #[error("limit: 1 up to the launch's units")]
    Limit,
    /// The rate has another form.
    #[error("rate: auto, or 1 to {RATE_MAX} places a minute")]
    Rate,
    /// The length of a session is out of range.
    #[error("session: 10 to 3600 seconds")]
    Session,
    /// The claim window is out of range.
    #[error("claim_window: 10 to 3600 seconds")]
    ClaimWindow,
}

impl LaunchTerms {
    /// Checks the terms of a new launch beside those that the brand has: `others` are all earlier
    /// launches of the brand, and `is_over` says which of them have ended.
    ///
    /// # Errors
    ///
    /// Returns every mistake at once.
    pub fn check_new<'a>(
        &self,
        now: UnixMicros,
        others: impl IntoIterator<Item = &'a Launch>,
        is_over: impl Fn(&Launch) -> bool,
    ) -> Result<Launch, Vec<LaunchMistake>> {
        let (launch, mut mistakes) = self.read();
        if self.opens_at <= now {
            mistakes.push(LaunchMistake::InThePast { opens_at: self.opens_at, now });
        }
        for other in others.into_iter().filter(|other| other.id.brand.as_str() == self.brand) {
            if other.id.name.as_str() == self.name {
                mistakes.push(LaunchMistake::NameTaken(other.id.name.clone()));
            }
            if is_over(other) || self.opens_at >= other.ends_at || other.opens_at >= self.ends_at {
                continue;
            }
            let taken = other.skus.iter().filter(|sku| self.skus.iter().any(|own| own == sku.as_str()));
            mistakes.extend(
                taken.map(|sku| LaunchMistake::SkuTaken { sku: sku.clone(), launch: other.id.name.clone() }),
            );
        }
        launch.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }

    /// Checks the form alone: of a row that was accepted before, or that was written in SQL.
    ///
    /// # Errors
    ///
    /// Returns every mistake at once.
    pub fn check_form(&self) -> Result<Launch, Vec<LaunchMistake>> {
        let (launch, mistakes) = self.read();
        launch.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }

    /// Returns the launch if all parts have their form, and the mistakes.
    fn read(&self) -> (Option<Launch>, Vec<LaunchMistake>) {
        let mut mistakes = Vec::new();
        let brand = note(Brand::new(&self.brand).ok(), LaunchMistake::Brand, &mut mistakes);
        let name = note(LaunchName::new(&self.name).ok(), LaunchMistake::Name, &mut mistakes);
        if self.ends_at <= self.opens_at {
            mistakes.push(LaunchMistake::EndsBeforeItOpens);
        } else if self.ends_at.since(self.opens_at) > LENGTH_MAX {
            mistakes.push(LaunchMistake::TooLong);
        }
        let skus = self.read_skus(&mut mistakes);
        let in_range = |value: i64, max: u32| u32::try_from(value).ok().filter(|v| (1..=max).contains(v));
        let units = note(in_range(self.units, UNITS_MAX), LaunchMistake::Units, &mut mistakes);
        let limit_max = units.unwrap_or(UNITS_MAX);
        let limit = note(in_range(self.limit, limit_max), LaunchMistake::Limit, &mut mistakes);
        let rate = note(AdmissionRate::parse(&self.rate), LaunchMistake::Rate, &mut mistakes);
        let time = |seconds: i64| {
            let time = Duration::from_secs(u64::try_from(seconds).ok()?);
            let [shortest, longest] = TIMES;
            (shortest..=longest).contains(&time).then_some(time)
        };
        let session = note(time(self.session_seconds), LaunchMistake::Session, &mut mistakes);
        let claim_window = note(time(self.claim_seconds), LaunchMistake::ClaimWindow, &mut mistakes);
        let launch = || {
            Some(Launch {
                id: LaunchId { brand: brand?, name: name? },
                opens_at: self.opens_at,
                ends_at: self.ends_at,
                skus,
                units: units?,
                limit: limit?,
                rate: rate?,
                session: session?,
                claim_window: claim_window?,
            })
        };
        (launch(), mistakes)
    }

    fn read_skus(&self, mistakes: &mut Vec<LaunchMistake>) -> Vec<Sku> {
        if self.skus.is_empty() {
            mistakes.push(LaunchMistake::NoSku);
        }
        if self.skus.len() > SKUS_MAX {
            mistakes.push(LaunchMistake::TooManySkus);
        }
        let (mut skus, mut seen) = (Vec::new(), HashSet::new());
        for (text, number) in self.skus.iter().zip(1..).take(SKUS_MAX) {
            match Sku::new(text) {
                None => mistakes.push(LaunchMistake::Sku(number)),
                Some(sku) if !seen.insert(text) => mistakes.push(LaunchMistake::SkuTwice(sku)),
                Some(sku) => skus.push(sku),
            }
        }
        skus
    }
}

/// Notes a mistake if there is no value.
fn note<T>(value: Option<T>, mistake: LaunchMistake, mistakes: &mut Vec<LaunchMistake>) -> Option<T> {
    if value.is_none() {
        mistakes.push(mistake);
    }
    value
}

/// Facts about the progress of a launch, from the IDC agent's log and ledger. Each one that is set
/// stays set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaunchFacts {
    /// The sides' commitments are logged, so entrants are taken.
    pub entering: bool,
    /// Root and count of the entrants are logged.
    pub closed: bool,
    /// The seed is logged.
    pub drawn: bool,
    /// The front has moved.
    pub selling: bool,
    /// The last unit is sold, and no session holds one.
    pub sold_out: bool,
    /// An operator has ended it.
    pub ended: bool,
}

/// State of a launch, in the order of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaunchState {
    /// It is known, and takes no entrants yet.
    Announced,
    /// Entrants get tickets without places.
    Entering,
    /// The time of the opening has come, and the places are being drawn. Who comes now is late.
    Closed,
    /// Every entrant has a place, and nobody is admitted yet.
    Drawn,
    /// Places are admitted.
    Selling,
    /// All units are sold.
    SoldOut,
    /// It is over, by its time or by an operator.
    Ended,
}

impl LaunchState {
    /// Returns the code that answers and logs have.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Entering => "entering",
            Self::Closed => "closed",
            Self::Drawn => "drawn",
            Self::Selling => "selling",
            Self::SoldOut => "sold-out",
            Self::Ended => "ended",
        }
    }

    /// Returns true if nobody can buy any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::SoldOut | Self::Ended)
    }

    /// Returns true if a new customer gets a ticket.
    pub const fn takes_entrants(self) -> bool {
        matches!(self, Self::Entering | Self::Closed | Self::Drawn | Self::Selling)
    }
}

impl Launch {
    /// Returns the state at a time.
    ///
    /// A fact overrules the clock, so a clock that is off by minutes changes only what no fact says
    /// yet: it shows `closed` too early or too late, and gives nobody another place. A launch that
    /// is sold out stays so after its end.
    pub fn state(&self, facts: LaunchFacts, now: UnixMicros) -> LaunchState {
        match facts {
            LaunchFacts { sold_out: true, .. } => LaunchState::SoldOut,
            LaunchFacts { ended: true, .. } => LaunchState::Ended,
            _ if now >= self.ends_at => LaunchState::Ended,
            LaunchFacts { selling: true, .. } => LaunchState::Selling,
            LaunchFacts { drawn: true, .. } => LaunchState::Drawn,
            LaunchFacts { closed: true, .. } => LaunchState::Closed,
            LaunchFacts { entering: true, .. } if now >= self.opens_at => LaunchState::Closed,
            LaunchFacts { entering: true, .. } => LaunchState::Entering,
            _ => LaunchState::Announced,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros::new(seconds * 1_000_000)
    }

    fn terms() -> LaunchTerms {
        LaunchTerms {
            brand: "shoes".to_owned(),
            name: "aj1".to_owned(),
            opens_at: at(1_000),
            ends_at: at(2_000),
            skus: vec!["AJ1-270".to_owned(), "AJ1-275".to_owned()],
            units: 10_000,
            limit: 1,
            rate: "600".to_owned(),
            session_seconds: 300,
            claim_seconds: 60,
        }
    }

    fn launch(change: impl Fn(&mut LaunchTerms)) -> Launch {
        let mut terms = terms();
        change(&mut terms);
        terms.check_form().unwrap()
    }

    const NOBODY_IS_OVER: fn(&Launch) -> bool = |_| false;

    #[test]
    fn good_terms_make_a_launch() {
        let launch = terms().check_new(at(999), [], NOBODY_IS_OVER).unwrap();
        assert_eq!(launch, terms().check_form().unwrap());
        assert_eq!((launch.units, launch.limit, launch.rate), (10_000, 1, AdmissionRate::PerMinute(600)));
        assert_eq!(launch.session, Duration::from_secs(300));
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let terms = LaunchTerms {
            brand: "Shoes".to_owned(),
            name: String::new(),
            opens_at: at(10),
            ends_at: at(10),
            skus: vec!["A".to_owned(), String::new(), "A".to_owned()],
            units: 0,
            limit: 0,
            rate: "fast".to_owned(),
            session_seconds: 9,
            claim_seconds: 3_601,
        };
        let mistakes = terms.check_new(at(20), [], NOBODY_IS_OVER).unwrap_err();
        let a = Sku::new("A").unwrap();
        let expected = [
            LaunchMistake::Brand,
            LaunchMistake::Name,
            LaunchMistake::EndsBeforeItOpens,
            LaunchMistake::Sku(2),
            LaunchMistake::SkuTwice(a),
            LaunchMistake::Units,
            LaunchMistake::Limit,
            LaunchMistake::Rate,
            LaunchMistake::Session,
            LaunchMistake::ClaimWindow,
            LaunchMistake::InThePast { opens_at: at(10), now: at(20) },
        ];
        assert_eq!(mistakes, expected);
        let lines: HashSet<String> = mistakes.iter().map(ToString::to_string).collect();
        assert!(lines.len() == expected.len() && lines.iter().all(|line| line.contains(": ")));
    }

    #[test]
    fn numbers_beyond_the_edges_are_refused() {
        let mistakes = |change: &dyn Fn(&mut LaunchTerms)| {
            let mut terms = terms();
            change(&mut terms);
            terms.check_form().err().unwrap_or_default()
        };
        assert_eq!(mistakes(&|terms| terms.skus.clear()), [LaunchMistake::NoSku]);
        let many = |terms: &mut LaunchTerms| terms.skus = (0..201).map(|n| n.to_string()).collect();
        assert_eq!(mistakes(&many), [LaunchMistake::TooManySkus]);
        assert_eq!(mistakes(&|terms| terms.units = i64::MAX), [LaunchMistake::Units]);
        assert_eq!(mistakes(&|terms| terms.limit = 10_001), [LaunchMistake::Limit]);
        assert_eq!(mistakes(&|terms| terms.ends_at = at(1_000 + 31 * 86_400 + 1)), [LaunchMistake::TooLong]);
        for rate in ["", "0", "-1", "+5", "6000001", "99999999999", "1.5", "Auto"] {
            assert_eq!(mistakes(&|terms| terms.rate = rate.to_owned()), [LaunchMistake::Rate], "{rate:?}");
        }
        for edge in ["auto", "1", "6000000"] {
            assert_eq!(launch(|terms| terms.rate = edge.to_owned()).rate.to_string(), edge);
        }
        for seconds in [i64::MIN, -1, 0, 9, 3_601, i64::MAX] {
            assert_eq!(mistakes(&|terms| terms.session_seconds = seconds), [LaunchMistake::Session]);
        }
    }

    #[test]
    fn two_launches_never_sell_one_sku_at_the_same_time() {
        let other = |from: i64, to: i64, sku: &str, brand: &str| {
            launch(|terms| {
                (terms.opens_at, terms.ends_at) = (at(from), at(to));
                (terms.skus, terms.brand) = (vec![sku.to_owned()], brand.to_owned());
                terms.name = "other".to_owned();
            })
        };
        let taken = |other: &Launch, is_over: bool| terms().check_new(at(1), [other], |_| is_over).is_err();
        for (from, to) in [(500, 1_001), (1_999, 2_500), (1_200, 1_300), (500, 2_500)] {
            let overlapping = other(from, to, "AJ1-275", "shoes");
            let mistakes = terms().check_new(at(1), [&overlapping], NOBODY_IS_OVER).unwrap_err();
            let (sku, launch) = (Sku::new("AJ1-275").unwrap(), LaunchName::new("other").unwrap());
            assert_eq!(mistakes, [LaunchMistake::SkuTaken { sku, launch }]);
            assert!(!taken(&overlapping, true), "what is over sells nothing");
        }
        assert!(!taken(&other(500, 1_000, "AJ1-275", "shoes"), false), "one after the other");
        assert!(!taken(&other(2_000, 2_500, "AJ1-275", "shoes"), false));
        assert!(!taken(&other(500, 2_500, "AJ1-280", "shoes"), false), "another SKU");
        assert!(!taken(&other(500, 2_500, "AJ1-275", "hats"), false), "another brand's SKU");
    }

    #[test]
    fn a_name_is_never_used_again() {
        let earlier = launch(|terms| (terms.opens_at, terms.ends_at) = (at(100), at(200)));
        let mistakes = terms().check_new(at(500), [&earlier], |_| true).unwrap_err();
        assert_eq!(mistakes, [LaunchMistake::NameTaken(LaunchName::new("aj1").unwrap())]);
    }

    /// A time, a change of the facts, and the state after it.
    type Step = (i64, fn(&mut LaunchFacts), LaunchState);

    #[test]
    fn a_launch_goes_through_its_states_in_order() {
        let launch = launch(|_| {});
        let steps: [Step; 9] = [
            (10, |_| {}, LaunchState::Announced),
            (20, |facts| facts.entering = true, LaunchState::Entering),
            (999, |_| {}, LaunchState::Entering),
            (1_000, |_| {}, LaunchState::Closed),
            (1_001, |facts| facts.closed = true, LaunchState::Closed),
            (1_002, |facts| facts.drawn = true, LaunchState::Drawn),
            (1_003, |facts| facts.selling = true, LaunchState::Selling),
            (1_500, |facts| facts.sold_out = true, LaunchState::SoldOut),
            (2_500, |_| {}, LaunchState::SoldOut),
        ];
        let mut facts = LaunchFacts::default();
        for (now, change, expected) in steps {
            change(&mut facts);
            assert_eq!(launch.state(facts, at(now)), expected, "at {now}");
        }
    }

    #[test]
    fn an_operator_ends_a_launch_in_every_state() {
        let launch = launch(|_| {});
        for bits in 0..16 {
            let bit = |n: u32| bits & (1 << n) != 0;
            let facts = LaunchFacts {
                entering: bit(0),
                closed: bit(1),
                drawn: bit(2),
                selling: bit(3),
                sold_out: false,
                ended: true,
            };
            assert_eq!(launch.state(facts, at(10)), LaunchState::Ended);
            let by_time = launch.state(LaunchFacts { ended: false, ..facts }, at(2_000));
            assert!(by_time == LaunchState::Ended && by_time.is_over() && !by_time.takes_entrants());
        }
    }

    #[test]
    fn a_clock_that_is_off_overrules_no_fact() {
        let launch = launch(|_| {});
        let closed = LaunchFacts { entering: true, closed: true, ..LaunchFacts::default() };
        assert_eq!(launch.state(closed, at(400)), LaunchState::Closed, "ten minutes slow");
        let entering = LaunchFacts { entering: true, ..LaunchFacts::default() };
        let early = launch.state(entering, at(1_500));
        assert!(early == LaunchState::Closed && early.takes_entrants(), "ten minutes fast");
    }
}
