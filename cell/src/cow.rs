//! Vectors that their clones share until one of them changes.
//!
//! A snapshot of a cell, for a scheduler that plans or for a checkpoint, costs a count for some jobs at a time
//! and not a copy of each task; what changes afterwards is copied in pieces, as it changes.

use std::iter::FlatMap;
use std::ops::{Deref, DerefMut, Index, IndexMut};
use std::slice;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A vector; cloning it takes the same time whatever its length, and the first change after that copies it.
#[derive(Debug, PartialEq, Eq)]
pub struct CowVec<T>(Arc<Vec<T>>);

impl<T> Clone for CowVec<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for CowVec<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Deref for CowVec<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

/// Copies the vector where a clone shares it.
impl<T: Clone> DerefMut for CowVec<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> From<Vec<T>> for CowVec<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Arc::new(items))
    }
}

impl<T> FromIterator<T> for CowVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Vec::from_iter(items).into()
    }
}

impl<'a, T> IntoIterator for &'a CowVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: Clone> IntoIterator for &'a mut CowVec<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T: Serialize> Serialize for CowVec<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_slice().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for CowVec<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Into::into)
    }
}

/// So many items are copied at the first change of one of them.
const CHUNK_LENGTH: usize = 64;

/// A long vector; cloning it takes a count for every 64 items, and a change after that copies 64 at most.
#[derive(Debug, PartialEq, Eq)]
pub struct CowChunks<T> {
    /// All full but the last, which is not empty.
    chunks: Vec<Arc<Vec<T>>>,
}

type Iter<'a, T> = FlatMap<
    slice::Iter<'a, Arc<Vec<T>>>,
    slice::Iter<'a, T>,
    fn(&'a Arc<Vec<T>>) -> slice::Iter<'a, T>,
>;

impl<T> CowChunks<T> {
    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, |last| last.len());
        self.chunks.len().saturating_sub(1) * CHUNK_LENGTH + last
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// An item, if there are so many.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK_LENGTH)?.get(index % CHUNK_LENGTH)
    }

    /// All in their order.
    pub fn iter(&self) -> Iter<'_, T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T: Clone> CowChunks<T> {
    /// Adds one at the end.
    pub fn push(&mut self, item: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK_LENGTH => Arc::make_mut(last).push(item),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK_LENGTH);
                chunk.push(item);
                self.chunks.push(Arc::new(chunk));
            }
        }
    }

    /// All in their order, to be changed; what a clone shares is copied.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flat_map(|chunk| Arc::make_mut(chunk).iter_mut())
    }
}

impl<T> Clone for CowChunks<T> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone() }
    }
}

impl<T> Default for CowChunks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Index<usize> for CowChunks<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK_LENGTH][index % CHUNK_LENGTH]
    }
}

/// Copies the items around it where a clone shares them.
impl<T: Clone> IndexMut<usize> for CowChunks<T> {
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut Arc::make_mut(&mut self.chunks[index / CHUNK_LENGTH])[index % CHUNK_LENGTH]
    }
}

impl<T: Clone> FromIterator<T> for CowChunks<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut all = Self::default();
        items.into_iter().for_each(|item| all.push(item));
        all
    }
}

impl<T: Clone> From<Vec<T>> for CowChunks<T> {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<'a, T> IntoIterator for &'a CowChunks<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_shared_until_one_changes() {
        let mut one: CowVec<u32> = (0..3).collect();
        let two = one.clone();
        assert!(std::ptr::eq(one.as_slice(), two.as_slice()));
        one[1] = 7;
        assert_eq!((one.as_slice(), two.as_slice()), (&[0, 7, 2][..], &[0, 1, 2][..]));
        let at = one.as_ptr();
        one.push(9);
        one[0] = 5;
        assert_eq!(one.len(), 4);
        drop(two);
        let at_end = one.as_ptr();
        one[2] = 6;
        assert_eq!(at_end, one.as_ptr(), "nobody shares it, so nothing is copied; {at:?} before");
    }

    #[test]
    fn of_a_long_one_the_part_around_a_change_is_copied() {
        for count in [0, 1, CHUNK_LENGTH - 1, CHUNK_LENGTH, CHUNK_LENGTH + 1, 5 * CHUNK_LENGTH] {
            let items: Vec<usize> = (0..count).collect();
            let mut one: CowChunks<usize> = items.clone().into();
            assert_eq!((one.len(), one.is_empty()), (count, count == 0));
            assert!(one.iter().eq(&items) && (&one).into_iter().eq(&items));
            assert!((0..count).all(|index| one[index] == index && one.get(index) == Some(&index)));
            assert_eq!(one.get(count), None);

            let two = one.clone();
            one.push(7);
            if count > 0 {
                one[0] = 9;
                assert_eq!((one[0], two[0], one[count]), (9, 0, 7));
            }
            assert!(two.iter().eq(&items), "the clone is as it was");
            let is_shared =
                |index: usize| std::ptr::eq(&raw const one[index], &raw const two[index]);
            let shared = (0..count).filter(|&index| is_shared(index)).count();
            let whole = count / CHUNK_LENGTH;
            assert_eq!(shared, whole.saturating_sub(1) * CHUNK_LENGTH, "of {count}");
            let three = one.clone();
            one.iter_mut().for_each(|item| *item += 1);
            assert!(one.iter().zip(&three).all(|(after, before)| *after == before + 1));
        }
    }
}
