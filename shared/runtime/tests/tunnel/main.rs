//! Tests of the tunnel over loopback, with real QUIC and real TCP, and with certificates of
//! Bridge's own authority.
//!
//! `agents` starts tunnels as an agent does. `stranger` is a peer that breaks the rules. Every wait
//! is for an event. Most tests run over both transports; what only one of them has is tested once.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of a test fails the test"
)]

mod agents;
mod stranger;

mod refusals;

mod start;

mod links;

mod feed;

mod payments;

mod misbehaviour;

mod crowds;

mod tcp;

mod auto;

/// Makes each case a test over QUIC and a test over TCP.
macro_rules! over_both_transports {
    ($($cases:ident { $($case:ident)* })*) => {
        mod over_quic {
            $($(#[tokio::test] async fn $case() {
                crate::agents::over(bridge_runtime::config::TransportChoice::Quic);
                crate::$cases::$case().await;
            })*)*
        }
        mod over_tcp {
            $($(#[tokio::test] async fn $case() {
                crate::agents::over(bridge_runtime::config::TransportChoice::Tcp);
                crate::$cases::$case().await;
            })*)*
        }
    };
}

over_both_transports! {
    refusals {
        a_peer_of_the_same_role_is_refused
        a_peer_of_another_ca_is_refused
        an_expired_certificate_is_refused_with_both_clocks_in_the_line
        a_certificate_of_tomorrow_is_refused_with_both_clocks_in_the_line
        a_revoked_certificate_is_refused_and_named
        nobody_is_trusted_under_a_revocation_list_that_is_too_old
        nobody_is_trusted_under_the_revocation_list_of_another_ca
        a_peer_without_a_certificate_is_refused
        a_peer_that_speaks_another_protocol_is_refused
        a_key_exchange_without_ml_kem_is_refused
        a_certificate_that_names_no_agent_is_refused
        a_peer_of_another_trust_domain_is_refused
        a_peer_that_the_allow_list_does_not_name_is_refused
        the_refused_side_says_why_as_well
        a_dialler_without_ml_kem_in_common_is_told_so
        revoking_a_live_links_certificate_closes_it_and_keeps_it_closed
        a_renewed_certificate_is_used_without_a_restart
    }
    links {
        a_cloud_agent_dials_an_idc_agent
        an_idc_agent_dials_a_cloud_agent
        a_link_with_a_committed_rate_carries_frames_as_well
        one_side_may_only_prefer_what_the_other_requires
        every_peer_gets_as_many_links_as_configured
        a_new_window_and_a_new_manifest_reach_a_live_link
        an_agents_obstacles_are_sent_on_each_link_and_on_change
        grants_reach_each_agent_that_knows_them_and_no_other
        an_agent_without_readiness_is_linked_and_a_repeated_one_reported_once
        a_peer_without_a_heartbeat_is_silent_until_it_is_heard_again
        a_clock_that_is_wrong_is_warned_about
        a_peer_that_was_dropped_is_found_again
        a_drain_says_goodbye_and_lets_what_is_under_way_finish
        while_it_drains_a_peer_that_dials_is_turned_away
        a_drain_whose_time_is_over_ends_the_links
        an_owner_that_takes_no_events_slows_its_peer_without_loss
    }
    feed {
        between_two_feed_agents_the_lane_carries_frames_both_ways
        a_peer_without_the_feed_gets_its_link_without_the_lane
        what_the_owner_refuses_ends_the_link_as_a_violation
        a_peer_that_opens_an_unannounced_lane_gets_no_link
    }
    payments {
        between_two_payment_agents_the_lane_carries_frames_both_ways
        a_peer_without_payments_gets_its_link_without_the_lane
        a_link_with_every_order_lane_has_the_other_lanes_too
    }
    misbehaviour {
        garbage_instead_of_a_hello_is_refused
        a_hello_of_4_gib_is_refused
        a_number_of_lanes_beyond_all_reason_is_refused
        a_lane_that_is_opened_twice_is_refused
        a_link_whose_lanes_never_come_is_given_up
        half_a_hello_is_given_up
        an_incompatible_version_is_refused_and_told_who_must_upgrade
        a_frame_of_4_gib_on_an_order_lane_ends_the_link
        garbage_on_the_control_lane_ends_the_link
        a_second_hello_ends_the_link
        a_newer_peer_uses_the_common_version_and_its_extras_are_ignored
        a_lane_beyond_those_announced_ends_the_link
        a_lane_that_is_closed_ends_the_link
    }
    crowds {
        strangers_refused_all_day_are_counted_and_logged_a_few_times
        a_reconnecting_peer_is_admitted_at_a_limit_and_harms_no_other
        a_peer_never_holds_more_links_than_its_limit
        a_peer_that_blocks_a_lane_loses_its_link_alone
    }
}
