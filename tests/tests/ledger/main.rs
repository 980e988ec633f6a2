//! The ledger, over the real databases: one list of cases, each run on SQLite and on PostgreSQL, then what only
//! PostgreSQL can do: two agents on one database, a server that is killed, a COMMIT whose answer is lost.

// Said to be tests, which all of this is, so that what clippy.toml allows in tests is allowed here.
#[cfg(test)]
mod cases;
#[cfg(test)]
mod database;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod role;
#[cfg(test)]
mod shop;

/// Makes a test of each case on each database.
macro_rules! on_both_databases {
    ($($case:ident)*) => {
        mod sqlite {
            $(#[tokio::test] async fn $case() { super::cases::$case(&super::database::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $case() {
                super::cases::$case(&super::database::postgres(stringify!($case)).await).await;
            })*
        }
    };
}

on_both_databases! {
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
    no_brand_sees_or_cancels_another_brand_s_order
    an_order_of_2000_lines_is_committed_and_read_back_in_order
    a_batch_of_1000_on_one_hot_sku_never_oversells
    committers_at_once_never_oversell
    cancellations_at_once_give_the_units_back_once
    two_agents_that_send_the_same_keys_at_once_agree
    a_request_that_the_database_refuses_is_found_and_refused_alone
    an_order_id_is_placed_once_whatever_its_key
    personal_data_is_stored_as_it_came_and_its_reading_is_recorded
    stock_is_imported_and_imported_again
    a_second_currency_for_a_brand_is_refused_and_nothing_is_imported
    a_hundred_thousand_skus_are_imported_at_once
    migrations_are_applied_once_and_said_to_be_missing_before
}
