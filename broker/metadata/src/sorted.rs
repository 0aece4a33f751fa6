//! A sorted map whose copies share what is the same.
//!
//! The entries stand in chunks of at most 2 × [`CHUNK`]; a copy is one pointer, and a change
//! copies one chunk and the list of chunks: among 10,000 entries some 300 pointers,
//! where a plain map would copy 10,000. No chunk is empty.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

const CHUNK: usize = 32;

/// How values are found: the key lies inside the value.
pub(crate) trait Order<V> {
    type Key: ?Sized;

    /// Where `value` stands, seen from `key`.
    fn compare(value: &V, key: &Self::Key) -> Ordering;
    fn key(value: &V) -> &Self::Key;
}

pub(crate) struct Sorted<V, O> {
    chunks: Arc<Vec<Arc<Vec<V>>>>,
    len: usize,
    order: PhantomData<fn() -> O>,
}

impl<V, O> Clone for Sorted<V, O> {
    fn clone(&self) -> Self {
        Self { chunks: Arc::clone(&self.chunks), len: self.len, order: PhantomData }
    }
}

impl<V, O> Default for Sorted<V, O> {
    fn default() -> Self {
        Self { chunks: Arc::default(), len: 0, order: PhantomData }
    }
}

impl<V: fmt::Debug, O> fmt::Debug for Sorted<V, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.chunks.iter().flat_map(|chunk| chunk.iter())).finish()
    }
}

impl<V: PartialEq, O> PartialEq for Sorted<V, O> {
    fn eq(&self, other: &Self) -> bool {
        // How entries are cut into chunks is history, not content.
        Arc::ptr_eq(&self.chunks, &other.chunks) || (self.len == other.len && self.iter().eq(other.iter()))
    }
}

impl<V, O> Sorted<V, O> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> + Clone {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<V: Clone, O: Order<V>> Sorted<V, O> {
    pub(crate) fn get(&self, key: &O::Key) -> Option<&V> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by(|value| O::compare(value, key)).ok()?;
        chunk.get(at)
    }

    /// Puts a value in; returns the one whose place it took.
    pub(crate) fn insert(&mut self, value: V) -> Option<V> {
        let index = self.chunk_of(O::key(&value));
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(index).map(Arc::make_mut) else {
            chunks.push(Arc::new(vec![value]));
            self.len += 1;
            return None;
        };
        match chunk.binary_search_by(|other| O::compare(other, O::key(&value))) {
            Ok(at) => chunk.get_mut(at).map(|slot| std::mem::replace(slot, value)),
            Err(at) => {
                chunk.insert(at, value);
                if chunk.len() > 2 * CHUNK {
                    let upper = chunk.split_off(CHUNK);
                    chunks.insert(index + 1, Arc::new(upper));
                }
                self.len += 1;
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &O::Key) -> Option<V> {
        let index = self.chunk_of(key);
        let at = self.chunks.get(index)?.binary_search_by(|value| O::compare(value, key)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(chunks.get_mut(index)?);
        let value = chunk.remove(at);
        if chunk.is_empty() {
            chunks.remove(index);
        }
        self.len -= 1;
        Some(value)
    }

    /// The chunk in which the key stands or would stand.
    fn chunk_of(&self, key: &O::Key) -> usize {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|value| O::compare(value, key) != Ordering::Greater));
        after.saturating_sub(1)
    }

    /// Walks two maps side by side and hands over what is not the same pair; chunks
    /// that both share are stepped over whole.
    pub(crate) fn differences<'a>(&'a self, newer: &'a Self, mut found: impl FnMut(Option<&'a V>, Option<&'a V>)) {
        let (mut old, mut new) = (Cursor::at(&self.chunks), Cursor::at(&newer.chunks));
        loop {
            while old.skip_shared(&mut new) {}
            match (old.value(), new.value()) {
                (None, None) => return,
                (Some(gone), None) => {
                    found(Some(gone), None);
                    old.step();
                }
                (None, Some(fresh)) => {
                    found(None, Some(fresh));
                    new.step();
                }
                (Some(before), Some(after)) => match O::compare(before, O::key(after)) {
                    Ordering::Less => {
                        found(Some(before), None);
                        old.step();
                    }
                    Ordering::Greater => {
                        found(None, Some(after));
                        new.step();
                    }
                    Ordering::Equal => {
                        found(Some(before), Some(after));
                        old.step();
                        new.step();
                    }
                },
            }
        }
    }
}

struct Cursor<'a, V> {
    chunks: &'a [Arc<Vec<V>>],
    at: usize,
}

impl<'a, V> Cursor<'a, V> {
    const fn at(chunks: &'a [Arc<Vec<V>>]) -> Self {
        Self { chunks, at: 0 }
    }

    fn value(&self) -> Option<&'a V> {
        self.chunks.first().and_then(|chunk| chunk.get(self.at))
    }

    fn step(&mut self) {
        self.at += 1;
        if let [chunk, rest @ ..] = self.chunks
            && self.at >= chunk.len()
        {
            *self = Self::at(rest);
        }
    }

    fn skip_shared(&mut self, other: &mut Self) -> bool {
        match (self.chunks, other.chunks) {
            ([mine, my_rest @ ..], [theirs, their_rest @ ..])
                if self.at == 0 && other.at == 0 && Arc::ptr_eq(mine, theirs) =>
            {
                *self = Self::at(my_rest);
                *other = Self::at(their_rest);
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug)]
    struct ByFirst;
    impl Order<(u16, u8)> for ByFirst {
        type Key = u16;
        fn compare(value: &(u16, u8), key: &u16) -> Ordering {
            value.0.cmp(key)
        }
        fn key(value: &(u16, u8)) -> &u16 {
            &value.0
        }
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_btree_map_and_tells_two_copies_apart(
            steps in prop::collection::vec((0_u16..600, any::<u8>(), 0_u8..3), 0..1500),
            cut in 0_usize..1500,
        ) {
            let (mut map, mut model) = (Sorted::<_, ByFirst>::default(), BTreeMap::new());
            let mut old = (map.clone(), model.clone());
            for (at, (key, value, kind)) in steps.into_iter().enumerate() {
                if at == cut {
                    old = (map.clone(), model.clone());
                }
                if kind == 0 {
                    prop_assert_eq!(map.remove(&key).map(|pair| pair.1), model.remove(&key));
                } else {
                    prop_assert_eq!(map.insert((key, value)).map(|pair| pair.1), model.insert(key, value));
                }
                prop_assert_eq!(map.get(&key).map(|pair| pair.1), model.get(&key).copied());
                prop_assert_eq!(map.len(), model.len());
            }
            prop_assert!(map.iter().copied().eq(model.clone()));
            prop_assert!(old.0.iter().copied().eq(old.1.clone()));
            let mut patched = old.1.clone();
            old.0.differences(&map, |before, after| match (before, after) {
                (_, Some((key, value))) => { patched.insert(*key, *value); }
                (Some((key, _)), None) => { patched.remove(key); }
                (None, None) => {}
            });
            prop_assert_eq!(patched, model);
        }
    }

    #[test]
    fn a_difference_of_one_among_ten_thousand_visits_one_chunk() {
        let mut map = Sorted::<_, ByFirst>::default();
        for key in 0..10_000 {
            map.insert((key, 0));
        }
        let old = map.clone();
        map.insert((5_000, 1));
        let mut visited = 0;
        old.differences(&map, |_, _| visited += 1);
        assert!(visited <= 2 * CHUNK, "{visited} entries were compared");
    }
}
