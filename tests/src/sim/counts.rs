//! What the simulation counts: that each fault really happened is half of what a clean run says.

use serde::Serialize;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident)*) => {
        /// How often each thing happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Counts {
            /// Every count with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds another schedule's.
            pub fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }
        }
    };
}

counts! {
    /// Requests that callers made: attempts at placing and cancelling, and questions.
    calls
    /// Questions among them.
    asks
    /// Orders whose receipt says placed.
    placed
    /// Orders whose receipt says sold out.
    sold_out
    /// Orders whose receipt says that the price is another.
    price_changed
    /// Orders of a SKU that nobody sells.
    unknown_sku
    /// Cancellations with a receipt that says so.
    cancelled
    /// Cancellations of orders of which their callers did not know whether they were placed.
    cancelled_unseen
    /// Cancellations of what was never placed.
    not_cancellable
    /// Receipts for an outcome that was committed before.
    replayed
    /// A key that came again with another body.
    key_reused
    /// A key that came again while it was in progress.
    in_progress
    /// Callers told that nothing happened.
    nothing_happened
    /// Callers told 202.
    unknown
    /// Callers whose connection broke.
    connections_lost
    /// Questions answered "still unknown".
    pending
    /// Questions answered "no such order".
    not_found
    /// Links that came up.
    links_up
    /// Links that died.
    links_killed
    /// Frames that died with their link.
    frames_cut
    /// Frames lost alone.
    frames_lost
    /// Frames that came twice.
    frames_doubled
    /// Frames that came after later ones.
    frames_late
    /// Frames that came in pieces.
    frames_in_pieces
    /// Frames of which a part came before their link died.
    frames_torn
    /// Links that fell silent for a while.
    silences
    /// Windows that shrank for a while.
    windows_shrunk
    /// Cloud agents killed and started again.
    cloud_restarts
    /// IDC agents killed and started again.
    idc_restarts
    /// Databases that went away and came back.
    database_restarts
    /// Sealing sessions started.
    sealing_sessions
    /// Envelopes whose session the IDC did not know.
    sessions_unknown
    /// Sealing keys that an operator made.
    rotations
    /// Sealing keys that an operator took away from a host.
    keys_retired
    /// Orders given back to be sealed again.
    sealed_again
    /// Envelopes whose key the IDC did not have.
    keys_unknown
    /// Batches of a committer that began while another one of the same agent had one under way.
    batches_side_by_side
    /// Batches of which something was committed.
    commits
    /// Batches of which nothing was committed, for certain, since the database could not work.
    commits_denied
    /// Batches of which a part was committed, and the rest was not, or nobody can tell.
    commits_in_part
    /// Batches of which nobody could tell how they ended.
    commits_in_doubt
    /// COMMITs that were done, the reply lost.
    commits_reply_lost
    /// COMMITs that were not done, and nobody told so.
    commits_lost
    /// COMMITs that were done or not long after their reply was lost.
    commits_late
    /// Times that a statement waited for a row.
    row_waits
    /// Stock rows that somebody beside the agents held.
    rows_held
    /// Statements refused since they would have closed a circle of waiting transactions.
    deadlocks
    /// Statements refused since they waited for too long.
    lock_timeouts
    /// Transactions of DBAs that were committed.
    dba_commits
    /// Transactions of DBAs that were rolled back.
    dba_rollbacks
    /// Restores of the ledger to an earlier moment.
    ledger_restores
    /// Outcomes that they took.
    outcomes_taken
    /// Those among them of which a caller had a receipt.
    receipts_taken
    /// Times that somebody looked what a restore at that moment would lack.
    put_backs
    /// Requests about money that such a ledger and the logs leave in doubt.
    unaccounted
    /// Orders whose money was settled by hand after a restore.
    settled_by_hand
    /// Times that a DBA's statement waited for a row.
    dba_waits
    /// Requests set apart because somebody held what they need.
    requests_set_apart
    /// Batches whose agent was killed before they ended.
    commits_orphaned
    /// Look-ups that the database did not answer.
    look_ups_failed
    /// Rounds that a data centre's audit log could not write.
    audit_rounds_failed
    /// Logs of data centres that were read again after a crash.
    logs_recovered
    /// Rounds among them that were not written to their end.
    rounds_torn
    /// Times that the disk under a cloud agent's log took nothing for a while.
    cloud_disks_full
    /// Entries that it did not take.
    cloud_entries_refused
    /// Clocks that were set.
    clock_steps
    /// Requests that payers made.
    pay_calls
    /// Of payments, while their agent was still placing the order.
    paid_early
    /// Requests to the gateway.
    gateway_calls
    /// Those that never came there.
    gateway_calls_lost
    /// Those that came late.
    gateway_calls_late
    /// Those that were held up for minutes or hours.
    gateway_calls_held_up
    /// Answers of the gateway that say nothing.
    gateway_errors
    /// Times that money moved.
    charges
    /// Times that the gateway declined a charge.
    charges_declined
    /// Times that money went back since somebody asked for it.
    refunds
    /// Times that money went back by itself.
    refunds_automatic
    /// Times that the gateway refused to give back.
    refunds_refused
    /// Times that it was looked whether what had been refused went back all the same.
    looks_at_refused
    /// Payments charged after they had been given up.
    charged_late
    /// Payments and refunds in doubt that were asked about.
    doubts
    /// Hints of the gateway, and of whoever makes them up.
    hints
    /// Doubts that an operator ended.
    resolved_by_hand
    /// Times that an operator was told to wait, since a request was on its way.
    told_to_wait
    /// Commands of operators that were killed before they ended.
    operators_killed
    /// Times that the logs of all agents were compared.
    logs_compared
    /// Times that one of them was not given.
    logs_left_out
    /// Requests that both sides tell the same of.
    requests_agreed
    /// Transactions on the catalogue.
    transactions
    /// Those committed after one that had written later.
    commits_out_of_order
    /// Changes that retention took away.
    changes_trimmed
    /// Sequencers that paused.
    sequencer_pauses
    /// Databases restored to an older backup.
    restores
    /// Reads for a publisher that the database did not answer.
    reads_failed
    /// Positions that could not be resumed.
    positions_lost
    /// Subscriptions that were resumed.
    resumptions
    /// Bootstraps begun.
    bootstraps
    /// Pages put out to a replica.
    pages
    /// Times that a replica knew how old it is.
    freshnesses
    /// Feed links that died.
    feed_links_killed
    /// Feed frames that died with their link.
    feed_frames_cut
    /// Feed links that fell silent.
    feed_silences
    /// Data centres' publishers killed and started again.
    publisher_restarts
    /// Replicas started with a snapshot.
    replicas_warm
    /// Replicas started with nothing.
    replicas_cold
    /// Replicas that applied slowly for a while.
    slow_applies
    /// Rows changed behind a replica's back.
    drifts_planted
    /// Replicas that found themselves drifted.
    drifts_found
}

impl Counts {
    /// What never happened.
    pub fn zeros(&self) -> Vec<&'static str> {
        self.iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}
