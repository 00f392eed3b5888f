//! What an object detector would report about a scene: a box, a feature vector and class probabilities an object.
//!
//! The feature is a fixed random projection of the true attributes and the box plus noise; the class distribution
//! favours the true colour-and-shape class, then its neighbours in colour or shape, as a detector confuses them.

use std::sync::LazyLock;

use super::scene::{Colour, Material, Object, Shape, Size};
use crate::data::Region;
use crate::kernels::random::{Key, Stream};

/// The width of a feature vector.
pub const FEATURES: usize = 64;
/// Colours times shapes.
pub const CLASSES: usize = Colour::ALL.len() * Shape::ALL.len();

const INPUTS: usize = Shape::ALL.len() + Colour::ALL.len() + Size::ALL.len() + Material::ALL.len() + 4;

/// One projection for every configuration: a detector is trained once.
static PROJECTION: LazyLock<Vec<f32>> =
    LazyLock::new(|| Key::new(0, 0, "scenes.detector").normal(INPUTS * FEATURES));

/// The class of a colour and a shape.
pub fn class(colour: Colour, shape: Shape) -> usize {
    colour as usize * Shape::ALL.len() + shape as usize
}

/// What the detector says about `object`; `noise` 0 is a perfect box and an exact feature.
pub(super) fn detect(object: &Object, noise: f32, key: Key) -> Region {
    let draws = key.normal(4 + FEATURES + CLASSES);
    let (jitter, draws) = draws.split_at(4);
    let (blur, doubt) = draws.split_at(FEATURES);
    let bounds = jittered(object, noise, jitter);

    let mut inputs = [0.0f32; INPUTS];
    let mut start = 0;
    for (value, count) in [
        (object.shape as usize, Shape::ALL.len()),
        (object.colour as usize, Colour::ALL.len()),
        (object.size as usize, Size::ALL.len()),
        (object.material as usize, Material::ALL.len()),
    ] {
        inputs[start + value] = 1.0;
        start += count;
    }
    inputs[start..].copy_from_slice(&bounds);
    let features = (0..FEATURES)
        .map(|column| {
            let projected: f32 = inputs
                .iter()
                .enumerate()
                .map(|(row, input)| input * PROJECTION[row * FEATURES + column])
                .sum();
            0.5 * projected + noise * blur[column]
        })
        .collect();

    let mut logits = Vec::with_capacity(CLASSES);
    for colour in Colour::ALL {
        for shape in Shape::ALL {
            let near =
                f32::from(u8::from(*colour == object.colour)) + f32::from(u8::from(*shape == object.shape));
            logits.push(2.0 * near + if near > 1.5 { 3.0 } else { 0.0 } + 4.0 * noise * doubt[logits.len()]);
        }
    }
    Region { bounds, features, classes: softmax(&logits) }
}

/// The true box with each side moved by a share of the object's size, still a box inside the picture.
fn jittered(object: &Object, noise: f32, jitter: &[f32]) -> [f32; 4] {
    let mut bounds = object.bounds();
    for (side, draw) in bounds.iter_mut().zip(jitter) {
        *side = (*side + 0.25 * noise * object.radius * draw.clamp(-2.0, 2.0)).clamp(0.0, 1.0);
    }
    let [left, top, right, bottom] = bounds;
    [left.min(right), top.min(bottom), left.max(right), top.max(bottom)]
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The tags of a scene as a detector names them; a share `noise` of them is wrong: replaced or missing.
pub(super) fn tags(objects: &[Object], noise: f32, stream: &mut Stream) -> Vec<String> {
    let mut tags = Vec::with_capacity(objects.len());
    for object in objects {
        let (wrong, missing) = (stream.f32() < noise, stream.below(2) == 0);
        // Offsets of at least one make the wrong colour and shape differ from the true ones.
        let other = |length: usize, offset: u32, now: usize| (now + 1 + offset as usize) % length;
        let colour =
            other(Colour::ALL.len(), stream.below(Colour::ALL.len() as u32 - 1), object.colour as usize);
        let shape = other(Shape::ALL.len(), stream.below(Shape::ALL.len() as u32 - 1), object.shape as usize);
        let (colour, shape) =
            if wrong { (Colour::ALL[colour], Shape::ALL[shape]) } else { (object.colour, object.shape) };
        if !(wrong && missing) {
            tags.push(format!("{} {}", colour.word(), shape.word()));
        }
    }
    tags
}
