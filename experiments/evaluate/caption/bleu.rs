//! BLEU: the share of a caption's word runs that a reference has too, over a whole test set.
//!
//! Papineni et al., ACL 2002, with the choices of Chen et al., arXiv:1504.00325, section 4.2:
//! BLEU-N = b (p_1 .. p_N)^(1/N), where p_n is the number of runs of n words that a reference has (each at most as often
//! as the reference that has it most) over the number of all runs, both summed over the test set, and
//! b = exp(1 - r/c) where the captions' words c are fewer than r, the sum of each image's nearest reference length, of
//! two equally near the shorter.

use std::collections::BTreeMap;

use super::{Judged, LONGEST, counts};

/// So much is added to every number of runs: a caption without any run still has a value.
const SMALL: f64 = 1e-9;
/// So much is added to every number of runs that a reference has: no BLEU is exactly 0 / 0.
const TINY: f64 = 1e-15;

/// What the captions of a test set have in common with their references, summed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Runs of 1 to 4 words.
    runs: [u64; LONGEST],
    /// Those of them that a reference has.
    shared: [u64; LONGEST],
    words: u64,
    reference_words: u64,
}

impl Totals {
    /// The totals of one caption.
    pub fn of(judged: &Judged) -> Self {
        let words = judged.written.split_whitespace().count();
        let mut most = BTreeMap::new();
        for reference in &judged.references {
            for (run, count) in counts(reference) {
                let known = most.entry(run).or_insert(0);
                *known = count.max(*known);
            }
        }
        let lengths = judged.references.iter().map(|reference| reference.split_whitespace().count());
        let nearest = lengths.min_by_key(|length| (length.abs_diff(words), *length)).unwrap_or(0);
        let mut totals = Self { words: words as u64, reference_words: nearest as u64, ..Self::default() };
        for (length, runs) in (1..).zip(&mut totals.runs) {
            *runs = (words + 1).saturating_sub(length) as u64;
        }
        for (run, count) in counts(&judged.written) {
            totals.shared[run.len() - 1] += u64::from(count.min(most.get(&run).copied().unwrap_or(0)));
        }
        totals
    }

    /// Both together.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.runs.iter_mut().zip(other.runs).for_each(|(sum, more)| *sum += more);
        self.shared.iter_mut().zip(other.shared).for_each(|(sum, more)| *sum += more);
        self.words += other.words;
        self.reference_words += other.reference_words;
        self
    }

    /// What is left without `other`, which is a part.
    #[must_use]
    pub fn minus(mut self, other: &Self) -> Self {
        self.runs.iter_mut().zip(other.runs).for_each(|(sum, less)| *sum -= less);
        self.shared.iter_mut().zip(other.shared).for_each(|(sum, less)| *sum -= less);
        self.words -= other.words;
        self.reference_words -= other.reference_words;
        self
    }

    /// BLEU-1 to BLEU-4, from 0 to 1.
    pub fn bleu(&self) -> [f64; LONGEST] {
        let ratio = (self.words as f64 + TINY) / (self.reference_words as f64 + SMALL);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|at| {
            product *= (self.shared[at] as f64 + TINY) / (self.runs[at] as f64 + SMALL);
            product.powf(1.0 / (at + 1) as f64) * brevity
        })
    }
}
