//! `sidewall serve` over TLS, with an API server that reviews tokens: what real Envoys, the real agent
//! and thieves get from it.
//!
//! Each case has a network namespace of its own, where everything is on the loopback address.

#[path = "../../distributor/tests/support/pki.rs"]
mod pki;
#[path = "chart_support/rendered.rs"]
mod rendered;
#[path = "xds_identity/renewal.rs"]
mod renewal;
#[path = "kube_support/rights.rs"]
mod rights;
#[path = "xds_identity/site.rs"]
mod site;
#[path = "xds_identity/theft.rs"]
mod theft;

use std::process::ExitCode;

fn main() -> ExitCode {
    sidewall_host_tests::harness::main(&[
        (
            "stolen_and_spoilt_credentials_open_nothing",
            theft::stolen_and_spoilt_credentials_open_nothing,
        ),
        (
            "a_certificate_opens_the_pods_of_its_service_account_alone",
            theft::a_certificate_opens_the_pods_of_its_service_account_alone,
        ),
        (
            "an_api_server_that_is_away_lets_nobody_new_in",
            theft::an_api_server_that_is_away_lets_nobody_new_in,
        ),
        (
            "a_sidecar_outlives_its_token_and_the_certificates",
            renewal::a_sidecar_outlives_its_token_and_the_certificates,
        ),
        (
            "agent_and_envoy_of_a_node_get_its_bundle",
            renewal::agent_and_envoy_of_a_node_get_its_bundle,
        ),
    ])
}
