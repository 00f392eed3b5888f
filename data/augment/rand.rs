//! The operations of RandAugment that ALBEF keeps: those that do not recolour the picture.
//!
//! Strengths follow the published code at magnitude m of 10: shear 0.3 m/10, shift 10/256 of the side m/10, rotation
//! 30 degrees m/10, brightness and sharpness factor 0.1 + 1.8 m/10; uncovered pixels become mid-grey.
//!
//! Deviation: shears keep the centre in place instead of the corner.

use image::{Rgb, RgbImage};

/// One operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Identity,
    Brightness,
    Sharpness,
    AutoContrast,
    Equalize,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
}

/// The operations to draw from; `hue`: those that shift hues too, `geometric`: those that move things too.
pub(super) fn operations(hue: bool, geometric: bool) -> Vec<Operation> {
    use Operation::*;
    let mut list = vec![Identity, Brightness, Sharpness];
    if hue {
        list.extend([AutoContrast, Equalize]);
    }
    if geometric {
        list.extend([ShearX, ShearY, TranslateX, TranslateY, Rotate]);
    }
    list
}

impl Operation {
    /// Applies it at `strength` in 0..=1, in the opposite direction if `reversed`.
    pub(super) fn apply(self, image: RgbImage, strength: f32, reversed: bool) -> RgbImage {
        let signed = if reversed { -strength } else { strength };
        let (shear, shift) = (0.3 * signed, 10.0 / 256.0 * signed);
        let factor = 0.1 + 1.8 * strength;
        match self {
            Self::Identity => image,
            Self::Brightness => mapped(image, |value| value * factor),
            Self::Sharpness => sharpened(&image, factor),
            Self::AutoContrast => stretched(image),
            Self::Equalize => equalized(image),
            Self::ShearX => moved(&image, [1.0, shear, 0.0, 1.0], [0.0, 0.0]),
            Self::ShearY => moved(&image, [1.0, 0.0, shear, 1.0], [0.0, 0.0]),
            Self::TranslateX => moved(&image, [1.0, 0.0, 0.0, 1.0], [shift, 0.0]),
            Self::TranslateY => moved(&image, [1.0, 0.0, 0.0, 1.0], [0.0, shift]),
            Self::Rotate => {
                let (sine, cosine) = (signed * 30.0).to_radians().sin_cos();
                moved(&image, [cosine, -sine, sine, cosine], [0.0, 0.0])
            }
        }
    }
}

fn byte(value: f32) -> u8 {
    value.clamp(0.0, 255.0).round() as u8
}

fn mapped(mut image: RgbImage, map: impl Fn(f32) -> f32) -> RgbImage {
    for value in image.iter_mut() {
        *value = byte(map(f32::from(*value)));
    }
    image
}

/// Away from (or towards) a 3 x 3 smoothing with weight 5 in the middle; the border stays.
fn sharpened(image: &RgbImage, factor: f32) -> RgbImage {
    let (width, height) = image.dimensions();
    let mut out = image.clone();
    for y in 1..height.saturating_sub(1) {
        for x in 1..width.saturating_sub(1) {
            let here = image.get_pixel(x, y).0;
            let mut sum = here.map(|value| 4.0 * f32::from(value));
            for (dy, dx) in (0..3).flat_map(|dy| (0..3).map(move |dx| (dy, dx))) {
                let near = image.get_pixel(x + dx - 1, y + dy - 1).0;
                for channel in 0..3 {
                    sum[channel] += f32::from(near[channel]);
                }
            }
            out.put_pixel(
                x,
                y,
                Rgb([0, 1, 2].map(|channel| {
                    let smooth = sum[channel] / 13.0;
                    byte(smooth + (f32::from(here[channel]) - smooth) * factor)
                })),
            );
        }
    }
    out
}

/// Each channel stretched to the full range.
fn stretched(mut image: RgbImage) -> RgbImage {
    for channel in 0..3 {
        let values = || image.pixels().map(|pixel| pixel.0[channel]);
        let (low, high) = (values().min().unwrap_or(0), values().max().unwrap_or(255));
        if low < high {
            let scale = 255.0 / f32::from(high - low);
            for pixel in image.pixels_mut() {
                pixel.0[channel] = byte(f32::from(pixel.0[channel] - low) * scale);
            }
        }
    }
    image
}

/// Each channel's histogram made flat.
fn equalized(mut image: RgbImage) -> RgbImage {
    for channel in 0..3 {
        let mut histogram = [0u32; 256];
        for pixel in image.pixels() {
            histogram[usize::from(pixel.0[channel])] += 1;
        }
        let last = histogram.iter().rev().copied().find(|count| *count > 0).unwrap_or(0);
        let step = (histogram.iter().sum::<u32>() - last) / 255;
        if step == 0 {
            continue;
        }
        let mut below = step / 2;
        let table = histogram.map(|count| {
            let value = (below / step).min(255) as u8;
            below += count;
            value
        });
        for pixel in image.pixels_mut() {
            pixel.0[channel] = table[usize::from(pixel.0[channel])];
        }
    }
    image
}

/// Output (x, y) about the centre is read at `matrix` times it plus `shift` sides, bilinearly.
fn moved(image: &RgbImage, matrix: [f32; 4], shift: [f32; 2]) -> RgbImage {
    let (width, height) = image.dimensions();
    let (middle_x, middle_y) = ((width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0);
    let read = |x: i64, y: i64| -> [f32; 3] {
        match (u32::try_from(x), u32::try_from(y)) {
            (Ok(x), Ok(y)) if x < width && y < height => image.get_pixel(x, y).0.map(f32::from),
            _ => [128.0; 3],
        }
    };
    RgbImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (x as f32 - middle_x, y as f32 - middle_y);
        let from_x = matrix[0] * dx + matrix[1] * dy + shift[0] * width as f32 + middle_x;
        let from_y = matrix[2] * dx + matrix[3] * dy + shift[1] * height as f32 + middle_y;
        let (left, top) = (from_x.floor(), from_y.floor());
        let (across, down) = (from_x - left, from_y - top);
        let (left, top) = (left as i64, top as i64);
        let corners = [read(left, top), read(left + 1, top), read(left, top + 1), read(left + 1, top + 1)];
        Rgb([0, 1, 2].map(|channel| {
            let upper = corners[0][channel] * (1.0 - across) + corners[1][channel] * across;
            let lower = corners[2][channel] * (1.0 - across) + corners[3][channel] * across;
            byte(upper * (1.0 - down) + lower * down)
        }))
    })
}
