//! Typed slices over snapshot bytes, without copying.

use zerocopy::byteorder::little_endian::{U32, U128};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::error::SnapshotError;
use super::layout::{
    Backing, Entry, Group, Header, KNOWN_FLAGS, MAGIC, MAX_LENGTH, NodePort, Policy, READABLE,
    Rule, Section, ServiceAddress, ServicePort, ServiceVerdict, Span, Subject, SubjectV4,
    SubjectV6, Table, TableRule, Text,
};
use crate::eval::{Directory, RangeDirectory};

self_cell::self_cell!(
    /// Bytes together with the view into them.
    pub(super) struct Checked {
        owner: Vec<u8>,
        #[covariant]
        dependent: View,
    }
);

/// Declares the sections in their order, and how to open them.
macro_rules! sections {
    ($($name:ident: $record:ty,)*) => {
        /// Names of the sections, in the order of the section table.
        pub(super) const SECTIONS: &[&str] = &[$(stringify!($name)),*];

        /// The sections of a snapshot as slices.
        pub(crate) struct View<'a> {
            /// The content hash.
            pub(crate) hash: u64,
            /// `FLAG_*`.
            pub(crate) flags: u16,
            $(pub(crate) $name: &'a [$record],)*
            text: &'a str,
            /// For each table, what finds an address fast.
            indexes: Vec<TableIndex>,
        }

        impl<'a> View<'a> {
            /// Opens all sections; their contents are not looked at yet.
            pub(super) fn open(bytes: &'a [u8]) -> Result<Self, SnapshotError> {
                let (header, mut cursor) = open_header(bytes)?;
                $(let $name = cursor.next(stringify!($name))?;)*
                let text = cursor.text()?;
                Ok(Self { hash: header.hash.get(), flags: header.flags.get(), $($name,)* text, indexes: Vec::new() })
            }
        }
    };
}

sections! {
    subjects_v4: SubjectV4,
    subjects_v6: SubjectV6,
    subjects: Subject,
    node_addresses: [u8; 16],
    backings: Backing,
    groups: Group,
    tables: Table,
    policy_refs: U32,
    policies: Policy,
    table_rules: TableRule,
    rules: Rule,
    classes: Span,
    entries: Entry,
    hosts_v4: U32,
    hosts_v6: U128,
    host_classes: u8,
    ranges_v4: U32,
    ranges_v6: U128,
    range_classes: U32,
    service_ports: ServicePort,
    service_addresses: ServiceAddress,
    node_ports: NodePort,
    service_verdicts: ServiceVerdict,
}

/// Sections of records, and the text behind them.
pub(super) const SECTION_COUNT: usize = SECTIONS.len() + 1;

/// Where the sections begin.
pub(super) const BODY: usize = size_of::<Header>() + SECTION_COUNT * size_of::<Section>();

fn open_header(bytes: &[u8]) -> Result<(&Header, Cursor<'_>), SnapshotError> {
    let found = bytes.len();
    if found > MAX_LENGTH {
        return Err(SnapshotError::TooLong(found));
    }
    let too_short = || SnapshotError::TooShort(found);
    let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| too_short())?;
    if header.magic != MAGIC {
        return Err(SnapshotError::Magic);
    }
    if !READABLE.contains(&header.version.get()) {
        return Err(SnapshotError::Version(header.version.get()));
    }
    if usize::try_from(header.length.get()) != Ok(found) {
        return Err(SnapshotError::Length {
            header: header.length.get(),
            found,
        });
    }
    let (table, _) =
        <[Section]>::ref_from_prefix_with_elems(rest, SECTION_COUNT).map_err(|_| too_short())?;
    if hash(bytes) != header.hash.get() {
        return Err(SnapshotError::Hash);
    }
    let unknown = header.flags.get() & !KNOWN_FLAGS;
    if unknown != 0 {
        return Err(SnapshotError::Flags(unknown));
    }
    Ok((
        header,
        Cursor {
            bytes,
            table: table.iter(),
            expected: BODY,
        },
    ))
}

/// XXH3-64 of everything but the hash itself.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    const HASH: std::ops::Range<usize> = 16..size_of::<Header>();
    let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
    hasher.update(bytes.get(..HASH.start).unwrap_or_default());
    hasher.update(bytes.get(HASH.end..).unwrap_or_default());
    hasher.digest()
}

/// Walks the section table: sections follow each other without gap or overlap.
struct Cursor<'a> {
    bytes: &'a [u8],
    table: std::slice::Iter<'a, Section>,
    expected: usize,
}

impl<'a> Cursor<'a> {
    fn next<T>(&mut self, name: &'static str) -> Result<&'a [T], SnapshotError>
    where
        T: FromBytes + Immutable + KnownLayout + Unaligned,
    {
        <[T]>::ref_from_bytes(self.next_bytes(name)?).map_err(|_| SnapshotError::Section {
            section: name,
            reason: "its length is not a multiple of its record",
        })
    }

    fn text(&mut self) -> Result<&'a str, SnapshotError> {
        let bytes = self.next_bytes("text")?;
        if self.expected != self.bytes.len() {
            return Err(SnapshotError::Section {
                section: "text",
                reason: "bytes follow the last section",
            });
        }
        std::str::from_utf8(bytes).map_err(|_| SnapshotError::Section {
            section: "text",
            reason: "it is not UTF-8",
        })
    }

    fn next_bytes(&mut self, name: &'static str) -> Result<&'a [u8], SnapshotError> {
        let error = |reason| SnapshotError::Section {
            section: name,
            reason,
        };
        let section = self
            .table
            .next()
            .ok_or_else(|| error("it is missing from the section table"))?;
        let offset = section.offset.get() as usize;
        let length = section.length.get() as usize;
        if offset != self.expected {
            return Err(error("it does not begin where the one before it ends"));
        }
        let end = offset
            .checked_add(length)
            .ok_or_else(|| error("its length overflows"))?;
        self.expected = end;
        self.bytes
            .get(offset..end)
            .ok_or_else(|| error("it ends behind the snapshot"))
    }
}

impl<'a> View<'a> {
    /// A text; empty if it lies outside, which `check` excludes.
    pub(crate) fn text(&self, text: Text) -> &'a str {
        self.text_checked(text).unwrap_or_default()
    }

    pub(super) fn text_checked(&self, text: Text) -> Option<&'a str> {
        let start = text.start.get() as usize;
        self.text
            .get(start..start.checked_add(usize::from(text.length.get()))?)
    }

    /// `namespace/name`.
    pub(crate) fn qualified(&self, namespace: Text, name: Text) -> String {
        [self.text(namespace), self.text(name)].join("/")
    }

    /// Builds what makes evaluation fast. Called once, when the contents are known to be good;
    /// with others there would be no table, which denies.
    pub(super) fn index(&mut self) {
        let indexes: Option<_> = self.tables.iter().map(|t| self.index_of(t)).collect();
        self.indexes = indexes.unwrap_or_default();
    }

    fn index_of(&self, table: &Table) -> Option<TableIndex> {
        let classes = slice(self.classes, table.classes)?;
        let (ranges_v4, ranges_v6) = (table.ranges_v4, table.ranges_v6);
        let range_count = ranges_v4.count.get().checked_add(ranges_v6.count.get())?;
        let range_classes = Span {
            start: table.range_classes,
            count: range_count.into(),
        };
        let range_entries = slice(self.range_classes, range_classes)?
            .iter()
            .map(|class| classes.get(class.get() as usize).copied());
        Some(TableIndex {
            hosts_v4: Directory::over(slice(self.hosts_v4, table.hosts_v4)?),
            hosts_v6: Directory::over(slice(self.hosts_v6, table.hosts_v6)?),
            ranges_v4: RangeDirectory::over(slice(self.ranges_v4, ranges_v4)?),
            ranges_v6: RangeDirectory::over(slice(self.ranges_v6, ranges_v6)?),
            range_entries: range_entries.collect::<Option<_>>()?,
        })
    }

    /// The class of a table's host, counted over its IPv4 hosts and then its IPv6 ones.
    #[inline]
    pub(crate) fn host_class(&self, table: &Table, host: usize) -> Option<u32> {
        let width = usize::from(table.class_width);
        let start = host
            .checked_mul(width)?
            .checked_add(table.host_classes.get() as usize)?;
        match *self.host_classes.get(start..start.checked_add(width)?)? {
            [a] => Some(u32::from(a)),
            [a, b] => Some(u32::from(u16::from_le_bytes([a, b]))),
            [a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
            _ => None,
        }
    }

    /// A table with its own records as slices; `None` for an index that `check` excludes.
    #[inline]
    pub(crate) fn table(&self, index: u32) -> Option<TableView<'_>> {
        let table = self.tables.get(index as usize)?;
        Some(TableView {
            table,
            classes: slice(self.classes, table.classes)?,
            index: self.indexes.get(index as usize)?,
        })
    }
}

/// A table, its port classes and what finds its addresses.
#[derive(Clone, Copy)]
pub(crate) struct TableView<'a> {
    pub(crate) table: &'a Table,
    pub(crate) classes: &'a [Span],
    pub(crate) index: &'a TableIndex,
}

/// What finds an address in a table.
pub(crate) struct TableIndex {
    pub(crate) hosts_v4: Directory,
    pub(crate) hosts_v6: Directory,
    pub(crate) ranges_v4: RangeDirectory<u32>,
    pub(crate) ranges_v6: RangeDirectory<u128>,
    /// The entries of the IPv4 ranges, then of the IPv6 ones. Their classes say the same, one look
    /// further away; among ten thousand ranges each look is a wait for memory.
    pub(crate) range_entries: Box<[Span]>,
}

/// The records of a span; `None` when it does not lie inside.
#[inline]
pub(crate) fn slice<T>(records: &[T], span: Span) -> Option<&[T]> {
    let start = span.start.get() as usize;
    records.get(start..start.checked_add(span.count.get() as usize)?)
}
