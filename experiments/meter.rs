//! Means of figures over the updates of an interval, summed on the device and read once.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

/// The figures of one update by name, each a scalar.
pub type Figures = BTreeMap<String, Tensor>;

/// Sums of figures since the last reading.
#[derive(Default)]
pub struct Meter(BTreeMap<String, (Tensor, u32)>);

/// A meter at rest, as a checkpoint keeps it: the sum of each figure and how many were summed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums(BTreeMap<String, (f32, u32)>);

impl Meter {
    /// Adds the figures of one update.
    ///
    /// # Errors
    /// When the device fails.
    pub fn add(&mut self, figures: Figures) -> Result<()> {
        for (name, value) in figures {
            let sum = match self.0.remove(&name) {
                None => (value, 1),
                Some((sum, count)) => ((sum + value)?, count + 1),
            };
            self.0.insert(name, sum);
        }
        Ok(())
    }

    /// The mean of each figure; the meter begins anew.
    ///
    /// # Errors
    /// When the device fails.
    pub fn read(&mut self) -> Result<BTreeMap<String, f64>> {
        let sums = self.sums()?.0;
        self.0.clear();
        Ok(sums.into_iter().map(|(name, (sum, count))| (name, f64::from(sum) / f64::from(count))).collect())
    }

    /// What a checkpoint keeps of it.
    ///
    /// # Errors
    /// When the device fails.
    pub fn sums(&self) -> Result<Sums> {
        let read =
            |(name, (sum, count)): (&String, &(Tensor, u32))| Ok((name.clone(), (sum.to_scalar()?, *count)));
        self.0.iter().map(read).collect::<Result<_>>().map(Sums)
    }

    /// The meter that a checkpoint kept.
    ///
    /// # Errors
    /// When the device fails.
    pub fn resume(sums: &Sums, device: &Device) -> Result<Self> {
        let place = |(name, (sum, count)): (&String, &(f32, u32))| {
            Ok((name.clone(), (Tensor::new(*sum, device)?, *count)))
        };
        sums.0.iter().map(place).collect::<Result<_>>().map(Self)
    }
}
