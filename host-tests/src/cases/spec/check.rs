//! What the types of case files cannot say.

use std::collections::BTreeMap;

use super::{Case, Entry, PlaneName, Step, Table};
use crate::probe::Protocol;

/// Says what is wrong with a case, and where.
pub(super) fn case(case: &Case) -> Result<(), String> {
    if case.steps.is_empty() {
        return Err("steps: there is none".to_owned());
    }
    for (number, each) in (1..).zip(&case.steps) {
        step(case, each).map_err(|reason| format!("steps[{number}]{reason}"))?;
    }
    Ok(())
}

fn step(case: &Case, step: &Step) -> Result<(), String> {
    for name in step.apply.keys() {
        if name.split('/').count() != 2 {
            return Err(format!(": {name:?} is no policy: write NAMESPACE/NAME"));
        }
    }
    for name in step.delete.iter().chain(step.patch.keys()) {
        let is_policy = name.split('/').count() == 2 && !name.contains(' ');
        let is_object = name.split(' ').count() == 2;
        let is_known = is_object || is_policy && !step.patch.contains_key(name);
        if !is_known {
            return Err(format!(
                ": {name:?} is no object: write KIND NAMESPACE/NAME, KIND NAME or, of a policy to delete, NAMESPACE/NAME"
            ));
        }
    }
    for object in &step.objects {
        for field in [&object["kind"], &object["metadata"]["name"]] {
            if !field.is_string() {
                return Err(format!(".objects: {object} needs kind and metadata.name"));
            }
        }
    }
    for each in &step.expect {
        table(case, each).map_err(|reason| format!(".expect: {reason}"))?;
    }
    for each in &step.probe {
        entry(case, each).map_err(|reason| format!(".probe: {reason}"))?;
    }
    Ok(())
}

fn table(case: &Case, table: &Table) -> Result<(), String> {
    if table.protocol == Protocol::Icmp {
        return Err("ICMP has no port".to_owned());
    }
    if !table
        .deny
        .iter()
        .chain(&table.allow)
        .all(super::Pairs::is_of_pods)
    {
        return Err("a table is of only pods; others belong into probe".to_owned());
    }
    carried(table.protocol, [&case.skip])
}

fn entry(case: &Case, entry: &Entry) -> Result<(), String> {
    if entry.deny.is_empty() && entry.allow.is_empty() {
        return Err("nobody is named: write allow or deny".to_owned());
    }
    if entry.by.is_some() && !entry.deny.is_empty() && !entry.allow.is_empty() {
        return Err("by is of one verdict: write allow or deny, not both".to_owned());
    }
    match (entry.protocol, entry.port) {
        (Protocol::Icmp, 0) => {}
        (Protocol::Icmp, _) => return Err("ICMP has no port".to_owned()),
        (_, 0) => return Err("there is no port".to_owned()),
        _ => {}
    }
    carried(entry.protocol, [&case.skip, &entry.skip])
}

/// A sidecar carries TCP alone: a case must say that it knows.
fn carried<'a>(
    protocol: Protocol,
    skips: impl IntoIterator<Item = &'a BTreeMap<PlaneName, String>>,
) -> Result<(), String> {
    let is_skipped = skips
        .into_iter()
        .any(|skip| skip.contains_key(&PlaneName::Proxy));
    if protocol == Protocol::Tcp || is_skipped {
        Ok(())
    } else {
        Err(format!(
            "{protocol} does not concern plane proxy; say so in skip"
        ))
    }
}
