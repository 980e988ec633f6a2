//! Launches as an operator makes, lists and ends them. The committers enforce them
//! (`orders/store`).
//!
//! All times are compared with the database's clock, because the committers use it as well.

/// The statements, and the checks before a launch is added.
mod store;

use std::fmt;

use bridge_protocol::domain::{Brand, Sku, UnixMicros};

pub use store::{add, check, end, list};

/// Name of a launch: 1 to 64 characters from a to z, 0 to 9 and hyphen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchName(String);

impl LaunchName {
    /// Takes a name. Returns `None` if it is not of this form.
    pub fn new(name: &str) -> Option<Self> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ((1..=64).contains(&name.len()) && name.bytes().all(good)).then(|| Self(name.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A SKU that a launch sells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchSku {
    /// The SKU.
    pub sku: Sku,
    /// Most units of one customer of this SKU. `None` if only the launch's limit counts.
    pub customer_limit: Option<i64>,
}

/// A launch to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLaunch {
    /// Brand of the launch.
    pub brand: Brand,
    /// Name of the launch, unique for its brand.
    pub name: LaunchName,
    /// Time from which its SKUs are sold.
    pub opens_at: UnixMicros,
    /// Time at which it ends by itself.
    pub ends_at: Option<UnixMicros>,
    /// SKUs that it sells.
    pub skus: Vec<LaunchSku>,
    /// Units that it sells in all. `None` for all that is in stock.
    pub units: Option<i64>,
    /// Units that it sells to one customer, over all its SKUs.
    pub customer_limit: i64,
    /// People who are let in a second. `None` for as many as the ledger can take.
    pub rate_per_s: Option<i64>,
    /// Seconds that a person who was let in has to order and pay.
    pub session_s: i64,
    /// Seconds after which a place that is not claimed is given to the next person.
    pub claim_s: i64,
}

/// A launch of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The launch as it was added.
    pub facts: NewLaunch,
    /// Time at which it was ended.
    pub ended_at: Option<UnixMicros>,
    /// Units in orders that stand.
    pub sold: i64,
    /// State by the database's clock.
    pub state: LaunchState,
}

impl Launch {
    /// Returns the time at which the launch ended or will end.
    pub fn end(&self) -> Option<UnixMicros> {
        [self.ended_at, self.facts.ends_at].into_iter().flatten().min()
    }
}

/// State of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaunchState {
    /// It has not opened. Its SKUs are not sold.
    Announced,
    /// It sells its SKUs within its limits.
    Open,
    /// It has ended. Its SKUs sell as any other does.
    Ended,
}

impl LaunchState {
    /// Returns the state's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Open => "open",
            Self::Ended => "ended",
        }
    }
}

/// Parts of a launch to check against the ledger. Parts that are not known are not checked.
#[derive(Debug, Clone)]
pub struct LaunchDraft {
    /// Brand of the launch.
    pub brand: Brand,
    /// Name of the launch.
    pub name: Option<LaunchName>,
    /// Opening time.
    pub opens_at: Option<UnixMicros>,
    /// Time at which it ends by itself.
    pub ends_at: Option<UnixMicros>,
    /// SKUs that it sells.
    pub skus: Vec<Sku>,
}

/// A reason not to add a launch. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchMistake {
    /// The ledger has no such brand.
    UnknownBrand(Brand),
    /// The brand has a launch of this name.
    NameTaken(LaunchName),
    /// The brand has no such SKUs.
    UnknownSkus(Vec<Sku>),
    /// The opening time is past.
    OpensInThePast {
        /// The opening time.
        opens_at: UnixMicros,
        /// Present time, by the database's clock.
        now: UnixMicros,
    },
    /// The launch would end before it opens.
    EndsBeforeItOpens,
    /// Another launch sells one of the SKUs at that time.
    Overlap {
        /// The SKU.
        sku: Sku,
        /// Name of the other launch.
        launch: String,
        /// Opening time of the other launch.
        opens_at: UnixMicros,
        /// Time at which the other launch ends by itself.
        ends_at: Option<UnixMicros>,
    },
}

impl fmt::Display for LaunchMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBrand(brand) => {
                write!(f, "the ledger has no brand {brand}: import its catalogue first, or correct --brand")
            }
            Self::NameTaken(name) => {
                write!(f, "the brand has a launch {} already: choose another name", name.as_str())
            }
            Self::UnknownSkus(skus) => {
                let skus: Vec<&str> = skus.iter().map(Sku::as_str).collect();
                write!(f, "the brand has no SKU {}: import it first, or correct --sku", skus.join(", "))
            }
            Self::OpensInThePast { opens_at, now } => write!(
                f,
                "--opens-at {opens_at} is past: it is {now} by the database's clock; give a time that is still to come"
            ),
            Self::EndsBeforeItOpens => f.write_str("--ends-at must be after --opens-at"),
            Self::Overlap { sku, launch, opens_at, ends_at } => {
                let until = ends_at.map_or_else(|| "its end".to_owned(), |at| at.to_string());
                write!(
                    f,
                    "SKU {sku} is in launch {launch} from {opens_at} to {until}: a SKU is in one launch at a time; end that \
                     one, or choose another time"
                )
            }
        }
    }
}

/// Result of adding a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddResult {
    /// The launch is in the ledger.
    Added(Launch),
    /// The launch was not added, for all these reasons.
    Mistakes(Vec<LaunchMistake>),
}

/// Result of ending a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndResult {
    /// The launch is ended.
    Ended(Launch),
    /// It had ended before, and nothing was changed.
    EndedBefore(Launch),
    /// The brand has no such launch.
    Unknown,
}
