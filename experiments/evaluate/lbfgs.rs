//! The least value of a smooth convex function of many numbers, found from its gradients alone.
//!
//! L-BFGS, Liu and Nocedal 1989: the last steps and the changes of the gradient along them stand for the curvature; a
//! step is halved until it gains what the slope promises (Armijo). No step is random.

use std::collections::VecDeque;

use candle_core::Result;

/// How many steps stand for the curvature.
const HISTORY: usize = 10;
/// The share of the promised gain that a step must bring.
const GAIN: f64 = 1e-4;
/// Below this share of its first length a step is not halved again: rounding hides what it gains.
const SHORTEST: f64 = 1e-12;

/// When the search ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Until {
    /// No element of the gradient is greater.
    pub gradient: f64,
    /// So many steps are made.
    pub steps: usize,
}

/// One step that was made: how far, and by how much the gradient changed.
struct Step {
    moved: Vec<f64>,
    turned: Vec<f64>,
    /// The product of both.
    product: f64,
}

/// The place of the least value; `value` gives the value at a place and its gradient there.
///
/// # Errors
/// When `value` fails.
pub fn least(
    start: Vec<f64>,
    until: Until,
    mut value: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<Vec<f64>> {
    let mut place = start;
    let (mut height, mut gradient) = value(&place)?;
    let mut history: VecDeque<Step> = VecDeque::new();
    for _ in 0..until.steps {
        let greatest = gradient.iter().fold(0f64, |greatest, slope| greatest.max(slope.abs()));
        if greatest <= until.gradient {
            break;
        }
        let direction = direction(&gradient, &history);
        let slope = dot(&direction, &gradient);
        // Without a history the direction is the gradient itself, whose length says nothing about the distance.
        let mut length = if history.is_empty() { 1.0 / norm(&gradient).max(1.0) } else { 1.0 };
        let shortest = SHORTEST * length;
        let (next, (lower, turned)) = loop {
            let next: Vec<f64> = place.iter().zip(&direction).map(|(at, by)| at + length * by).collect();
            let found = value(&next)?;
            if found.0 <= height + GAIN * length * slope {
                break (next, found);
            }
            length /= 2.0;
            if length < shortest {
                return Ok(place);
            }
        };
        if lower >= height {
            // Rounding hides what further steps would gain.
            return Ok(next);
        }
        let moved: Vec<f64> = next.iter().zip(&place).map(|(to, from)| to - from).collect();
        let change: Vec<f64> = turned.iter().zip(&gradient).map(|(to, from)| to - from).collect();
        let product = dot(&moved, &change);
        if product > f64::EPSILON * norm(&moved) * norm(&change) {
            history.truncate(HISTORY - 1);
            history.push_front(Step { moved, turned: change, product });
        }
        (place, height, gradient) = (next, lower, turned);
    }
    Ok(place)
}

/// Minus the gradient times the inverse curvature that the history (newest first) stands for.
fn direction(gradient: &[f64], history: &VecDeque<Step>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let mut shares = Vec::with_capacity(history.len());
    for step in history {
        let share = dot(&step.moved, &direction) / step.product;
        add(&mut direction, -share, &step.turned);
        shares.push(share);
    }
    if let Some(newest) = history.front() {
        let scale = newest.product / dot(&newest.turned, &newest.turned);
        direction.iter_mut().for_each(|element| *element *= scale);
    }
    for (step, share) in history.iter().zip(shares).rev() {
        let back = dot(&step.turned, &direction) / step.product;
        add(&mut direction, share - back, &step.moved);
    }
    direction
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

fn add(sum: &mut [f64], times: f64, vector: &[f64]) {
    sum.iter_mut().zip(vector).for_each(|(sum, element)| *sum += times * element);
}
