//! A ring of the newest rows of earlier batches, as a memory of keys (MoCo, He et al., arXiv:1911.05722, section 3.2).

use candle_core::{Result, Tensor, Var};

use crate::models::{Init, Vars};

/// The last K rows that were pushed. Rows and position are buffers of the store, so that a resumed run finds them.
pub struct Queue {
    rows: Var,
    next: Var,
}

impl Queue {
    /// Opens K = `size` > 0 rows of unit vectors, each of shape `row`, at `vars`.
    ///
    /// # Errors
    /// When a buffer of the same name exists with another shape.
    pub fn open(vars: &Vars, size: usize, row: &[usize]) -> Result<Self> {
        let shape = [&[size], row].concat();
        Ok(Self {
            rows: vars.buffer(shape, "rows", Init::UnitRows)?,
            next: vars.buffer((), "next", Init::Constant(0.0))?,
        })
    }

    /// The K rows, detached.
    pub fn rows(&self) -> Tensor {
        self.rows.as_detached_tensor()
    }

    /// `first` (B,..), then the K rows: (B+K,..).
    ///
    /// # Errors
    /// When a row has another shape than those of the queue.
    pub fn behind(&self, first: &Tensor) -> Result<Tensor> {
        Tensor::cat(&[first, &self.rows()], 0)
    }

    /// Overwrites the oldest rows by `newest` (B,..), of which only the last K are kept.
    ///
    /// # Errors
    /// When a row has another shape than those of the queue.
    pub fn push(&self, newest: &Tensor) -> Result<()> {
        let size = self.rows.dim(0)?;
        let count = newest.dim(0)?.min(size);
        let newest = newest.detach().narrow(0, newest.dim(0)? - count, count)?;
        let next = self.next.to_scalar::<f32>()? as usize % size;
        let ahead = count.min(size - next);
        self.write(&newest.narrow(0, 0, ahead)?, next)?;
        self.write(&newest.narrow(0, ahead, count - ahead)?, 0)?;
        self.next.set(&Tensor::full(((next + count) % size) as f32, (), self.next.device())?)
    }

    fn write(&self, rows: &Tensor, first: usize) -> Result<()> {
        if rows.dim(0)? == 0 { Ok(()) } else { self.rows.slice_set(&rows.contiguous()?, 0, first) }
    }
}
