//! Sums that several operations need.

use std::rc::Rc;

use candle_core::{Result, Storage};

use super::body::{Operand, Slot, dropout_arguments};
use super::machine::{Address, Arg, Buffer, Family, Machine, Write, family};

const CROSS_ENTROPY: Family = family!("cross_entropy");
const LINEAR: Family = family!("linear");
const RESIDUAL: Family = family!("residual");

/// Rows that one thread adds up.
const STEP: usize = 64;

/// Into how many parts the rows of a sum over columns fall, and the rows of each.
pub(crate) fn parts(rows: usize) -> (usize, usize) {
    // The second dimension of a grid ends at 65535.
    let step = STEP.max(rows.div_ceil(1 << 15));
    (rows.div_ceil(step), step)
}

/// Sums the columns of x (rows, width) into `into`.
pub(crate) fn column_sums(
    on: &dyn Machine,
    (rows, width): (usize, usize),
    x: Address,
    into: Slot,
) -> Result<()> {
    let (count, step) = parts(rows);
    let partial = on.scratch(count * width)?;
    let sizes = [Arg::size(rows)?, Arg::size(width)?, Arg::size(step)?];
    let [rows, width_argument, step] = sizes;
    let all = [rows, width_argument, step, Arg::At(x), Arg::At(partial.at())];
    on.launch(&LINEAR, "column_parts", [width.div_ceil(128), count, 1], 128, &all)?;
    column_total(on, (count, width), width, partial.at(), into)
}

/// Sums the first `width` columns of partial (parts, stride).
pub(crate) fn column_total(
    on: &dyn Machine,
    (parts, stride): (usize, usize),
    width: usize,
    partial: Address,
    into: Slot,
) -> Result<()> {
    let [out, adds] = into.arguments();
    let all =
        [Arg::size(parts)?, Arg::Long(stride as u64), Arg::Long(width as u64), Arg::At(partial), out, adds];
    on.launch(&LINEAR, "column_total", [width.div_ceil(128), 1, 1], 128, &all)
}

/// Makes each row of y (rows, width) the bias, if there is one, and says how a product is then to be written there.
pub(crate) fn fill_rows(
    on: &dyn Machine,
    (rows, width): (usize, usize),
    bias: Address,
    y: Address,
) -> Result<Write> {
    if bias.is_null() {
        return Ok(Write::Replace);
    }
    on.each(&LINEAR, "fill_rows", rows * width, &[Arg::size(width)?, Arg::At(bias), Arg::At(y)])?;
    Ok(Write::Add)
}

/// The sum of the losses of so many rows over `count`, a scalar.
pub(crate) fn mean_loss(on: &dyn Machine, rows: usize, count: usize, losses: &Buffer) -> Result<Buffer> {
    let out = on.scratch(1)?;
    let all = [Arg::size(rows)?, share(count), Arg::At(losses.at()), Arg::At(out.at())];
    on.launch(&CROSS_ENTROPY, "mean_loss", [1, 1, 1], 256, &all)?;
    Ok(out)
}

/// What one of `count` rows weighs.
pub(crate) fn share(count: usize) -> Arg {
    Arg::Real(1.0 / count.max(1) as f32)
}

/// Writes x into `into`, or adds it.
pub(crate) fn put(on: &dyn Machine, n: usize, x: Address, into: Slot) -> Result<()> {
    dropped(on, n, x, into, None)
}

/// Writes what dropout leaves of x into `into`, or adds it.
pub(crate) fn dropped(
    on: &dyn Machine,
    n: usize,
    x: Address,
    into: Slot,
    dropout: Option<crate::kernels::Dropout>,
) -> Result<()> {
    let [y, adds] = into.arguments();
    let all: Vec<Arg> = [Arg::At(x), y, adds].into_iter().chain(dropout_arguments(dropout)).collect();
    on.each(&RESIDUAL, "drop", n, &all)
}

/// A copy of x.
pub(crate) fn copy(on: &dyn Machine, x: Operand<'_>) -> Result<Buffer> {
    let copy = on.room(x.at.precision(), x.count())?;
    put(on, x.count(), x.at, Slot { at: copy.at(), adds: false })?;
    Ok(copy)
}

/// The sum of two gradients.
pub(crate) fn add(on: &dyn Machine, sum: Rc<Storage>, more: Operand<'_>) -> Result<Storage> {
    let sum = on.take(sum)?;
    put(on, more.count(), more.at, Slot { at: sum.at(), adds: true })?;
    on.store(sum)
}
