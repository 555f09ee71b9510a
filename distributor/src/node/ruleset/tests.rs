//! The table as text, as data, and from one to the next.

mod golden;

use super::Settings;

fn settings() -> Settings {
    let ranges = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
    Settings {
        pod_cidrs: ranges(["10.244.1.0/24", "fd00:244:1::/64"]),
        cluster_cidrs: ranges(["10.244.0.0/16", "fd00:244::/32"]),
        proxy_port: 15100,
        nflog_group: 4747,
    }
}
