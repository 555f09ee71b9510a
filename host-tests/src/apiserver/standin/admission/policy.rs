//! What an API server refuses about a NetworkPolicy, as far as tests ask for it.

use ipnet::IpNet;
use serde_json::Value;

/// Everything that is wrong with a spec.
pub(super) fn check(spec: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in items(&spec[rules]) {
            for (j, port) in items(&rule["ports"]) {
                check_port(&format!("spec.{rules}[{i}].ports[{j}]"), port, &mut wrong);
            }
            for (j, peer) in items(&rule[peers]) {
                check_peer(&format!("spec.{rules}[{i}].{peers}[{j}]"), peer, &mut wrong);
            }
        }
    }
    wrong
}

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn check_port(path: &str, port: &Value, wrong: &mut Vec<String>) {
    let protocol = port["protocol"].as_str().unwrap_or_default();
    if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        wrong.push(format!(
            r#"{path}.protocol: Unsupported value: {protocol:?}: supported values: "SCTP", "TCP", "UDP""#
        ));
    }
    let number = port["port"].as_i64();
    if let Some(number) = number.filter(|number| !(1..=65535).contains(number)) {
        wrong.push(format!(
            "{path}.port: Invalid value: {number}: must be between 1 and 65535, inclusive"
        ));
    }
    if let Some(end) = port["endPort"].as_i64() {
        match number {
            None => wrong.push(format!(
                "{path}.endPort: Invalid value: {end}: may not be specified when `port` is not specified or non-numeric"
            )),
            Some(number) if end < number => wrong.push(format!(
                "{path}.endPort: Invalid value: {end}: must be greater than or equal to `port`"
            )),
            Some(_) => {}
        }
    }
}

fn check_peer(path: &str, peer: &Value, wrong: &mut Vec<String>) {
    let selects = !peer["podSelector"].is_null() || !peer["namespaceSelector"].is_null();
    let block = &peer["ipBlock"];
    match (selects, block.is_null()) {
        (false, true) => wrong.push(format!("{path}: Required value: must specify a peer")),
        (true, false) => wrong.push(format!(
            "{path}: Forbidden: may not specify both ipBlock and another peer"
        )),
        (true, true) => {}
        (false, false) => check_block(&format!("{path}.ipBlock"), block, wrong),
    }
}

fn check_block(path: &str, block: &Value, wrong: &mut Vec<String>) {
    let read = |value: &Value| value.as_str().and_then(|text| text.parse::<IpNet>().ok());
    let invalid = |field: &str, value: &Value| {
        format!(
            "{path}.{field}: Invalid value: {value}: must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        )
    };
    let cidr = read(&block["cidr"]);
    if cidr.is_none() {
        wrong.push(invalid("cidr", &block["cidr"]));
    }
    for (i, except) in items(&block["except"]) {
        match (read(except), cidr) {
            (None, _) => wrong.push(invalid(&format!("except[{i}]"), except)),
            (Some(inner), Some(outer)) if inner == outer || !outer.contains(&inner) => {
                wrong.push(format!(
                    "{path}.except[{i}]: Invalid value: {except}: must be a strict subset of `cidr`"
                ));
            }
            _ => {}
        }
    }
}
