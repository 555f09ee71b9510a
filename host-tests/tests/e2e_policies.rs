//! Every form of selector, peer, port and policy type, decided by real sidecars.
//!
//! The tables say by hand what must come of each policy; nothing here asks the engine. One cluster
//! serves them all, one table at a time.

#[path = "e2e_policies/changes.rs"]
mod changes;
#[path = "e2e_support/cluster.rs"]
mod cluster;
#[path = "e2e_support/connections.rs"]
mod connections;
#[path = "e2e_policies/directions.rs"]
mod directions;
#[path = "e2e_policies/exceptions.rs"]
mod exceptions;
#[path = "e2e_policies/peers.rs"]
mod peers;
#[path = "e2e_policies/ports.rs"]
mod ports;
#[path = "e2e_policies/services.rs"]
mod services;
#[path = "e2e_support/shared.rs"]
mod shared;
#[path = "e2e_policies/table.rs"]
mod table;

use std::process::ExitCode;

use anyhow::Result;
use shared::Shared;
use sidewall_host_tests::harness;
use sidewall_host_tests::lab::Lab;

fn main() -> ExitCode {
    harness::main(&[
        ("pod_selectors", || in_turn(peers::POD_SELECTORS)),
        ("namespace_selectors", || {
            in_turn(peers::NAMESPACE_SELECTORS)
        }),
        ("address_blocks", || in_turn(peers::IP_BLOCKS)),
        ("port_numbers_ranges_and_protocols", || {
            in_turn(ports::NUMBERS)
        }),
        ("port_names", || in_turn(ports::NAMES)),
        ("policy_types", || in_turn(directions::TYPES)),
        ("the_defaults_of_the_documentation", || {
            in_turn(directions::DEFAULTS)
        }),
        ("several_policies_and_both_sides", || {
            in_turn(directions::COMBINED)
        }),
        ("services", || in_turn(services::ROWS)),
        ("nodes_and_pods_that_are_no_peers", || {
            in_turn(exceptions::ROWS)
        }),
        (
            "own_node_egress_is_judged_when_asked_for",
            exceptions::own_node_egress,
        ),
        ("audited_policies_deny_nothing_and_say_so", || {
            with_lab(exceptions::audit)
        }),
        ("labels_change_on_running_pods", || {
            with_lab(changes::labels)
        }),
        ("a_namespace_changes_its_labels", || {
            with_lab(changes::namespace_labels)
        }),
        ("addresses_are_used_again", || with_lab(changes::addresses)),
    ])
}

fn in_turn(rows: &[table::Row]) -> Result<()> {
    with_lab(|lab| table::hold(lab, rows))
}

fn with_lab(case: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    static LAB: Shared = Shared::new();
    LAB.with(
        || {
            cluster::cluster(&cluster::PODS.map(|pod| pod.name))
                .manifest("ghosts.yaml", exceptions::GHOSTS)
                .manifest("services.yaml", services::SERVICES)
        },
        case,
    )
}
