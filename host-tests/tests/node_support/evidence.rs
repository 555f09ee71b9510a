//! What a lab's nodes hold and say, for a failure that does not happen twice.

use sidewall_host_tests::lab::Lab;

/// How much of an agent's log is told, from its end.
const LOG_LINES: usize = 60;

/// Rules, tracked connections, readiness and the end of the agent's log of each node.
pub fn evidence(lab: &Lab, nodes: &[&str]) -> String {
    let of_nodes = nodes.iter().map(|node| {
        let log = lab.agent_log(node).unwrap_or_else(|error| error.to_string());
        let lines: Vec<_> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        format!(
            "== {node}: rules\n{}\n== {node}: connections\n{}{}\n== {node}: /readyz\n{}\n== {node}: log of the agent\n{end}",
            run(lab, node, "nft", &["list", "ruleset"]),
            run(lab, node, "conntrack", &["-L", "-f", "ipv4", "-o", "id"]),
            run(lab, node, "conntrack", &["-L", "-f", "ipv6", "-o", "id"]),
            lab.agent_get(node, "/readyz").unwrap_or_else(|error| error.to_string()),
        )
    });
    of_nodes.collect::<Vec<_>>().join("\n")
}

fn run(lab: &Lab, node: &str, program: &str, arguments: &[&str]) -> String {
    let output = lab
        .netns(&format!("node:{node}"))
        .map(|netns| netns.command(program).args(arguments).output());
    match output {
        Ok(Ok(output)) => [output.stdout, output.stderr]
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .concat(),
        Ok(Err(error)) => format!("cannot run {program}: {error}"),
        Err(error) => error.to_string(),
    }
}
