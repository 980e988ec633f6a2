//! Things that expire, with warnings before: certificates, revocation lists, sealing keys.
//!
//! Each part of the agent returns its [`Expiry`]s, and the admin listener collects them. They
//! appear in the metric, in the table of `status`, and in the log twice a day. In `/readyz` they
//! are a note before they expire and an obstacle after.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bridge_protocol::seal::manifest::SealingKey;
use serde_json::{Value, json};

use crate::clock::{UnixSeconds, shown};
use crate::telemetry::metrics::{Expiring, Metrics};

const DAY_SECONDS: i64 = 24 * 3_600;

/// Interval at which a warning is repeated in the log.
const WARN_EVERY: Duration = Duration::from_secs(12 * 3_600);

/// Something that expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its kind.
    pub what: Expiring,
    /// Its name for people.
    pub name: String,
    /// Its last moment, in seconds since 1970-01-01 UTC.
    pub ends_at: i64,
}

impl Expiring {
    /// Returns the time before expiry at which warnings begin, in seconds. It is long enough to act
    /// and much shorter than the usual validity.
    fn warned_before(self) -> i64 {
        match self {
            Self::Certificate | Self::RevocationList => 7 * DAY_SECONDS,
            Self::SealingKey => 14 * DAY_SECONDS,
            Self::Ca => 60 * DAY_SECONDS,
        }
    }

    /// Returns the consequence and the remedy.
    fn remedy(self) -> &'static str {
        match self {
            Self::Certificate => {
                "without it no link comes up: renew it with bridge-certs renew, and copy it to tunnel.certificate and tunnel.key"
            }
            Self::Ca => {
                "without it no link comes up: make another authority, and issue every agent's certificate from it"
            }
            Self::RevocationList => {
                "without it every peer is refused: write a new one with bridge-certs crl, and copy it to tunnel.crl"
            }
            Self::SealingKey => {
                "without one no order is taken: run bridge-idc keys rotate sealing in the data centre, and copy the new key to \
                 its other agents"
            }
        }
    }

    fn called(self) -> &'static str {
        match self {
            Self::Certificate => "this agent's certificate",
            Self::Ca => "the authority's certificate",
            Self::RevocationList => "the revocation list",
            Self::SealingKey => "the last sealing key",
        }
    }
}

impl Expiry {
    /// Returns the expiry of the last sealing key. Nothing can be sealed after it.
    pub fn of_sealing_keys(keys: &[SealingKey]) -> Option<Self> {
        let last = keys.iter().max_by_key(|key| key.validity.not_after)?;
        let name = last.id.to_string();
        let ends_at = last.validity.not_after.get().div_euclid(1_000_000);
        Some(Self { what: Expiring::SealingKey, name, ends_at })
    }

    /// Returns the seconds until it expires, negative after.
    fn left(&self, now: UnixSeconds) -> i64 {
        self.ends_at.saturating_sub(now)
    }

    fn has_ended(&self, now: UnixSeconds) -> bool {
        self.left(now) < 0
    }

    fn is_ending(&self, now: UnixSeconds) -> bool {
        !self.has_ended(now) && self.left(now) < self.what.warned_before()
    }

    /// Describes it: kind, time, remedy.
    fn sentence(&self, now: UnixSeconds) -> String {
        let Self { what, name, ends_at } = self;
        let (called, remedy, end) = (what.called(), what.remedy(), shown(*ends_at));
        if self.has_ended(now) && *what == Expiring::SealingKey {
            format!("no sealing key is valid now, the last one ({name}) ended on {end}; {remedy}")
        } else if self.has_ended(now) {
            format!("{called} ({name}) ended on {end}; {remedy}")
        } else {
            let days = self.left(now) / DAY_SECONDS;
            format!("{called} ({name}) ends soon, in {days} days, on {end}; {remedy}")
        }
    }
}

/// Returns the expired items as obstacles.
pub fn obstacles(expiries: &[Expiry], now: i64) -> Vec<String> {
    expiries.iter().filter(|expiry| expiry.has_ended(now)).map(|expiry| expiry.sentence(now)).collect()
}

/// Returns the items that expire soon as notes.
pub fn notes(expiries: &[Expiry], now: i64) -> Vec<String> {
    expiries.iter().filter(|expiry| expiry.is_ending(now)).map(|expiry| expiry.sentence(now)).collect()
}

/// Returns all of them as a table for `status`.
pub(crate) fn table(expiries: &[Expiry], now: UnixSeconds) -> Value {
    let row = |expiry: &Expiry| {
        json!({
            "what": expiry.what.as_str(),
            "name": expiry.name,
            "ends": shown(expiry.ends_at),
            "days_left": expiry.left(now).div_euclid(DAY_SECONDS),
        })
    };
    expiries.iter().map(row).collect()
}

/// Sets the metric to the shortest remaining time of each kind.
pub(crate) fn measure(metrics: &Metrics, expiries: &[Expiry], now: UnixSeconds) {
    for what in Expiring::ALL {
        let left = first_left(expiries, *what, now);
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds is far below 2^53")]
        metrics.expires.of(*what).set(left.map_or(f64::NAN, |left| left as f64));
    }
}

/// Returns the shortest remaining time of a kind in seconds, if there is one.
fn first_left(expiries: &[Expiry], what: Expiring, now: UnixSeconds) -> Option<i64> {
    expiries.iter().filter(|expiry| expiry.what == what).map(|expiry| expiry.left(now)).min()
}

/// Logs items that expire soon or have expired, each at most twice a day.
#[derive(Debug, Default)]
pub(crate) struct Warner {
    warned: HashMap<(&'static str, String), SystemTime>,
}

impl Warner {
    pub(crate) fn warn(&mut self, expiries: &[Expiry]) {
        let at = SystemTime::now();
        let now = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.warned.retain(|_, warned| at.duration_since(*warned).is_ok_and(|ago| ago < WARN_EVERY));
        for expiry in expiries.iter().filter(|expiry| expiry.is_ending(now) || expiry.has_ended(now)) {
            let known = self.warned.entry((expiry.what.as_str(), expiry.name.clone()));
            if let std::collections::hash_map::Entry::Vacant(unwarned) = known {
                unwarned.insert(at);
                tracing::warn!("{}", expiry.sentence(now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ends_at: i64) -> Expiry {
        Expiry { what: Expiring::RevocationList, name: "crl.pem".to_owned(), ends_at }
    }

    #[test]
    fn a_near_expiry_is_noted_and_a_past_one_an_obstacle() {
        let now = 100 * DAY_SECONDS;
        for (days, noted, in_the_way) in [(8, 0, 0), (6, 1, 0), (0, 1, 0), (-1, 0, 1)] {
            let expiries = [list(now + days * DAY_SECONDS)];
            assert_eq!(
                (notes(&expiries, now).len(), obstacles(&expiries, now).len()),
                (noted, in_the_way),
                "{days} days left"
            );
        }
    }

    #[test]
    fn each_kind_of_expiry_warns_in_its_time_with_a_remedy() {
        let said = |what, days: i64| {
            let expiry = Expiry { what, name: "it".to_owned(), ends_at: days * DAY_SECONDS };
            notes(&[expiry], 0).pop()
        };
        for (what, days, word) in [
            (Expiring::Certificate, 6, "bridge-certs renew"),
            (Expiring::RevocationList, 6, "tunnel.crl"),
            (Expiring::SealingKey, 13, "keys rotate sealing"),
            (Expiring::Ca, 59, "issue every agent"),
        ] {
            let sentence = said(what, days).unwrap();
            assert!(sentence.contains(word) && sentence.contains(&format!("in {days} days")), "{sentence}");
            assert_eq!(said(what, days + 2), None);
        }
    }

    #[test]
    fn the_first_of_a_kind_to_end_is_what_the_metric_shows() {
        let expiries = [list(50), list(20)];
        assert_eq!(first_left(&expiries, Expiring::RevocationList, 30), Some(-10));
        assert_eq!(first_left(&expiries, Expiring::SealingKey, 30), None);
    }
}
