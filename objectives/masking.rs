//! Which words and regions are hidden from the model, and what stands in their place.
//!
//! BERT, Devlin et al., arXiv:1810.04805, section 3.1: a word is drawn with probability p; of the drawn tokens 80 %
//! become `[MASK]`, 10 % another token of the vocabulary, 10 % stay. Regions: UNITER, Chen et al., arXiv:1909.11740,
//! section 3.2, and the released code: every drawn region is hidden, and of each image at least one.

use serde::{Deserialize, Serialize};

use super::altered::Alteration;
use crate::kernels::random::Key;
use crate::models::Dims;
use crate::token::Specials;

/// A batch of texts with hidden words; M tokens are to be predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// (B, T) as the model sees them.
    pub ids: Vec<u32>,
    /// (M): the places of the hidden tokens in `ids`, rising.
    pub positions: Vec<u32>,
    /// (M): the tokens that stood there.
    pub targets: Vec<u32>,
}

/// How words are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// p: the probability that a token (or a whole word) is drawn.
    pub probability: f64,
    /// Whether the pieces of a word are drawn together.
    pub whole_word: bool,
    /// V: replacements are drawn from its words.
    pub vocabulary: usize,
    /// Whether every text hides at least one word, not only every batch.
    pub every_text: bool,
}

/// Whether what is hidden of one side is told from the whole other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masking {
    /// Words are hidden beside whole images, regions beside whole texts.
    #[default]
    Conditional,
    /// Words and regions are hidden in the same pass, with the same probability.
    Joint,
}

/// What an objective on hidden regions hides: at least one of each image and, with joint masking, words.
pub fn of_regions(probability: f64, masking: Masking, dims: &Dims) -> Alteration {
    let rule = Rule { probability, whole_word: false, vocabulary: dims.vocabulary, every_text: false };
    let words = (masking == Masking::Joint).then_some(rule);
    Alteration { words, regions: Some(probability), ..Alteration::default() }
}

/// What is wrong with the probability of being hidden, one sentence a fault.
pub fn faults(probability: f64) -> Vec<String> {
    match probability > 0.0 && probability <= 1.0 {
        true => Vec::new(),
        false => vec![format!("probability {probability} is not in (0, 1]")],
    }
}

/// Hides words of `ids` (B, T), T `places`, in which `word_starts` is 1 where a word begins; nothing where the vocabulary has no
/// token to hide them behind. Special tokens and padding are never drawn. Where chance draws nothing, the first word of
/// the batch (of the text: UNITER, released code) becomes `[MASK]`, so that there is something to learn from.
pub fn mask(
    ids: &[u32],
    word_starts: &[u8],
    places: usize,
    rule: Rule,
    specials: &Specials,
    key: Key,
) -> Option<Masked> {
    let (mask, specials) = (specials.mask?, specials.all());
    let is_word: Vec<bool> = ids.iter().map(|id| specials.binary_search(id).is_err()).collect();
    let draw = |chosen: &dyn Fn(usize) -> bool| draw(&is_word, word_starts, rule.whole_word, chosen);
    let chances = key.fold(0).uniform(ids.len());
    let mut drawn = draw(&|at| f64::from(chances[at]) < rule.probability);
    let firsts = firsts(&is_word, &drawn, if rule.every_text { places } else { ids.len() });
    let forced = draw(&|at| firsts.contains(&at));
    drawn.extend(&forced);
    drawn.sort_unstable();
    let fates = key.fold(1).uniform(ids.len());
    let words = key.fold(2).below(ids.len(), (rule.vocabulary as u32).saturating_sub(specials.len() as u32));
    Some(replace(ids, drawn, |at| match fates[at] {
        _ if forced.binary_search(&at).is_ok() => mask,
        fate if fate < 0.8 => mask,
        fate if fate < 0.9 => word(words[at], &specials),
        _ => ids[at],
    }))
}

/// Entry number `number` of a vocabulary without its special tokens, which are given rising.
fn word(number: u32, specials: &[u32]) -> u32 {
    specials.iter().fold(number, |word, special| word + u32::from(*special <= word))
}

/// Of each run of `length` tokens that holds none of the rising places `drawn`, the first word.
fn firsts(is_word: &[bool], drawn: &[usize], length: usize) -> Vec<usize> {
    let length = length.max(1);
    let of_run = |(run, is_word): (usize, &[bool])| {
        let start = run * length;
        let next = drawn.get(drawn.partition_point(|&place| place < start));
        let idle = next.is_none_or(|&place| place >= start + length);
        is_word.iter().position(|&is_word| is_word).filter(|_| idle).map(|place| start + place)
    };
    is_word.chunks(length).enumerate().filter_map(of_run).collect()
}

/// The places of the tokens for which `chosen` is true; of whole words it decides at the first piece.
fn draw(
    is_word: &[bool],
    word_starts: &[u8],
    whole_word: bool,
    chosen: &dyn Fn(usize) -> bool,
) -> Vec<usize> {
    let mut places = Vec::new();
    let mut drawn = false;
    for (at, (&is_word, &starts)) in is_word.iter().zip(word_starts).enumerate() {
        if !is_word {
            drawn = false;
        } else if starts == 1 || !whole_word {
            drawn = chosen(at);
        }
        if drawn {
            places.push(at);
        }
    }
    places
}

fn replace(ids: &[u32], places: Vec<usize>, by: impl Fn(usize) -> u32) -> Masked {
    let targets = places.iter().map(|&at| ids[at]).collect();
    let positions = places.iter().map(|&at| at as u32).collect();
    let mut ids = ids.to_vec();
    for at in places {
        ids[at] = by(at);
    }
    Masked { ids, positions, targets }
}

impl Masked {
    /// Shows the hidden tokens at the places for which `shown` is true, as if they had not been drawn.
    #[must_use]
    pub fn without(mut self, shown: impl Fn(usize) -> bool) -> Self {
        let hidden = |&(&position, _): &(&u32, &u32)| !shown(position as usize);
        let kept = self.positions.iter().zip(&self.targets);
        for (&position, &target) in kept.clone().filter(|pair| !hidden(pair)) {
            self.ids[position as usize] = target;
        }
        (self.positions, self.targets) = kept.filter(hidden).unzip();
        self
    }
}

/// The places of hidden regions, rising, among those that `mask` (B, N) says are there. Each is hidden with the given
/// probability, and of an image of which chance hides none one, all of its regions being equally likely.
pub fn mask_regions(mask: &[f32], count: usize, probability: f64, key: Key) -> Vec<u32> {
    let chances = key.fold(0).uniform(mask.len());
    let mut hidden = Vec::new();
    for (image, mask) in (0u64..).zip(mask.chunks(count.max(1))) {
        let start = image as usize * count;
        let there: Vec<usize> = (0..mask.len()).filter(|&at| mask[at] != 0.0).map(|at| start + at).collect();
        let before = hidden.len();
        hidden.extend(there.iter().copied().filter(|&at| f64::from(chances[at]) < probability));
        if hidden.len() == before && !there.is_empty() {
            let one = key.fold(1).fold(image).below(1, there.len() as u32)[0];
            hidden.push(there[one as usize]);
        }
    }
    hidden.into_iter().map(|at| at as u32).collect()
}
