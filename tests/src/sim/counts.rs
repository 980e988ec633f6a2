//! Counts of the simulation's events. A clean run proves something only if each fault really
//! happened.

use serde::Serialize;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident)*) => {
        /// Number of times that each thing happened.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)* }

        impl Counts {
            /// Returns each count with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds the counts of another schedule.
            pub fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }
        }
    };
}

counts! {
    /// Requests that callers made: attempts at placing and cancelling, and questions.
    calls
    /// Questions of callers about an order.
    asks
    /// Orders whose receipt says placed.
    placed
    /// Orders whose receipt says sold out.
    sold_out
    /// Orders whose receipt says that the customer has reached the limit of a launch.
    limit_reached
    /// Orders whose receipt says that the price has changed.
    price_changed
    /// Orders of a SKU that nobody sells.
    unknown_sku
    /// Cancellations with a receipt that says cancelled.
    cancelled
    /// Cancellations by callers who did not know if their order was placed.
    cancelled_unseen
    /// Cancellations of orders that were never placed.
    not_cancellable
    /// Receipts for an outcome that was committed before.
    replayed
    /// Requests under a key that was used with another body.
    key_reused
    /// Requests under a key that was still in progress.
    in_progress
    /// Callers who were told that nothing happened.
    nothing_happened
    /// Callers who got 202 (outcome unknown).
    unknown
    /// Callers whose connection broke.
    connections_lost
    /// Questions about an order that were answered with "still unknown".
    pending
    /// Questions about an order that were answered with "no such order".
    not_found
    /// Links that came up.
    links_up
    /// Links that died.
    links_killed
    /// Frames that died with their link.
    frames_cut
    /// Frames that were lost although their link lived on.
    frames_lost
    /// Frames that arrived twice.
    frames_doubled
    /// Frames that arrived after later ones.
    frames_late
    /// Frames that arrived in pieces.
    frames_in_pieces
    /// Frames of which only a part arrived before their link died.
    frames_torn
    /// Links that fell silent for a while.
    silences
    /// Windows that shrank for a while.
    windows_shrunk
    /// Cloud agents killed and started again.
    cloud_restarts
    /// IDC agents killed and started again.
    idc_restarts
    /// Outages of the database.
    database_restarts
    /// Sealing sessions started.
    sealing_sessions
    /// Envelopes whose session the IDC did not know.
    sessions_unknown
    /// Sealing keys that an operator made.
    rotations
    /// Sealing keys that an operator took away from a host.
    keys_retired
    /// Orders that were returned to their caller to be sealed again.
    sealed_again
    /// Envelopes whose key the IDC did not have.
    keys_unknown
    /// Batches that began while another committer of the same agent had one under way.
    batches_side_by_side
    /// Batches of which at least one request was committed.
    commits
    /// Batches of which nothing was committed, for certain, because the database could not work.
    commits_denied
    /// Batches of which a part was committed, and the rest was not or is in doubt.
    commits_in_part
    /// Batches whose whole outcome is unknown.
    commits_in_doubt
    /// COMMITs that were done, but whose reply was lost.
    commits_reply_lost
    /// COMMITs that were not done, and whose reply was lost.
    commits_lost
    /// COMMITs that ended, either way, some time after their reply was lost.
    commits_late
    /// Statements that waited for a row.
    row_waits
    /// Stock rows that a session other than an agent's held.
    rows_held
    /// Statements refused because they would have caused a deadlock.
    deadlocks
    /// Statements refused because they waited too long.
    lock_timeouts
    /// Transactions of DBAs that were committed.
    dba_commits
    /// Transactions of DBAs that were rolled back.
    dba_rollbacks
    /// Restores of the ledger to an earlier moment.
    ledger_restores
    /// Outcomes that a restore of the ledger removed.
    outcomes_taken
    /// Outcomes that a restore removed although a caller had a receipt for them.
    receipts_taken
    /// Comparisons of a ledger as a restore would leave it with the logs.
    put_backs
    /// Payments and refunds whose outcome such a comparison cannot tell.
    unaccounted
    /// Orders whose money was settled by hand after a restore.
    settled_by_hand
    /// Statements of a DBA that waited for a row.
    dba_waits
    /// Requests set apart because another session held a row that they need.
    requests_set_apart
    /// Batches whose agent was killed before they ended.
    commits_orphaned
    /// Look-ups that the database did not answer.
    look_ups_failed
    /// Rounds that a data centre's audit log could not write.
    audit_rounds_failed
    /// Logs of data centres that were read again after a crash.
    logs_recovered
    /// Recovered rounds that were written only in part.
    rounds_torn
    /// Times that the disk under a cloud agent's log was full for a while.
    cloud_disks_full
    /// Entries that a cloud agent's log refused.
    cloud_entries_refused
    /// Clocks that were set.
    clock_steps
    /// Requests that payers made.
    pay_calls
    /// Requests to pay for an order whose agent was still placing it.
    paid_early
    /// Requests to the gateway.
    gateway_calls
    /// Requests that never reached the gateway.
    gateway_calls_lost
    /// Requests that reached the gateway late.
    gateway_calls_late
    /// Requests to the gateway that were held up for minutes or hours.
    gateway_calls_held_up
    /// Answers of the gateway that prove nothing.
    gateway_errors
    /// Times that money moved.
    charges
    /// Charges that the gateway declined.
    charges_declined
    /// Refunds that somebody requested.
    refunds
    /// Refunds that Bridge made by itself.
    refunds_automatic
    /// Refunds that the gateway refused.
    refunds_refused
    /// Queries to the gateway that check if a refused refund was done after all.
    looks_at_refused
    /// Payments that were charged after Bridge had given them up.
    charged_late
    /// Queries to the gateway about a payment or a refund in doubt.
    doubts
    /// Hints of the gateway, and forged ones.
    hints
    /// Doubts about money that an operator resolved by hand.
    resolved_by_hand
    /// Times that an operator was told to wait because a request was under way.
    told_to_wait
    /// Commands of operators that were killed before they ended.
    operators_killed
    /// Comparisons of the logs of all agents.
    logs_compared
    /// Comparisons in which one log was missing.
    logs_left_out
    /// Requests that both sides log alike.
    requests_agreed
    /// Transactions that change the catalogue.
    transactions
    /// Transactions committed after one that had written later.
    commits_out_of_order
    /// Changes that retention removed.
    changes_trimmed
    /// Pauses of the sequencer.
    sequencer_pauses
    /// Databases restored to an older backup.
    restores
    /// Reads of a publisher that failed.
    reads_failed
    /// Positions that a publisher could not resume.
    positions_lost
    /// Subscriptions that were resumed.
    resumptions
    /// Bootstraps that began.
    bootstraps
    /// Pages that a replica received to apply.
    pages
    /// Times that a replica learned its age.
    freshnesses
    /// Links of the feed that died.
    feed_links_killed
    /// Frames of the feed that died with their link.
    feed_frames_cut
    /// Links of the feed that fell silent.
    feed_silences
    /// Publishers of data centres that were killed and started again.
    publisher_restarts
    /// Replicas that started with a snapshot.
    replicas_warm
    /// Replicas that started without a snapshot.
    replicas_cold
    /// Replicas that applied slowly for a while.
    slow_applies
    /// Rows of a replica that the simulation changed on purpose.
    drifts_planted
    /// Replicas that detected a drift.
    drifts_found
}

impl Counts {
    /// Returns the names of the counts that are 0.
    pub fn zeros(&self) -> Vec<&'static str> {
        self.iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}
