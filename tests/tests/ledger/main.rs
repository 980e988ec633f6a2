//! Tests of the ledger on real databases. One list of cases runs on SQLite and on PostgreSQL.
//! Further tests need PostgreSQL: two agents on one database, a server that is killed, and a COMMIT
//! whose answer is lost.

// All of this is test code. The attribute makes clippy.toml's exceptions for tests apply.
#[cfg(test)]
mod cases;
mod catalogue;
#[cfg(test)]
mod database;
#[cfg(test)]
mod held;
#[cfg(test)]
mod late_charges;
#[cfg(test)]
mod launches;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod migrating;
#[cfg(test)]
mod money;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod payments;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod refunds;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod role;
#[cfg(test)]
mod round_trips;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod side_by_side;

/// Makes a test of each case on each database.
macro_rules! on_both_databases {
    ($sqlite:ident and $postgres:ident: $($cases:ident { $($case:ident)* })*) => {
        mod $sqlite {
            $($(#[tokio::test] async fn $case() {
                super::$cases::$case(&crate::database::sqlite().await).await;
            })*)*
        }
        mod $postgres {
            $($(#[tokio::test] async fn $case() {
                super::$cases::$case(&crate::database::postgres(stringify!($case)).await).await;
            })*)*
        }
    };
}
pub(crate) use on_both_databases;

// The longest test comes first, since tests start in alphabetical order.
on_both_databases! {
    bulk_in_sqlite and bulk_in_postgres:
    cases {
        a_hundred_thousand_skus_are_imported_at_once
    }
}

on_both_databases! {
    sqlite and postgres:
    cases {
        an_order_is_placed_and_can_be_looked_up
        the_same_request_again_is_replayed_and_changes_nothing
        the_same_request_twice_in_a_batch_has_one_effect
        a_key_that_comes_back_with_another_body_is_refused
        sold_out_is_an_outcome_and_sticks_to_its_key
        a_changed_price_is_named
        an_unknown_sku_is_named
        another_currency_is_rejected
        an_unknown_brand_and_an_unknown_order_have_no_outcome
        all_lines_are_allocated_or_none
        cancelling_gives_the_units_back_once_under_any_number_of_keys
        an_order_can_be_placed_and_cancelled_in_one_batch
        what_was_never_placed_is_not_cancellable
        orders_looked_up_together_are_each_answered_as_alone
        no_brand_sees_or_cancels_another_brand_s_order
        an_order_of_2000_lines_is_committed_and_read_back_in_order
        a_batch_of_1000_on_one_hot_sku_never_oversells
        committers_at_once_never_oversell
        cancellations_at_once_give_the_units_back_once
        two_agents_that_send_the_same_keys_at_once_agree
        a_request_that_the_database_refuses_is_found_and_refused_alone
        an_order_id_is_placed_once_whatever_its_key
        a_later_releases_outcome_is_a_refusal_that_keeps_its_key
        personal_data_is_stored_as_it_came_and_its_reading_is_recorded
        stock_is_imported_and_imported_again
        a_second_currency_for_a_brand_is_refused_and_nothing_is_imported
        migrations_are_applied_once_and_said_to_be_missing_before
        agents_on_one_ledger_must_have_the_same_keys
        of_two_agents_that_begin_at_once_with_other_keys_one_begins
    }
}

on_both_databases! {
    triggers_in_sqlite and triggers_in_postgres:
    outages {
        an_order_whose_rows_a_trigger_drops_is_not_placed
    }
}

on_both_databases! {
    launches_in_sqlite and launches_in_postgres:
    launches {
        nothing_is_sold_before_the_opening_by_the_databases_clock
        a_customer_gets_no_more_than_the_limit_over_orders_and_skus
        cancelled_orders_give_units_back_to_customer_and_launch
        a_launch_that_has_ended_limits_nothing
        a_skus_own_limit_counts_beside_the_launchs
        a_refusal_leaves_the_units_that_every_limit_allows
        launches_that_ended_by_themselves_are_put_away_by_the_next_one
        a_dbas_mistakes_about_launches_are_named_by_the_database
        an_operators_launch_is_added_whole_or_told_every_mistake
        many_devices_of_one_customer_get_exactly_the_limit
        agents_at_once_sell_exactly_a_launchs_units
        random_orders_and_cancellations_end_as_in_a_plain_model
        random_devices_at_once_leave_each_customer_within_the_limit
    }
}

on_both_databases! {
    payments_in_sqlite and payments_in_postgres:
    payments {
        an_attempt_is_durable_before_the_gateway_is_asked_and_found_later
        a_payment_must_be_of_its_order_s_amount_and_currency
        a_cancelled_rejected_unknown_or_other_brands_order_cannot_be_paid
        an_order_is_charged_once_under_any_number_of_keys
        two_payments_at_once_under_two_keys_are_one
        after_a_decline_the_order_can_be_paid_again
        the_same_key_again_is_told_how_the_payment_stands
        the_same_key_with_another_body_or_for_a_refund_is_refused
        refunds_never_exceed_what_was_paid
        refunds_at_once_never_exceed_what_was_paid
        a_refused_refund_leaves_its_money_to_be_refunded
        cancelling_a_paid_order_gives_back_what_is_left
        money_that_comes_in_after_the_cancellation_goes_back
        what_is_due_is_taken_by_one_agent_alone
        a_hint_makes_a_doubt_due_at_once_and_nothing_else
        an_operator_s_word_ends_a_doubt_and_nothing_else
        an_operators_decision_ends_a_refunds_doubt_and_nothing_else
        what_contradicts_the_ledger_changes_nothing
    }
}

on_both_databases! {
    late_charges_in_sqlite and late_charges_in_postgres:
    late_charges {
        a_charge_after_giving_up_is_late_and_refunded_once
        a_late_charge_touches_no_other_payment_of_its_order
        what_was_charged_by_one_token_is_one_payment_s
        not_paid_is_never_said_while_a_request_is_under_way
        a_request_is_said_to_be_over_by_who_sent_it_alone
        age_is_told_by_the_database_s_clock
        a_payment_given_up_is_looked_at_again_sooner_by_a_hint
        a_refund_that_is_made_after_all_counts
        what_the_version_before_wrote_stays_as_it_was
    }
}

on_both_databases! {
    money_in_sqlite and money_in_postgres:
    money {
        another_brand_neither_sees_nor_pays_nor_gives_back_a_payment
        nothing_is_given_back_in_another_currency
        a_partial_refund_that_is_told_twice_counts_once
        an_automatic_refund_that_the_gateway_refuses_is_asked_for_once
        an_operator_ends_a_refused_refund_that_was_repaid_otherwise
        no_operator_gives_back_more_than_was_paid
        a_shops_refused_refund_is_not_asked_again_without_the_shop
        a_hint_never_postpones_what_is_due_sooner
    }
}

on_both_databases! {
    refunds_in_sqlite and refunds_in_postgres:
    refunds {
        not_refunded_is_never_said_while_a_request_is_under_way
        a_refund_that_is_asked_for_again_is_on_its_way_again
        money_that_goes_back_by_itself_goes_once_whatever_an_operator_says
        the_rest_is_refunded_automatically_only_once_none_is_under_way
        an_operator_ends_what_other_refunds_left_of_a_refused_one
        a_refund_taken_while_an_operators_decision_is_logged_is_under_way
    }
}

on_both_databases! {
    refused_in_sqlite and refused_in_postgres:
    refused {
        a_refused_refund_that_the_gateway_shows_is_done
        what_the_gateway_shows_counts_for_one_refund_alone
        a_refused_refund_is_looked_at_after_a_doubt_for_a_week
        an_automatic_refund_that_went_back_after_all_ends_its_payment
        a_refund_refused_by_an_older_agent_is_looked_at
    }
}

on_both_databases! {
    side_by_side_in_sqlite and side_by_side_in_postgres:
    side_by_side {
        what_was_given_up_is_left_alone_by_agents_of_before
        a_doubt_is_taken_by_agents_of_both_versions
        what_version_5_writes_about_a_given_up_payment_is_taken_up
        what_version_4_begins_is_concluded_by_this_one
        what_version_5_kept_beside_doubts_moves_to_its_own_column
        a_refund_asked_by_an_older_agent_is_under_way
        a_refund_by_an_older_agent_is_under_way_while_it_holds
    }
}
