//! Whether a batch of seeds was real work.

use super::faults;
use super::report::Report;
use super::setup::Profile;

/// From so many seeds on a batch is judged as a whole.
pub const BATCH_MIN: u64 = 100;

/// From so many seeds on the rarer paths must have been taken, too.
const LARGE_BATCH_MIN: u64 = 2_000;

/// Paths that a batch must have taken, and faults that must have fired, or it proves little.
const MUST_HIT: &[&str] = &[
    "leader_elected",
    "read_in_lease",
    "read_index",
    "flush",
    "compaction",
    "log_segment_recycled",
    "snapshot_sent",
    "snapshot_installed",
    "peer_removed",
    "apply_parked_for_a_value",
    "crashed_inside_an_io",
    "entries_fetched_from_the_log",
    "late_notice",
    "split_applied",
    "merge_frozen",
    "merge_applied",
    "split_replayed_after_crash",
    "child_elected_beside_parent_leader",
    "scan_across_split",
    "scanned",
    "split_answered",
    "route_from_placement",
    "operator_finished",
    "placement_failover",
    "timestamps_drawn",
    "timestamp_after_failover",
    "outdated_order_ignored",
    "peer_moved",
    "connection_broke",
    "connection_refused",
    "transfer_done",
    "read_elsewhere",
    "hot_key_contended",
    "marched_through",
    "all_keys_in_a_burst",
    "woke_after_idle",
    "isolate",
    "isolate_one_way",
    "halves",
    "halves_one_way",
    "ring",
    "bridge",
    "leader_only",
    "link",
    "link_one_way",
    "joint",
    "joint_order",
    "group_slept",
    "woken_by_a_request",
    "woken_by_a_lost_store",
    "replayed",
    "foreign_refused",
    "outdated_start_refused",
    "broken_seal_refused",
    "truncated_refused",
    "log_waited_for_space",
    "log_went_on_after_waiting_for_space",
    "write_refused_for_want_of_space",
    "ended_after_a_failed_sync",
    "replica_damaged",
    "damaged_peer_replaced",
    "member_joins",
    "member_step",
    "member_left",
    "member_hands_over_to_leave",
];
/// Rarer paths, which only a large batch is sure to take.
const MUST_HIT_RARELY: &[&str] = &[
    "log_waited_for_room",
    "outdated_heartbeat_refused",
    "heartbeat_of_a_deposed_leader_refused",
    "member_damaged",
    "new_peers_told_by_their_ids",
    "reluctant_process_led_nothing",
    "upkeep_without_space",
    "merge_rolled_back",
    "change_of_members_refused",
];
/// Of what is not drawn as a fault of its own, but happens with others.
const MUST_FIRE: [&str; 4] = ["garble", "crash_in_joint", "crash_in_job", "crash_in_start"];

/// Operations that have to succeed in a simulated second, on average over a batch.
const OPERATIONS_MIN: f64 = 50.0;

/// Whether a batch was real work: every probe hit, every fault fired, enough operations.
///
/// # Errors
/// One sentence that names what was missing.
pub fn judge_batch(total: &Report, profile: Profile) -> Result<(), String> {
    let rarely = MUST_HIT_RARELY
        .iter()
        .filter(|_| total.seeds >= LARGE_BATCH_MIN);
    let not_hit = |probe: &&str| !total.probes.contains_key(probe);
    let not_fired = |fault: &&str| !total.faults.contains_key(fault);
    let probes = MUST_HIT.iter().chain(rarely).copied();
    let faults = faults::striking().chain(MUST_FIRE);
    let missing: Vec<&str> = probes
        .filter(not_hit)
        .chain(faults.filter(not_fired))
        .filter(|_| profile.has_everything())
        .collect();
    if !missing.is_empty() {
        return Err(format!(
            "{} seeds never met: {}",
            total.seeds,
            missing.join(", ")
        ));
    }
    let per_second = total.succeeded as f64 / total.simulated.as_secs_f64().max(1.0);
    if per_second < OPERATIONS_MIN {
        return Err(format!(
            "only {per_second:.1} operations succeeded per simulated second"
        ));
    }
    Ok(())
}
