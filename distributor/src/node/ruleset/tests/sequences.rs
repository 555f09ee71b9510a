//! From one plan to the next, step by step: nothing dangles, nothing that holds the table together
//! goes, and no packet meets anything but what the old plan or the new one says.

use proptest::prelude::*;
use proptest::sample::select;
use sidewall_policy::compile::Options;

use super::kernel::{Kernel, Objects, references};
use super::packet::{Fate, Packet, walk};
use super::verdicts::{packet, ranges};
use super::{snapshot, with_ranges, worlds};
use crate::node::ruleset::object::Layer;
use crate::node::ruleset::{
    DELIVER, Existing, Plan, Settings, Step, cleanup, install, replace, transition,
};
use crate::testing::config::tried;

/// Plans of one node, one after the other; the first may know nothing.
fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let settings = prop_oneof![
        8 => Just(ranges()),
        1 => Just(with_ranges(["10.0.0.0/28", "fd00::/120"])),
        1 => Just(Settings { proxy_port: Some(15101), nflog_group: 1, ..ranges() }),
        1 => Just(Settings { proxy_port: None, ..ranges() }),
    ];
    let plan = (prop::option::weighted(0.9, worlds::cluster()), settings);
    let plan = plan.prop_map(|(cluster, settings)| {
        let cluster = cluster.map(|cluster| snapshot(&cluster, &Options::default()));
        Plan::new(&settings, cluster.as_ref())
    });
    prop::collection::vec(plan, 2..5)
}

fn fate(objects: Option<&Objects>, packet: &Packet) -> Fate {
    match objects {
        Some(objects) if objects.contains_key("prerouting") => {
            walk(objects, "prerouting", packet, &mut Vec::new())
        }
        _ => Fate::Passed,
    }
}

/// Runs steps and holds every moment against the first and the last.
fn run(
    kernel: &mut Kernel,
    steps: &[Step],
    new: &Plan,
    packets: &[Packet],
) -> Result<(), TestCaseError> {
    let old = kernel.clone();
    let redirects = |objects: &Objects| objects.contains_key("proxy");
    let is_switched = old.objects.as_ref().is_some_and(redirects) != redirects(&new.objects);
    for step in steps {
        let before = kernel.clone();
        kernel.run(&step.script);
        let amid = kernel.amid(&before);
        for packet in packets {
            let mut fates = vec![
                fate(old.objects.as_ref(), packet),
                fate(Some(&new.objects), packet),
            ];
            // While redirection is switched, what may pass may go without the proxy for a moment.
            if is_switched && fates.contains(&Fate::Delivered(DELIVER)) {
                fates.push(Fate::Passed);
            }
            for moment in [amid.as_ref(), kernel.objects.as_ref()] {
                let met = fate(moment, packet);
                prop_assert!(
                    fates.contains(&met),
                    "{packet:?}: {met:?} instead of one of {fates:?} in\n{}",
                    step.script
                );
            }
        }
    }
    prop_assert_eq!(kernel.objects.as_ref(), Some(&new.objects));
    Ok(())
}

fn installed(plan: &Plan) -> Kernel {
    let mut kernel = Kernel::default();
    kernel.learn(plan);
    for step in install(plan) {
        kernel.run(&step.script);
    }
    kernel
}

/// The listing that `nft -j` would print.
fn listing(kernel: &Kernel) -> Existing {
    let objects = kernel.objects.clone();
    objects.map_or_else(Existing::absent, |objects| {
        Existing::parse(&super::listing::of(&objects)).unwrap()
    })
}

proptest! {
    #![proptest_config(tried(96))]

    #[test]
    fn every_moment_of_a_transition_is_old_or_new(
        plans in plans(),
        packets in prop::collection::vec(packet(), 40),
    ) {
        let mut kernel = installed(&plans[0]);
        prop_assert_eq!(kernel.objects.as_ref(), Some(&plans[0].objects));
        for pair in plans.windows(2) {
            kernel.learn(&pair[1]);
            let steps = transition(&pair[0], &pair[1]);
            prop_assert!(steps.len() <= 3);
            run(&mut kernel, &steps, &pair[1], &packets)?;
            prop_assert_eq!(transition(&pair[1], &pair[1]), vec![]);
        }
    }

    #[test]
    fn a_table_that_is_there_is_adopted_without_a_gap(
        plans in plans(),
        packets in prop::collection::vec(packet(), 40),
    ) {
        let mut kernel = installed(&plans[0]);
        for plan in &plans {
            kernel.learn(plan);
            let steps = replace(&listing(&kernel), plan);
            run(&mut kernel, &steps, plan, &packets)?;
            prop_assert_eq!(listing(&kernel).drift(plan), Vec::<String>::new());
        }
    }

    /// Whatever was taken out of the table, it comes back.
    #[test]
    fn damage_is_seen_and_repaired(plans in plans(), damage in select(&["", "chain", "map", "set"][..])) {
        let plan = &plans[0];
        let mut kernel = installed(plan);
        let objects = kernel.objects.clone().unwrap();
        if damage.is_empty() {
            kernel.run(&cleanup().script);
        }
        for (name, object) in &objects {
            if crate::node::ruleset::text::kind(object) == damage {
                kernel.run(&format!("flush {damage} inet sidewall {name}\n"));
            }
        }
        let is_damaged = kernel.objects.as_ref() != Some(&plan.objects);
        prop_assert_eq!(!listing(&kernel).drift(plan).is_empty(), is_damaged);
        for step in replace(&listing(&kernel), plan) {
            kernel.run(&step.script);
        }
        prop_assert_eq!(kernel.objects.as_ref(), Some(&plan.objects));
    }

    /// What is edited in place leads down only, so that what is new can be built out of sight.
    #[test]
    fn objects_lead_to_lower_layers_or_to_constants(plans in plans()) {
        for plan in plans {
            for (from, to) in references(&plan.objects) {
                let (from, to) = (plan.objects[from].layer, plan.objects[&to].layer);
                prop_assert!(from < to || to == Layer::Base || from == Layer::Base || to == Layer::Ends, "{from:?} to {to:?}");
            }
        }
    }
}
