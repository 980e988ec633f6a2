//! Options of the simulation's command line.

use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::report::Report;

/// Simulates agents, lines, ledger and callers under one seed, with every fault that the order link
/// is made for.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo simulate")]
pub struct Options {
    /// Seed of the run; it decides everything [default: drawn, and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Stop after the schedule in which this many orders were placed.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub orders: u64,

    /// Stop after this many minutes, however many orders that is.
    #[arg(long, value_name = "M", conflicts_with = "orders", value_parser = clap::value_parser!(u64).range(1..))]
    pub minutes: Option<u64>,

    /// Stop after this many schedules. With 1, only the schedule of the seed itself runs.
    #[arg(long, value_name = "N")]
    pub schedules: Option<u64>,

    /// Number of events to print before a violation.
    #[arg(long, value_name = "N", default_value_t = 60)]
    pub story: usize,

    /// Print one JSON object and nothing else on standard output.
    #[arg(long)]
    pub json: bool,

    /// Break something on purpose, to see that the simulation finds it.
    #[arg(long, value_name = "WHAT")]
    pub sabotage: Option<Sabotage>,
}

/// Sabotages: each breaks one promise on purpose, and the simulation must find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// P1: the database answers before a commit is durable, and sometimes it crashes.
    AcknowledgeBeforeCommit,
    /// P2: every attempt reaches the ledger under a new key, as if no key were remembered.
    ForgetKeys,
    /// P4: the cloud agent takes a refusal as final although an earlier copy may have been
    /// committed.
    FinalRefusals,
    /// P4: a commit whose reply was lost counts as one that was not committed.
    DenyLostCommits,
    /// P1: an order is sealed with another caller's name and address.
    SealAnothersData,
    /// P1: the look-up of a question by key uses only the order's id.
    LookUpByIdAlone,
    /// P4, P8: a cloud agent forgets requests without a waiting caller before their limit is
    /// reached.
    ForgetUnsettled,
    /// P3: a cancellation that overtakes its order on another agent gives no stock back.
    OvertakingCancels,
    /// P3: stock is overwritten with a value computed from an earlier read, without a lock.
    OverwriteStock,
    /// P3: a launch forgets the units that a customer bought before.
    ForgetPurchases,
    /// P7: a cloud agent takes more requests than its queue may have.
    OverfillQueues,
    /// P8: the audit log reports entries as durable that it could not write.
    LoseEntries,
    /// P11: orders are sealed to the newest key, although an agent does not have that key yet.
    PreferNewestKeys,
    /// P11: an order sealed to a key that no link opens any more is not sealed again.
    SealOnce,
    /// P8: after a crash, the last round of a data centre's audit log is not read.
    ForgetLastRounds,
    /// P8: a cloud agent sends requests and answers that its audit log did not take.
    SendUnlogged,
    /// P2: the ledger forgets that an order is charged, or that a charge is under way.
    PayTwice,
    /// P2: the ledger forgets which idempotency keys of payments have been used.
    ForgetPayments,
    /// P2: a refund that was done is treated as one in doubt, and is reported a second time.
    CountRefundsTwice,
    /// P2: an automatic refund that the gateway refused is requested again.
    RefundForEver,
    /// Tenancy: a refund is accepted from any brand, as if it came from the brand of the payment.
    LetAnotherBrandRefund,
    /// P4: a gateway that does not answer in time is treated as one that refuses.
    TakeSilenceForRefusal,
    /// Money: a payment that was given up is never checked at the gateway again.
    NeverLookAgain,
    /// Money: a payment for a cancelled order is not refunded.
    KeepMoney,
    /// Money: an operator may resolve a refund as not done while a request for it is under way.
    SpeakTooSoon,
    /// P8: payments continue although the data centre's log does not accept their entries.
    PayUnlogged,
    /// P1: a restore of the database omits the last transaction before its moment.
    RestoreTooEarly,
    /// P1: a cloud agent repeats its earlier answer to a key, even if a restore has removed the
    /// outcome since.
    RememberAnswers,
    /// P2: payments that a log has as received, and not as ended, are not compared with a restored
    /// ledger.
    CompareEndsAlone,
    /// P2: decisions of operators about money are not compared with a restored ledger.
    CompareNoWords,
    /// P8: a decision of an operator about money is carried out although no log has it.
    ResolveUnsaid,
    /// P8: a cloud agent logs another answer than the one that its caller receives.
    LogOtherEnds,
    /// P8: a cloud agent logs other bytes than those that it sends.
    LogOtherBytes,
    /// P6: changes are numbered when they are written, so a change that is committed late is
    /// skipped.
    NumberBeforeCommit,
    /// P6: a bootstrap leaves out the changes that happened while its rows were read.
    SkipReplay,
    /// P6: a position is resumed even if it belongs to another history.
    ResumeAnyHistory,
}

impl Sabotage {
    /// Returns true if the sabotage is about money.
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

    /// Returns true if the sabotage shows only after a restore.
    pub(super) fn is_of_restores(self) -> bool {
        matches!(self, Self::RestoreTooEarly | Self::RememberAnswers)
    }

    /// Returns the sabotage's name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl Options {
    /// Returns true if the run is complete.
    pub(super) fn is_done(&self, report: &Report, elapsed: Duration) -> bool {
        let enough = match self.minutes {
            Some(minutes) => elapsed >= Duration::from_secs(60 * minutes),
            None => report.orders >= self.orders,
        };
        enough || self.schedules.is_some_and(|schedules| report.schedules >= schedules)
    }
}
