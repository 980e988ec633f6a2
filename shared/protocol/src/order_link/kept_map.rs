//! Map of a few keys whose values get empty and full again all the time.
//!
//! An emptied value stays, with its memory, until its key or a new one needs it. So a queue with
//! one request at a time allocates nothing. There are never more values than keys were in use at
//! the same time. With so few, a scan is faster than a tree.

/// A value that may be empty.
pub(super) trait Keep: Default {
    fn is_empty(&self) -> bool;
}

/// Values by key. Those that are empty are not seen from outside.
#[derive(Debug)]
pub(super) struct KeptMap<K, V> {
    entries: Vec<(K, V)>,
}

impl<K, V> Default for KeptMap<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<K: Copy + Eq, V: Keep> KeptMap<K, V> {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Returns the keys with their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.entries.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (*key, value))
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// Returns the value of a key, which may be empty.
    pub(super) fn get_mut(&mut self, key: K) -> &mut V {
        let known = self.entries.iter().position(|(known, _)| *known == key);
        let at = known.or_else(|| self.entries.iter().position(|(_, value)| value.is_empty()));
        let at = at.unwrap_or_else(|| {
            self.entries.push((key, V::default()));
            self.entries.len() - 1
        });
        let (of, value) = &mut self.entries[at];
        *of = key;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Keep for Vec<u32> {
        fn is_empty(&self) -> bool {
            self.is_empty()
        }
    }

    #[test]
    fn emptied_values_are_used_again_by_any_key() {
        let mut map: KeptMap<u8, Vec<u32>> = KeptMap::new();
        for key in [1, 2, 1, 2] {
            map.get_mut(key).push(0);
            assert_eq!(map.iter().map(|(key, _)| key).collect::<Vec<_>>(), [key]);
            map.get_mut(key).clear();
        }
        assert_eq!((map.entries.len(), map.get(1)), (1, None));
        [1, 2, 3].into_iter().for_each(|key| map.get_mut(key).push(key.into()));
        assert_eq!((map.entries.len(), map.get(2)), (3, Some(&vec![2])));
        map.get_mut(2).clear();
        assert!(map.get_mut(4).capacity() > 0 && map.entries.len() == 3);
    }
}
