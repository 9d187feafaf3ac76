//! What every log must hold, whichever way it is kept: one list of cases, run against a real Kafka and a real PostgreSQL.
//! And what only brokers can do to a log.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking and keeps real time"
)]

mod appending;
mod brokers;
mod ground;
mod groups;
mod reading;
#[cfg(feature = "kafka-tls")]
mod tls;

use ground::Ground;

macro_rules! suite {
    ($($part:ident: $($case:ident),* $(,)?;)*) => {
        mod kafka {
            use super::*;
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { $part::$case(Ground::kafka()).await })*)*
        }
        mod table {
            use super::*;
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { $part::$case(Ground::table().await).await })*)*
        }
    };
}

suite! {
    appending:
        records_of_a_key_keep_their_order,
        records_of_a_key_stay_in_one_partition,
        a_position_is_where_the_record_is,
        headers_and_keys_are_kept,
        an_empty_payload_is_kept,
        an_empty_key_is_a_key,
        keys_of_any_script_are_kept,
        bytes_that_are_no_text_are_kept,
        a_record_that_is_too_large_is_refused_alone,
        the_largest_record_is_taken,
        nothing_appended_is_nothing_done,
        one_append_may_have_many_topics,
        appends_at_the_same_time_lose_nothing;
    reading:
        a_new_group_begins_with_the_earliest_record,
        groups_do_not_share,
        an_idle_next_returns_in_time,
        records_come_while_a_reader_waits,
        a_batch_has_its_limit_and_one_partition,
        a_large_backlog_comes_whole_and_in_order,
        a_poison_record_holds_up_nobody,
        a_record_knows_when_it_was_appended,
        seek_goes_back,
        seek_goes_on_further,
        seek_forgets_what_was_read_ahead,
        a_next_that_nobody_waited_for_loses_nothing;
    groups:
        what_was_not_committed_comes_again,
        what_was_committed_does_not_come_again,
        a_commit_is_of_one_partition,
        a_commit_may_go_back,
        two_readers_share_the_partitions,
        a_rebalance_in_the_middle_of_a_batch_loses_nothing,
        a_reader_that_lost_its_partition_cannot_commit,
        a_reader_that_lost_its_partition_cannot_seek_in_it,
        a_reader_keeps_what_it_still_has,
        leaving_hands_over_at_once,
        a_dropped_reader_frees_its_partitions,
        a_reader_too_many_waits_for_its_turn,
        one_group_may_read_two_topics;
}
