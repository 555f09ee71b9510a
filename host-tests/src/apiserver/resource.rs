//! Which kinds of objects there are, and under which paths.

/// A kind that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::apiserver) struct Resource {
    /// The API group; empty for the core.
    pub(in crate::apiserver) group: &'static str,
    pub(in crate::apiserver) version: &'static str,
    /// As in paths.
    pub(in crate::apiserver) plural: &'static str,
    pub(in crate::apiserver) singular: &'static str,
    pub(in crate::apiserver) kind: &'static str,
    pub(in crate::apiserver) short_names: &'static [&'static str],
    pub(in crate::apiserver) namespaced: bool,
    /// Whether its status is written through a path of its own, and by that alone.
    pub(in crate::apiserver) has_status: bool,
}

const fn resource(
    group: &'static str,
    plural: &'static str,
    singular: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
) -> Resource {
    Resource {
        group,
        version: "v1",
        plural,
        singular,
        kind,
        short_names,
        namespaced: true,
        has_status: false,
    }
}

const fn with_status(resource: Resource) -> Resource {
    Resource {
        has_status: true,
        ..resource
    }
}

const fn cluster_scoped(resource: Resource) -> Resource {
    Resource {
        namespaced: false,
        ..resource
    }
}

/// All of them.
pub(in crate::apiserver) static RESOURCES: [Resource; 8] = [
    cluster_scoped(with_status(resource(
        "",
        "namespaces",
        "namespace",
        "Namespace",
        &["ns"],
    ))),
    cluster_scoped(with_status(resource("", "nodes", "node", "Node", &["no"]))),
    with_status(resource("", "pods", "pod", "Pod", &["po"])),
    with_status(resource("", "services", "service", "Service", &["svc"])),
    resource(
        "",
        "serviceaccounts",
        "serviceaccount",
        "ServiceAccount",
        &["sa"],
    ),
    resource("", "events", "event", "Event", &["ev"]),
    resource(
        "discovery.k8s.io",
        "endpointslices",
        "endpointslice",
        "EndpointSlice",
        &[],
    ),
    resource(
        "networking.k8s.io",
        "networkpolicies",
        "networkpolicy",
        "NetworkPolicy",
        &["netpol"],
    ),
];

impl Resource {
    /// The resource of a path.
    pub(in crate::apiserver) fn find(
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<&'static Self> {
        RESOURCES
            .iter()
            .find(|it| (it.group, it.version, it.plural) == (group, version, plural))
    }

    /// The resource of an object, by what it says of itself.
    pub(in crate::apiserver) fn of(api_version: &str, kind: &str) -> Option<&'static Self> {
        RESOURCES
            .iter()
            .find(|it| it.kind == kind && it.api_version() == api_version)
    }

    /// Namespaces.
    pub(in crate::apiserver) fn namespaces() -> &'static Self {
        &RESOURCES[0]
    }

    /// Pods.
    pub(in crate::apiserver) fn pods() -> &'static Self {
        &RESOURCES[2]
    }

    /// What objects say in `apiVersion`.
    pub(in crate::apiserver) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// How messages name it.
    pub(in crate::apiserver) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}
