//! Any requests and answers of an xDS client, in any order: the protocol's promises hold.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| sidewall_distributor::xds::fuzzing::stream(bytes));
