//! A vector that its clones share until one of them changes.
//!
//! A snapshot of a cell, for a scheduler that plans or for a checkpoint, costs a count for each job and not a
//! copy of each task; what changes afterwards is copied job by job, as it changes.

use std::ops::{Deref, DerefMut};
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
}
