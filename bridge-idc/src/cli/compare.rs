//! `audit compare`: compares the ledger, after its database was restored, with the commits in the
//! IDC agents' logs.

use std::io::{self, Write as _};
use std::path::PathBuf;

use bridge_protocol::audit::finding::Unverified;
use bridge_protocol::audit::reconcile::Side;
use bridge_protocol::note::NoteVerifier;
use bridge_runtime::audit_log::command::logs::{self, Folders, Log};
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

/// The logs to compare with the ledger.
#[derive(Args)]
#[command(
    after_help = "Findings are sorted by brand and order, in blocks of 100,000, so that memory does not grow with the log. With more \
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
    /// first. Without keys no log is verified.
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
    let folders = if folders.is_empty() {
        Folders::own(config.audit.dir.clone())?
    } else {
        Folders::existing(folders)?
    };
    let given = folders.given()?;
    if let Some(cloud_s) = given.iter().find(|log| log.side() != Side::Idc) {
        return Err(cli::usage(format!(
            "{}: it is the log of a cloud agent: give the logs of the IDC agents, which record the commits",
            cloud_s.folder()
        )));
    }
    let logs: Vec<Log<'_>> = given.into_iter().map(|log| log.read(&keys, json)).collect::<Result<_, _>>()?;
    let counts = cli::runtime()?.block_on(compare(&config, &logs, json))?;
    match counts.differ() {
        0 => Ok(()),
        requests => Err(cli::failed(differ(requests, counts.not_logged))),
    }
}

/// Returns the message for the operator: the number of differences, and a likely reason.
fn differ(requests: u64, not_logged: u64) -> String {
    let differ = format!("the ledger and the logs differ about {requests} requests");
    if not_logged == 0 {
        return differ;
    }
    format!(
        "{differ}; {not_logged} of them are in no given log: give the logs of all IDC agents that write to this ledger, and the older \
         logs of agents that started a new one"
    )
}

async fn compare(config: &IdcConfig, logs: &[Log<'_>], json: bool) -> Result<Counts, Failure> {
    if let Some(path) = config.ledger.url.file()
        && !path.exists()
    {
        // Opening a missing file would create an empty ledger.
        return Err(cli::usage(format!("{}: there is no ledger", path.display())));
    }
    let ledger = super::open_ledger(&config.ledger).await.map_err(not_compared)?;
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
    let mut told = FindingPrinter { json, held: Vec::new(), is_first: true, progress, failed: None };
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
        let mut out = cli::out();
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
