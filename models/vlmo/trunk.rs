//! The embeddings, the blocks and the ways through them.

use std::ops::Range;
use std::rc::Rc;

use candle_core::{Result, Tensor, bail};

use super::block::{Block, Design};
use super::relative::{Relative, Sizes};
use super::sequences::{Pass, Route, Sequences};
use super::{Attention, Config, Experts, Positions};
use crate::kernels::{self, random::Key};
use crate::models::nn::{LayerNorm, One, PatchStart, Patches, Start, bert, fan_in, within};
use crate::models::view::joint_noise;
use crate::models::{Image, Inputs, Text, Tokens, Vars, View};

const EPS: f64 = 1e-6;

/// The noise of vision-language experts that see one side alone, and of the embeddings of words, apart from the blocks',
/// which count from 0.
const VL: u64 = u64::MAX;
const WORDS: u64 = u64::MAX - 1;

pub(super) struct Trunk {
    patches: Patches,
    /// Stands for a masked patch (D).
    mask: Option<Tensor>,
    words: bert::Embeddings,
    /// What is added to all words and to all image tokens (2,D).
    types: Tensor,
    relative: Option<Relative>,
    blocks: Vec<Block>,
    /// How many blocks one side goes through whichever experts it meets afterwards; at least the last is not among them.
    lower: usize,
    norm: LayerNorm,
    /// S: side of an image, in pixels.
    size: usize,
    /// N: tokens of an image.
    tokens: usize,
    /// T: length of a text.
    length: usize,
}

impl Trunk {
    pub(super) fn new(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Self> {
        let (size, patch, length) = (inputs.size, config.patch, inputs.words);
        let (width, depth, start) = (config.trunk.width, config.trunk.depth, config.start());
        let sizes = Sizes { side: size / patch, words: length, longest: config.longest(inputs) };
        let relative = match config.positions {
            Positions::Relative => {
                Some(Relative::new(&vars.at("relative"), sizes, depth, config.trunk.heads)?)
            }
            Positions::Absolute => None,
        };
        let (at, counts, spec) = (vars.at("words"), [inputs.vocabulary, length], config.spec(bert::EPS));
        let words = match config.positions {
            Positions::Relative => bert::Embeddings::unplaced(&at, counts, &spec)?,
            Positions::Absolute => bert::Embeddings::new(&at, counts, &spec)?,
        };
        let mask = config.mask_token.then(|| vars.at("patches").get(width, "mask", start));
        Ok(Self {
            patches: patches(&vars.at("patches"), config, inputs)?,
            mask: mask.transpose()?,
            words,
            types: vars.get((2, width), "types", start)?,
            blocks: blocks(&vars.at("blocks"), config, relative.as_ref())?,
            lower: depth - config.vl_experts.max(1),
            norm: LayerNorm::new(&vars.at("norm"), width, EPS)?,
            relative,
            size,
            tokens: Patches::tokens(size, patch),
            length,
        })
    }

    /// The table of words (V,D).
    pub(super) fn table(&self) -> &Tensor {
        self.words.table()
    }

    /// Images alone, by vision experts (B,N,D).
    pub(super) fn image(&self, image: &View<Image>) -> Result<Tokens> {
        let lower = self.lower_image(image)?;
        let pass = self.images(&lower, image.noise())?;
        self.whole(lower, self.lower, &pass)
    }

    /// Texts alone, by language experts (B,T,D).
    pub(super) fn text(&self, text: &View<Text>) -> Result<Tokens> {
        let pass = self.texts(text)?;
        self.whole(self.lower_text(text)?, self.lower, &pass)
    }

    /// The class token (B,D) of images alone, in the upper blocks by the experts of this route.
    pub(super) fn image_class(&self, image: &View<Image>, route: Route) -> Result<Tensor> {
        let class = |image: &View<Image>| {
            let lower = self.lower_image(image)?;
            let pass = along(self.images(&lower, image.noise())?, route);
            let hidden = self.class(&lower.hidden, self.lower, &pass)?;
            Ok(Tokens { hidden, mask: None })
        };
        Ok(image.memo(if route == Route::Pair { "image.vl_class" } else { "image.class" }, class)?.hidden)
    }

    /// The first token (B,D) of texts alone, likewise.
    pub(super) fn text_class(&self, text: &View<Text>, route: Route) -> Result<Tensor> {
        let class = |text: &View<Text>| {
            let pass = along(self.texts(text)?, route);
            let hidden = self.class(&self.lower_text(text)?.hidden, self.lower, &pass)?;
            Ok(Tokens { hidden, mask: None })
        };
        Ok(text.memo(if route == Route::Pair { "text.vl_class" } else { "text.class" }, class)?.hidden)
    }

    /// Words and image tokens of pairs, (B,T,D) and (B,N,D).
    pub(super) fn pair(&self, image: &View<Image>, text: &View<Text>) -> Result<[Tokens; 2]> {
        let (x, pass) = self.pairs(image, text)?;
        let joint = self.whole(x, 0, &pass)?.hidden;
        let mask = Some(text.input()?.mask.clone());
        let words = joint.dim(1)? - self.tokens;
        let [words, patches] = [(0, words), (words, self.tokens)]
            .map(|(first, count)| joint.narrow(1, first, count)?.contiguous());
        Ok([Tokens { hidden: words?, mask }, Tokens { hidden: patches?, mask: None }])
    }

    /// The first word (B,D) of pairs.
    pub(super) fn pair_class(&self, image: &View<Image>, text: &View<Text>) -> Result<Tensor> {
        let (x, pass) = self.pairs(image, text)?;
        self.class(&x.hidden, 0, &pass)
    }

    fn embed_image(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image.patches", |image| {
            let (input, size) = (image.input()?, self.size);
            let pixels = input.pixels()?;
            let (_, _, rows, columns) = pixels.dims4()?;
            if [rows, columns] != [size; 2] {
                bail!("images of {rows} x {columns} pixels for a model of {size} x {size}");
            }
            let masked = match (&self.mask, &input.masked) {
                (_, None) => None,
                (Some(mask), Some(masked)) => Some((mask, masked)),
                (None, Some(_)) => bail!("a masked image for a vlmo without mask_token"),
            };
            let positions = self.patches.positions().broadcast_add(&self.types.narrow(0, 1, 1)?)?;
            Ok(Tokens { hidden: self.patches.forward_at(&positions, pixels, masked)?, mask: None })
        })
    }

    fn embed_text(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text.words", |text| {
            let input = text.input()?;
            let words = self.words.forward(input, within(text.noise(), WORDS))?;
            let types = kernels::embedding(&self.types, &input.ids.zeros_like()?)?;
            Ok(Tokens { hidden: kernels::add(&words, &types)?, mask: Some(input.mask.clone()) })
        })
    }

    fn images(&self, tokens: &Tokens, noise: Option<Key>) -> Result<Pass> {
        let relations = self.relative.as_ref().map(Relative::image);
        let sequences = Sequences::images([tokens.hidden.dim(0)?, self.tokens], relations);
        Ok(Pass { sequences: Rc::new(sequences), route: Route::Image, noise })
    }

    fn texts(&self, text: &View<Text>) -> Result<Pass> {
        let relations = self.relative.as_ref().map(Relative::text);
        let sequences = Sequences::texts(&text.input()?.mask, relations)?;
        Ok(Pass { sequences: Rc::new(sequences), route: Route::Text, noise: text.noise() })
    }

    /// Words and image tokens one after another (B,T+N,D).
    fn pairs(&self, image: &View<Image>, text: &View<Text>) -> Result<(Tokens, Pass)> {
        let (words, patches) = (self.embed_text(text)?, self.embed_image(image)?);
        let relations = self.relative.as_ref().map(Relative::pair);
        let sequences = Sequences::pairs(&text.input()?.mask, self.tokens, self.length, relations)?;
        let hidden = Tensor::cat(&[words.hidden, patches.hidden], 1)?;
        let (sequences, noise) = (Rc::new(sequences), joint_noise(image, text));
        Ok((Tokens { hidden, mask: None }, Pass { sequences, route: Route::Pair, noise }))
    }

    fn lower_image(&self, image: &View<Image>) -> Result<Tokens> {
        image.memo("image.lower", |image| {
            let patches = self.embed_image(image)?;
            let pass = self.images(&patches, image.noise())?;
            self.part(patches, 0..self.lower, &pass)
        })
    }

    fn lower_text(&self, text: &View<Text>) -> Result<Tokens> {
        text.memo("text.lower", |text| {
            let pass = self.texts(text)?;
            self.part(self.embed_text(text)?, 0..self.lower, &pass)
        })
    }

    /// What some of the blocks make of (B,..,D), in that shape.
    fn part(&self, x: Tokens, blocks: Range<usize>, pass: &Pass) -> Result<Tokens> {
        let hidden = self.run(&x.hidden, blocks, pass)?;
        Ok(Tokens { hidden: pass.sequences.unpack(&hidden)?, ..x })
    }

    /// What the blocks from `first` on make of (B,..,D), in that shape, normalised.
    fn whole(&self, x: Tokens, first: usize, pass: &Pass) -> Result<Tokens> {
        let hidden = self.run(&x.hidden, first..self.blocks.len(), pass)?;
        Ok(Tokens { hidden: pass.sequences.unpack(&self.norm.forward(&hidden)?)?, ..x })
    }

    /// The first token (B,D) of [`Trunk::whole`]: the last block computes no other.
    fn class(&self, x: &Tensor, first: usize, pass: &Pass) -> Result<Tensor> {
        // A configuration without a block was refused.
        let Some((last, earlier)) = self.blocks.split_last() else { bail!("a vlmo without a block") };
        let hidden = self.run(x, first..earlier.len(), pass)?;
        let one = One::first(pass.sequences.spans())?;
        self.norm.forward(&last.forward_one(&hidden, &one, &pass.at(earlier.len()))?)
    }

    fn run(&self, x: &Tensor, blocks: Range<usize>, pass: &Pass) -> Result<Tensor> {
        let mut x = pass.sequences.pack(x)?;
        for (block, number) in self.blocks[blocks.clone()].iter().zip(blocks) {
            x = block.forward(&x, &pass.at(number))?;
        }
        Ok(x)
    }
}

/// One side alone along this route.
fn along(pass: Pass, route: Route) -> Pass {
    let noise: Option<Key> = if route == Route::Pair { within(pass.noise, VL) } else { pass.noise };
    Pass { route, noise, ..pass }
}

fn patches(vars: &Vars, config: &Config, inputs: &Inputs) -> Result<Patches> {
    let (size, patch, width) = (inputs.size, config.patch, config.trunk.width);
    let map = fan_in(3 * patch * patch);
    let start = PatchStart { weight: map, bias: Some(map), tokens: config.start() };
    match config.positions {
        Positions::Relative => Patches::unplaced(vars, size, patch, width, &start),
        Positions::Absolute => Patches::new(vars, size, patch, width, &start),
    }
}

fn blocks(vars: &Vars, config: &Config, relative: Option<&Relative>) -> Result<Vec<Block>> {
    let depth = config.trunk.depth;
    let block = |index| {
        let fused = index >= depth - config.vl_experts;
        let design = Design {
            separate: config.attention == Attention::Separate && !fused,
            standard: config.experts == Experts::Standard,
            fused,
            layer_scale: config.layer_scale,
            drop_path: config.drop_path * index as f64 / (depth - 1).max(1) as f64,
        };
        let relative = relative.map(|relative| relative.layer(index));
        Block::new(&vars.at(index), &config.spec(EPS), &Start::all(config.start()), &design, relative)
    };
    (0..depth).map(block).collect()
}
