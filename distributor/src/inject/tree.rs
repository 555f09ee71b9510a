//! A document whose mappings keep their order, so that what comes out can be compared with what went in.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Any document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// Neither a mapping nor a list.
    Scalar(Value),
    /// A list.
    List(Vec<Self>),
    /// A mapping, in the order in which it was written.
    Map(Vec<(String, Self)>),
}

impl Tree {
    /// The value of a field; `None` also for what is no mapping.
    pub(super) fn get(&self, field: &str) -> Option<&Self> {
        match self {
            Self::Map(fields) => {
                let mut fields = fields.iter();
                let found = fields.find(|(name, _)| name == field);
                found.map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The value of a field below others.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |tree, field| tree.get(field))
    }

    /// The value of a field, to be changed.
    pub(super) fn get_mut(&mut self, field: &str) -> Option<&mut Self> {
        match self {
            Self::Map(fields) => {
                let mut fields = fields.iter_mut();
                let found = fields.find(|(name, _)| name == field);
                found.map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Puts a value below fields, which are made where they are missing or no mappings.
    pub(super) fn set(&mut self, path: &[&str], value: Self) {
        let Some((name, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        if let Self::Map(fields) = self {
            let found = fields.iter().position(|(field, _)| field == name);
            let place = found.unwrap_or(fields.len());
            if found.is_none() {
                fields.push(((*name).to_owned(), Self::Scalar(Value::Null)));
            }
            fields[place].1.set(rest, value);
        }
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(value) => value.as_str(),
            _ => None,
        }
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// Its own field `name`.
    pub(super) fn name(&self) -> &str {
        self.get("name").and_then(Self::text).unwrap_or_default()
    }

    /// Does something with every string in it.
    pub(super) fn each_text(&mut self, work: &impl Fn(&mut String)) {
        match self {
            Self::Scalar(Value::String(text)) => work(text),
            Self::Scalar(_) => {}
            Self::List(items) => items.iter_mut().for_each(|item| item.each_text(work)),
            Self::Map(fields) => {
                for (_, value) in fields {
                    value.each_text(work);
                }
            }
        }
    }
}

impl From<&str> for Tree {
    fn from(text: &str) -> Self {
        Self::Scalar(text.into())
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Scalar(value) => value.serialize(serializer),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// Builds a tree of whatever comes.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML or JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Tree::Map(fields))
    }
}
