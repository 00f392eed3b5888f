//! YAML as a tree in which every key and every value knows its place.

use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use crate::experiments::fault::{Fault, Place, Text};

/// A value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Where it is written; nothing for what a merge made.
    pub place: Option<Place>,
}

/// What a value is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Kind {
    /// `null`, or nothing after the colon.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without a fraction.
    Whole(i128),
    /// Any other number.
    Real(f64),
    /// A text, with or without quotes.
    String(String),
    /// `[..]`, or lines that begin with a dash.
    List(Vec<Node>),
    /// `{..}`, or lines with a colon, in the order in which they are written.
    Map(Vec<(Key, Node)>),
}

/// The key of a map's entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it is written.
    pub place: Option<Place>,
}

impl Node {
    /// Reads a whole text.
    ///
    /// # Errors
    /// If it is not YAML, or has a key twice.
    pub fn parse(text: &Arc<Text>) -> Result<Self, Fault> {
        read(text, &text.text, 0)
    }

    /// Reads the end of a text of one line, from the character `start` on.
    ///
    /// # Errors
    /// As [`Node::parse`].
    pub fn parse_from(text: &Arc<Text>, start: usize) -> Result<Self, Fault> {
        let end: String = text.text.chars().skip(start).collect();
        read(text, &end, start)
    }

    /// The value below `key`, where this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The entry of `key`, where this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<(&Key, &Self)> {
        self.entries().iter().find(|(known, _)| known.name == key).map(|(key, value)| (key, value))
    }

    /// The entries, where this is a map.
    pub fn entries(&self) -> &[(Key, Self)] {
        if let Kind::Map(entries) = &self.kind { entries } else { &[] }
    }

    /// The elements, where this is a list.
    pub fn elements(&self) -> &[Self] {
        if let Kind::List(elements) = &self.kind { elements } else { &[] }
    }

    /// `itm` and `itm: {..}` are both called `itm`: the name with its place, where this is one of the two.
    pub fn name(&self) -> Option<(&str, Option<&Place>)> {
        match &self.kind {
            Kind::String(name) => Some((name, self.place.as_ref())),
            Kind::Map(entries) => match entries.as_slice() {
                [(key, _)] => Some((&key.name, key.place.as_ref())),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where the setting at a dotted key is written, or the nearest thing around it that is.
    pub fn locate(&self, dotted: &str) -> Option<&Place> {
        let (head, rest) = dotted.split_once('.').map_or((dotted, None), |(head, rest)| (head, Some(rest)));
        let (name, below) = match &self.kind {
            Kind::Map(_) => self.entry(head).map(|(key, value)| (key.place.as_ref(), value))?,
            Kind::List(elements) => elements.iter().find_map(|element| {
                let (name, place) = element.name()?;
                (name == head).then(|| (place, element.get(head).unwrap_or(element)))
            })?,
            _ => return None,
        };
        let value = match below.kind {
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
            _ => below.place.as_ref(),
        };
        rest.and_then(|rest| below.locate(rest)).or(value).or(name)
    }

    /// Whether it is `null` or absent.
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// The value without its places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Whole(value) => {
                u64::try_from(*value).map_or_else(|_| (*value as i64).into(), serde_json::Value::from)
            }
            Kind::Real(value) => (*value).into(),
            Kind::String(value) => value.clone().into(),
            Kind::List(elements) => elements.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                entries.iter().map(|(key, value)| (key.name.clone(), value.to_json())).collect()
            }
        }
    }
}

impl fmt::Display for Kind {
    /// What it is, as the end of "found ..".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "`{value}`"),
            Self::Whole(value) => write!(f, "`{value}`"),
            Self::Real(value) => write!(f, "`{value}`"),
            Self::String(value) => write!(f, "the text `{value}`"),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a map"),
        }
    }
}

fn read(text: &Arc<Text>, yaml: &str, offset: usize) -> Result<Node, Fault> {
    let place = |location: &Location| {
        let (line, column) = (location.line() as usize, location.column() as usize);
        let column = if line == 1 { column + offset } else { column };
        let width = (location.span().len() as usize).max(1);
        // A place behind the end of its line is one that the parser does not know.
        (line > 0 && column > 0).then(|| Place { text: text.clone(), line, column, width })
    };
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    match serde_yaml::from_str_with_options::<Spanned<Value>>(yaml, options) {
        Ok(value) => Ok(placed(value, &place)),
        Err(error) => {
            let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
            let place = error.location().and_then(|location| place(&location));
            Err(Fault::new(message).at(place.map(|place| Place { width: 1, ..place }).as_ref()))
        }
    }
}

/// A value as the parser hands it over.
enum Value {
    Scalar(Kind),
    List(Vec<Spanned<Value>>),
    Map(Vec<(Spanned<String>, Spanned<Value>)>),
}

fn placed(value: Spanned<Value>, place: &impl Fn(&Location) -> Option<Place>) -> Node {
    let here = place(&value.referenced);
    let kind = match value.value {
        Value::Scalar(kind) => kind,
        Value::List(elements) => {
            Kind::List(elements.into_iter().map(|element| placed(element, place)).collect())
        }
        Value::Map(entries) => {
            let key = |key: Spanned<String>| Key { place: place(&key.referenced), name: key.value };
            Kind::Map(entries.into_iter().map(|(name, value)| (key(name), placed(value, place))).collect())
        }
    };
    Node { kind, place: here }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Whole(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Whole(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::Real(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Scalar(Kind::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Value::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}
