//! Sentences about a scene that are true by construction, and the ways in which web captions are not.

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::scene::{Material, Object, Relation, Scene, Size};
use crate::kernels::random::Stream;

/// How often a caption is wrong, by kind; the three add up to at most 1.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Noise {
    /// The caption of another scene.
    pub replaced: f32,
    /// Only its first words.
    pub truncated: f32,
    /// A phrase that says nothing ("untitled image").
    pub generic: f32,
}

impl Noise {
    /// The probability that a caption is wrong in any way.
    pub fn total(&self) -> f32 {
        self.replaced + self.truncated + self.generic
    }
}

/// `0.4` (shared equally by the three kinds) or `{replaced: 0.2, truncated: 0.1, generic: 0.1}`.
impl<'de> Deserialize<'de> for Noise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[derive(Default)]
        struct Parts {
            replaced: f32,
            truncated: f32,
            generic: f32,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Noise;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a share from 0 to 1, or a map of `replaced`, `truncated` and `generic`")
            }
            fn visit_f64<E: de::Error>(self, total: f64) -> Result<Noise, E> {
                let part = total as f32 / 3.0;
                Ok(Noise { replaced: part, truncated: part, generic: part })
            }
            fn visit_u64<E: de::Error>(self, total: u64) -> Result<Noise, E> {
                self.visit_f64(total as f64)
            }
            fn visit_i64<E: de::Error>(self, total: i64) -> Result<Noise, E> {
                self.visit_f64(total as f64)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Noise, A::Error> {
                let parts = Parts::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Noise { replaced: parts.replaced, truncated: parts.truncated, generic: parts.generic })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What was done to a caption.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It describes another scene.
    Replaced,
    /// Its end is missing.
    Truncated,
    /// It says nothing.
    Generic,
}

impl Fault {
    /// Draws what goes wrong with one caption; uses one word of the stream.
    pub(super) fn draw(noise: Noise, stream: &mut Stream) -> Option<Self> {
        let draw = stream.f32();
        if draw < noise.replaced {
            Some(Self::Replaced)
        } else if draw < noise.replaced + noise.truncated {
            Some(Self::Truncated)
        } else if draw < noise.total() {
            Some(Self::Generic)
        } else {
            None
        }
    }
}

const GENERIC: [&str; 8] = [
    "a picture",
    "untitled image",
    "various shapes",
    "clip art collection",
    "some objects",
    "new drawing",
    "image for sale",
    "part of a set of icons",
];

/// A phrase that says nothing about the scene.
pub(super) fn generic(stream: &mut Stream) -> String {
    GENERIC[stream.below(GENERIC.len() as u32) as usize].to_owned()
}

/// The first words of a caption: at least one, at most half.
pub(super) fn truncated(caption: &str, stream: &mut Stream) -> String {
    let words: Vec<&str> = caption.split(' ').collect();
    let most = (words.len() / 2).max(1) as u32;
    words[..1 + stream.below(most) as usize].join(" ").trim_end_matches([',', ':']).to_owned()
}

/// One true sentence about `scene`.
pub(super) fn describe(scene: &Scene, stream: &mut Stream) -> String {
    let sentence = match stream.below(10) {
        0..4 => related(scene, stream),
        4..6 => Some(counted(scene, stream)),
        _ => None,
    }
    .unwrap_or_else(|| {
        let phrases = phrases(scene, &shuffled(scene.objects.len(), stream), stream);
        listed(&phrases)
    });
    match stream.below(8) {
        0 => format!("a picture of {sentence}"),
        1 if !sentence.starts_with('a') && !sentence.starts_with("one ") => format!("there are {sentence}"),
        1 => format!("there is {sentence}"),
        2 => format!("we see {sentence}"),
        _ => sentence,
    }
}

/// `a red circle to the left of a blue star, with a green heart`, if any two objects stand clearly to each other.
fn related(scene: &Scene, stream: &mut Stream) -> Option<String> {
    let order = shuffled(scene.objects.len(), stream);
    let pairs = order.iter().flat_map(|a| order.iter().map(move |b| (*a, *b)));
    let (a, b, relation) = pairs.filter_map(|(a, b)| Some((a, b, scene.relation(a, b)?))).next()?;
    let words = match relation {
        Relation::LeftOf => ["to the left of", "left of"],
        Relation::RightOf => ["to the right of", "right of"],
        Relation::Above => ["above", "over"],
        Relation::Below => ["below", "under"],
        Relation::InFrontOf => ["in front of", "partly covering"],
        Relation::Behind => ["behind", "partly hidden by"],
    };
    let subject = phrases(scene, &[a, b], stream);
    let words = words[stream.below(2) as usize];
    let rest: Vec<usize> = order.into_iter().filter(|index| *index != a && *index != b).collect();
    let sentence = format!("{} {words} {}", subject.first()?, subject.get(1)?);
    if rest.is_empty() {
        return Some(sentence);
    }
    Some(format!("{sentence}, with {}", listed(&phrases(scene, &rest, stream))))
}

/// `two stars, one red and one blue, and a green heart`; where no shape repeats, `three shapes: ...`.
fn counted(scene: &Scene, stream: &mut Stream) -> String {
    let order = shuffled(scene.objects.len(), stream);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in order.iter().copied() {
        let shape = scene.objects[index].shape;
        match groups.iter_mut().find(|group| scene.objects[group[0]].shape == shape) {
            Some(group) => group.push(index),
            None => groups.push(vec![index]),
        }
    }
    if groups.len() == scene.objects.len() {
        let phrases = phrases(scene, &order, stream);
        if phrases.len() < 2 {
            return format!("one shape: {}", listed(&phrases));
        }
        return format!("{} shapes: {}", number(phrases.len()), listed(&phrases));
    }
    let parts: Vec<String> = groups
        .iter()
        .map(|group| {
            let objects: Vec<&Object> = group.iter().map(|index| &scene.objects[*index]).collect();
            if let [only] = objects[..] {
                return phrase(only, stream);
            }
            let shape = plural(objects[0].shape.word());
            let colour = objects[0].colour;
            if objects.iter().all(|object| object.colour == colour) {
                return format!("{} {} {shape}", number(objects.len()), colour.word());
            }
            let each: Vec<String> =
                objects.iter().map(|object| format!("one {}", object.colour.word())).collect();
            format!("{} {shape}, {}", number(objects.len()), listed(&each))
        })
        .collect();
    listed(&parts)
}

fn phrases(scene: &Scene, order: &[usize], stream: &mut Stream) -> Vec<String> {
    order.iter().filter_map(|index| Some(phrase(scene.objects.get(*index)?, stream))).collect()
}

/// `a small striped red circle`: colour and shape always, size and material in half of the cases.
fn phrase(object: &Object, stream: &mut Stream) -> String {
    let mut words = Vec::with_capacity(4);
    if stream.below(2) == 0 {
        let synonyms = match object.size {
            Size::Small => ["small", "little"],
            Size::Large => ["large", "big"],
        };
        words.push(synonyms[stream.below(2) as usize]);
    }
    let material = stream.below(4);
    if material == 0 || (material < 3 && object.material != Material::Plain) {
        words.push(object.material.word());
    }
    words.push(object.colour.word());
    words.push(object.shape.word());
    let article = if words[0].starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {}", words.join(" "))
}

/// "circles", "crosses".
pub(in crate::data) fn plural(shape: &str) -> String {
    if shape.ends_with('s') { format!("{shape}es") } else { format!("{shape}s") }
}

fn number(count: usize) -> &'static str {
    ["no", "one", "two", "three", "four", "five", "six"].get(count).copied().unwrap_or("many")
}

/// `a`, `a and b`, `a, b and c`.
fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn shuffled(count: usize, stream: &mut Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, stream.below(last as u32 + 1) as usize);
    }
    order
}
