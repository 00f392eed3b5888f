//! A model whose embeddings and hidden states are given, so that an objective's own arithmetic is all that is tested.

use std::cell::RefCell;

use candle_core::{Result, Tensor};
use vlp_bench::kernels::{Logits, linear};
use vlp_bench::models::{Attend, Fused, Image, Model, Text, Tokens, View};

/// What is not given is not asked for.
#[derive(Clone, Default)]
pub struct Given {
    pub images: Option<Tensor>,
    pub texts: Option<Tensor>,
    pub scale: Option<Tensor>,
    /// Logits of a second contrast.
    pub second: Option<Tensor>,
    pub image_tokens: Option<Tensor>,
    /// 1 where there is an image token (B,N); all are without it.
    pub image_mask: Option<Tensor>,
    /// Whether the rows of the pixels, the channels one after another, are the image tokens.
    pub sees: bool,
    pub text_tokens: Option<Tensor>,
    pub decoder: Option<Tensor>,
    /// What of each image was hidden in its pass alone.
    pub shown: RefCell<Vec<Vec<f32>>>,
    /// Image tokens after the joint pass (B,N,D); with them, texts and regions have the masks of the input.
    pub states: Option<Tensor>,
    /// Weight (D,R) and bias (R) of the region decoder.
    pub regions: Option<[Tensor; 2]>,
    /// The texts that were fused or encoded.
    pub read: RefCell<Vec<Vec<u32>>>,
}

fn given<I: vlp_bench::models::Rows>(view: &View<I>, slot: &'static str, hidden: &Tensor) -> Result<Tensor> {
    Ok(view.memo(slot, |_| Ok(Tokens { hidden: hidden.clone(), mask: None }))?.hidden)
}

impl Model for Given {
    fn image_tokens(&self, image: &View<Image>) -> Result<Tokens> {
        self.shown.borrow_mut().push(
            image
                .input()?
                .masked
                .as_ref()
                .map_or(Ok(Vec::new()), |masked| masked.flatten_all()?.to_vec1())?,
        );
        Ok(Tokens { hidden: given(image, "image", self.image_tokens.as_ref().unwrap())?, mask: None })
    }

    fn text_tokens(&self, text: &View<Text>) -> Result<Tokens> {
        self.read.borrow_mut().push(text.input()?.ids.flatten_all()?.to_vec1()?);
        Ok(Tokens { hidden: given(text, "text", self.text_tokens.as_ref().unwrap())?, mask: None })
    }

    fn embed_image(&self, _: &View<Image>) -> Result<Tensor> {
        Ok(self.images.clone().unwrap())
    }

    fn embed_text(&self, _: &View<Text>) -> Result<Tensor> {
        Ok(self.texts.clone().unwrap())
    }

    fn similarity(&self, images: &Tensor, texts: &Tensor) -> Result<Tensor> {
        let cosines = linear(images, texts, None)?;
        // Of several vectors an image the nearest counts.
        let cosines = if cosines.rank() == 3 { cosines.max(1)? } else { cosines };
        cosines.broadcast_mul(self.scale.as_ref().unwrap())
    }

    fn second_similarity(&self, _: &View<Image>, _: &View<Text>) -> Result<Option<Tensor>> {
        Ok(self.second.clone())
    }

    /// `tanh(text * mean of the image)` where image tokens are given or seen, else the text tokens as they are.
    fn fuse(&self, image: &View<Image>, text: &View<Text>, _: Attend) -> Result<Fused> {
        self.read.borrow_mut().push(text.input()?.ids.flatten_all()?.to_vec1()?);
        let mut hidden = given(text, "text", self.text_tokens.as_ref().unwrap())?;
        let seen = match self.sees {
            true => Some(image.input()?.pixels()?.flatten_from(2)?),
            false => self.image_tokens.as_ref().map(|tokens| given(image, "image", tokens)).transpose()?,
        };
        if let Some(tokens) = &seen {
            hidden = hidden.broadcast_mul(&tokens.mean_keepdim(1)?)?.tanh()?;
        }
        let pooled = hidden.narrow(1, 0, 1)?.squeeze(1)?;
        let Some(states) = &self.states else {
            let image = seen.map(|hidden| Tokens { hidden, mask: self.image_mask.clone() });
            return Ok(Fused { text: Tokens { hidden, mask: None }, image, pooled });
        };
        let states = given(image, "states", states)?;
        let mask = image.input()?.regions.as_ref().map(|regions| regions.mask.clone());
        let text = Tokens { hidden, mask: Some(text.input()?.mask.clone()) };
        Ok(Fused { text, image: Some(Tokens { hidden: states, mask }), pooled })
    }

    fn predict_regions(&self, hidden: &Tensor) -> Result<Tensor> {
        let [weight, bias] = self.regions.as_ref().unwrap();
        linear(hidden, &weight.t()?, Some(bias))
    }

    fn predict_words(&self, hidden: &Tensor) -> Result<Logits> {
        Ok(Logits::new(hidden.clone(), self.decoder.as_ref().unwrap(), None))
    }
}
