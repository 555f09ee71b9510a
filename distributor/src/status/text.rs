//! The answer as a table.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::{Recipient, Status};
use crate::inspect::paint;

const TITLES: [&str; 6] = ["RECIPIENT", "STATE", "WANTED", "SINCE", "APPLIED", "AT"];

/// Writes a summary, whoever is not as they should be (or everybody), and the problems.
pub(super) fn write(out: &mut impl Write, status: &Status, all: bool) -> io::Result<()> {
    let Status {
        version,
        synced,
        pods,
        nodes,
        problems,
    } = status;
    write!(out, "distributor {version}, ")?;
    if *synced {
        write!(out, "{}", paint::good("synced"))?;
    } else {
        let not = "not synced: nothing is published";
        write!(out, "{}", paint::bad(not))?;
    }
    for (what, recipients) in [("pod", pods), ("node", nodes)] {
        if !recipients.is_empty() {
            write!(out, "; {}", summary(what, recipients))?;
        }
    }
    writeln!(out)?;

    let pods = pods.iter().map(|pod| (pod.name.clone(), pod));
    let nodes = nodes
        .iter()
        .map(|node| (format!("node {}", node.name), node));
    let shown: Vec<(String, &Recipient)> = pods
        .chain(nodes)
        .filter(|(_, recipient)| all || !recipient.is_settled())
        .collect();
    if !shown.is_empty() {
        writeln!(out)?;
        table(out, &shown)?;
    }
    if !problems.is_empty() {
        writeln!(out)?;
    }
    for problem in problems {
        writeln!(out, "{}", paint::warning(problem))?;
    }
    Ok(())
}

/// Such as `3 pods: 2 applied, 1 pending`.
fn summary(what: &str, recipients: &[Recipient]) -> String {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for recipient in recipients {
        *states.entry(recipient.state.as_str()).or_default() += 1;
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let (count, plural) = (
        recipients.len(),
        if recipients.len() == 1 { "" } else { "s" },
    );
    format!("{count} {what}{plural}: {}", states.join(", "))
}

fn table(out: &mut impl Write, shown: &[(String, &Recipient)]) -> io::Result<()> {
    let rows: Vec<[&str; 6]> = shown
        .iter()
        .map(|(name, recipient)| {
            let wanted = recipient.wanted.as_ref();
            let applied = recipient.applied.as_ref();
            [
                name.as_str(),
                recipient.state.as_str(),
                wanted.map_or("-", |it| it.revision.as_str()),
                wanted.map_or("-", |it| it.since.as_str()),
                applied.map_or("-", |it| it.revision.as_str()),
                applied.map_or("-", |it| it.at.as_str()),
            ]
        })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&TITLES]).map(|row| row[column].len());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    line(out, &TITLES, &widths)?;
    for (row, (_, recipient)) in rows.iter().zip(shown) {
        line(out, row, &widths)?;
        if let Some(refused) = &recipient.refused {
            let [indent, ..] = widths;
            writeln!(out, "{:indent$}  {}", "", paint::bad(&refused.reason))?;
        }
    }
    Ok(())
}

fn line(out: &mut impl Write, cells: &[&str; 6], widths: &[usize; 6]) -> io::Result<()> {
    let padded: Vec<String> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    writeln!(out, "{}", padded.join("  ").trim_end())
}
