//! Expressions that mean one object of a scene by its looks alone.
//!
//! As in RefCOCO+ (Yu et al., arXiv:1608.00272), an expression never says where its object is.

use super::noun::{Attribute, Noun};
use crate::data::scenes::{Object, Scene};
use crate::kernels::random::Stream;

/// The shortest description that only object `target` answers to, any of them if there are several.
pub(super) fn expression(scene: &Scene, target: usize, stream: &mut Stream) -> Option<Noun> {
    let object = scene.objects.get(target)?;
    let describe = |chosen: u32| {
        let said = (0..).zip(Attribute::ALL).filter(|(bit, _)| chosen >> bit & 1 == 1);
        Noun::of(object, &said.map(|(_, attribute)| attribute).collect::<Vec<_>>())
    };
    let only = |chosen: &u32| describe(*chosen).only(scene).is_some();
    let unique: Vec<u32> = (1..1 << Attribute::ALL.len()).filter(only).collect();
    let fewest = unique.iter().map(|chosen| chosen.count_ones()).min()?;
    let shortest: Vec<u32> = unique.into_iter().filter(|chosen| chosen.count_ones() == fewest).collect();
    Some(describe(shortest[stream.below(shortest.len() as u32) as usize]))
}

/// Gives the objects looks that are easily confused: each of the others has the shape or the colour of the first.
pub(super) fn plant(objects: &mut [Object], stream: &mut Stream) {
    let Some((first, others)) = objects.split_first_mut() else { return };
    for other in others {
        match stream.below(3) {
            0 => other.shape = first.shape,
            1 => other.colour = first.colour,
            _ => (other.shape, other.colour) = (first.shape, first.colour),
        }
    }
}
