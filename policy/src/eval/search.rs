//! Finding a record: by buckets among scrambled keys and among ranges, by halving elsewhere.
//!
//! Directories are built when a snapshot is checked; they are not part of its bytes.

mod ranges;

pub(crate) use ranges::RangeDirectory;

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::byteorder::little_endian::{U32, U128};

/// Scrambles an IPv4 address: a bijection of 32 bits whose values spread evenly, whatever ranges
/// the addresses come from (the finaliser of MurmurHash3).
pub(crate) fn host_key_v4(ip: Ipv4Addr) -> u32 {
    let mut x = u32::from(ip);
    x ^= x >> 16;
    x = x.wrapping_mul(0x85eb_ca6b);
    x ^= x >> 13;
    x = x.wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

/// The address that [`host_key_v4`] scrambled. Multiplying by an inverse undoes multiplying.
pub(crate) fn host_of_key_v4(key: u32) -> Ipv4Addr {
    let mut x = key;
    x ^= x >> 16;
    x = x.wrapping_mul(0x7ed1_b41d);
    x ^= (x >> 13) ^ (x >> 26);
    x = x.wrapping_mul(0xa5cb_9243);
    Ipv4Addr::from_bits(x ^ (x >> 16))
}

/// A bijection of 64 bits (the 64-bit finaliser of MurmurHash3).
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The inverse of [`mix`].
fn unmix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0x9cb4_b2f8_1293_37db);
    x ^= x >> 33;
    x = x.wrapping_mul(0x4f74_430c_22a5_4005);
    x ^ (x >> 33)
}

/// Scrambles an IPv6 address: the upper half takes in the lower one, which stays as it is, so that
/// the whole remains a bijection.
pub(crate) fn host_key_v6(ip: Ipv6Addr) -> u128 {
    let whole = u128::from(ip);
    let low = whole as u64;
    let high = mix((whole >> 64) as u64 ^ mix(low));
    (u128::from(high) << 64) | u128::from(low)
}

/// The address that [`host_key_v6`] scrambled.
pub(crate) fn host_of_key_v6(key: u128) -> Ipv6Addr {
    let low = key as u64;
    let high = unmix((key >> 64) as u64) ^ mix(low);
    Ipv6Addr::from_bits((u128::from(high) << 64) | u128::from(low))
}

/// A sorted, evenly spread key.
pub(crate) trait Key {
    /// What it is compared as.
    type Value: Copy + Ord;
    /// Its value.
    fn value(&self) -> Self::Value;
    /// The upper 32 bits of a value.
    fn top(value: Self::Value) -> u32;
}

impl Key for U32 {
    type Value = u32;
    fn value(&self) -> u32 {
        self.get()
    }
    fn top(value: u32) -> u32 {
        value
    }
}

impl Key for U128 {
    type Value = u128;
    fn value(&self) -> u128 {
        self.get()
    }
    fn top(value: u128) -> u32 {
        (value >> 96) as u32
    }
}

/// How many keys are compared at once: one cache line of IPv4 keys, four of IPv6 ones.
const BLOCK: usize = 16;

/// How many keys a bucket of a [`Directory`] holds on average.
const PER_BUCKET: usize = 4;

/// Where each bucket of evenly spread, ascending keys begins. The upper bits of a key are its
/// bucket, so that one look here and one block of keys find it, however many there are.
///
/// Keys that somebody chose to share a bucket cost a binary search among them.
pub(crate) struct Directory {
    /// How far the upper 32 bits of a key are shifted to give its bucket.
    shift: u32,
    /// The first key of each bucket, and behind them the number of keys. Empty when one block
    /// holds all keys.
    starts: Box<[u32]>,
}

impl Directory {
    /// Builds it over keys.
    pub(crate) fn over<K: Key>(keys: &[K]) -> Self {
        if keys.len() <= BLOCK {
            return Self {
                shift: 0,
                starts: Box::default(),
            };
        }
        let buckets = (keys.len() / PER_BUCKET).next_power_of_two();
        let shift = u32::BITS.saturating_sub(buckets.trailing_zeros());
        let mut starts = Vec::with_capacity(buckets.saturating_add(1));
        let mut start = 0_usize;
        for bucket in 0..buckets {
            let in_bucket = |key: &K| (K::top(key.value()) >> shift) as usize == bucket;
            starts.push(start as u32);
            let from_here = keys.get(start..).unwrap_or_default();
            let count = from_here.iter().take_while(|key| in_bucket(key)).count();
            start = start.saturating_add(count);
        }
        starts.push(start as u32);
        Self {
            shift,
            starts: starts.into(),
        }
    }

    /// The place of a key among those it was built over.
    #[inline]
    pub(super) fn find<K: Key>(&self, keys: &[K], wanted: K::Value) -> Option<usize> {
        let (start, end) = if self.starts.is_empty() {
            (0, keys.len())
        } else {
            let bucket = K::top(wanted).checked_shr(self.shift)? as usize;
            let [start, end] = *self.starts.get(bucket..)?.first_chunk::<2>()?;
            (start as usize, end as usize)
        };
        let below = |key: &K| key.value() < wanted;
        let rest = keys.get(start..)?;
        // Counting all of a block has no branch to mispredict.
        let count = match rest.first_chunk::<BLOCK>() {
            Some(block) => block.iter().filter(|key| below(key)).count(),
            None => rest.iter().filter(|key| below(key)).count(),
        };
        let mut place = start.checked_add(count)?;
        // What is below the wanted key lies before the end of its bucket.
        if count == BLOCK {
            let crowded = keys.get(place..end)?;
            place = place.checked_add(crowded.partition_point(below))?;
        }
        (keys.get(place)?.value() == wanted).then_some(place)
    }
}

/// The record with a key, among strictly ascending ones.
#[inline]
pub(super) fn record<T, K: Copy + Ord>(
    records: &[T],
    key: impl Fn(&T) -> K,
    wanted: K,
) -> Option<&T> {
    let found = records
        .binary_search_by(|each| key(each).cmp(&wanted))
        .ok()?;
    records.get(found)
}

/// The last record whose start is not above a position, among ascending ones.
#[inline]
pub(super) fn covering<T, K: Copy + Ord>(
    records: &[T],
    start: impl Fn(&T) -> K,
    position: K,
) -> Option<&T> {
    let after = records.partition_point(|each| start(each) <= position);
    records.get(after.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_lead_back_to_their_addresses(v4: u32, v6: u128) {
            let (v4, v6) = (Ipv4Addr::from_bits(v4), Ipv6Addr::from_bits(v6));
            prop_assert_eq!(host_of_key_v4(host_key_v4(v4)), v4);
            prop_assert_eq!(host_of_key_v6(host_key_v6(v6)), v6);
        }

        #[test]
        fn finds_every_key_and_no_other(mut keys in prop::collection::vec(any::<u32>(), 0..400), other: u32, shift in 0u32..28) {
            // Shifted keys crowd into few buckets.
            keys.iter_mut().for_each(|key| *key >>= shift);
            keys.sort_unstable();
            keys.dedup();
            let records: Vec<U32> = keys.iter().map(|key| (*key).into()).collect();
            let directory = Directory::over(&records);
            for (place, wanted) in keys.iter().enumerate() {
                prop_assert_eq!(directory.find(&records, *wanted), Some(place));
            }
            prop_assert_eq!(directory.find(&records, other), keys.binary_search(&other).ok());
        }

        #[test]
        fn scrambling_keeps_ipv6_addresses_apart(a: u128, b: u128, low: u64) {
            let same_low = |x: u128| (x & !u128::from(u64::MAX)) | u128::from(low);
            for (a, b) in [(a, b), (same_low(a), same_low(b))] {
                prop_assert_eq!(host_key_v6(a.into()) == host_key_v6(b.into()), a == b);
            }
        }
    }

    #[test]
    fn directories_have_a_bucket_for_four_keys_and_none_for_a_block() {
        let buckets = |count: u32| {
            let keys: Vec<U32> = (0..count).map(|n| (n * 4_000_000).into()).collect();
            Directory::over(&keys).starts.len().saturating_sub(1)
        };
        assert_eq!([16, 17, 512, 1_000].map(buckets), [0, 4, 128, 256]);
    }

    #[test]
    fn addresses_in_a_row_crowd_no_bucket() {
        let mut v4: Vec<u32> = (0x0a00_0000..0x0a00_03e8)
            .map(|n| host_key_v4(Ipv4Addr::from_bits(n)))
            .collect();
        let mut v6: Vec<u128> = (0xfd00_u128 << 112..(0xfd00 << 112) + 1_000)
            .map(|n| host_key_v6(Ipv6Addr::from_bits(n)))
            .collect();
        v4.sort_unstable();
        v6.sort_unstable();
        let v4: Vec<U32> = v4.into_iter().map(Into::into).collect();
        let v6: Vec<U128> = v6.into_iter().map(Into::into).collect();
        for directory in [Directory::over(&v4), Directory::over(&v6)] {
            let buckets = directory.starts.array_windows::<2>();
            let fullest = buckets.map(|[start, end]| end - start).max().unwrap();
            assert!(fullest as usize <= BLOCK, "{fullest} in one");
        }
    }
}
