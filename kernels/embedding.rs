//! Table look-up and row selection.

use candle_core::{Result, Tensor};

/// Rows of `table` (V, D) named by `ids` (u32, any shape): result (.., D).
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (_, width) = table.dims2()?;
    let mut shape = ids.dims().to_vec();
    shape.push(width);
    gather_rows(table, &ids.flatten_all()?)?.reshape(shape)
}

/// Selects rows along the first dimension: x (R, ..), rows u32 (M), result (M, ..).
pub fn gather_rows(x: &Tensor, rows: &Tensor) -> Result<Tensor> {
    x.contiguous()?.index_select(rows, 0)
}
