//! The backward pass of attention: examples that see the same keys follow one another, since they share their gradient.

use std::ops::Range;

use candle_core::Result;
use rayon::prelude::*;

use super::{Heads, Place};
use crate::kernels::operation::Slot;
use crate::kernels::product::{Matrix, Threads, Write, multiply};
use crate::kernels::real::Real;
use crate::kernels::rows::for_pieces;
use crate::kernels::simd::{sum_pairs, vectorised};
use crate::kernels::spans::cut;

/// Sums of the gradient of a bias that are computed at once. They are added in order, so their number must not depend on
/// that of the threads.
const SUMS: usize = 16;

/// Where the gradients of the operands go.
type Targets<'a, T, const N: usize> = [Option<Slot<'a, T>>; N];

/// Examples that see the same keys.
struct Group<'a, T, const N: usize> {
    keys: Range<usize>,
    /// Each with the gradient of its queries, where those are an operand of their own.
    members: Vec<(usize, Option<Slot<'a, T>>)>,
    /// The gradients of the other operands.
    into: Targets<'a, T, N>,
}

impl<T, const N: usize> Group<'_, T, N> {
    fn new((keys, members): (Range<usize>, Vec<usize>)) -> Self {
        let members = members.into_iter().map(|example| (example, None)).collect();
        Self { keys, members, into: [const { None }; N] }
    }
}

impl Heads {
    /// The gradients of all operands; that of the bias, which is none of `into`, is summed over them.
    pub(super) fn differentiate_all<const N: usize, T: Real>(
        &self,
        data: [&[T]; N],
        grad: &[T],
        into: [Option<Slot<'_, T>>; N],
        bias: Option<Slot<'_, T>>,
    ) -> Result<()> {
        let groups = self.targets(into)?;
        match bias {
            Some(bias) => self.differentiate_with_bias(groups, data, grad, bias),
            None => groups.into_par_iter().try_for_each_init(
                || [self.tile(), self.tile()],
                |scratch, group| self.differentiate_group(group, data, grad, None, scratch),
            ),
        }
    }

    /// The gradients of examples that see the same keys.
    fn differentiate_group<const N: usize, T: Real>(
        &self,
        Group { members, mut into, .. }: Group<'_, T, N>,
        data: [&[T]; N],
        grad: &[T],
        mut sums: Option<&mut [T]>,
        scratch: &mut [Vec<T>; 2],
    ) -> Result<()> {
        for (example, queries) in members {
            let (rows, keys) = self.size(example);
            if self.operands::<N>() > 1 {
                into[0] = queries;
            }
            if rows == 0 || keys == 0 {
                let unwritten = into.iter_mut().flatten().filter(|slot| !slot.adds());
                unwritten.for_each(|slot| slot.data.fill(T::zero()));
            } else {
                let own = self.own(data, example);
                let range = &self.queries.ranges()[example];
                let grad = &grad[range.start * self.width..range.end * self.width];
                let scratch = scratch.each_mut().map(Vec::as_mut_slice);
                self.differentiate(example, own, grad, &mut into, sums.as_deref_mut(), scratch)?;
            }
            into.iter_mut().skip(1).flatten().for_each(|slot| slot.write = Write::Add);
        }
        Ok(())
    }

    /// The gradients of all groups, and what they add up to for the bias.
    fn differentiate_with_bias<const N: usize, T: Real>(
        &self,
        groups: Vec<Group<'_, T, N>>,
        data: [&[T]; N],
        grad: &[T],
        Slot { data: total, write }: Slot<'_, T>,
    ) -> Result<()> {
        let size = groups.len().div_ceil(SUMS).max(1);
        let mut groups = groups.into_iter();
        let parts = (0..groups.len().div_ceil(size)).map(|_| groups.by_ref().take(size).collect());
        let parts: Vec<Vec<_>> = parts.collect();
        let sums = parts.into_par_iter().map(|groups| {
            let (mut sums, mut scratch) = (vec![T::zero(); total.len()], [self.tile(), self.tile()]);
            for group in groups {
                self.differentiate_group(group, data, grad, Some(&mut sums), &mut scratch)?;
            }
            Ok(sums)
        });
        let sums = sums.collect::<Result<Vec<_>>>()?;
        for_pieces(total, 1, |first, total| {
            if write == Write::Replace {
                total.fill(T::zero());
            }
            for sums in &sums {
                total.iter_mut().zip(&sums[first..]).for_each(|(total, &sum)| *total += sum);
            }
        });
        Ok(())
    }

    /// The gradients of one example: with dP = do v' and D_i = sum_j p_ij dP_ij, dS = p (dP - D), dq = dS k,
    /// dk = dS' q, dv = p' do. Dropout stands between p and v: it acts on the p of dv and on dP. dS is also what the
    /// bias of each pair receives, added to `sums` (H,P,P') if it is wanted.
    fn differentiate<const N: usize, T: Real>(
        &self,
        example: usize,
        data: [&[T]; N],
        grad: &[T],
        into: &mut Targets<'_, T, N>,
        mut sums: Option<&mut [T]>,
        [weights, slopes]: [&mut [T]; 2],
    ) -> Result<()> {
        let (columns, places) = (self.columns(), self.places::<N>());
        let (queries, keys) = self.size(example);
        let [of_q, of_k, of_v] = places;
        let of_grad = Place { operand: 0, stride: self.width, column: 0 };
        let wanted = places.map(|place| into[place.operand].is_some());
        for head in 0..self.heads {
            let k = of_k.head(&data, (0, keys), head, columns)?;
            let v = of_v.head(&data, (0, keys), head, columns)?;
            for (first, rows) in Self::tiles((queries, keys)) {
                let q = of_q.head(&data, (first, rows), head, columns)?;
                let grad = of_grad.head(&[grad], (first, rows), head, columns)?;
                self.weigh(example, (first, rows), [q, k], self.bias_of(&data, head), weights)?;
                // Tiles share keys and values, so later ones add to what the first wrote.
                let mut write =
                    |place: Place, row: usize, scale, a: Matrix<'_, T>, b: Matrix<'_, T>| match &mut into
                        [place.operand]
                    {
                        None => Ok(()),
                        Some(slot) => {
                            let write = if row == first { slot.write } else { Write::Add };
                            let target = &mut slot.data[place.at(row, head, columns)..];
                            multiply(target, place.stride, scale, a, b, write, Threads::One)
                        }
                    };
                let (weights, slopes) = (&mut weights[..rows * keys], &mut slopes[..rows * keys]);
                let mut dropped = &*weights;
                if self.dropout.is_some() {
                    // The slopes' place serves the dropped weights first.
                    slopes.copy_from_slice(weights);
                    self.drop(example, first, head, slopes);
                    dropped = &*slopes;
                }
                write(of_v, 0, T::one(), Matrix::new(dropped, rows, keys, keys)?.t(), grad)?;
                if !wanted[0] && !wanted[1] && sums.is_none() {
                    continue;
                }
                multiply(slopes, keys, T::one(), grad, v.t(), Write::Replace, Threads::One)?;
                self.drop(example, first, head, slopes);
                through_softmax(keys, weights, slopes);
                if let (Some(places), Some(sums)) = (&self.bias, &mut sums) {
                    let sums = &mut sums[head * places.size()..][..places.size()];
                    let start = self.queries.ranges()[example].start + first;
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, slopes) in slopes.chunks_exact(keys).enumerate() {
                                places.gather(example, start + row, slopes, sums);
                            }
                        },
                    );
                }
                let slopes = Matrix::new(slopes, rows, keys, keys)?;
                write(of_q, first, self.scale(), slopes, k)?;
                write(of_k, 0, self.scale(), slopes.t(), q)?;
            }
        }
        Ok(())
    }

    /// The slots of every example, those that see the same keys together: the first of them writes the gradient of the
    /// keys, the others add to it.
    fn targets<'a, const N: usize, T: Real>(&self, into: Targets<'a, T, N>) -> Result<Vec<Group<'a, T, N>>> {
        let rows = self.keys.ranges().iter().map(|range| range.end).max().unwrap_or(0);
        let mut groups: Vec<_> = self.keys.groups(rows)?.into_iter().map(Group::new).collect();
        for ((operand, slot), parts) in into.into_iter().enumerate().zip(self.parts::<N>()) {
            let Some(Slot { data, write }) = slot else { continue };
            let clear = |gap: &mut [T]| {
                if write == Write::Replace {
                    gap.fill(T::zero());
                }
            };
            let width = parts * self.width;
            if operand > 0 || self.operands::<N>() == 1 {
                let ranges = groups.iter().map(|group| group.keys.clone()).collect::<Vec<_>>();
                for (group, data) in groups.iter_mut().zip(cut(data, width, ranges.into_iter(), clear)) {
                    group.into[operand] = Some(Slot { data, write });
                }
            } else {
                let mut pieces: Vec<_> = cut(data, width, self.queries.ranges().iter().cloned(), clear)
                    .into_iter()
                    .map(Some)
                    .collect();
                for group in &mut groups {
                    for (example, slot) in &mut group.members {
                        *slot = pieces[*example].take().map(|data| Slot { data, write });
                    }
                }
            }
        }
        Ok(groups)
    }
}

/// dS from p and dP, in place of dP.
fn through_softmax<T: Real>(keys: usize, weights: &[T], slopes: &mut [T]) {
    vectorised(
        #[inline(always)]
        || {
            for (p, slope) in weights.chunks_exact(keys).zip(slopes.chunks_exact_mut(keys)) {
                let along = sum_pairs(p, slope, |p, slope| p * slope);
                for (slope, &p) in slope.iter_mut().zip(p) {
                    *slope = p * (*slope - along);
                }
            }
        },
    );
}
