//! What an Envoy wrote: decision records and the access log, as JSON.

use serde_json::Value;

/// The first word of a decision record's message.
const RECORD: &str = "sidewall-decision ";

/// The records in Envoy's own log: what follows the word `sidewall-decision` in a line. A last
/// line that is still being written is left for the next time.
pub(crate) fn decisions(log: &str) -> Vec<Value> {
    let record = |line: &str| serde_json::from_str(line.split_once(RECORD)?.1.trim()).ok();
    log.lines().filter_map(record).collect()
}

/// The lines of an access log in JSON.
pub(super) fn access(log: &str) -> Vec<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// The last lines of a log, for an error message.
pub(super) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_behind_whatever_envoy_puts_before_it() {
        let log = "[2026][12][warning][wasm] [c.cc:1] wasm log g r v: sidewall-decision {\"verdict\":\"deny\"}\n\
                   [2026][12][info] starting\nsidewall-decision {\"verd";
        assert_eq!(decisions(log), [serde_json::json!({"verdict": "deny"})]);
    }

    #[test]
    fn a_line_that_is_still_being_written_is_not_read() {
        assert_eq!(access("{\"a\":1}\n{\"a\":"), [serde_json::json!({"a": 1})]);
    }
}
