//! How many at a time, in all and of each.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Places that are taken and given back, so many in all and so many for each key.
#[derive(Debug)]
pub(crate) struct Places<K: Eq + Hash> {
    most: usize,
    /// How many keys there are, if one place is kept for each that has none; else 0.
    kept_for: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    /// Keys that have none are not in it, so that it does not grow with who was ever here.
    of_key: HashMap<K, usize>,
}

/// A place that is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    key: K,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    InAll,
    OfKey,
    /// Those that are left are kept for keys that have none.
    Kept,
}

impl<K: Eq + Hash + Clone> Places<K> {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Self::keeping(most, 0)
    }

    /// As [`Self::new`], and each of so many keys can have one place whatever the others take. With more keys than places
    /// none is kept.
    pub(crate) fn keeping(most: usize, keys: usize) -> Arc<Self> {
        let kept_for = if keys <= most { keys } else { 0 };
        Arc::new(Self { most, kept_for, taken: Mutex::new(Taken { all: 0, of_key: HashMap::new() }) })
    }

    /// Takes a place, unless all are taken or the key has `most_of_key` already.
    pub(crate) fn take(self: &Arc<Self>, key: K, most_of_key: usize) -> Result<Place<K>, Full> {
        let mut taken = self.lock();
        let of_key = taken.of_key.get(&key).copied().unwrap_or(0);
        if of_key >= most_of_key {
            return Err(Full::OfKey);
        }
        if taken.all >= self.most {
            return Err(Full::InAll);
        }
        let kept = self.kept_for.saturating_sub(taken.of_key.len());
        if of_key > 0 && taken.all + kept >= self.most {
            return Err(Full::Kept);
        }
        taken.all += 1;
        taken.of_key.insert(key.clone(), of_key + 1);
        Ok(Place { places: Arc::clone(self), key })
    }
}

impl<K: Eq + Hash> Places<K> {
    /// Nothing panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(of_key) = taken.of_key.get_mut(&self.key) {
            *of_key -= 1;
            if *of_key == 0 {
                taken.of_key.remove(&self.key);
            }
        }
    }
}

/// Whom an address is counted for: a network of 64 bits in IPv6, because whoever has one address of it has them all.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_of_each_and_come_back() {
        let places = Places::new(3);
        let first = places.take("a", 2).unwrap();
        let _second = places.take("a", 2).unwrap();
        assert_eq!(places.take("a", 2).unwrap_err(), Full::OfKey);
        let _third = places.take("b", 2).unwrap();
        assert_eq!(places.take("c", 2).unwrap_err(), Full::InAll);
        drop(first);
        drop(places.take("c", 2).unwrap());
        assert_eq!(places.lock().of_key.len(), 2);
        assert_eq!(places.lock().all, 2);
    }

    #[test]
    fn one_place_is_kept_for_each_that_has_none() {
        // Places, keys, what is taken in order, and which of it is refused.
        let check = |most: usize, keys: usize, taken: &str, refused: &[(usize, Full)]| {
            let places = Places::keeping(most, keys);
            let tried: Vec<_> = taken.chars().map(|key| places.take(key, 3)).collect();
            let found: Vec<_> =
                tried.iter().enumerate().filter_map(|(at, place)| Some((at, place.as_ref().err().copied()?))).collect();
            assert_eq!(found, refused, "{most} places for {keys}: {taken}");
        };
        check(4, 1, "aaa", &[]);
        check(4, 2, "aaab", &[]);
        check(4, 3, "aaabc", &[(2, Full::Kept)]);
        check(3, 3, "aabbc", &[(1, Full::Kept), (3, Full::Kept)]);
        // Who has one already leaves the rest to be shared.
        check(5, 3, "abcaab", &[(5, Full::InAll)]);
        check(4, 2, "aaaab", &[(3, Full::OfKey)]);
        // More keys than places: first come, first served.
        check(2, 3, "aab", &[(2, Full::InAll)]);
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let of = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
