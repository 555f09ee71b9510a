//! The verdicts beside a golden snapshot: `SOURCE DESTINATION PROTOCOL PORT VERDICT`, one a line.

use sidewall_policy::eval::Flow;

/// Each flow, and whether it is allowed.
pub fn read(text: &str) -> Vec<(Flow, bool)> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(line)
        .collect()
}

fn line(line: &str) -> (Flow, bool) {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [source, destination, protocol, port, verdict] = words[..] else {
        panic!("not five words: {line}");
    };
    let address = |text: &str| text.parse().expect("an address");
    let protocol = match protocol {
        "TCP" => 6,
        "UDP" => 17,
        other => panic!("no protocol: {other}"),
    };
    let flow = Flow {
        source: address(source),
        destination: address(destination),
        protocol,
        port: port.parse().expect("a port"),
    };
    let allowed = match verdict {
        "allow" => true,
        "deny" => false,
        other => panic!("no verdict: {other}"),
    };
    (flow, allowed)
}
