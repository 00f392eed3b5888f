//! Random changes to a training picture that leave its caption true.
//!
//! Random resized crop with bicubic interpolation, horizontal flip and RandAugment without colour operations, as ALBEF
//! (Li et al., arXiv:2107.07651, section 3.5) augments. Every draw is a function of the key it is given.
//!
//! Deviation: a flip never touches a pair whose caption names a side, and operations that change hue never touch a
//! pair whose caption names a colour.
//! Deviation: where something is asked of a picture it is not cropped, for the answer may lie in what a crop takes away;
//! the papers crop in fine-tuning, too.
//! Deviation: pictures with regions are not sheared, moved or turned by RandAugment, because boxes would no longer fit.

mod rand;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};

use super::{Error, Example, Picture, Region, Result};
use crate::kernels::random::{Key, Stream};

pub use crate::colour::{DEVIATION, MEAN};

/// The share of a region that a crop must keep for the region to stay.
const KEPT: f32 = 0.25;

/// `augment: {crop: [0.5, 1], flip: false, rand_augment: {ops: 2, magnitude: 7}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The least and the greatest share of the picture's area that a random crop keeps; null: the whole picture.
    pub crop: Option<[f32; 2]>,
    /// Whether half of the pictures are mirrored, except where the caption names a side.
    pub flip: bool,
    /// RandAugment; null: none.
    pub rand_augment: Option<RandAugment>,
}

impl Default for Config {
    fn default() -> Self {
        Self { crop: Some([0.6, 1.0]), flip: false, rand_augment: None }
    }
}

/// RandAugment (Cubuk et al., arXiv:1909.13719): some operations drawn from a list, each applied with probability 1/2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RandAugment {
    /// How many operations are drawn.
    pub ops: usize,
    /// Their strength, from 0 to 10.
    pub magnitude: f32,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { ops: 2, magnitude: 7.0 }
    }
}

impl Config {
    /// No augmentation: the picture is only resized.
    pub fn none() -> Self {
        Self { crop: None, flip: false, rand_augment: None }
    }

    /// # Errors
    /// If a setting is outside its range.
    pub fn check(&self) -> Result<()> {
        if let Some([least, most]) = self.crop
            && !(0.0 < least && least <= most && most <= 1.0)
        {
            return Err(Error::setting(
                "augment.crop",
                format!("is [{least}, {most}]"),
                "give the least and the greatest share of the area, above 0 and at most 1, e.g. [0.5, 1]",
            ));
        }
        if let Some(RandAugment { ops, magnitude }) = self.rand_augment
            && (ops > 10 || !(0.0..=10.0).contains(&magnitude))
        {
            return Err(Error::setting(
                "augment.rand_augment",
                format!("asks for {ops} operations of magnitude {magnitude}"),
                "give at most 10 operations and a magnitude from 0 to 10, e.g. {ops: 2, magnitude: 7}",
            ));
        }
        Ok(())
    }

    /// One augmented view of an example, of both pictures where it has two, at `size` x `size` pixels.
    ///
    /// # Errors
    /// If the buffer of a picture does not have the size it states.
    pub fn view(&self, example: &mut Example, caption: &str, size: u32, key: Key) -> Result<()> {
        let see = |config: &Self, example: &mut Example, caption: &str, key: Key| {
            let picture = std::mem::take(&mut example.picture);
            example.picture = config.apply(picture, &mut example.regions, caption, size, key)?;
            Ok(())
        };
        let Some(mut asked) = example.asked.take() else { return see(self, example, caption, key) };
        let whole = Self { crop: None, ..self.clone() };
        // An answer that names a side or a colour must stay true as well.
        let said = format!("{caption} {}", asked.answer.as_deref().unwrap_or_default());
        see(&whole, example, &said, key)?;
        if let Some(second) = &mut asked.second {
            see(&whole, second, &said, key.fold(1))?;
        }
        example.asked = Some(asked);
        Ok(())
    }

    /// One augmented view of a picture and its regions at `size` x `size` pixels, for one caption of it.
    ///
    /// # Errors
    /// If the picture's buffer does not have the size it states.
    pub fn apply(
        &self,
        picture: Picture,
        regions: &mut Vec<Region>,
        caption: &str,
        size: u32,
        key: Key,
    ) -> Result<Picture> {
        let mut stream = key.stream();
        let (width, height) = (picture.width, picture.height);
        let whole = [0, 0, width, height];
        let mut image = image(picture)?;
        let window =
            self.crop.and_then(|scale| window(width, height, scale, regions, &mut stream)).unwrap_or(whole);
        if window != whole {
            regions.retain_mut(|region| cropped(region, window, [width, height]));
        }
        image = resized(image, window, size)?;
        if self.flip && stream.below(2) == 1 && !names_side(caption) {
            imageops::flip_horizontal_in_place(&mut image);
            for region in regions.iter_mut() {
                let [left, top, right, bottom] = region.bounds;
                region.bounds = [1.0 - right, top, 1.0 - left, bottom];
            }
        }
        if let Some(RandAugment { ops, magnitude }) = self.rand_augment {
            let choice = rand::operations(!names_colour(caption), regions.is_empty());
            for _ in 0..ops {
                let operation = choice[stream.below(choice.len() as u32) as usize];
                let (skipped, reversed) = (stream.below(2) == 0, stream.below(2) == 0);
                if !skipped {
                    image = operation.apply(image, magnitude / 10.0, reversed);
                }
            }
        }
        Ok(Picture { width: size, height: size, rgb: image.into_raw() })
    }
}

/// Brings the picture of an example, both where it has two, to `size` x `size` pixels and does nothing else to it.
///
/// # Errors
/// As [`Config::view`].
pub fn resize(example: &mut Example, size: u32) -> Result<()> {
    Config::none().view(example, "", size, Key::new(0, 0, "data.augment"))
}

/// Whether a caption names the left or the right ("left of", "right arrow", "leftwards").
pub fn names_side(caption: &str) -> bool {
    words(caption).any(|word| {
        ["left", "right"].iter().any(|side| word.strip_prefix(side).is_some_and(|end| ENDS.contains(&end)))
    })
}

const ENDS: [&str; 6] = ["", "s", "ward", "wards", "most", "hand"];

/// Whether a caption names a colour.
pub fn names_colour(caption: &str) -> bool {
    words(caption).any(|word| COLOURS.contains(&word.as_str()))
}

const COLOURS: [&str; 23] = [
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "violet",
    "pink",
    "brown",
    "black",
    "white",
    "gray",
    "grey",
    "gold",
    "golden",
    "silver",
    "cyan",
    "magenta",
    "turquoise",
    "beige",
    "teal",
    "colour",
    "color",
];

fn words(caption: &str) -> impl Iterator<Item = String> + '_ {
    caption.split(|letter: char| !letter.is_alphanumeric()).map(str::to_lowercase)
}

fn image(picture: Picture) -> Result<RgbImage> {
    let Picture { width, height, rgb } = picture;
    let bytes = rgb.len();
    RgbImage::from_raw(width, height, rgb).filter(|_| width > 0 && height > 0).ok_or_else(|| {
        Error::setting(
            "picture",
            format!("of {width} x {height} pixels has {bytes} bytes"),
            "the dataset must give width * height * 3 bytes and at least one pixel",
        )
    })
}

/// The window [x, y, width, height] at `size` x `size` pixels, whatever its own proportions (as ALBEF resizes). The window
/// is cut out first, so that no pixel beside it blends in.
fn resized(image: RgbImage, [x, y, width, height]: [u32; 4], size: u32) -> Result<RgbImage> {
    if (width, height) == (size, size) && image.dimensions() == (size, size) {
        return Ok(image);
    }
    let view = imageops::crop_imm(&image, x, y, width, height).to_image();
    if (width, height) == (size, size) {
        return Ok(view);
    }
    let mut small = RgbImage::new(size, size);
    let failed = |error: &dyn std::fmt::Display| {
        Error::setting(
            "data.size",
            format!("{size} cannot be made from {width} x {height} ({error})"),
            "name another",
        )
    };
    let from =
        ImageRef::new(width, height, view.as_raw(), PixelType::U8x3).map_err(|error| failed(&error))?;
    let mut to =
        Image::from_slice_u8(size, size, &mut small, PixelType::U8x3).map_err(|error| failed(&error))?;
    let bicubic = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom));
    Resizer::new().resize(&from, &mut to, &bicubic).map_err(|error| failed(&error))?;
    drop(to);
    Ok(small)
}

/// A window of random area and proportions from 3:4 to 4:3 in which at least one region stays; `None` after ten
/// draws that do not fit (as torchvision's RandomResizedCrop gives up).
fn window(
    width: u32,
    height: u32,
    [least, most]: [f32; 2],
    regions: &[Region],
    stream: &mut Stream,
) -> Option<[u32; 4]> {
    let area = width as f32 * height as f32;
    (0..10).find_map(|_| {
        let share = least + (most - least) * stream.f32();
        let ratio = ((stream.f32() * 2.0 - 1.0) * (4.0f32 / 3.0).ln()).exp();
        let across = (area * share * ratio).sqrt().round() as u32;
        let down = (area * share / ratio).sqrt().round() as u32;
        if across == 0 || down == 0 || across > width || down > height {
            return None;
        }
        let window = [stream.below(width - across + 1), stream.below(height - down + 1), across, down];
        let keeps = regions.is_empty()
            || regions.iter().any(|region| cropped(&mut region.clone(), window, [width, height]));
        keeps.then_some(window)
    })
}

/// Moves a region into the window's coordinates; false if too little of it is left.
fn cropped(region: &mut Region, window: [u32; 4], picture: [u32; 2]) -> bool {
    let mut kept = 1.0;
    for axis in 0..2 {
        let [start, length] =
            [window[axis], window[axis + 2]].map(|value| value as f32 / picture[axis] as f32);
        let (low, high) = (region.bounds[axis], region.bounds[axis + 2]);
        let [inner_low, inner_high] = [low, high].map(|side| ((side - start) / length).clamp(0.0, 1.0));
        kept *= if high > low { (inner_high - inner_low) * length / (high - low) } else { 0.0 };
        (region.bounds[axis], region.bounds[axis + 2]) = (inner_low, inner_high);
    }
    kept >= KEPT
}
