//! A model of a few hundred numbers that can do what the objectives here ask for.

use std::cell::Cell;

use candle_core::{D, Result, Tensor};
use vlp_bench::kernels::{Activation, Logits, activate, embedding, l2_normalize, linear};
use vlp_bench::models::{Attend, Dims, Fused, Image, Init, Model, Text, Tokens, Vars, View};

use super::{SIZE, VOCABULARY, WORDS};

pub const DIMS: Dims = Dims {
    width: 8,
    embed: 6,
    queries: None,
    vocabulary: VOCABULARY,
    region_classes: 0,
    answers: 3,
    image: 8,
    patch: 2,
    words: WORDS,
};

const PATCHES: usize = 4;

pub struct Tiny {
    patch: Tensor,
    words: Tensor,
    places: Tensor,
    project: [Tensor; 2],
    scale: Tensor,
    mask: Tensor,
    mix: [Tensor; 2],
    /// How many images and texts were encoded.
    pub encoded: Cell<usize>,
}

impl Tiny {
    pub fn build(vars: &Vars) -> Result<Self> {
        let init = Init::Normal { std: 0.5 };
        let (width, embed) = (DIMS.width, DIMS.embed);
        Ok(Self {
            patch: vars.get((width, 3 * SIZE * SIZE / PATCHES), "patch", init)?,
            words: vars.get((VOCABULARY, width), "words", init)?,
            places: vars.get((WORDS, width), "places", init)?,
            project: [
                vars.get((embed, width), "image_projection", init)?,
                vars.get((embed, width), "text_projection", init)?,
            ],
            scale: vars.bounded("scale", (1.0f64 / 0.07).ln(), 0.0, 100f64.ln())?,
            mask: vars.get(width, "mask", init)?,
            mix: [vars.get((width, width), "mix_in", init)?, vars.get((width, width), "mix_out", init)?],
            encoded: Cell::new(0),
        })
    }
}

impl Model for Tiny {
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("tokens", |view| {
            self.encoded.set(self.encoded.get() + view.rows()?);
            let pixels = view.input()?.pixels.clone().unwrap();
            let patches = pixels.reshape((view.rows()?, PATCHES, 3 * SIZE * SIZE / PATCHES))?;
            let mut hidden = linear(&patches, &self.patch, None)?;
            if let Some(masked) = &view.input()?.masked {
                let masked = masked.unsqueeze(D::Minus1)?;
                hidden = (hidden.broadcast_mul(&masked.affine(-1.0, 1.0)?)?
                    + masked.broadcast_mul(&self.mask)?)?;
            }
            Ok(Tokens { hidden, mask: None })
        })
    }

    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("tokens", |view| {
            self.encoded.set(self.encoded.get() + view.rows()?);
            let input = view.input()?;
            let hidden = embedding(&self.words, &input.ids)?.broadcast_add(&self.places)?;
            Ok(Tokens { hidden, mask: Some(input.mask.clone()) })
        })
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tensor> {
        let hidden = self.image_tokens(image)?.hidden;
        l2_normalize(&linear(&hidden.mean(1)?, &self.project[0], None)?, 1e-12)
    }

    fn embed_text(&self, text: &View<Text>) -> Result<Tensor> {
        let Tokens { hidden, mask } = self.text_tokens(text)?;
        let mask = mask.unwrap().unsqueeze(D::Minus1)?;
        l2_normalize(&linear(&hidden.broadcast_mul(&mask)?.sum(1)?, &self.project[1], None)?, 1e-12)
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        linear(images, texts, None)?.broadcast_mul(&self.scale.exp()?)
    }

    /// No word sees another, so that both ways of attending are one.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, _: Attend) -> Result<Fused> {
        let (image, text) = (self.image_tokens(image)?, self.text_tokens(text)?);
        let seen = activate(&linear(&image.hidden.mean_keepdim(1)?, &self.mix[0], None)?, Activation::Gelu)?;
        let hidden = linear(&text.hidden.broadcast_mul(&seen)?, &self.mix[1], None)?;
        let mask = text.mask.clone().unwrap().unsqueeze(D::Minus1)?;
        let pooled = hidden.broadcast_mul(&mask)?.sum(1)?;
        let image = Tokens { hidden: image.hidden.broadcast_mul(&pooled.unsqueeze(1)?)?, mask: None };
        Ok(Fused { text: Tokens { hidden, mask: text.mask }, image: Some(image), pooled })
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        Ok(Logits::new(hidden.clone(), &self.words, None))
    }
}
