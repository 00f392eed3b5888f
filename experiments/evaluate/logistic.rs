//! Multinomial logistic regression: the linear layer that best tells classes apart by given features.
//!
//! Over images i with features x_i and class y_i it minimises
//! sum_i -ln softmax(x_i W + b)[y_i] + strength / 2 |W|^2; the intercepts b are free. scikit-learn's
//! `LogisticRegression(C=1/strength)` is the same.

use candle_core::{Device, Result, Tensor};

use super::lbfgs::{Until, least};

/// Images as features (N,D), f64, with the class of each.
pub struct Labelled {
    /// (N,D)
    pub features: Tensor,
    /// One an image, below the number of classes.
    pub classes: Vec<u32>,
}

/// A linear layer: row d of D holds the weights (C) of feature d, the last row the intercepts.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    weights: Vec<f64>,
    classes: usize,
}

impl Layer {
    /// All zero, for D features.
    pub fn zero(features: usize, classes: usize) -> Self {
        Self { weights: vec![0.0; (features + 1) * classes], classes }
    }

    /// The layer that fits best, searched from this one on; it does not depend on where the search begins, but the search
    /// may be shorter.
    ///
    /// # Errors
    /// When the features have another width.
    pub fn fitted(&self, data: &Labelled, strength: f64, until: Until) -> Result<Self> {
        let weights = least(self.weights.clone(), until, |weights| {
            let layer = Self { weights: weights.to_vec(), classes: self.classes };
            layer.error(data, strength)
        })?;
        Ok(Self { weights, classes: self.classes })
    }

    /// Weights (D,C) row by row, then intercepts (C).
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Logits (N,C) of features (N,D), row by row.
    ///
    /// # Errors
    /// When the features have another width.
    pub fn logits(&self, features: &Tensor) -> Result<Vec<f64>> {
        let width = self.weights.len() / self.classes - 1;
        let (slopes, intercepts) = self.weights.split_at(width * self.classes);
        let slopes = Tensor::from_slice(slopes, (width, self.classes), &Device::Cpu)?;
        let intercepts = Tensor::from_slice(intercepts, self.classes, &Device::Cpu)?;
        features.matmul(&slopes)?.broadcast_add(&intercepts)?.flatten_all()?.to_vec1()
    }

    /// The mean error over the images with its gradient.
    fn error(&self, data: &Labelled, strength: f64) -> Result<(f64, Vec<f64>)> {
        let (images, width) = data.features.dims2()?;
        let each = 1.0 / images as f64;
        let mut residuals = self.logits(&data.features)?;
        let mut error = 0.0;
        let mut intercepts = vec![0.0; self.classes];
        for (row, &class) in residuals.chunks_mut(self.classes).zip(&data.classes) {
            let greatest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let right = row[class as usize] - greatest;
            row.iter_mut().for_each(|logit| *logit = (*logit - greatest).exp());
            let sum: f64 = row.iter().sum();
            error += (sum.ln() - right) * each;
            row.iter_mut().for_each(|share| *share *= each / sum);
            row[class as usize] -= each;
            intercepts.iter_mut().zip(row).for_each(|(total, residual)| *total += *residual);
        }
        let residuals = Tensor::from_vec(residuals, (images, self.classes), &Device::Cpu)?;
        let slopes = data.features.t()?.matmul(&residuals)?;
        let mut gradient: Vec<f64> = slopes.flatten_all()?.to_vec1()?;
        for (slope, weight) in gradient.iter_mut().zip(&self.weights[..width * self.classes]) {
            *slope += strength * each * weight;
            error += 0.5 * strength * each * weight * weight;
        }
        gradient.extend(intercepts);
        Ok((error, gradient))
    }
}
