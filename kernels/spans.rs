//! Sequences of unequal length that lie one after another, so that padding is never computed.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, bail};

/// Which rows belong to each example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans(Arc<[Range<usize>]>);

impl Spans {
    /// One example after another, of these lengths.
    pub fn of(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let next = |length| {
            let start = end;
            end += length;
            start..end
        };
        Self(lengths.into_iter().map(next).collect())
    }

    /// So many examples of one length.
    pub fn even(examples: usize, length: usize) -> Self {
        Self::of(std::iter::repeat_n(length, examples))
    }

    /// The spans of these examples, in this order; examples may repeat.
    ///
    /// # Errors
    /// When an example does not exist.
    pub fn take(&self, examples: &[u32]) -> Result<Self> {
        let taken: Option<_> =
            examples.iter().map(|&example| self.0.get(example as usize).cloned()).collect();
        match taken {
            Some(taken) => Ok(Self(taken)),
            None => bail!("examples {examples:?} of {}", self.0.len()),
        }
    }

    /// The rows of each example.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.0
    }

    /// The longest example.
    pub(crate) fn longest(&self) -> usize {
        self.0.iter().map(Range::len).max().unwrap_or(0)
    }

    /// Whether the examples fill `rows` rows one after another.
    pub(crate) fn fill(&self, rows: usize) -> bool {
        let mut end = 0;
        let follows = |range: &Range<usize>| range.start == std::mem::replace(&mut end, range.end);
        self.0.iter().all(follows) && end == rows
    }

    /// The examples that share a span, the spans in order of their rows. An error unless spans are equal or disjoint
    /// and lie within `rows` rows.
    pub(crate) fn groups(&self, rows: usize) -> Result<Vec<(Range<usize>, Vec<usize>)>> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        order.sort_by_key(|&example| (self.0[example].start, self.0[example].end));
        let mut groups: Vec<(Range<usize>, Vec<usize>)> = Vec::new();
        for example in order {
            let range = &self.0[example];
            match groups.last_mut() {
                Some((last, members)) if last == range => members.push(example),
                Some((last, _)) if last.end > range.start => {
                    bail!("sequences of rows {last:?} and {range:?} overlap")
                }
                _ if range.end > rows => bail!("a sequence of rows {range:?} of {rows}"),
                _ => groups.push((range.clone(), vec![example])),
            }
        }
        Ok(groups)
    }
}

/// Cuts `data`, rows of `width` elements, into disjoint ranges of rows given in order; what lies between goes to `gap`.
pub(crate) fn cut<T>(
    mut data: &mut [T],
    width: usize,
    ranges: impl Iterator<Item = Range<usize>>,
    mut gap: impl FnMut(&mut [T]),
) -> Vec<&mut [T]> {
    let mut row = 0;
    let mut pieces = Vec::new();
    for range in ranges {
        let (before, rest) = data.split_at_mut((range.start - row) * width);
        let (own, rest) = rest.split_at_mut(range.len() * width);
        gap(before);
        pieces.push(own);
        (data, row) = (rest, range.end);
    }
    gap(data);
    pieces
}
