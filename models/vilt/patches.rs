//! What ViLT sees of an image: linear patches, at positions stretched over the image, whatever its size.
//!
//! Kim et al., arXiv:2102.03334, section 4.2, and the released code. The learned positions are those of a square of
//! S x S patches; an image of h x w patches has them interpolated bilinearly, corners upon corners. In a batch of larger
//! images it lies in the upper left, and a patch belongs to it if the patch's first pixel does.

use candle_core::{Device, Result, Tensor, bail};

use super::Config;
use crate::kernels::{self, random::Key};
use crate::models::nn::{PatchStart, Patches, deviation, drops, fan_in, within};
use crate::models::{Image, Init, Inputs, Tokens, Vars};

pub(super) struct VisualEmbedding {
    patches: Patches,
    /// Stands for a masked patch, before its position is added (D).
    mask: Tensor,
    /// Side of a patch, in pixels.
    patch: usize,
    /// S.
    side: usize,
    /// How many patches of an image training sees at most.
    sample: Option<usize>,
    dropout: f64,
}

impl VisualEmbedding {
    pub(super) fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (patch, width) = (config.patch, config.trunk.width);
        let map = fan_in(3 * patch * patch);
        let tokens = Init::Normal { std: deviation(width) };
        let start = PatchStart { weight: map, bias: Some(map), tokens };
        Ok(Self {
            patches: Patches::new(vars, inputs.size, patch, width, &start)?,
            mask: vars.get(width, "mask", tokens)?,
            patch,
            side: inputs.size / patch,
            sample: config.sample,
            dropout: config.dropout,
        })
    }

    /// The tokens (B,1+N,D) of images that lie on a canvas of N patches, the class token first. Patches beyond an image
    /// and those that training leaves out are not visible.
    pub(super) fn forward(&self, image: &Image, noise: Option<Key>) -> Result<Tokens> {
        let pixels = image.pixels()?;
        let (batch, _, height, width) = pixels.dims4()?;
        let canvas = [height / self.patch, width / self.patch];
        let grids = match &image.sizes {
            None => vec![canvas; batch],
            Some(sizes) => self.grids(sizes, canvas)?,
        };
        let masked = image.masked.as_ref().map(|masked| (&self.mask, masked));
        let hidden = self.patches.forward_at(&self.positions(canvas, &grids)?, pixels, masked)?;
        let hidden = match drops(self.dropout, noise, 0) {
            Some(dropout) => kernels::dropout(&hidden, dropout)?,
            None => hidden,
        };
        let shape = (batch, 1 + canvas[0] * canvas[1]);
        let mask = self.visible(canvas, &grids, within(noise, 1));
        let mask = mask.map(|mask| Tensor::from_vec(mask, shape, &Device::Cpu)).transpose()?;
        Ok(Tokens { hidden, mask })
    }

    /// Rows and columns of patches of images of these sizes in pixels (B,2).
    fn grids(&self, sizes: &Tensor, canvas: [usize; 2]) -> Result<Vec<[usize; 2]>> {
        let grid = |size: Vec<u32>| match size[..] {
            [height, width] => {
                let grid = [height, width].map(|pixels| (pixels as usize).div_ceil(self.patch));
                let inside = grid.iter().zip(canvas).all(|(patches, most)| (1..=most).contains(patches));
                if inside {
                    Ok(grid)
                } else {
                    bail!("an image of {height} x {width} pixels outside its batch")
                }
            }
            _ => bail!("sizes of images {:?}, expected a height and a width each", sizes.shape()),
        };
        sizes.to_vec2::<u32>()?.into_iter().map(grid).collect()
    }

    /// The positions of images on a canvas: (1+N,D) if they are those of all, else (B,1+N,D).
    fn positions(&self, canvas: [usize; 2], grids: &[[usize; 2]]) -> Result<Tensor> {
        let known = self.patches.positions();
        let alike = grids.iter().all(|&grid| grid == canvas);
        if alike && canvas == [self.side; 2] {
            return Ok(known.clone());
        }
        let shares = |&grid| interpolation(self.side, canvas, grid);
        let [tokens, knowns] = [1 + canvas[0] * canvas[1], 1 + self.side * self.side];
        let shares = match alike {
            true => Tensor::from_vec(shares(&canvas), (tokens, knowns), known.device())?,
            false => {
                let shares = grids.iter().flat_map(shares).collect();
                Tensor::from_vec(shares, (grids.len(), tokens, knowns), known.device())?
            }
        };
        kernels::linear(&shares, &known.t()?, None)
    }

    /// 1 on visible tokens, 0 on others, (B,1+N) in row-major order; `None` if all are visible.
    fn visible(&self, canvas: [usize; 2], grids: &[[usize; 2]], draw: Option<Key>) -> Option<Vec<f32>> {
        let (patches, columns) = (canvas[0] * canvas[1], canvas[1]);
        let draw = draw.zip(self.sample.filter(|&most| most < patches));
        if draw.is_none() && grids.iter().all(|&grid| grid == canvas) {
            return None;
        }
        let mut visible = vec![0.0; grids.len() * (1 + patches)];
        for ((tokens, &[height, width]), example) in visible.chunks_exact_mut(1 + patches).zip(grids).zip(0..)
        {
            let own = height * width;
            let seen = match draw {
                Some((key, most)) if most < own => key.fold(example).permutation(own)[..most].to_vec(),
                _ => (0..own as u32).collect(),
            };
            tokens[0] = 1.0;
            for patch in seen.into_iter().map(|patch| patch as usize) {
                tokens[1 + patch / width * columns + patch % width] = 1.0;
            }
        }
        Some(visible)
    }
}

/// How much of each learned position is in that of each token of a canvas on which an image covers a grid of patches,
/// (1+N, 1+S S) in row-major order. That of the class token comes first, on both sides; beyond the grid all is zero.
fn interpolation(side: usize, canvas: [usize; 2], grid: [usize; 2]) -> Vec<f32> {
    let knowns = 1 + side * side;
    let mut shares = vec![0.0; (1 + canvas[0] * canvas[1]) * knowns];
    shares[0] = 1.0;
    for row in 0..grid[0] {
        for column in 0..grid[1] {
            let token = 1 + row * canvas[1] + column;
            let shares = &mut shares[token * knowns + 1..][..side * side];
            for (y, down) in between(row, grid[0], side) {
                for (x, right) in between(column, grid[1], side) {
                    shares[y * side + x] += down * right;
                }
            }
        }
    }
    shares
}

/// Which two of `side` learned places the place `index` of `count` lies between, with the share of each.
fn between(index: usize, count: usize, side: usize) -> [(usize, f32); 2] {
    let step = if count > 1 { (side - 1) as f32 / (count - 1) as f32 } else { 0.0 };
    let at = index as f32 * step;
    let low = (at as usize).min(side - 1);
    let share = at - low as f32;
    [(low, 1.0 - share), ((low + 1).min(side - 1), share)]
}
