//! Which words are hidden from the model, and what stands in their place.
//!
//! BERT, Devlin et al., arXiv:1810.04805, section 3.1: a word is drawn with probability p; of the drawn tokens 80 %
//! become `[MASK]`, 10 % another token of the vocabulary, 10 % stay.

use crate::kernels::random::Key;
use crate::token::{MASK, SPECIAL};

/// The first token that is not special.
const FIRST_WORD: u32 = SPECIAL.len() as u32;

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

/// Hides words of `ids` (B, T), in which `word_starts` is 1 where a word begins. Special tokens and padding are never
/// drawn. If chance draws nothing, the first token of the batch becomes `[MASK]` (UNITER, released code), so that there
/// is something to learn from.
pub fn mask(ids: &[u32], word_starts: &[u8], rule: Rule, key: Key) -> Masked {
    let drawn = draw(ids, word_starts, rule, key.fold(0));
    let fates = key.fold(1).uniform(ids.len());
    let words = key.fold(2).below(ids.len(), (rule.vocabulary as u32).saturating_sub(FIRST_WORD));
    let mut masked = Masked { ids: ids.to_vec(), positions: Vec::new(), targets: Vec::new() };
    let mut hide = |position: usize, token: u32| {
        masked.positions.push(position as u32);
        masked.targets.push(ids[position]);
        masked.ids[position] = token;
    };
    for position in (0..ids.len()).filter(|&position| drawn[position]) {
        hide(
            position,
            match fates[position] {
                fate if fate < 0.8 => MASK,
                fate if fate < 0.9 => FIRST_WORD + words[position],
                _ => ids[position],
            },
        );
    }
    if !drawn.contains(&true)
        && let Some(first) = ids.iter().position(|&id| id >= FIRST_WORD)
    {
        hide(first, MASK);
    }
    masked
}

fn draw(ids: &[u32], word_starts: &[u8], rule: Rule, key: Key) -> Vec<bool> {
    let mut drawn = Vec::with_capacity(ids.len());
    let mut word = false;
    for ((&id, &starts), chance) in ids.iter().zip(word_starts).zip(key.uniform(ids.len())) {
        if id < FIRST_WORD {
            word = false;
        } else if starts == 1 || !rule.whole_word {
            word = f64::from(chance) < rule.probability;
        }
        drawn.push(word);
    }
    drawn
}
