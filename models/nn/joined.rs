//! Two sequences of rows as one: which row stands where, for whoever joins them and takes them apart again.

use candle_core::{Device, Result, Tensor};

use crate::kernels;

/// Where the rows of two sequences stand in the one that they are joined to.
#[derive(Clone)]
pub struct Joined {
    /// For each joined row its row in the two sequences laid end to end, u32 (R).
    order: Tensor,
    /// The joined rows that are the first sequence's, and those that are the second's, u32.
    parts: [Tensor; 2],
}

impl Joined {
    /// `rows` names the joined rows in order: of which sequence each is, 0 or 1, and its row there. The first sequence has
    /// `first` rows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn new(rows: &[(usize, usize)], first: usize) -> Result<Self> {
        let order: Vec<u32> = rows.iter().map(|&(part, row)| (part * first + row) as u32).collect();
        let part = |own: usize| {
            let of_own = (0u32..).zip(rows).filter(|(_, (part, _))| *part == own);
            Tensor::new(of_own.map(|(at, _)| at).collect::<Vec<u32>>(), &Device::Cpu)
        };
        Ok(Self { order: Tensor::new(order, &Device::Cpu)?, parts: [part(0)?, part(1)?] })
    }

    /// Rows of the two sequences (.., D) to joined rows (R,D).
    ///
    /// # Errors
    /// When the widths differ or a row is missing.
    pub fn join(&self, parts: [&Tensor; 2]) -> Result<Tensor> {
        kernels::gather_vectors_of(&parts, &self.order)
    }

    /// The rows of sequence 0 or 1 among joined ones (R,D), in the order in which they stand there.
    ///
    /// # Errors
    /// When a row is missing.
    pub fn part(&self, joined: &Tensor, part: usize) -> Result<Tensor> {
        kernels::gather_vectors(joined, &self.parts[part])
    }
}
