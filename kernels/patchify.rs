//! Images as rows of patches, the first step of a vision transformer (Dosovitskiy et al., arXiv:2010.11929, section 3.1).

use candle_core::{Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::operation::{Operand, Operation, Slot, apply1};
use super::product::Write;
use super::real::Real;
use super::rows::scratch;

#[path = "cuda/patchify.rs"]
mod on_gpu;

/// (B,C,H,W) to (B, spare + H/p W/p, C p p): after `spare` rows of zeros the patches row by row, each with its channels
/// outermost, as the weight of a convolution lies.
pub fn patchify(pixels: &Tensor, patch: usize, spare: usize) -> Result<Tensor> {
    let (_, channels, height, width) = pixels.dims4()?;
    if patch == 0 || !height.is_multiple_of(patch) || !width.is_multiple_of(patch) {
        bail!("patchify: patches of {patch} in images of {height} x {width}");
    }
    apply1(Patchify { channels, height, width, patch, spare }, &pixels.contiguous()?)
}

struct Patchify {
    channels: usize,
    height: usize,
    width: usize,
    patch: usize,
    spare: usize,
}

impl Patchify {
    fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Elements of one patch.
    fn length(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    fn tokens(&self) -> usize {
        self.spare + self.height / self.patch * (self.width / self.patch)
    }

    /// Calls `run(pixel, element)` for the beginnings of runs of `patch` elements that lie together both in an image
    /// and in its patches.
    fn runs(&self, mut run: impl FnMut(usize, usize)) {
        let columns = self.width / self.patch;
        for channel in 0..self.channels {
            for y in 0..self.height {
                for column in 0..columns {
                    let token = self.spare + y / self.patch * columns + column;
                    let inside = (channel * self.patch + y % self.patch) * self.patch;
                    let pixel = (channel * self.height + y) * self.width + column * self.patch;
                    run(pixel, token * self.length() + inside);
                }
            }
        }
    }
}

impl Operation<1> for Patchify {
    fn name(&self) -> &'static str {
        "patchify"
    }

    fn forward<T: Real>(&self, [pixels]: [Operand<'_, T>; 1]) -> Result<(Vec<T>, Shape)> {
        let (batch, size) = (pixels.dims()[0], self.tokens() * self.length());
        let pixels = pixels.dense()?;
        let mut out = scratch(batch * size);
        let images = pixels.par_chunks(self.image().max(1));
        out.par_chunks_mut(size.max(1)).zip(images).for_each(|(out, image)| {
            out[..self.spare * self.length()].fill(T::zero());
            self.runs(|from, to| out[to..to + self.patch].copy_from_slice(&image[from..from + self.patch]));
        });
        Ok((out, (batch, self.tokens(), self.length()).into()))
    }

    fn backward<T: Real>(
        &self,
        _: [Operand<'_, T>; 1],
        _: &[T],
        grad: &[T],
        [dx]: [Option<Slot<'_, T>>; 1],
    ) -> Result<()> {
        let Some(Slot { data, write }) = dx else { return Ok(()) };
        let grads = grad.par_chunks((self.tokens() * self.length()).max(1));
        data.par_chunks_mut(self.image().max(1)).zip(grads).for_each(|(image, grad)| {
            if write == Write::Replace {
                image.fill(T::zero());
            }
            self.runs(|to, from| {
                let pixels = image[to..to + self.patch].iter_mut();
                pixels.zip(&grad[from..]).for_each(|(pixel, &g)| *pixel += g);
            });
        });
        Ok(())
    }
}
