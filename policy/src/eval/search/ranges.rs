//! Finding the range that an address lies in, among ranges of which only the starts are known.

use super::{BLOCK, Key, PER_BUCKET};

/// Where to look for the last key that is not above a position, among ascending keys.
///
/// Buckets of equal width are laid over the keys from the first to the last. Keys that are spread
/// evenly are found by one look here and one block of keys, however many they are. Where they
/// crowd, as blocks of one network do beside an address from another, [`Fences`] lead to them.
pub(crate) struct RangeDirectory<V> {
    /// The first key: buckets are counted from here.
    origin: V,
    /// How far the distance from the origin is shifted to give a bucket.
    shift: u32,
    /// The first key of each bucket, and behind them the number of keys. Empty when one block
    /// holds all keys.
    starts: Box<[u32]>,
    /// For buckets that hold more than one block, if there are any.
    fences: Option<Fences<V>>,
}

/// A number on the address line.
pub(crate) trait Position: Copy + Ord + Default {
    /// How far it lies behind another; `None` if it lies before it.
    fn distance_from(self, origin: Self) -> Option<Self>;
    /// The bits it needs.
    fn bits(self) -> u32;
    /// Without its lower bits, and no more than `usize` holds.
    fn without_low_bits(self, count: u32) -> usize;
}

macro_rules! positions {
    ($($number:ty),*) => {$(
        impl Position for $number {
            #[inline]
            fn distance_from(self, origin: Self) -> Option<Self> {
                self.checked_sub(origin)
            }
            fn bits(self) -> u32 {
                Self::BITS.saturating_sub(self.leading_zeros())
            }
            #[inline]
            fn without_low_bits(self, count: u32) -> usize {
                let rest = self.checked_shr(count).unwrap_or_default();
                usize::try_from(rest).unwrap_or(usize::MAX)
            }
        }
    )*};
}

positions!(u32, u128);

impl<V: Position> RangeDirectory<V> {
    /// Builds it over ascending keys.
    pub(crate) fn over<K: Key<Value = V>>(keys: &[K]) -> Self {
        let none = Self {
            origin: V::default(),
            shift: 0,
            starts: Box::default(),
            fences: None,
        };
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
            return none;
        };
        let origin = first.value();
        let Some(width) = last.value().distance_from(origin) else {
            return none;
        };
        if keys.len() <= BLOCK {
            return none;
        }
        let wanted = (keys.len() / PER_BUCKET).next_power_of_two();
        let shift = width.bits().saturating_sub(wanted.trailing_zeros());
        let bucket_of = |key: &K| {
            let distance = key.value().distance_from(origin).unwrap_or_default();
            distance.without_low_bits(shift)
        };
        let mut starts = Vec::with_capacity(wanted.saturating_add(1));
        let (mut start, mut crowded) = (0_usize, false);
        for bucket in 0..=bucket_of(last) {
            starts.push(start as u32);
            let from_here = keys.get(start..).unwrap_or_default();
            let count = from_here
                .iter()
                .take_while(|key| bucket_of(key) == bucket)
                .count();
            crowded |= count > BLOCK;
            start = start.saturating_add(count);
        }
        starts.push(start as u32);
        Self {
            origin,
            shift,
            starts: starts.into(),
            fences: crowded.then(|| Fences::over(keys)),
        }
    }

    /// The place of the last key that is not above a position, among the keys it was built over.
    #[inline]
    pub(in crate::eval) fn covering<K: Key<Value = V>>(
        &self,
        keys: &[K],
        position: V,
    ) -> Option<usize> {
        let not_above = |key: &K| key.value() <= position;
        let Some(last_bucket) = self.starts.len().checked_sub(2) else {
            return last_of_block(keys, 0, not_above);
        };
        let distance = position.distance_from(self.origin)?;
        let bucket = distance.without_low_bits(self.shift).min(last_bucket);
        let [start, end] = *self.starts.get(bucket..)?.first_chunk::<2>()?;
        if end.saturating_sub(start) as usize > BLOCK {
            return self.fences.as_ref()?.covering(keys, position);
        }
        // What lies behind the bucket is above the position: the whole block may be counted.
        last_of_block(keys, start as usize, not_above)
    }
}

/// Fences over ascending keys: every 16th key, every 256th, and so on, so that finding a place
/// among ten thousand compares four short blocks instead of hopping through memory.
struct Fences<V> {
    /// The coarsest first. Empty when one block holds all keys.
    levels: Vec<Box<[V]>>,
}

impl<V: Position> Fences<V> {
    /// Builds them.
    fn over<K: Key<Value = V>>(keys: &[K]) -> Self {
        let mut levels: Vec<Box<[V]>> = Vec::new();
        let mut below: Vec<V> = keys.iter().map(Key::value).collect();
        while below.len() > BLOCK {
            below = below.iter().copied().step_by(BLOCK).collect();
            levels.push(below.clone().into());
        }
        levels.reverse();
        Self { levels }
    }

    /// The place of the last key that is not above a position, among the keys they were built over.
    #[inline]
    fn covering<K: Key<Value = V>>(&self, keys: &[K], position: V) -> Option<usize> {
        let mut block = 0_usize;
        for level in &self.levels {
            let not_above = |key: &V| *key <= position;
            block = last_of_block(level, block.checked_mul(BLOCK)?, not_above)?;
        }
        let start = block.checked_mul(BLOCK)?;
        last_of_block(keys, start, |key| key.value() <= position)
    }
}

/// The place of the last key that holds, in the block that begins at `start`. Keys that hold come
/// first; if none does in the block, the last one is just before it.
#[inline]
fn last_of_block<T>(keys: &[T], start: usize, holds: impl Fn(&T) -> bool) -> Option<usize> {
    let rest = keys.get(start..)?;
    // Counting all of a block has no branch to mispredict.
    let count = match rest.first_chunk::<BLOCK>() {
        Some(whole) => whole.iter().filter(|key| holds(key)).count(),
        None => rest.iter().filter(|key| holds(key)).count(),
    };
    start.checked_add(count)?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::byteorder::little_endian::{U32, U128};

    use super::*;

    proptest! {
        #[test]
        fn finds_the_last_key_not_above(
            even in prop::collection::vec(0u32..50_000, 0..900),
            crowd in prop::collection::vec(7_000_000u32..7_000_900, 0..900),
            far: Option<u32>,
            positions in prop::collection::vec(prop_oneof![0u32..50_100, 6_999_900u32..7_001_000, any::<u32>()], 1..40),
        ) {
            let mut keys: Vec<u32> = even.into_iter().chain(crowd).chain(far).collect();
            keys.sort_unstable();
            keys.dedup();
            let v4: Vec<U32> = keys.iter().map(|key| (*key).into()).collect();
            let v6: Vec<U128> = keys.iter().map(|key| (u128::from(*key) << 90).into()).collect();
            let (v4_directory, v6_directory) = (RangeDirectory::over(&v4), RangeDirectory::over(&v6));
            for position in positions.into_iter().chain(keys.iter().copied()) {
                let expected = keys.partition_point(|key| *key <= position).checked_sub(1);
                prop_assert_eq!(v4_directory.covering(&v4, position), expected);
                let position = (u128::from(position) << 90) | 5;
                prop_assert_eq!(v6_directory.covering(&v6, position), expected);
            }
        }
    }

    #[test]
    fn directories_have_a_bucket_for_four_keys_and_none_for_a_block() {
        let buckets = |count: u32| {
            let keys: Vec<U32> = (0..count).chain([u32::MAX]).map(Into::into).collect();
            RangeDirectory::over(&keys).starts.len().saturating_sub(1)
        };
        assert_eq!([15, 16, 511, 999].map(buckets), [0, 4, 128, 256]);
    }

    #[test]
    fn buckets_of_more_than_a_block_have_fences() {
        for (crowd, fenced) in [(16, false), (17, true), (1_000, true)] {
            let keys: Vec<U32> = (0..crowd).chain([u32::MAX]).map(Into::into).collect();
            let directory = RangeDirectory::over(&keys);
            assert_eq!(directory.fences.is_some(), fenced, "{crowd} in one bucket");
            for key in 0..crowd {
                assert_eq!(directory.covering(&keys, key), Some(key as usize));
            }
        }
    }

    #[test]
    fn every_level_of_fences_is_a_sixteenth_of_the_one_below() {
        let levels = |count: u32| {
            let keys: Vec<U32> = (0..count).map(Into::into).collect();
            let levels = Fences::over(&keys).levels;
            levels.iter().map(|level| level.len()).collect::<Vec<_>>()
        };
        assert_eq!(levels(16), [0_usize; 0]);
        assert_eq!(levels(256), [16]);
        assert_eq!(levels(257), [2, 17]);
    }
}
