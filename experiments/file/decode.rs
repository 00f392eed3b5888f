//! From a tree to typed settings: every fault carries its place, and one fault does not hide the next.

use std::fmt::{self, Display};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::node::{Key, Kind, Node};
use crate::experiments::fault::{Fault, Place, suggest};

/// Reads `node` as a `T`.
///
/// # Errors
/// Everything that is wrong with it: an entry that cannot be read is reported and left out, and the rest read again.
pub fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut rest = node.clone();
    loop {
        match T::deserialize(Reader(&rest)) {
            Ok(value) if faults.is_empty() => return Ok(value),
            Ok(_) => return Err(faults),
            Err(Refusal { fault, lacks }) => {
                let left_out = fault.place.as_ref().is_some_and(|place| leave_out(&mut rest, place));
                // What is lacking after something was left out may be what was left out.
                if !lacks || faults.is_empty() {
                    faults.push(fault);
                }
                if !left_out || lacks {
                    return Err(faults);
                }
            }
        }
    }
}

/// Removes the innermost entry of a map that holds `place`; whether there is one.
fn leave_out(node: &mut Node, place: &Place) -> bool {
    match &mut node.kind {
        Kind::List(elements) => elements.iter_mut().any(|element| leave_out(element, place)),
        Kind::Map(entries) => {
            if entries.iter_mut().any(|(_, value)| leave_out(value, place)) {
                return true;
            }
            let before = entries.len();
            entries.retain(|(key, value)| key.place.as_ref() != Some(place) && !holds(value, place));
            entries.len() < before
        }
        _ => false,
    }
}

fn holds(node: &Node, place: &Place) -> bool {
    node.place.as_ref() == Some(place)
        || node.elements().iter().any(|element| holds(element, place))
        || node.entries().iter().any(|(_, value)| holds(value, place))
}

/// A fault, and whether it is that something is not there.
#[derive(Debug)]
struct Refusal {
    fault: Fault,
    lacks: bool,
}

impl Refusal {
    fn at(self, place: Option<&Place>) -> Self {
        Self { fault: self.fault.at(place), ..self }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self { fault, lacks: false }
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

impl std::error::Error for Refusal {}

impl serde::de::Error for Refusal {
    fn custom<T: Display>(message: T) -> Self {
        Fault::new(message.to_string()).into()
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Self {
        let fault = Fault::new(format!("expected {}, found {}", plain(expected), found_plain(found)));
        let quotes = matches!(found, Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Float(_));
        if quotes && expected.to_string() == "a string" {
            return fault.help("a text that looks like something else needs quotes").into();
        }
        fault.into()
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Fault::new(format!("expected {}, found {length}", plain(expected))).into()
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Fault::new(format!("unknown key `{field}`")).help(suggest(field, expected.iter().copied())).into()
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let fault = Fault::new(format!("there is no `{variant}`"));
        fault.help(suggest(variant, expected.iter().copied())).into()
    }

    fn missing_field(field: &'static str) -> Self {
        Self { fault: Fault::new(format!("the key `{field}` is missing")), lacks: true }
    }
}

/// Types by what a person would write for them.
fn plain(expected: &dyn Expected) -> String {
    let expected = expected.to_string();
    match expected.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        other => match (other.strip_prefix("an array of length "), other.strip_prefix("a tuple of size ")) {
            (Some(length), _) | (_, Some(length)) => format!("a list of {length}"),
            _ if other.starts_with("struct ") => "a map of settings".to_owned(),
            _ => expected,
        },
    }
}

fn found_plain(found: Unexpected) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Str(value) => format!("the text `{value}`"),
        Unexpected::Unit => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Refusal;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        let read = match &self.0.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Whole(value) => match (u64::try_from(*value), i64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_u64(value),
                (_, Ok(value)) => visitor.visit_i64(value),
                _ => visitor.visit_i128(*value),
            },
            Kind::Real(value) => visitor.visit_f64(*value),
            Kind::String(value) => visitor.visit_str(value),
            Kind::List(elements) => read_list(elements, visitor),
            Kind::Map(entries) => read_map(entries, visitor),
        };
        read.map_err(|refusal| refusal.at(self.0.place.as_ref()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        match &self.0.kind {
            // serde would read the settings in the order of their declaration.
            Kind::List(_) => {
                let refusal: Refusal = serde::de::Error::invalid_type(Unexpected::Seq, &visitor);
                Err(refusal.at(self.0.place.as_ref()))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refusal> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        let choice = match &self.0.kind {
            Kind::String(name) => Choice { name, place: self.0.place.as_ref(), settings: None },
            Kind::Map(entries) => match entries.as_slice() {
                [(key, value)] => {
                    Choice { name: &key.name, place: key.place.as_ref(), settings: Some(value) }
                }
                _ => return Err(no_choice(variants, &self.0.kind).at(self.0.place.as_ref())),
            },
            kind => return Err(no_choice(variants, kind).at(self.0.place.as_ref())),
        };
        visitor.visit_enum(choice).map_err(|refusal| refusal.at(self.0.place.as_ref()))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier
    }
}

fn no_choice(variants: &[&str], found: &Kind) -> Refusal {
    let found = match found {
        Kind::Map(entries) if entries.len() > 1 => {
            format!(
                "{} at once",
                entries.iter().map(|(key, _)| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
            )
        }
        other => other.to_string(),
    };
    let fault = Fault::new(format!("expected one name with its settings, found {found}"));
    Refusal { fault: fault.help(format!("known here: {}", variants.join(", "))), lacks: true }
}

fn read_list<'de, V: Visitor<'de>>(elements: &[Node], visitor: V) -> Result<V::Value, Refusal> {
    let mut list = List(elements.iter());
    let value = visitor.visit_seq(&mut list)?;
    match list.0.len() {
        0 => Ok(value),
        left => {
            Err(Fault::new(format!("expected a list of {}, found {}", elements.len() - left, elements.len()))
                .into())
        }
    }
}

struct List<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for &mut List<'_> {
    type Error = Refusal;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Refusal> {
        self.0.next().map(|node| seed.deserialize(Reader(node))).transpose()
    }
}

fn read_map<'de, V: Visitor<'de>>(entries: &[(Key, Node)], visitor: V) -> Result<V::Value, Refusal> {
    let mut map = Map { entries: entries.iter(), value: None };
    let value = visitor.visit_map(&mut map)?;
    match map.entries.next() {
        None => Ok(value),
        Some((key, _)) => {
            let fault = Fault::new(format!("one name is expected here, `{}` is a second one", key.name));
            Err(fault.at(key.place.as_ref()).help("several are written as a list").into())
        }
    }
}

struct Map<'a> {
    entries: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for &mut Map<'_> {
    type Error = Refusal;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Refusal> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let name = serde::de::value::StrDeserializer::new(&key.name);
        seed.deserialize(name).map(Some).map_err(|refusal: Refusal| refusal.at(key.place.as_ref()))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Refusal> {
        match self.value.take() {
            Some(value) => seed.deserialize(Reader(value)),
            None => Err(Fault::new("a value was read before its key").into()),
        }
    }
}

/// One of several kinds of thing: a name, with settings or without.
struct Choice<'a> {
    name: &'a str,
    place: Option<&'a Place>,
    settings: Option<&'a Node>,
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = Refusal;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Refusal> {
        let name = serde::de::value::StrDeserializer::new(self.name);
        let variant = seed.deserialize(name).map_err(|refusal: Refusal| refusal.at(self.place))?;
        Ok((variant, self))
    }
}

impl Choice<'_> {
    /// The settings; a name alone stands for all defaults.
    fn settings(&self) -> Node {
        match self.settings {
            Some(settings) if !settings.is_null() => settings.clone(),
            _ => Node { kind: Kind::Map(Vec::new()), place: self.place.cloned() },
        }
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = Refusal;

    fn unit_variant(self) -> Result<(), Refusal> {
        match self.settings().entries().first() {
            None => Ok(()),
            Some((key, _)) => {
                let fault = Fault::new(format!("`{}` takes no settings", self.name));
                Err(fault.at(key.place.as_ref()).into())
            }
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Refusal> {
        seed.deserialize(Reader(&self.settings()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refusal> {
        Reader(&self.settings()).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refusal> {
        Reader(&self.settings()).deserialize_struct("", &[], visitor)
    }
}
