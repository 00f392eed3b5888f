//! The gradient of a parameter: all of it or, of a table of which few rows were looked up, those rows alone.
//!
//! A vocabulary of 49,408 words of 512 numbers has a gradient of 100 MB, of which a batch of texts touches one in a hundred.
//! Both forms are one gradient: they have the same norm and lead to the same update, bit by bit.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, Result, Shape, Storage, Tensor, bail};

use super::embedding::add_rows;
use super::real::Real;

/// A gradient as [`super::Tape::backward_compact`] leaves it.
pub enum Gradient {
    /// Of the shape of the parameter.
    Whole(Tensor),
    /// Of a table, where the other rows are zero.
    Rows(Rows),
}

/// Some rows of a table.
pub struct Rows {
    /// Which, in ascending order.
    pub(super) numbers: Vec<u32>,
    /// (M, D)
    pub(super) values: Tensor,
    /// (V, D)
    pub(super) shape: Shape,
}

/// What rows of a table have gathered so far.
pub(super) struct Touched {
    numbers: Vec<u32>,
    values: CpuStorage,
}

impl Touched {
    /// Adds the rows of `grad`, each to the row of the table named by `rows`, to what is there.
    pub fn add<T: Real>(before: Option<Self>, rows: &[u32], width: usize, grad: &[T]) -> Result<Self> {
        let (old, values) = match before {
            Some(Self { numbers, values }) => (numbers, T::cpu_storage_data(values)?),
            None => (Vec::new(), Vec::new()),
        };
        let mut numbers = [old.as_slice(), rows].concat();
        numbers.sort_unstable();
        numbers.dedup();
        let place = |row: &u32| numbers.partition_point(|number| number < row) as u32;
        let mut sum = vec![T::zero(); numbers.len() * width];
        for (row, values) in old.iter().zip(values.chunks_exact(width.max(1))) {
            sum[place(row) as usize * width..][..width].copy_from_slice(values);
        }
        let places: Vec<u32> = rows.iter().map(place).collect();
        add_rows(&mut sum, width, &places, grad);
        Ok(Self { numbers, values: T::to_cpu_storage_owned(sum) })
    }

    /// Every element of a table of `shape`.
    pub fn whole(self, shape: &Shape) -> Result<Storage> {
        fn spread<T: Real>(numbers: &[u32], values: &[T], shape: &Shape) -> Result<CpuStorage> {
            let (rows, width) = shape.dims2()?;
            let mut whole = vec![T::zero(); rows * width];
            for (&row, values) in numbers.iter().zip(values.chunks_exact(width.max(1))) {
                whole[row as usize * width..][..width].copy_from_slice(values);
            }
            Ok(T::to_cpu_storage_owned(whole))
        }
        Ok(Storage::Cpu(match &self.values {
            CpuStorage::F32(values) => spread(&self.numbers, values, shape)?,
            CpuStorage::F64(values) => spread(&self.numbers, values, shape)?,
            _ => bail!("a gradient is f32 or f64"),
        }))
    }

    /// The rows alone, of a table of `shape`.
    pub fn rows(self, shape: &Shape) -> Result<Rows> {
        let (numbers, (_, width)) = (self.numbers, shape.dims2()?);
        let own = Shape::from((numbers.len(), width));
        let values = Tensor::from_storage(Storage::Cpu(self.values), own, BackpropOp::none(), false);
        Ok(Rows { numbers, values, shape: shape.clone() })
    }
}
