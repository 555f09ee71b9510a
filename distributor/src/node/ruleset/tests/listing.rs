//! What `nft -j list table inet sidewall` prints of a table, as far as it is read.

use serde_json::{Value, json};

use super::kernel::Objects;
use crate::node::ruleset::object::Body;
use crate::node::ruleset::text;

pub(super) fn of(objects: &Objects) -> String {
    let mut items = vec![
        json!({"metainfo": {"version": "1.0.6", "json_schema_version": 1}}),
        json!({"table": {"family": "inet", "name": "sidewall", "handle": 1}}),
    ];
    for (name, object) in objects {
        let mut item = json!({"family": "inet", "table": "sidewall", "name": &**name});
        match &object.body {
            Body::Counter(_) => {}
            Body::Chain { hook, rules } => {
                if let Some(hook) = hook {
                    item["hook"] = hook.point.into();
                    item["prio"] = hook.number.into();
                }
                for _ in rules {
                    items.push(json!({"rule": {"chain": &**name, "expr": []}}));
                }
            }
            Body::Set { key, elements, .. } => {
                let words = key.words();
                item["type"] = match words.as_slice() {
                    [word] => (*word).into(),
                    words => words.into(),
                };
                if key.is_interval() {
                    item["flags"] = json!(["interval"]);
                }
                if !elements.is_empty() {
                    item["elem"] = elements.iter().map(|each| each.key.to_string()).collect();
                }
            }
        }
        let mut wrapped = Value::Object(serde_json::Map::new());
        wrapped[text::kind(object)] = item;
        items.push(wrapped);
    }
    json!({"nftables": items}).to_string()
}
