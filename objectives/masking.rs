//! Which words are hidden from the model, and what stands in their place.
//!
//! BERT, Devlin et al., arXiv:1810.04805, section 3.1: a word is drawn with probability p; of the drawn tokens 80 %
//! become `[MASK]`, 10 % another token of the vocabulary, 10 % stay.

use crate::kernels::random::Key;
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
}

/// Hides words of `ids` (B, T), in which `word_starts` is 1 where a word begins; nothing where the vocabulary has no token to
/// hide them behind. Special tokens and padding are never drawn. If chance draws nothing, the first word of the batch becomes `[MASK]` (UNITER, released code), so that there
/// is something to learn from.
pub fn mask(ids: &[u32], word_starts: &[u8], rule: Rule, specials: &Specials, key: Key) -> Option<Masked> {
    let (mask, specials) = (specials.mask?, specials.all());
    let chances = key.fold(0).uniform(ids.len());
    let is_word: Vec<bool> = ids.iter().map(|id| specials.binary_search(id).is_err()).collect();
    let draw = |chosen: &dyn Fn(usize) -> bool| draw(&is_word, word_starts, rule.whole_word, chosen);
    let drawn = draw(&|at| f64::from(chances[at]) < rule.probability);
    if drawn.is_empty() {
        let first = is_word.iter().position(|&is_word| is_word);
        return Some(replace(ids, draw(&|at| Some(at) == first), |_| mask));
    }
    let fates = key.fold(1).uniform(ids.len());
    let words = key.fold(2).below(ids.len(), (rule.vocabulary as u32).saturating_sub(specials.len() as u32));
    Some(replace(ids, drawn, |at| match fates[at] {
        fate if fate < 0.8 => mask,
        fate if fate < 0.9 => word(words[at], &specials),
        _ => ids[at],
    }))
}

/// Entry number `number` of a vocabulary without its special tokens, which are given rising.
fn word(number: u32, specials: &[u32]) -> u32 {
    specials.iter().fold(number, |word, special| word + u32::from(*special <= word))
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
