//! `audit compare`: compares the ledger, after its database was restored, with the commits in the
//! IDC agents' logs.

use std::io::{self, Write as _};
use std::path::PathBuf;

use bridge_protocol::audit::finding::Unverified;
use bridge_protocol::audit::reconcile::Side;
use bridge_protocol::note::NoteVerifier;
use bridge_runtime::audit_log::command::logs::{self, Folders, Log};
use bridge_runtime::audit_log::load_key;
use bridge_runtime::cli::{self, Failure, Outcome};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::compare::{
    ComparedItem, Counts, Finding, FindingKind, OperatorWord, Part, Reach, Span, StandingPayment,
};
use crate::config::IdcConfig;
use crate::orders::store::Ledger;
use crate::orders::store::by_key::Keys;
use crate::payments::store::PaymentLedger as _;

/// Approximate number of requests whose keys are held in memory at a time.
const REQUESTS_AT_ONCE: u64 = 200_000;

/// A request has at least two entries.
const ENTRIES_AT_ONCE: u64 = 2 * REQUESTS_AT_ONCE;

/// Entries between two updates of the progress bar.
const TOLD_EVERY: u64 = 8_192;

/// Most findings that are held in memory for sorting.
const SORTED_MAX: usize = 100_000;

/// Most requests in no log that are listed for people. With one of two logs, half of all are.
const NOT_LOGGED_LISTED: usize = 20;

/// The logs to compare with the ledger.
#[derive(Args)]
#[command(
    after_help = "Findings are sorted by brand and order, in blocks of 100,000, so that memory does not grow with the log. Requests in no \
                  given log come last, and only 20 of them are listed; --json has them all. If these are the only findings, the \
                  command ends with 2, because the log of another agent may have them. With more \
                  findings, sort the output with `sort`, or the list of --json with a program. If the comparison cannot go on, it says \
                  on standard error that its findings are not all, and ends with 2. The object of --json is then complete JSON, with \
                  \"cut\": true and without counts."
)]
pub(super) struct Compare {
    /// The logs of all IDC agents of this ledger, or copies of them. Include the older logs of
    /// agents that later started a new one [default: audit.dir of the configuration]
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// Verifier key of a log, as `audit key` prints it; one for each log. Each log is then verified
    /// first. Without folders and keys, the agent's own key is used; with folders and without
    /// keys, no log is verified.
    #[arg(long = "key", value_name = "VKEY")]
    keys: Vec<String>,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Prints findings in sorted blocks, because there may be more than fit into memory.
struct FindingPrinter {
    json: bool,
    /// Findings of the present block.
    held: Vec<Finding>,
    /// Requests in no log, for people, at most [`NOT_LOGGED_LISTED`]. They come last, so that they
    /// do not bury what the ledger lost.
    not_logged: Vec<Finding>,
    is_first: bool,
    progress: ProgressBar,
    /// The error of standard output, if a write failed.
    failed: Option<io::Error>,
}

/// Runs the comparison.
pub(super) fn run(
    Compare { folders, keys, json }: Compare,
    config: impl FnOnce() -> Result<IdcConfig, Failure>,
) -> Outcome {
    let config = config()?;
    let keys: Vec<NoteVerifier> =
        keys.iter().map(|key| NoteVerifier::parse(key)).collect::<Result<_, _>>().map_err(cli::usage)?;
    let is_own = folders.is_empty();
    let folders = if is_own { Folders::own(config.audit.dir.clone())? } else { Folders::existing(folders)? };
    // Whoever may not read the agent's key compares its log without verifying it.
    let own_key = load_key(&config.audit.key_file).ok().filter(|_| is_own && keys.is_empty());
    let given = folders.given()?;
    if let Some(cloud_s) = given.iter().find(|log| log.side() != Side::Idc) {
        return Err(cli::usage(format!(
            "{}: it is the log of a cloud agent: give the logs of the IDC agents, which record the commits",
            cloud_s.folder()
        )));
    }
    let read = given.into_iter().map(|log| match &own_key {
        Some(own) => log.read_own(own.verifier(), json),
        None => log.read(&keys, json),
    });
    let logs: Vec<Log<'_>> = read.collect::<Result<_, _>>()?;
    outcome(&cli::runtime()?.block_on(compare(&config, &logs, json))?)
}

/// Returns the end of the command. Requests that no given log has are no difference yet: the log of
/// another agent may have them.
fn outcome(counts: &Counts) -> Outcome {
    let (differ, not_logged) = (counts.lost + counts.otherwise, counts.not_logged);
    let without = format!(
        "{not_logged} requests are in no given log: give the logs of all IDC agents that write to this ledger, and the older logs of \
         agents that started a new one. If these are all, nobody logged the requests"
    );
    match (differ, not_logged) {
        (0, 0) => Ok(()),
        (0, _) => Err(cli::usage(without)),
        (_, 0) => Err(cli::failed(format!("the ledger and the logs differ about {differ} requests"))),
        _ => Err(cli::failed(format!(
            "the ledger and the logs differ about {differ} requests. Besides, {without}"
        ))),
    }
}

async fn compare(config: &IdcConfig, logs: &[Log<'_>], json: bool) -> Result<Counts, Failure> {
    if let Some(path) = config.ledger.url.file()
        && !path.exists()
    {
        // Opening a missing file would create an empty ledger.
        return Err(cli::usage(format!("{}: there is no ledger", path.display())));
    }
    let ledger = super::open_tables(&config.ledger).await.map_err(not_compared)?;
    let about = logs.iter().map(Log::about).sum::<u64>();
    let style = ProgressStyle::with_template("{msg} {bar:40} {percent}%, {eta} left")?;
    let progress = ProgressBar::new(about).with_style(style).with_message("read the logs");
    let reaches: Vec<Reach> = logs.iter().map(|log| reach(log, &progress)).collect::<Result<_, _>>()?;
    let span_of =
        |(log, reach): (&Log<'_>, &Reach)| (log.given.origin().to_owned(), reach.clone(), log.ends_early);
    let spans: Vec<(String, Reach, bool)> = logs.iter().zip(&reaches).map(span_of).collect();
    let span = Span::of(spans.iter().map(|(name, reach, early)| (name.as_str(), reach.clone(), *early)));
    let entries = reaches.iter().map(|reach| reach.entries).sum::<u64>();
    let words_without_key = reaches.iter().map(|reach| reach.words_without_key).sum();
    let (held, not_logged) = (Vec::new(), Vec::new());
    let mut told = FindingPrinter { json, held, not_logged, is_first: true, progress, failed: None };
    told.begin(logs, &reaches)?;
    let parts: Vec<Keys> = Keys::parts(entries / ENTRIES_AT_ONCE + 1).collect();
    told.progress.set_length(entries * parts.len() as u64);
    told.progress.set_position(0);
    told.progress.set_message("compare them with the ledger");
    let (mut counts, mut unread) = (Counts::default(), 0);
    for keys in parts {
        match compare_part(&ledger, logs, Part::new(keys, &span), &mut counts, &mut told).await {
            Ok(more) => unread += more,
            Err(failure) => return Err(told.cut(failure)),
        }
    }
    told.end(&counts, unread, words_without_key, &span)?;
    Ok(counts)
}

/// Turns the failure into exit code 2, because a ledger that cannot be read is not a difference.
fn not_compared(failure: Failure) -> Failure {
    match failure {
        Failure::Failed(why) => Failure::Usage(why),
        other => other,
    }
}

/// Returns the extent of a log.
fn reach(log: &Log<'_>, progress: &ProgressBar) -> Result<Reach, Failure> {
    let mut reach = Reach::default();
    read(log, |bytes| {
        reach.take(bytes);
        if reach.entries.is_multiple_of(TOLD_EVERY) {
            progress.inc(TOLD_EVERY);
        }
    })?;
    Ok(reach)
}

fn read(log: &Log<'_>, mut take: impl FnMut(&[u8])) -> Result<(), Failure> {
    let failed = |error: Unverified| cli::failed(format!("{}: {error}", log.given.folder()));
    log.each(|_, bytes| take(bytes)).map(drop).map_err(failed)
}

/// Compares one range of keys. It reads the logs first, so that each commit in them is already in
/// the ledger. Returns the number of entries that cannot be read.
async fn compare_part(
    ledger: &Ledger,
    logs: &[Log<'_>],
    mut part: Part<'_>,
    counts: &mut Counts,
    told: &mut FindingPrinter,
) -> Result<u64, Failure> {
    let mut unread = 0;
    for log in logs {
        part.begin_log();
        let mut entries = 0_u64;
        read(log, |bytes| {
            unread += u64::from(!part.take(bytes));
            entries += 1;
            if entries.is_multiple_of(TOLD_EVERY) {
                told.progress.inc(TOLD_EVERY);
            }
        })?;
    }
    let keys = part.keys();
    let outcomes = ledger.outcomes_by_key(keys, |row| part.outcome(row, counts, |found| told.tell(found)));
    outcomes.await.map_err(|error| not_compared(error.into()))?;
    let payments = ledger.payments_by_key(keys, |row| part.payment(row, counts, |found| told.tell(found)));
    payments.await.map_err(|error| not_compared(error.into()))?;
    for word in part.take_words() {
        let found = ledger.payment(word.payment).await.map_err(|error| not_compared(error.into()))?;
        let stands = found.as_ref().map(StandingPayment::from);
        part.word(word, stands.as_ref(), counts, |finding| told.tell(finding));
    }
    part.finish(counts, |finding| told.tell(finding));
    match told.failed.take() {
        Some(error) => Err(error.into()),
        None => Ok(unread),
    }
}

impl FindingPrinter {
    fn begin(&mut self, logs: &[Log<'_>], reaches: &[Reach]) -> io::Result<()> {
        let mut out = cli::out();
        let reach_of = |reach: &Reach| logs::Reach { entries: reach.entries, to: reach.to };
        let both = logs.iter().zip(reaches).map(|(log, reach)| (log, reach_of(reach)));
        if self.json {
            let verified = logs.iter().all(|log| log.is_verified);
            let logs: Vec<Value> = both.map(|(log, reach)| log.object(&reach)).collect();
            return write!(out, "{{\"verified\":{verified},\"logs\":{},\"findings\":[", Value::from(logs));
        }
        for (log, reach) in both {
            log.describe(&mut out, &reach)?;
        }
        Ok(())
    }

    fn tell(&mut self, finding: Finding) {
        if finding.what == FindingKind::NotLogged && !self.json {
            if self.not_logged.len() < NOT_LOGGED_LISTED {
                self.not_logged.push(finding);
            }
            return;
        }
        self.held.push(finding);
        if self.held.len() >= SORTED_MAX
            && let Err(error) = self.write_held()
        {
            self.failed.get_or_insert(error);
        }
    }

    /// Writes the held findings, sorted by brand and order.
    fn write_held(&mut self) -> io::Result<()> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_by(|one, other| {
            let place = |finding: &Finding| (finding.order, finding.about.code(), finding.what.code());
            one.brand.cmp(&other.brand).then_with(|| place(one).cmp(&place(other)))
        });
        held.iter().try_for_each(|finding| if self.json { self.object(finding) } else { self.line(finding) })
    }

    /// Ends a comparison that cannot go on: writes the findings so far, and says that they are
    /// incomplete.
    fn cut(&mut self, failure: Failure) -> Failure {
        self.progress.finish_and_clear();
        let why = match failure {
            Failure::Failed(why) | Failure::Usage(why) => why,
            Failure::ReaderGone => return failure,
        };
        let mut written = self.write_held();
        if self.json {
            written = written.and_then(|()| writeln!(cli::out(), "],\"cut\":true}}"));
        }
        match written {
            Ok(()) => cli::usage(format!("what is told so far is not all: {why}")),
            Err(error) => error.into(),
        }
    }

    fn object(
        &mut self,
        Finding { brand, order, about, log, ledger, what, word }: &Finding,
    ) -> io::Result<()> {
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        let mut object = json!({
            "brand": brand.as_str(),
            "order": order.to_string(),
            "about": about.code(),
            "log": log,
            "ledger": ledger,
            "what": what.code(),
        });
        if let Some(word) = word {
            object["payment"] = word.payment.to_string().into();
            object["refund"] = word.refund.map(|refund| refund.to_string()).into();
            object["reason"] = word.reason.as_str().into();
        }
        write!(cli::out(), "{comma}{object}")
    }

    fn line(&mut self, Finding { brand, order, about, log, ledger, what, word }: &Finding) -> io::Result<()> {
        let title = match what {
            FindingKind::Unaccounted if word.is_some() => {
                "in doubt, the log has the decision and not its commit"
            }
            FindingKind::Lost => "not in the ledger",
            FindingKind::Otherwise => "otherwise in the ledger",
            FindingKind::NotLogged => "in no log",
            FindingKind::OnlyReceived => "in doubt, received by the log and not committed",
            FindingKind::Open => "in doubt, the agent asks the gateway about it",
            FindingKind::Unaccounted => {
                "in doubt, received by the log, and the outcome is neither there nor in the ledger"
            }
        };
        let nothing = || "nothing".to_owned();
        // An operator's decision is shown as the command that repeats it.
        let log = word.as_ref().map(OperatorWord::command).or_else(|| log.clone());
        let (log, ledger) = (log.unwrap_or_else(nothing), ledger.clone().unwrap_or_else(nothing));
        let about = match about {
            ComparedItem::Order => String::new(),
            about => format!("{} of ", about.code()),
        };
        let line = format!("{title}: {about}order {order} of {brand} (log: {log}; ledger: {ledger})");
        self.progress.suspend(|| writeln!(cli::out(), "{}", cli::shown(&line)))
    }

    fn end(&mut self, counts: &Counts, unread: u64, words_without_key: u64, span: &Span) -> io::Result<()> {
        self.progress.finish_and_clear();
        self.write_held()?;
        let listed = self.not_logged.len() as u64;
        self.held.append(&mut self.not_logged);
        self.write_held()?;
        let mut out = cli::out();
        if counts.not_logged > listed {
            let more = counts.not_logged - listed;
            writeln!(out, "and {more} more that are in no log; --json names them all")?;
        }
        let Counts { agreed, lost, otherwise, not_logged, in_doubt, before, after } = counts;
        let to = span.to().map(|to| to.to_string());
        if self.json {
            let rest = json!({
                "agreed": agreed,
                "lost": lost,
                "otherwise": otherwise,
                "not_logged": not_logged,
                "in_doubt": in_doubt,
                "before": before,
                "after": after,
                "to": to,
                "unread": unread,
                "words_without_key": words_without_key,
            });
            let rest = rest.to_string();
            return writeln!(out, "],{}", rest.strip_prefix('{').unwrap_or_default());
        }
        writeln!(
            out,
            "{agreed} requests and operators' decisions are in the ledger as the logs say; {lost} are not in it, {otherwise} otherwise, {not_logged} in no \
             log, {in_doubt} in doubt"
        )?;
        if *not_logged > 0 {
            writeln!(
                out,
                "requests in no log may be in a log that is not given: give the logs of all IDC agents of this ledger"
            )?;
        }
        if before + after > 0 {
            writeln!(
                out,
                "{before} are from before the logs begin, and {after} from after they end ({}): the logs say nothing about these",
                to.unwrap_or_else(|| "they have no entry".to_owned())
            )?;
        }
        if words_without_key > 0 {
            writeln!(
                out,
                "{words_without_key} operators' decisions were logged by an agent of an older version, which named no key: compare them by hand, \
                 with `audit tail --kind payment-resolved`"
            )?;
        }
        if unread > 0 {
            writeln!(out, "{unread} entries are in no form that this version reads")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bridge_protocol::domain::{Brand, OrderId, UnixMicros};

    use super::*;

    fn finding(what: FindingKind) -> Finding {
        let (brand, order) = (Brand::new("tea").unwrap(), OrderId::new(UnixMicros::new(1), [1; 10]));
        let (log, ledger, word) = (None, None, None);
        Finding { brand, order, about: ComparedItem::Order, log, ledger, what, word }
    }

    #[test]
    fn requests_in_no_given_log_are_no_difference_yet() {
        let counts = |lost, not_logged| Counts { lost, not_logged, ..Counts::default() };
        assert!(outcome(&counts(0, 0)).is_ok());
        assert!(
            matches!(outcome(&counts(0, 7)), Err(Failure::Usage(why)) if why.to_string().contains("7 requests"))
        );
        assert!(matches!(outcome(&counts(2, 0)), Err(Failure::Failed(_))));
        let Err(Failure::Failed(why)) = outcome(&counts(2, 700)) else { panic!("a loss is a failure") };
        let why = why.to_string();
        assert!(
            why.contains("about 2 requests") && why.contains("700 requests are in no given log"),
            "{why}"
        );
    }

    #[test]
    fn requests_in_no_log_are_held_back_but_not_in_json() {
        for (json, held, held_back) in [(false, 1, NOT_LOGGED_LISTED), (true, 101, 0)] {
            let (progress, not_logged) = (ProgressBar::hidden(), Vec::new());
            let mut printer =
                FindingPrinter { json, held: Vec::new(), not_logged, is_first: true, progress, failed: None };
            (0..100).for_each(|_| printer.tell(finding(FindingKind::NotLogged)));
            printer.tell(finding(FindingKind::Lost));
            assert_eq!((printer.held.len(), printer.not_logged.len()), (held, held_back));
        }
    }
}
