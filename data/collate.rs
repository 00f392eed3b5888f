//! Pairs become one batch of plain numbers: normalised pixels, padded words, padded regions, keys that tell equal ones.

use super::augment::{DEVIATION, MEAN};
use super::{Error, Example, Result};
use crate::token::Specials;

/// A text as tokens: `[CLS] pieces [SEP]`, or what a vocabulary puts in their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The tokens.
    pub ids: Vec<u32>,
    /// 1 for each token that begins a word, else 0; 0 for `[CLS]` and `[SEP]`.
    pub word_starts: Vec<u8>,
}

/// Turns text into tokens.
pub trait Encode: Send + Sync {
    /// At most `most` tokens, those that begin and end a text included.
    ///
    /// # Errors
    /// If the text cannot be tokenised.
    fn encode(&self, text: &str, most: usize) -> Result<Encoding>;
    /// The text that `ids` spell, without `[CLS]`, `[SEP]` and padding.
    fn text(&self, ids: &[u32]) -> String;

    /// The tokens that spell no words.
    fn specials(&self) -> &Specials {
        static SHIPPED: Specials = Specials::SHIPPED;
        &SHIPPED
    }

    /// A hash of everything beside the program that decides the tokens; empty where nothing else does.
    fn fingerprint(&self) -> &str {
        ""
    }
}

/// The fixed extents of every batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// The side S of the square pictures in pixels.
    pub size: u32,
    /// Places for the caption, `[CLS]` and `[SEP]` included.
    pub words: usize,
    /// Further places for object tags, their `[SEP]` included; 0: no tags.
    pub tags: usize,
}

/// One pair as it enters a batch: one caption, the picture already S x S.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Its number in the dataset.
    pub index: usize,
    /// The picture (augmented in training), its tags and regions.
    pub example: Example,
    /// The caption drawn for this visit.
    pub caption: String,
}

/// A batch of B pairs in host memory; every matrix is row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostBatch {
    /// B.
    pub size: usize,
    /// The number of each pair in the dataset.
    pub indices: Vec<usize>,
    /// (B, 3, S, S), normalised by [`MEAN`] and [`DEVIATION`].
    pub pixels: Vec<f32>,
    /// T: places for text in every row.
    pub words: usize,
    /// (B, T) tokens, padded after the end.
    pub ids: Vec<u32>,
    /// (B, T): 1 where there is a token, else 0.
    pub mask: Vec<f32>,
    /// (B, T): 0 for the caption, 1 for object tags.
    pub segments: Vec<u32>,
    /// (B, T): 1 where a new word begins, for whole-word masking.
    pub word_starts: Vec<u8>,
    /// The tokens that spell no words.
    pub specials: Specials,
    /// Equal for views of the same image.
    pub image_keys: Vec<u64>,
    /// Equal for captions that differ in case, spaces or a final full stop only.
    pub caption_keys: Vec<u64>,
    /// Object regions, where the dataset has them.
    pub regions: Option<HostRegions>,
    /// The captions as drawn.
    pub captions: Vec<String>,
    /// The identifiers of the pairs.
    pub examples: Vec<String>,
    /// The classes of the pairs.
    pub categories: Vec<Option<String>>,
    /// The kinds of what is asked of the pairs; empty where nothing is.
    pub kinds: Vec<&'static str>,
    /// The right answers.
    pub answers: Vec<Option<String>>,
    /// The numbers of the regions that are meant.
    pub targets: Vec<Option<u32>>,
    /// The same texts with the second pictures, where there are two.
    pub second: Option<Box<HostBatch>>,
}

/// The object regions of a batch, padded to the greatest number N of regions of a pair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostRegions {
    /// N.
    pub count: usize,
    /// R: the width of a feature.
    pub width: usize,
    /// C: the number of the detector's classes.
    pub class_count: usize,
    /// (B, N, R).
    pub features: Vec<f32>,
    /// (B, N, 7): left, top, right, bottom, width, height, area, all as fractions of the picture (UNITER).
    pub boxes: Vec<f32>,
    /// (B, N, C) probabilities.
    pub classes: Vec<f32>,
    /// (B, N): 1 where there is a region, else 0.
    pub mask: Vec<f32>,
}

/// Joins pairs into a batch.
///
/// # Errors
/// If a picture is not S x S, a caption does not fit the layout's minimum or regions differ in width.
pub fn collate(pairs: &[Drawn], encoder: &dyn Encode, layout: Layout) -> Result<HostBatch> {
    let width = layout.words + layout.tags;
    let specials = encoder.specials().clone();
    let mut batch = HostBatch { size: pairs.len(), words: width, specials, ..HostBatch::default() };
    batch.pixels.reserve(pairs.len() * 3 * (layout.size * layout.size) as usize);
    for pair in pairs {
        let example = &pair.example;
        push_pixels(&mut batch.pixels, pair, layout.size)?;
        push_words(&mut batch, pair, encoder, layout)?;
        batch.indices.push(pair.index);
        batch.image_keys.push(key(&example.id));
        batch.caption_keys.push(key(&plain(&pair.caption)));
        batch.captions.push(pair.caption.clone());
        batch.examples.push(example.id.clone());
        batch.categories.push(example.category.clone());
        let asked = example.asked.as_ref();
        batch.kinds.push(asked.map_or("", |asked| asked.kind));
        batch.answers.push(asked.and_then(|asked| asked.answer.clone()));
        batch.targets.push(asked.and_then(|asked| asked.target).map(|target| target as u32));
    }
    if pairs.iter().any(|pair| !pair.example.regions.is_empty()) {
        batch.regions = Some(regions(pairs)?);
    }
    let seconds: Vec<Drawn> = pairs.iter().filter_map(second).collect();
    if !seconds.is_empty() {
        batch.second = Some(Box::new(collate(&seconds, encoder, layout)?));
    }
    Ok(batch)
}

/// The same text with the second picture.
fn second(pair: &Drawn) -> Option<Drawn> {
    let example = pair.example.asked.as_ref()?.second.as_deref()?.clone();
    Some(Drawn { index: pair.index, example, caption: pair.caption.clone() })
}

/// (H, W, 3) bytes to (3, H, W) normalised numbers.
fn push_pixels(pixels: &mut Vec<f32>, pair: &Drawn, size: u32) -> Result<()> {
    let picture = &pair.example.picture;
    let area = (size * size) as usize;
    if (picture.width, picture.height, picture.rgb.len()) != (size, size, 3 * area) {
        return Err(fault(
            pair,
            format!(
                "its picture has {} x {} pixels instead of {size} x {size}",
                picture.width, picture.height
            ),
        ));
    }
    for channel in 0..3 {
        let (scale, shift) = (1.0 / (255.0 * DEVIATION[channel]), MEAN[channel] / DEVIATION[channel]);
        let values = picture.rgb.iter().skip(channel).step_by(3);
        pixels.extend(values.map(|value| f32::from(*value) * scale - shift));
    }
    Ok(())
}

/// `[CLS] caption [SEP] tags [SEP]` and padding.
fn push_words(batch: &mut HostBatch, pair: &Drawn, encoder: &dyn Encode, layout: Layout) -> Result<()> {
    let end = batch.ids.len() + layout.words + layout.tags;
    let text = encoder.encode(&pair.caption, layout.words)?;
    let mut push = |encoding: &Encoding, from: usize, segment: u32| {
        let ids = encoding.ids.get(from..).unwrap_or_default();
        batch.ids.extend_from_slice(ids);
        batch.word_starts.extend_from_slice(encoding.word_starts.get(from..).unwrap_or_default());
        batch.mask.extend(ids.iter().map(|_| 1.0));
        batch.segments.extend(ids.iter().map(|_| segment));
    };
    push(&text, 0, 0);
    if layout.tags > 1 && !pair.example.tags.is_empty() {
        // The tags follow the caption, whose `[CLS]` and `[SEP]` already stand; one more place pays for that `[CLS]`.
        let begin = encoder.specials().begin.iter().len();
        push(&encoder.encode(&pair.example.tags.join(" "), layout.tags + begin)?, begin, 1);
    }
    if batch.ids.len() > end || batch.word_starts.len() != batch.ids.len() {
        return Err(fault(pair, "the vocabulary gave more tokens than there are places".to_owned()));
    }
    batch.ids.resize(end, encoder.specials().pad);
    batch.mask.resize(end, 0.0);
    batch.segments.resize(end, 0);
    batch.word_starts.resize(end, 0);
    Ok(())
}

fn regions(pairs: &[Drawn]) -> Result<HostRegions> {
    let all = || pairs.iter().flat_map(|pair| &pair.example.regions);
    let count = pairs.iter().map(|pair| pair.example.regions.len()).max().unwrap_or(0);
    let width = all().map(|region| region.features.len()).next().unwrap_or(0);
    let class_count = all().map(|region| region.classes.len()).next().unwrap_or(0);
    let mut out = HostRegions { count, width, class_count, ..HostRegions::default() };
    for (row, pair) in pairs.iter().enumerate() {
        for region in &pair.example.regions {
            if (region.features.len(), region.classes.len()) != (width, class_count) {
                return Err(fault(
                    pair,
                    format!(
                        "a region has {} features and {} classes, the others have {width} and {class_count}",
                        region.features.len(),
                        region.classes.len()
                    ),
                ));
            }
            let [left, top, right, bottom] = region.bounds;
            let (across, down) = (right - left, bottom - top);
            out.features.extend_from_slice(&region.features);
            out.boxes.extend_from_slice(&[left, top, right, bottom, across, down, across * down]);
            out.classes.extend_from_slice(&region.classes);
            out.mask.push(1.0);
        }
        let rows = (row + 1) * count;
        out.features.resize(rows * width, 0.0);
        out.boxes.resize(rows * 7, 0.0);
        out.classes.resize(rows * class_count, 0.0);
        out.mask.resize(rows, 0.0);
    }
    Ok(out)
}

fn fault(pair: &Drawn, problem: String) -> Error {
    Error::Example { dataset: pair.example.id.clone(), index: pair.index, problem }
}

/// A caption without what does not change its meaning: case, repeated spaces, a final full stop.
pub fn plain(caption: &str) -> String {
    let joined = caption.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    joined.trim_end_matches(['.', ' ']).to_owned()
}

/// FNV-1a, 64 bits: the same on every machine and in every version.
pub fn key(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}
