//! What `sidewall serve --kube` tells the API server: that a pod's policies are applied, and what is wrong
//! with a policy. The binary, a client that speaks to it as an Envoy does, and the real `kubectl`.

#[path = "kube_facts/events.rs"]
mod events;
#[path = "kube_facts/gates.rs"]
mod gates;
#[path = "kube_support/objects.rs"]
mod objects;
#[path = "chart_support/rendered.rs"]
mod rendered;
#[path = "kube_support/rights.rs"]
mod rights;
#[path = "kube_facts/site.rs"]
mod site;

use std::process::ExitCode;

use sidewall_host_tests::harness;

fn main() -> ExitCode {
    harness::main_with_kubectl(&[
        (
            "a_gate_opens_with_the_first_acknowledgement_and_stays_open",
            gates::opens_and_stays_open,
        ),
        (
            "only_the_replica_that_serves_a_pod_opens_its_gate",
            gates::one_replica_writes,
        ),
        (
            "a_pod_of_the_same_name_waits_for_its_own_envoy",
            gates::another_pod_of_the_name,
        ),
        (
            "a_pod_replaced_while_its_gate_is_written",
            gates::replaced_meanwhile,
        ),
        (
            "gates_that_cannot_be_opened_disturb_nothing",
            gates::refused,
        ),
        (
            "what_is_wrong_with_a_policy_is_told_once",
            events::told_once,
        ),
        ("events_that_are_refused_disturb_nothing", events::refused),
        (
            "events_that_fail_in_one_namespace_hold_up_no_others",
            events::failing_in_one_namespace,
        ),
    ])
}
