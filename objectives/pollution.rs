//! Pairs whose object tags, or whose caption, belong to another image.
//!
//! Oscar, Li et al., arXiv:2004.06165, section 4: the tags of half of the pairs are those of another image. Oscar+, Zhang
//! et al., arXiv:2101.00529, section 3.2: a quarter has other tags, a quarter another caption.
//!
//! Deviation: others are drawn from the batch instead of the whole corpus, and neither tags equal to a pair's own nor a
//! caption equal to it are drawn; a pair for which nothing is left, or that has no tags to replace, stays whole.
//! Deviation: other tags are always tags; the released code at its defaults draws any line of another image, which may
//! be its caption.

use super::negatives::Pair;
use crate::kernels::random::Key;

/// The segment of object tags.
const TAGS: u32 = 1;

/// How many pairs are polluted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pollution {
    /// The probability that a pair is.
    pub share: f64,
    /// The probability that a pair is, by another caption instead of other tags.
    pub captions: f64,
}

/// What a pair has of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polluted {
    /// Nothing.
    Nothing,
    /// Its tags.
    Tags,
    /// Its caption.
    Caption,
}

/// A batch of texts in host memory, (B, T) row by row: `[CLS] caption [SEP] tags [SEP]` and padding.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// T.
    pub places: usize,
    /// Vocabulary entries.
    pub ids: Vec<u32>,
    /// 1 where there is a token, else 0.
    pub mask: Vec<f32>,
    /// 1 on tags, else 0.
    pub segments: Vec<u32>,
    /// 1 where a word begins, else 0.
    pub word_starts: Vec<u8>,
    /// What fills the places after a text's end.
    pub pad: u32,
}

impl Written {
    /// The places of the tokens of one segment of a row.
    fn part(&self, row: usize, segment: u32) -> Vec<usize> {
        let places = row * self.places..(row + 1) * self.places;
        places.filter(|&at| self.mask[at] != 0.0 && self.segments[at] == segment).collect()
    }

    fn words(&self, part: &[usize]) -> Vec<u32> {
        part.iter().map(|&at| self.ids[at]).collect()
    }

    /// Appends a row of this text's tokens at `places`; what exceeds T is cut off.
    fn push(&self, places: impl Iterator<Item = usize>, to: &mut Self) {
        let end = to.ids.len() + self.places;
        for at in places.take(self.places) {
            to.ids.push(self.ids[at]);
            to.mask.push(1.0);
            to.segments.push(self.segments[at]);
            to.word_starts.push(self.word_starts[at]);
        }
        to.ids.resize(end, self.pad);
        to.mask.resize(end, 0.0);
        to.segments.resize(end, 0);
        to.word_starts.resize(end, 0);
    }
}

/// The texts with tags and captions of other `pairs` of the batch, and what each has.
pub fn pollute(text: &Written, pairs: &[Pair], pollution: Pollution, key: Key) -> (Written, Vec<Polluted>) {
    let parts = |segment| (0..pairs.len()).map(|row| text.part(row, segment)).collect::<Vec<_>>();
    let (captions, tags) = (parts(0), parts(TAGS));
    let named: Vec<Vec<u32>> = tags.iter().map(|part| text.words(part)).collect();
    let (places, pad) = (text.places, text.pad);
    let mut out = Written { places, ids: vec![], mask: vec![], segments: vec![], word_starts: vec![], pad };
    let mut kinds = Vec::with_capacity(pairs.len());
    for (row, own) in pairs.iter().enumerate() {
        let key = key.fold(row as u64);
        let die = f64::from(key.fold(0).uniform(1)[0]);
        let donor = |fits: &dyn Fn(usize) -> bool| {
            let others: Vec<usize> = (0..pairs.len()).filter(|&other| fits(other)).collect();
            others.get(key.fold(1).below(1, others.len() as u32)[0] as usize).copied()
        };
        let other_tags = |other: usize| {
            pairs[other].image != own.image && !named[other].is_empty() && named[other] != named[row]
        };
        let (mut from, mut kind) = ([row, row], Polluted::Nothing);
        if die < pollution.captions {
            if let Some(other) = donor(&|other| own.apart(&pairs[other])) {
                (from[0], kind) = (other, Polluted::Caption);
            }
        } else if die < pollution.share
            && !named[row].is_empty()
            && let Some(other) = donor(&other_tags)
        {
            (from[1], kind) = (other, Polluted::Tags);
        }
        text.push(captions[from[0]].iter().chain(&tags[from[1]]).copied(), &mut out);
        kinds.push(kind);
    }
    (out, kinds)
}
