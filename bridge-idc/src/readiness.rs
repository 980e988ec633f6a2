//! Obstacles of this agent, for the linked cloud agents and for its own operator.
//!
//! The tunnel sends the obstacles to each link, and again when they change. It sends kinds of
//! obstacles only, and never a brand, an order or a text: a cloud agent need not know which brand
//! is affected. This agent's `/readyz` has the full sentence.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bridge_protocol::wire::control::Obstacle;
use bridge_runtime::audit_log::AuditLog;
use bridge_runtime::clock;
use bridge_runtime::shutdown::Shutdown;
use bridge_runtime::tunnel::Greeting;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::catalogue::sequencer::Head;
use crate::orders::core::Input;
use crate::orders::denied;
use crate::orders::driver::DriverState;
use crate::orders::store::Ledger;
use crate::vault::keyring::Keyring;

/// Interval of the checks for changes without a notification.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Shortest pause between two reports, so that cloud agents hear only of states that last.
const PAUSE: Duration = Duration::from_millis(100);

/// The catalogue counts as stopped after this time without news from the database. Another agent
/// needs less time to take over the numbering.
const CATALOGUE_STANDS_AFTER: Duration = Duration::from_secs(5);

/// After repeated failures, the database counts as failing for this long after the last one. An
/// empty batch shows that it answers, but not that its disk works.
const BELIEVED_AFTER: Duration = Duration::from_secs(5);

/// Shortest interval between two queries to a database that is silent.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Interval of the checks for keys that only another agent has.
const LOOK_FOR_KEYS_EVERY: Duration = Duration::from_secs(10);

/// The sources of obstacles.
pub(crate) struct Readiness {
    /// Results of the last batches.
    pub(crate) load: watch::Receiver<DriverState>,
    /// Position of the catalogue's log; `None` before the first round.
    pub(crate) head: watch::Receiver<Option<Head>>,
    /// State of the audit log.
    pub(crate) audit: AuditLog,
    /// Makes the order core query its database.
    pub(crate) agent: mpsc::Sender<Input>,
    /// True if the database fails now or repeatedly, for this agent's own `/readyz`.
    pub(crate) failing: watch::Sender<bool>,
}

impl Readiness {
    /// Returns the present obstacles.
    fn obstacles(&self, database: &mut Failing) -> BTreeSet<Obstacle> {
        let load = self.load.borrow();
        let fails = database.is_failing(load.fails(), load.outages, Instant::now());
        let found = [
            (Obstacle::Database, fails),
            (Obstacle::AuditLog, !self.audit.is_writable()),
            (Obstacle::AuditUnpublished, self.audit.is_unpublished()),
            (Obstacle::Brand, denied::note(&load.denied, clock::now()).is_some()),
            (Obstacle::Catalogue, stands_still(*self.head.borrow())),
        ];
        found.into_iter().filter_map(|(obstacle, is_there)| is_there.then_some(obstacle)).collect()
    }

    /// Makes the tunnel send the obstacles to each link, until the agent ends.
    pub(crate) async fn keep_reporting(mut self, greetings: watch::Sender<Greeting>, shutdown: Shutdown) {
        let mut audit = self.audit.standing();
        let (mut database, mut silence) = (Failing::default(), Silence::since(Instant::now()));
        loop {
            let obstacles = self.obstacles(&mut database);
            tell(&self.failing, obstacles.contains(&Obstacle::Database));
            let readiness = Some(obstacles);
            greetings.send_if_modified(|greeting| {
                let is_news = greeting.readiness != readiness;
                greeting.readiness = readiness;
                is_news
            });
            let heard = self.head.borrow().map(|head| head.swept);
            if silence.is_question_due(heard, Instant::now()) {
                // If the channel is full, the next round asks again.
                let _full = self.agent.try_send(Input::AskDatabase);
            }
            tokio::select! {
                Ok(()) = self.load.changed() => {}
                Ok(()) = audit.changed() => {}
                () = sleep(LOOK_EVERY) => {}
                _deadline = shutdown.started() => return,
            }
            sleep(PAUSE).await;
        }
    }
}

fn tell(failing: &watch::Sender<bool>, fails: bool) {
    failing.send_if_modified(|known| std::mem::replace(known, fails) != fails);
}

/// Decides when to query a silent database. Without orders, only the numbering of the catalogue's
/// changes shows that it works.
struct Silence {
    /// Start of this agent.
    since: Instant,
    /// Time of the last query.
    asked: Option<Instant>,
}

impl Silence {
    fn since(start: Instant) -> Self {
        Self { since: start, asked: None }
    }

    /// True if the database must be queried now. `heard` is the time of its last sign of life.
    fn is_question_due(&mut self, heard: Option<Instant>, now: Instant) -> bool {
        let is_past = |then: Instant, after| now.saturating_duration_since(then) >= after;
        let is_due = is_past(heard.unwrap_or(self.since), CATALOGUE_STANDS_AFTER)
            && self.asked.is_none_or(|asked| is_past(asked, ASK_EVERY));
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }
}

/// Looks again and again for key-encryption keys that only another agent has, until the agent ends.
/// `note` gets the sentence for the operator. A database that does not answer changes nothing.
pub(crate) async fn look_for_keys(
    ledger: Arc<Ledger>,
    mut keys: watch::Receiver<Arc<Keyring>>,
    note: watch::Sender<Option<String>>,
    shutdown: Shutdown,
) {
    loop {
        let checks = keys.borrow_and_update().checks();
        if let Ok(newer) = ledger.newer_keys(&checks).await {
            let told = keys_note(&newer);
            note.send_if_modified(|known| std::mem::replace(known, told.clone()) != told);
        }
        tokio::select! {
            Ok(()) = keys.changed() => {}
            () = sleep(LOOK_FOR_KEYS_EVERY) => {}
            _deadline = shutdown.started() => return,
        }
    }
}

/// Returns the note for the operator if another agent has newer key-encryption keys.
fn keys_note(newer: &[String]) -> Option<String> {
    let newest = newer.last()?;
    Some(format!(
        "another agent encrypts personal data with a key that is not in this agent's folder of keys: copy {} from that agent now. Until \
         then its orders cannot be read here, and if its disk is lost before {newest} is copied, they can be read nowhere",
        newer.join(", ")
    ))
}

/// Detects a database that fails now, or repeatedly.
#[derive(Default)]
struct Failing {
    /// Number of outages at the last check.
    outages: u64,
    /// Time of the last failure.
    last: Option<Instant>,
    /// True if it failed twice within `BELIEVED_AFTER`.
    again: bool,
}

impl Failing {
    /// Returns true if the database fails. `now_fails`: its last batch failed. `outages`: the
    /// number of its outages so far, including those between two checks.
    fn is_failing(&mut self, now_fails: bool, outages: u64, now: Instant) -> bool {
        let lately = self.last.is_some_and(|last| now.saturating_duration_since(last) < BELIEVED_AFTER);
        let has_failed = now_fails || outages > self.outages;
        if has_failed {
            self.again |= lately && outages > self.outages;
            self.last = Some(now);
        } else {
            self.again &= lately;
        }
        self.outages = outages;
        now_fails || self.again
    }
}

/// True if the database has sent no news of the catalogue's changes for a while.
fn stands_still(head: Option<Head>) -> bool {
    head.is_some_and(|head| head.swept.elapsed() > CATALOGUE_STANDS_AFTER)
}

/// Returns the note for the operator if the catalogue has stopped.
pub(crate) fn catalogue_note(head: Option<Head>) -> Option<String> {
    let head = head.filter(|_| stands_still(head))?;
    let seconds = head.swept.elapsed().as_secs();
    Some(format!(
        "the database has sent no changes of the catalogue for {seconds} s, and the cloud's data get old: see the log, check that the \
         database is up, and look for a session that holds its tables"
    ))
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::catalogue::Position;

    use super::*;

    #[test]
    fn a_database_that_answers_and_writes_nothing_fails_all_the_time() {
        let start = Instant::now();
        let mut database = Failing::default();
        let (mut outages, mut failed) = (0, false);
        let mut told = |seconds, now_fails| {
            outages += u64::from(now_fails && !failed);
            failed = now_fails;
            database.is_failing(now_fails, outages, start + Duration::from_secs(seconds))
        };
        assert!(!told(0, false));
        assert!(told(1, true) && told(5, true) && !told(6, false), "it was away, and is back");
        for second in (20..60).step_by(2) {
            assert!(told(second, true));
            let expected = second > 20;
            assert_eq!(told(second + 1, false), expected, "an empty batch was committed in between");
        }
        assert!(told(62, false));
        assert!(!told(63, false) && !told(600, false));
        assert!(told(601, true) && !told(602, false));
    }

    #[test]
    fn the_keys_that_another_agent_has_alone_are_named() {
        assert_eq!(keys_note(&[]), None);
        let note = keys_note(&["kek-2.key".to_owned(), "kek-3.key".to_owned()]).unwrap();
        assert!(note.contains("copy kek-2.key, kek-3.key") && note.contains("before kek-3.key"), "{note}");
    }

    #[test]
    fn an_outage_between_two_looks_is_one_more() {
        let (start, mut database) = (Instant::now(), Failing::default());
        assert!(database.is_failing(true, 1, start));
        assert!(database.is_failing(true, 2, start + LOOK_EVERY), "it worked in between, which nobody saw");
        assert!(database.is_failing(false, 2, start + 2 * LOOK_EVERY));
        assert!(!database.is_failing(false, 2, start + 60 * LOOK_EVERY));
    }

    #[test]
    fn a_database_of_which_nothing_tells_is_asked_now_and_then() {
        let start = Instant::now();
        let mut silence = Silence::since(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut due = |heard, seconds| silence.is_question_due(heard, at(seconds));
        assert!(!due(None, 1) && due(None, 5), "it has told nothing since the start");
        assert!(!due(Some(at(59)), 60), "the catalogue's changes are numbered");
        let asked: Vec<_> = (60..70).filter(|second| due(Some(at(59)), *second)).collect();
        assert_eq!(asked, [64, 66, 68]);
    }

    #[test]
    fn a_catalogue_unnumbered_for_long_is_reported_but_not_a_new_one() {
        let head = |seconds| {
            let swept = Instant::now().checked_sub(Duration::from_secs(seconds));
            swept.map(|swept| Head { position: Position { seq: 1, mark: 0 }, swept })
        };
        assert!(!stands_still(None) && catalogue_note(None).is_none());
        assert!(!stands_still(head(2)) && catalogue_note(head(2)).is_none());
        assert!(stands_still(head(6)));
        assert!(catalogue_note(head(600)).is_some_and(|note| note.contains("for 600 s")));
    }
}
