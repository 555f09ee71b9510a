//! The records of a snapshot, byte for byte.

use zerocopy::byteorder::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight bytes of every snapshot.
pub const MAGIC: [u8; 8] = *b"SIDEWALL";

/// The format version that this build writes.
pub const VERSION: u16 = 1;

/// The format versions that this build reads. A release reads what its neighbours write: a new version
/// is added here one release before [`VERSION`] becomes it, and the old one goes one release after
/// (docs/how-to/upgrade.md).
pub const READABLE: std::ops::RangeInclusive<u16> = 1..=1;

/// The longest snapshot that is accepted: 64 MiB, far above 100,000 peers and below what would
/// starve a sidecar of memory unnoticed.
pub const MAX_LENGTH: usize = 64 << 20;

/// Flag: the node plane stands behind this proxy, see `Options::node_plane`.
pub const FLAG_NODE_PLANE: u16 = 1;
/// Flag: egress to the own node is judged, see `Options::enforce_own_node_egress`.
pub const FLAG_ENFORCE_OWN_NODE_EGRESS: u16 = 2;
/// Every flag this build knows.
pub const KNOWN_FLAGS: u16 = FLAG_NODE_PLANE | FLAG_ENFORCE_OWN_NODE_EGRESS;

/// TCP goes through the pod's sidecar.
pub const TCP_SIDECAR: u8 = 0;
/// TCP goes through the node's Envoy.
pub const TCP_NODE_PROXY: u8 = 1;
/// TCP goes its way once the kernel has let it pass.
pub const TCP_KERNEL: u8 = 2;

/// "No such record" where an index is expected.
pub const NONE: u32 = u32::MAX;

/// Declares records: fixed size, any alignment, any bytes.
macro_rules! records {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
    )*};
}

records! {
    /// The fixed start of a snapshot.
    Header {
        /// [`MAGIC`].
        magic: [u8; 8],
        /// [`VERSION`].
        version: U16,
        /// `FLAG_*`.
        flags: U16,
        /// Bytes in all, this header included.
        length: U32,
        /// XXH3-64 of the 16 bytes before it and of everything after it.
        hash: U64,
    }
    /// Where a section lies: bytes from the start, and bytes.
    Section {
        /// From the start of the snapshot.
        offset: U32,
        /// In bytes, a multiple of the record size.
        length: U32,
    }
    /// Consecutive records of another section.
    Span {
        /// Index of the first.
        start: U32,
        /// How many.
        count: U32,
    }
    /// A piece of the text section, valid UTF-8.
    Text {
        /// First byte.
        start: U32,
        /// Bytes.
        length: U16,
    }
    /// An IPv4 address of a subject; sorted by address.
    SubjectV4 {
        /// Network order.
        address: [u8; 4],
        /// Index of its subject.
        subject: U32,
    }
    /// An IPv6 address of a subject; sorted by address.
    SubjectV6 {
        /// Network order.
        address: [u8; 16],
        /// Index of its subject.
        subject: U32,
    }
    /// A pod that is judged for.
    Subject {
        /// Its namespace.
        namespace: Text,
        /// Its name.
        name: Text,
        /// Index of its group.
        group: U32,
        /// Its node's addresses, a span of `node_addresses`.
        node: Span,
        /// Backends that are always allowed to it, a span of `backings`.
        backings: Span,
        /// Who carries its TCP: `TCP_*`.
        tcp_path: u8,
    }
    /// A backend of a service port that is always allowed to a subject, because it is the subject
    /// itself or its node; sorted by service port within a subject.
    Backing {
        /// Index into `service_ports`.
        service_port: U32,
        /// The backend, IPv6 or IPv4 in its v4-mapped form.
        address: U128,
        /// Its target port.
        port: U16,
    }
    /// A compiled body: indexes of tables.
    Group {
        /// Enforced for ingress.
        ingress: U32,
        /// Enforced for egress.
        egress: U32,
        /// With audited policies, for ingress; [`NONE`] without any.
        audit_ingress: U32,
        /// With audited policies, for egress; [`NONE`] without any.
        audit_egress: U32,
    }
    /// One direction of a body. Without policies it allows everything.
    Table {
        /// Bytes of a host's class: 1, 2 or 4.
        class_width: u8,
        /// Every isolating policy, a span of `policy_refs`.
        policies: Span,
        /// Every rule, a span of `table_rules`.
        rules: Span,
        /// Port classes; the first is empty. A span of `classes`.
        classes: Span,
        /// A span of `hosts_v4`.
        hosts_v4: Span,
        /// A span of `hosts_v6`.
        hosts_v6: Span,
        /// First byte in `host_classes`: classes of the IPv4 hosts, then of the IPv6 ones.
        host_classes: U32,
        /// A span of `ranges_v4`: each range goes on until the next one starts.
        ranges_v4: Span,
        /// A span of `ranges_v6`.
        ranges_v6: Span,
        /// First of `range_classes`: classes of the IPv4 ranges, then of the IPv6 ones.
        range_classes: U32,
        /// A span of `service_verdicts`: none, or one for each of `service_ports`. Where no table has any, the
        /// snapshot only names services' addresses.
        services: Span,
    }
    /// A policy's name.
    Policy {
        /// Its namespace.
        namespace: Text,
        /// Its name.
        name: Text,
    }
    /// A rule's place.
    Rule {
        /// Index of its policy.
        policy: U32,
        /// Its position in the policy's list.
        index: U32,
    }
    /// A rule of a table, with the ports that hold for all its peers.
    TableRule {
        /// Index of the rule.
        rule: U32,
        /// A class of this table.
        class: U32,
    }
    /// An allowed range of ports; sorted by protocol and port within a class, disjoint.
    Entry {
        /// 6, 17, 132, or 255 for all others.
        protocol: u8,
        /// First port.
        low: U16,
        /// Last port.
        high: U16,
        /// Index of the rule that is named.
        rule: U32,
    }
    /// A port of a service, in one family.
    ServicePort {
        /// The service's namespace.
        namespace: Text,
        /// The service's name.
        name: Text,
    }
    /// Where a service is reached; sorted by address, protocol and port.
    ServiceAddress {
        /// IPv6, or IPv4 in its v4-mapped form.
        address: U128,
        /// The protocol's number.
        protocol: u8,
        /// The service port.
        port: U16,
        /// Index into `service_ports`.
        service_port: U32,
        /// 1 if nothing but services answers at this address, on any port; else 0.
        is_cluster_ip: u8,
    }
    /// A port that every node hands to a service; sorted by family, protocol and port.
    NodePort {
        /// 4 or 6.
        family: u8,
        /// The protocol's number.
        protocol: u8,
        /// The port on the node.
        port: U16,
        /// Index into `service_ports`.
        service_port: U32,
    }
    /// What a table says of the backends of a service port.
    ServiceVerdict {
        /// Backends allowed.
        allowed: U32,
        /// Backends denied.
        denied: U32,
        /// A rule that allows one; [`NONE`] when none is allowed.
        rule: U32,
    }
}
