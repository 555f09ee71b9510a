//! Any text as manifests: read without a panic, and what an index makes of them, object by object, is
//! what a compilation from scratch makes of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sidewall_distributor::cluster::{Event, fuzzing};
use sidewall_distributor::index::{Change, Index};
use sidewall_distributor::snapshots::Recipient;
use sidewall_policy::compile::{Options, compile_snapshot};
use sidewall_policy::snapshot::Snapshot;

fuzz_target!(|text: &str| {
    let options = Options {
        node_plane: true,
        ..Options::default()
    };
    let mut index = Index::new(options);
    for object in fuzzing::objects(text) {
        index.apply(Event::Apply(object));
    }
    let cluster = index.cluster();
    for (recipient, change) in index.take_changes() {
        let Change::Snapshot(bytes) = change else {
            continue;
        };
        assert!(Snapshot::check(bytes.clone()).is_ok(), "{recipient}");
        if let Recipient::Pod(pod) = recipient {
            assert!(bytes == compile_snapshot(&cluster, &[pod], &options));
        }
    }
});
