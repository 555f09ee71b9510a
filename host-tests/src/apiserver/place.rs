//! Where objects are.

use serde_json::Value;

use super::resource::Resource;

/// An object's place in the API.
#[derive(Clone, Debug)]
pub(in crate::apiserver) struct Place {
    pub(in crate::apiserver) resource: &'static Resource,
    pub(in crate::apiserver) namespace: String,
    pub(in crate::apiserver) name: String,
}

impl Place {
    /// Where an object belongs, by what it says of itself.
    pub(in crate::apiserver) fn of(object: &Value) -> Result<Self, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
        let resource = Resource::of(&version, &kind)
            .ok_or_else(|| format!("{kind:?} in version {version:?} is not known here"))?;
        let metadata = &object["metadata"];
        let name = metadata["name"]
            .as_str()
            .ok_or("metadata.name is missing")?;
        Ok(Self {
            resource,
            namespace: metadata["namespace"]
                .as_str()
                .unwrap_or("default")
                .to_owned(),
            name: name.to_owned(),
        })
    }

    /// Where all of its kind are, in its namespace.
    pub(in crate::apiserver) fn collection(&self) -> String {
        let root = root(self.resource);
        if self.resource.namespaced {
            format!(
                "{root}/namespaces/{}/{}",
                self.namespace, self.resource.plural
            )
        } else {
            format!("{root}/{}", self.resource.plural)
        }
    }

    /// Where it is itself.
    pub(in crate::apiserver) fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }
}

/// The path of everything of a kind, up to the namespace or the plural.
pub(in crate::apiserver) fn root(resource: &Resource) -> String {
    if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    }
}
