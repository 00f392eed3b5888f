//! Models against reference values, their gradients, and the store and the views beneath them.

mod blip;
mod blip2;
mod coca;
mod decoding;
mod gradients;
mod hub;
mod joined;
mod passes;
mod published;
mod refusals;
mod sizes;
mod start;
mod store;
mod view;
mod vilt;
mod vlmo;
mod weights;

use candle_core::{Device, Result, Tensor};
use vlp_bench::kernels::random::Key;
use vlp_bench::models::{Image, Inputs, Regions, Text};
use vlp_bench::token::Specials;

pub const INPUTS: Inputs = Inputs {
    size: 16,
    words: 7,
    vocabulary: 40,
    specials: Specials::SHIPPED,
    region_features: 6,
    region_classes: 0,
    answers: 0,
};

/// Normal pixels, four regions an image of which the second has one less, and texts `[CLS] .. [SEP]` of the given lengths padded to `INPUTS.words`.
pub fn pairs(lengths: &[usize]) -> Result<(Image, Text)> {
    let (batch, size, words) = (lengths.len(), INPUTS.size, INPUTS.words);
    let key = Key::new(3, 0, "pairs");
    let pixels = key.normal(batch * 3 * size * size);
    let pixels = Tensor::from_vec(pixels, (batch, 3, size, size), &Device::Cpu)?;
    let mut drawn = key.fold(1).below(batch * words, INPUTS.vocabulary as u32 - 5);
    drawn.iter_mut().for_each(|id| *id += 5);
    let mut mask = vec![0f32; batch * words];
    for (row, &length) in lengths.iter().enumerate() {
        let (ids, mask) = (&mut drawn[row * words..][..words], &mut mask[row * words..][..words]);
        ids[0] = vlp_bench::token::CLS;
        ids[length - 1] = vlp_bench::token::SEP;
        ids[length..].fill(vlp_bench::token::PAD);
        mask[..length].fill(1.0);
    }
    let shape = (batch, words);
    let ids = Tensor::from_vec(drawn, shape, &Device::Cpu)?;
    let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
    let text = Text { segments: ids.zeros_like()?, ids, mask };
    Ok((Image { pixels: Some(pixels), regions: Some(regions(batch)?), ..Image::default() }, text))
}

fn regions(batch: usize) -> Result<Regions> {
    const COUNT: usize = 4;
    let key = Key::new(4, 0, "regions");
    let normal = |part, width: usize| {
        Tensor::from_vec(key.fold(part).normal(batch * COUNT * width), (batch, COUNT, width), &Device::Cpu)
    };
    let there = (0..batch * COUNT).map(|place| if place == 2 * COUNT - 1 { 0f32 } else { 1.0 });
    let mask = Tensor::from_iter(there, &Device::Cpu)?.reshape((batch, COUNT))?;
    Ok(Regions { features: normal(0, INPUTS.region_features)?, boxes: normal(1, 7)?, mask })
}

/// Random numbers of the shape of `x`, to weigh its elements in a scalar.
pub fn weighed(x: &Tensor, purpose: &str) -> Result<Tensor> {
    let weights = Tensor::from_vec(Key::new(5, 0, purpose).normal(x.elem_count()), x.shape(), x.device())?;
    (x * weights)?.sum_all()
}
