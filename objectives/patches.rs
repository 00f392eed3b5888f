//! Image patches as targets, and which of them are hidden.
//!
//! Block-wise masking is algorithm 1 of BEiT, Bao et al., arXiv:2106.08254, as its released code runs it: blocks of a
//! random area and shape, at least 16 of 196 patches large, are hidden one after another until a share of the patches is
//! hidden or ten draws in a row hide nothing new.
//!
//! Deviation: in smaller or larger grids the smallest block keeps its share of the patches, and where no block fits, a
//! single patch is hidden.

use candle_core::{D, Device, Result, Tensor, bail};

use crate::colour::{DEVIATION, MEAN};
use crate::kernels::{self, random::Key};
use crate::models::{Image, View};

/// The smallest block as a share of the grid.
const SMALLEST: f64 = 16.0 / 196.0;
/// The smallest ratio of a block's height and width; the largest is its inverse.
const ASPECT: f64 = 0.3;

/// Rows and columns of patches in pixels (B,3,H,W).
///
/// # Errors
/// When patches do not divide the images.
pub fn grid(pixels: &Tensor, patch: usize) -> Result<[usize; 2]> {
    let (_, _, height, width) = pixels.dims4()?;
    if patch == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
        bail!("patches of {patch} pixels in images of {height} x {width}");
    }
    Ok([height / patch, width / patch])
}

/// Normalised pixels (B,3,H,W) as red, green and blue in [0, 1].
///
/// # Errors
/// When there are not three channels.
pub fn colours(pixels: &Tensor) -> Result<Tensor> {
    let channel = |values: [f32; 3]| Tensor::new(&values, pixels.device())?.reshape((1, 3, 1, 1));
    pixels.broadcast_mul(&channel(DEVIATION)?)?.broadcast_add(&channel(MEAN)?)?.clamp(0f32, 1f32)
}

/// The patches (B P, 3 p p) of images (B,3,H,W), each with its channels outermost.
///
/// # Errors
/// When patches do not divide the images.
pub fn rows(images: &Tensor, patch: usize) -> Result<Tensor> {
    kernels::patchify(&images.detach(), patch, 0)?.flatten(0, 1)
}

/// Rows (R,C) of mean 0 and deviation 1 each, the deviation that of a sample (MAE, He et al., arXiv:2111.06377, released
/// code, which adds 1e-6 to the variance).
///
/// # Errors
/// When the rows have no element.
pub fn standardised(rows: &Tensor) -> Result<Tensor> {
    let centred = rows.broadcast_sub(&rows.mean_keepdim(D::Minus1)?)?;
    let others = rows.dim(D::Minus1)?.saturating_sub(1).max(1) as f64;
    let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / others)?;
    centred.broadcast_div(&(variance + 1e-6)?.sqrt()?)
}

/// Which patches of one image are hidden in blocks, about `share` of a grid of rows and columns, row by row.
pub fn blocks([rows, columns]: [usize; 2], share: f64, key: Key) -> Vec<bool> {
    let mut stream = key.stream();
    let mut hidden = vec![false; rows * columns];
    let most = ((share * hidden.len() as f64) as usize).max(1);
    let smallest = (SMALLEST * hidden.len() as f64).round().max(1.0);
    let mut uniform = |low: f64, high: f64| low + (high - low) * f64::from(stream.f32());
    let (mut count, mut failures) = (0, 0);
    while count < most && failures < 10 {
        let left = most - count;
        let area = uniform(smallest, left as f64);
        let aspect = uniform(ASPECT.ln(), -ASPECT.ln()).exp();
        let [height, width] = [area * aspect, area / aspect].map(|square| square.sqrt().round() as usize);
        failures += 1;
        if height >= rows || width >= columns {
            continue;
        }
        let mut first = |places: usize| (uniform(0.0, places as f64) as usize).min(places - 1);
        let [top, start] = [first(rows - height + 1), first(columns - width + 1)];
        let inside =
            (top..top + height).flat_map(|row| (start..start + width).map(move |c| row * columns + c));
        let new: Vec<usize> = inside.filter(|&patch| !hidden[patch]).collect();
        if (1..=left).contains(&new.len()) {
            (count, failures) = (count + new.len(), 0);
            new.into_iter().for_each(|patch| hidden[patch] = true);
        }
    }
    if count == 0 {
        let patches = hidden.len() as u32;
        key.fold(0).below(1, patches).into_iter().for_each(|patch| hidden[patch as usize] = true);
    }
    hidden
}

/// Which of so many patches are hidden, a share of them, rounded down but at least one, all choices being equally likely.
pub fn some(patches: usize, share: f64, key: Key) -> Vec<bool> {
    let count = ((share * patches as f64) as usize).max(1);
    let mut hidden = vec![false; patches];
    key.permutation(patches).into_iter().take(count).for_each(|patch| hidden[patch as usize] = true);
    hidden
}

/// Which of so many patches are drawn, each with this probability.
pub fn scattered(patches: usize, probability: f64, key: Key) -> Vec<bool> {
    key.uniform(patches).into_iter().map(|chance| f64::from(chance) < probability).collect()
}

/// The images with patches hidden, `hidden` being (B P) row by row.
///
/// # Errors
/// When the images hold no pixels or have other patches.
pub fn hide(image: &Image, hidden: &[bool], noise: Key) -> Result<View<Image>> {
    let (pixels, batch) = (image.pixels()?, image.pixels()?.dim(0)?);
    let masked: Vec<f32> = hidden.iter().map(|&hidden| f32::from(u8::from(hidden))).collect();
    let masked = Tensor::from_vec(masked, (batch, hidden.len() / batch.max(1)), pixels.device())?;
    Ok(View::new(Image { masked: Some(masked), ..image.clone() }, Some(noise)))
}

/// The rows among B N image tokens that stand for these patches among B P. Tokens that stand for no patch come first.
///
/// # Errors
/// When there are fewer tokens than patches.
pub fn tokens(places: &[u32], patches: usize, tokens: &Tensor) -> Result<Tensor> {
    let count = tokens.dim(1)?;
    let Some(before) = count.checked_sub(patches) else {
        bail!("{count} image tokens for {patches} patches");
    };
    let (patches, before, count) = (patches as u32, before as u32, count as u32);
    let row = |&place: &u32| place / patches * count + before + place % patches;
    Tensor::new(places.iter().map(row).collect::<Vec<u32>>(), &Device::Cpu)
}

/// Places, rising, of what is true.
pub fn places(marks: &[bool]) -> Vec<u32> {
    (0..).zip(marks).filter_map(|(place, &mark)| mark.then_some(place)).collect()
}

/// The chosen rows of constants (R,C).
///
/// # Errors
/// When a row does not exist.
pub fn chosen(rows: &Tensor, places: &[u32], device: &Device) -> Result<Tensor> {
    rows.index_select(&Tensor::new(places, device)?, 0)
}
