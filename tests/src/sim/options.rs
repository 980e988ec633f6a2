//! What the simulation is told on its command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::report::Report;

/// Simulates agents, lines, ledger and callers under one seed, with every fault that the order link is made for.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo simulate")]
pub struct Options {
    /// Decides everything [default: drawn, and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Stop after the schedule in which as many orders were placed.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub orders: u64,

    /// Stop after so many minutes, however many orders that is.
    #[arg(long, value_name = "M", conflicts_with = "orders", value_parser = clap::value_parser!(u64).range(1..))]
    pub minutes: Option<u64>,

    /// Stop after so many schedules: with 1, the schedule of the seed itself.
    #[arg(long, value_name = "N")]
    pub schedules: Option<u64>,

    /// Events to tell before a violation.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub story: usize,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,

    /// Break something on purpose, to see it found.
    #[arg(long, value_name = "WHAT")]
    pub sabotage: Option<Sabotage>,
}

/// What can be broken on purpose: each breaks one promise, and each must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// P1: the database answers before a commit is durable, and now and then it crashes.
    AcknowledgeBeforeCommit,
    /// P2: every attempt reaches the ledger under a key of its own, as if no key were remembered.
    ForgetKeys,
    /// P4: the cloud takes a refusal as final although an earlier copy may have been committed.
    FinalRefusals,
    /// P4: a commit whose reply was lost counts as one that was not committed.
    DenyLostCommits,
    /// P1: what is sealed is another caller's name and address.
    SealAnothersData,
    /// P1: an order that is asked about by its key is looked up by its id alone.
    LookUpByIdAlone,
    /// P4, P8: a cloud agent gives up what nobody waits for before its room is full.
    ForgetUnsettled,
    /// P3: a cancellation that overtakes its order on another agent gives nothing back.
    OvertakingCancels,
    /// P3: stock is written over with what was read of it, and nothing is locked.
    OverwriteStock,
    /// P7: a cloud agent takes more requests than its queue may have.
    OverfillQueues,
    /// P8: the audit log says that it is durable what it could not write.
    LoseEntries,
    /// P11: orders are sealed to the newest key, although an agent does not have it yet.
    PreferNewestKeys,
    /// P11: an order that is sealed to what no link opens any more is not sealed again.
    SealOnce,
    /// P8: after a crash the last round of a data centre's log is not read.
    ForgetLastRounds,
    /// P8: a cloud agent sends and tells what its log does not take.
    SendUnlogged,
    /// P2: no order is known to be charged, or being charged.
    PayTwice,
    /// P2: no key of a payment is known to have been used.
    ForgetPayments,
    /// P2: a refund that was done is taken for one in doubt, and told once more.
    CountRefundsTwice,
    /// P2: an automatic refund that the gateway refused is asked for again.
    RefundForEver,
    /// Tenancy: whoever asks for a refund is taken for the brand of the payment.
    LetAnotherBrandRefund,
    /// P4: a gateway that does not answer in time is taken for one that refuses.
    TakeSilenceForRefusal,
    /// Money: what was given up is not looked at again.
    NeverLookAgain,
    /// Money: what was paid for an order that is cancelled does not go back.
    KeepMoney,
    /// Money: an operator may say that nothing went back while a request to give back is on its way.
    SpeakTooSoon,
    /// P8: payments go on although the data centre's log does not take their entries.
    PayUnlogged,
    /// P1: a restore of the database leaves out the last transaction before its moment.
    RestoreTooEarly,
    /// P1: a cloud agent answers a key that comes again by what it answered before, whatever was restored since.
    RememberAnswers,
    /// P2: what a log has as received of a payment, and not as ended, is not compared with a ledger that was put back.
    CompareEndsAlone,
    /// P2: what operators said of money is not compared with a ledger that was put back.
    CompareNoWords,
    /// P8: what an operator says of money is done although no log has it.
    ResolveUnsaid,
    /// P8: what a cloud agent logs as told is not what its callers are told.
    LogOtherEnds,
    /// P8: what a cloud agent logs as sent is not what it sends.
    LogOtherBytes,
    /// P6: changes are numbered when they are written, and one that is committed late is passed over.
    NumberBeforeCommit,
    /// P6: a bootstrap is served without what changed while its rows were read.
    SkipReplay,
    /// P6: a position is resumed whichever history it is of.
    ResumeAnyHistory,
}

impl Sabotage {
    /// Whether it breaks what is about money.
    pub(super) fn is_of_payments(self) -> bool {
        matches!(
            self,
            Self::PayTwice
                | Self::ForgetPayments
                | Self::CountRefundsTwice
                | Self::RefundForEver
                | Self::LetAnotherBrandRefund
                | Self::TakeSilenceForRefusal
                | Self::NeverLookAgain
                | Self::KeepMoney
                | Self::SpeakTooSoon
                | Self::ResolveUnsaid
                | Self::CompareEndsAlone
                | Self::CompareNoWords
        )
    }

    /// Whether it breaks what holds after a restore.
    pub(super) fn is_of_restores(self) -> bool {
        matches!(self, Self::RestoreTooEarly | Self::RememberAnswers)
    }

    /// As the command line spells it.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Options {
    /// Whether the run has come to its end.
    pub(super) fn is_done(&self, report: &Report, elapsed: Duration) -> bool {
        let enough = match self.minutes {
            Some(minutes) => elapsed >= Duration::from_secs(60 * minutes),
            None => report.orders >= self.orders,
        };
        enough || self.schedules.is_some_and(|schedules| report.schedules >= schedules)
    }
}
