//! Every way from a pod to a pod is judged: with and without sidecars, on one node and between two,
//! by the pod's address, its Service's and a node's port, in every protocol and both families.

#[path = "node_paths/bridges.rs"]
mod bridges;
#[path = "node_paths/denied.rs"]
mod denied;
#[path = "node_paths/dodging.rs"]
mod dodging;
#[path = "node_paths/edges.rs"]
mod edges;
#[path = "node_paths/pairs.rs"]
mod pairs;
#[path = "node_support/world.rs"]
mod world;

use std::process::ExitCode;

use sidewall_host_tests::harness;

fn main() -> ExitCode {
    harness::main(&[
        ("every_pair_follows_the_policies", pairs::every_pair),
        (
            "every_pair_follows_the_policies_where_envoys_carry_tcp",
            pairs::every_pair_redirected,
        ),
        (
            "every_pair_follows_the_policies_on_bridges",
            pairs::every_pair_on_bridges,
        ),
        ("echo_follows_rules_for_all_protocols", edges::echo),
        ("both_sides_are_judged_on_one_node", edges::both_sides),
        ("a_mixed_service_lets_allowed_backends_answer", edges::mixed),
        ("a_pod_reaches_itself", edges::itself),
        ("only_the_own_node_reaches_closed_pods", edges::own_node),
        ("replies_pass", edges::replies),
        ("drops_are_recorded_and_counted", edges::records),
        (
            "both_ends_of_a_live_connection_that_is_denied_are_reset",
            denied::live_ones_are_reset,
        ),
        (
            "both_ends_of_a_live_connection_that_is_denied_are_reset_on_bridges",
            denied::live_ones_are_reset_on_bridges,
        ),
        (
            "both_ends_are_reset_where_a_client_is_closed",
            denied::a_client_that_is_closed_is_reset,
        ),
        (
            "a_denied_connection_is_refused_or_dropped_as_the_agent_is_told",
            denied::new_ones_are_refused_or_dropped,
        ),
        (
            "a_process_that_dodges_its_sidecar_is_judged",
            dodging::past_the_sidecar,
        ),
        (
            "an_excluded_port_is_judged_by_the_node",
            dodging::by_an_excluded_port,
        ),
        (
            "a_bridge_that_hides_its_frames_is_told",
            bridges::unseen_frames,
        ),
        (
            "without_a_snapshot_a_pod_is_closed",
            dodging::without_a_snapshot,
        ),
    ])
}
