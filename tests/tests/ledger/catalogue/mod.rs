//! Tests of the catalogue's source on real databases. One list of cases runs on SQLite and on
//! PostgreSQL. Further tests need PostgreSQL: transactions that interleave, roles, and a server
//! that is killed.

// All of this is test code. The attribute makes clippy.toml's exceptions for tests apply.
#[cfg(test)]
mod cases;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod held;
#[cfg(test)]
mod import;
#[cfg(test)]
mod interleaved;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod random;
#[cfg(test)]
mod role;
#[cfg(test)]
mod source;

crate::on_both_databases! {
    sqlite and postgres:
    changes {
        every_change_by_plain_sql_is_in_the_log_under_its_key
        what_is_rolled_back_leaves_nothing
        a_committed_order_puts_its_stock_on_the_log
        one_key_changed_many_times_is_one_row_with_its_last_state
    }
    cases {
        rows_say_what_the_tables_say
        pages_of_any_size_hold_the_same_rows_in_key_order
        brands_that_are_not_asked_for_are_not_read
        sums_of_the_source_are_the_sums_of_its_pages
        a_change_without_a_number_makes_its_bucket_unsettled
        two_sequencers_number_densely_and_one_takes_over_when_the_other_dies
        a_sequencer_that_ends_in_order_gives_its_lease_back
        a_lease_from_before_the_clock_was_set_back_holds_up_nobody
        the_log_forgets_by_rows
        the_log_forgets_by_age_and_keeps_the_newest
        a_restored_backup_is_noticed_by_the_mark
    }
    import {
        a_second_import_of_a_file_changes_nothing
        what_a_file_does_not_speak_of_stays_as_it_is
        an_export_is_imported_without_a_change
        a_dry_run_and_a_faulty_all_or_nothing_file_keep_nothing
        what_the_database_contradicts_is_refused_and_the_rest_imported
        categories_alone_are_imported_and_what_is_of_no_brand_is_refused
        a_document_keeps_every_digit_on_its_way_in_and_out
        a_category_moves_to_the_root_by_null_and_otherwise_stays
        a_file_that_names_some_variants_leaves_their_places
        the_real_catalogue_is_imported_by_its_one_command
        orders_are_committed_while_an_import_stands_in_its_middle
        orders_are_committed_while_an_import_of_stock_stands_in_its_middle
        a_dry_run_counts_what_the_import_then_does
        all_or_nothing_is_decided_before_the_first_part_is_written
        all_or_nothing_reports_its_rows_when_the_database_refuses_later
        a_price_that_changes_a_hundredfold_is_said
        a_file_that_is_refused_whole_leaves_the_database_alone
    }
    random {
        a_reader_of_changes_equals_the_tables_after_random_writers
    }
}
