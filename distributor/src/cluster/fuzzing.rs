//! What the fuzz target of manifests reads with; see fuzz/.

use super::decode;
use super::event::Object;

/// The objects of a file of manifests, those that stand in for what is not YAML included.
pub fn objects(text: &str) -> Vec<Object> {
    let loaded = decode::file("fuzz.yaml", text);
    let mut objects = loaded.objects;
    objects.extend(loaded.stand_ins);
    objects
}
