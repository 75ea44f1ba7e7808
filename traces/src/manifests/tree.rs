//! A YAML document as a tree that knows its lines, and typed objects out of it.
//!
//! A manifest says only in its middle (`kind`) what it is, and a list holds objects of any kind; so a
//! document is read into a [`Spot`] first, and from there into the type that it turns out to be. A wrong
//! type is a [`Fault`] with the field's path, which leads to its line ([`Spot::line_of`]).
//!
//! As the API server does: `null` is the same as absent, unknown fields are left alone, a number is no
//! text (but a quantity may be either). In YAML, as in `sigs.k8s.io/yaml`, a key that is there twice is an
//! error.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_saphyr::Spanned;

use super::fault::{Fault, Step};

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spot {
    /// From 1.
    pub(super) line: u64,
    /// The value.
    pub(super) tree: Tree,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Signed(i64),
    /// An integer above the signed ones.
    Unsigned(u64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Spot>),
    /// A map, in the order of the text.
    Map(Vec<(String, Spot)>),
}

impl Spot {
    /// The value of a key, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Tree::Map(entries) = &self.tree else { return None };
        entries.iter().find(|(k, _)| k == key).map(|(_, spot)| spot)
    }

    /// The text under a key, if there is one.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        let Tree::Text(text) = &self.get(key)?.tree else { return None };
        Some(text)
    }

    /// The items of a list; `null`, as the API writes an empty one, has none.
    pub(super) fn items(&self) -> Option<&[Self]> {
        if let Tree::List(items) = &self.tree { Some(items) } else { self.is_null().then_some(&[]) }
    }

    /// The entries of a map; `null` has none.
    fn entries(&self) -> Option<&[(String, Self)]> {
        if let Tree::Map(entries) = &self.tree {
            Some(entries)
        } else {
            self.is_null().then_some(&[])
        }
    }

    /// Whether it is nothing.
    pub(super) fn is_null(&self) -> bool {
        self.tree == Tree::Null
    }

    /// The line of a fault's field, or as near to it as the tree goes.
    pub(super) fn line_of(&self, fault: &Fault) -> u64 {
        let mut at = self;
        for step in fault.path() {
            let next = match (step, &at.tree) {
                (Step::Key(key), _) => at.get(key),
                (Step::Index(index), Tree::List(items)) => items.get(*index),
                (Step::Index(_), _) => None,
            };
            match next {
                Some(next) => at = next,
                None => break,
            }
        }
        at.line
    }

    /// The typed object that this is.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        T::deserialize(self)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TreeVisitor;
        impl<'de> Visitor<'de> for TreeVisitor {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_none<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Tree, D::Error> {
                Tree::deserialize(value)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
                Ok(Tree::Signed(number))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
                Ok(i64::try_from(number).map_or(Tree::Unsigned(number), Tree::Signed))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
                Ok(Tree::Float(number))
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Tree, E> {
                Ok(Tree::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element::<Spanned<Tree>>()? {
                    list.push(spot(item));
                }
                Ok(Tree::List(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
                let mut map = Vec::new();
                while let Some(key) = entries.next_key::<String>()? {
                    map.push((key, spot(entries.next_value::<Spanned<Tree>>()?)));
                }
                Ok(Tree::Map(map))
            }
        }
        deserializer.deserialize_any(TreeVisitor)
    }
}

/// A parsed value with its line.
pub(super) fn spot(value: Spanned<Tree>) -> Spot {
    Spot { line: value.referenced.line(), tree: value.value }
}

impl<'de> Deserializer<'de> for &'de Spot {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.tree {
            Tree::Null => visitor.visit_unit(),
            Tree::Bool(value) => visitor.visit_bool(*value),
            Tree::Signed(number) => visitor.visit_i64(*number),
            Tree::Unsigned(number) => visitor.visit_u64(*number),
            Tree::Float(number) => visitor.visit_f64(*number),
            Tree::Text(text) => visitor.visit_borrowed_str(text),
            Tree::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Tree::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.items() {
            Some(items) => visitor.visit_seq(Items { items, next: 0 }),
            None => Err(Fault::invalid_type(self.tree.unexpected(), &"a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.entries() {
            Some(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            None => Err(Fault::invalid_type(self.tree.unexpected(), &"a map")),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct enum identifier
    }
}

impl Tree {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Self::Null => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(*value),
            Self::Signed(number) => Unexpected::Signed(*number),
            Self::Unsigned(number) => Unexpected::Unsigned(*number),
            Self::Float(number) => Unexpected::Float(*number),
            Self::Text(text) => Unexpected::Str(text),
            Self::List(_) => Unexpected::Seq,
            Self::Map(_) => Unexpected::Map,
        }
    }
}

struct Items<'de> {
    items: &'de [Spot],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(item).map(Some).map_err(|fault| fault.at(index))
    }
}

struct Entries<'de> {
    entries: &'de [(String, Spot)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        let deserializer: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(deserializer).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let (key, value) = &self.entries[self.next];
        self.next += 1;
        seed.deserialize(value).map_err(|fault| fault.under(key))
    }
}
