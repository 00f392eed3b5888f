//! Cross-entropy of a linear map on a GPU, a chunk of classes at a time.

use std::ops::Range;

use candle_core::op::BackpropOp;
use candle_core::{Result, Shape, Tensor, bail};

use super::{Chunked, NARROWEST, Passed, Rows};
use crate::kernels::Logits;
use crate::kernels::cuda::machine::{Address, Arg, Buffer, Family, Machine, Matrix, family};
use crate::kernels::cuda::sums::{column_sums, fill_rows, mean_loss, share};
use crate::kernels::cuda::{Body, Operand, Slot};

const FAMILY: Family = family!("linear_cross_entropy");

/// Numbers that remain of each row.
const KEPT: usize = 8;
/// The kernels keep the number of a class in an f32.
const MOST: usize = 1 << 24;

/// [`Logits`] by their addresses.
#[derive(Clone, Copy)]
struct Map {
    x: Address,
    weight: Address,
    bias: Address,
    rows: usize,
    classes: usize,
    width: usize,
}

impl Map {
    fn new(x: Operand<'_>, weight: Operand<'_>, bias: Option<Operand<'_>>) -> Result<Self> {
        let (&[rows, width], &[classes, _]) = (x.dims(), weight.dims()) else {
            bail!("cross-entropy of x {:?}, weight {:?}", x.dims(), weight.dims())
        };
        if classes > MOST {
            bail!("cross-entropy of {classes} classes; a GPU counts to {MOST}");
        }
        let bias = bias.map_or(Address::NULL, |bias| bias.at);
        Ok(Self { x: x.at, weight: weight.at, bias, rows, classes, width })
    }

    /// How many classes make a chunk.
    fn chunk(&self, on: &dyn Machine) -> usize {
        (on.chunk() / self.rows.max(1)).max(1).next_multiple_of(NARROWEST).min(self.classes)
    }

    fn chunks(&self, on: &dyn Machine) -> impl Iterator<Item = Range<usize>> + use<> {
        let (classes, size) = (self.classes, self.chunk(on));
        (0..classes).step_by(size).map(move |first| first..classes.min(first + size))
    }

    /// Room for the widest chunk.
    fn room(&self, on: &dyn Machine) -> Result<Buffer> {
        on.scratch(self.rows * self.chunk(on))
    }

    fn x(&self) -> Matrix {
        Matrix::new(self.x, self.rows, self.width)
    }

    fn weight(&self, classes: &Range<usize>) -> Matrix {
        Matrix::new(self.weight.after(classes.start * self.width), classes.len(), self.width)
    }

    /// The logits (R, chunk) of some classes.
    fn logits(&self, on: &dyn Machine, classes: &Range<usize>, into: &Buffer) -> Result<()> {
        let bias = self.bias.after(classes.start);
        let write = fill_rows(on, (self.rows, classes.len()), bias, into.at())?;
        on.multiply(into.at(), self.x(), self.weight(classes).t(), write)
    }
}

/// What passes of one chunk after another.
struct Passing {
    map: Map,
    teacher: Option<(Map, Buffer)>,
    z: Buffer,
}

impl Passing {
    fn new(on: &dyn Machine, map: Map, teacher: Option<&Logits>) -> Result<Self> {
        let teacher = teacher.map(|teacher| stated(on, teacher)).transpose()?;
        Ok(Self { map, teacher, z: map.room(on)? })
    }

    /// Computes the logits of some classes; where they are, and where the teacher's.
    fn pass(&self, on: &dyn Machine, classes: &Range<usize>) -> Result<[Address; 2]> {
        self.map.logits(on, classes, &self.z)?;
        let Some((map, believed)) = &self.teacher else { return Ok([self.z.at(), Address::NULL]) };
        map.logits(on, classes, believed)?;
        Ok([self.z.at(), believed.at()])
    }
}

/// A teacher's logits by their addresses, which its tensors keep, and room for a chunk of them.
fn stated(on: &dyn Machine, Logits { x, weight, bias }: &Logits) -> Result<(Map, Buffer)> {
    let (x, weight) = (x.storage_and_layout(), weight.storage_and_layout());
    let bias = bias.as_ref().map(Tensor::storage_and_layout);
    let bias = bias.as_ref().map(|(storage, layout)| Operand::new(on, storage, layout)).transpose()?;
    let map = Map::new(Operand::new(on, &x.0, x.1)?, Operand::new(on, &weight.0, weight.1)?, bias)?;
    Ok((map, map.room(on)?))
}

impl Chunked {
    fn shares(&self) -> [Arg; 3] {
        [self.on, self.off, self.alpha].map(|share| Arg::Real(share as f32))
    }

    fn launch(&self, on: &dyn Machine, map: Map) -> Result<(Buffer, Shape)> {
        let (targets, rows) = (on.upload(&self.targets)?, on.scratch(KEPT * map.rows)?);
        let passing = Passing::new(on, map, self.teacher.as_ref())?;
        for classes in map.chunks(on) {
            let [z, believed] = passing.pass(on, &classes)?;
            let pointers = [targets.at(), z, believed, rows.at()].map(Arg::At);
            let sizes = [Arg::size(classes.len())?, Arg::size(classes.start)?];
            let all: Vec<Arg> = sizes.into_iter().chain(pointers).collect();
            on.rows(&FAMILY, "chunk_seen", map.rows, &all)?;
        }
        let (costs, right) = (on.scratch(map.rows)?, on.scratch(map.rows)?);
        let pointers = [targets.at(), rows.at(), costs.at(), right.at()].map(Arg::At);
        let all: Vec<Arg> =
            [Arg::size(map.classes)?].into_iter().chain(self.shares()).chain(pointers).collect();
        on.each(&FAMILY, "chunk_cost", map.rows, &all)?;
        let accuracy = on.store(mean_loss(on, map.rows, self.count, &right)?)?;
        let accuracy = Tensor::from_storage(accuracy, (), BackpropOp::none(), false);
        // A second forward pass would find the same.
        let _ = self.passed.set(Passed { rows: Rows::Machine(rows), accuracy });
        Ok((mean_loss(on, map.rows, self.count, &costs)?, ().into()))
    }

    fn launch_backward(
        &self,
        on: &dyn Machine,
        map: Map,
        grad: Address,
        [mut dx, dw, db]: [Option<Slot>; 3],
    ) -> Result<()> {
        let Some(Passed { rows: Rows::Machine(rows), .. }) = self.passed.get() else {
            bail!("the gradient of a cross-entropy that was not computed there")
        };
        let targets = on.upload(&self.targets)?;
        let passing = Passing::new(on, map, self.teacher.as_ref())?;
        for classes in map.chunks(on) {
            let [z, believed] = passing.pass(on, &classes)?;
            let mut all = vec![Arg::size(classes.len())?, Arg::size(classes.start)?];
            all.extend(self.shares());
            all.push(share(self.count));
            all.extend([targets.at(), rows.at(), grad, believed, z].map(Arg::At));
            on.each(&FAMILY, "chunk_slopes", map.rows * classes.len(), &all)?;
            let dz = Matrix::new(z, map.rows, classes.len());
            if let Some(dx) = &mut dx {
                on.multiply(dx.at, dz, map.weight(&classes), dx.write())?;
                dx.adds = true;
            }
            if let Some(dw) = dw {
                on.multiply(dw.at.after(classes.start * map.width), dz.t(), map.x(), dw.write())?;
            }
            if let Some(db) = db {
                let into = Slot { at: db.at.after(classes.start), ..db };
                column_sums(on, (map.rows, classes.len()), z, into)?;
            }
        }
        Ok(())
    }
}

impl Body<2> for Chunked {
    fn forward(&self, on: &dyn Machine, [x, weight]: [Operand<'_>; 2]) -> Result<(Buffer, Shape)> {
        self.launch(on, Map::new(x, weight, None)?)
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, weight]: [Operand<'_>; 2],
        _: Address,
        grad: Address,
        [dx, dw]: [Option<Slot>; 2],
    ) -> Result<()> {
        self.launch_backward(on, Map::new(x, weight, None)?, grad, [dx, dw, None])
    }
}

impl Body<3> for Chunked {
    fn forward(&self, on: &dyn Machine, [x, weight, bias]: [Operand<'_>; 3]) -> Result<(Buffer, Shape)> {
        self.launch(on, Map::new(x, weight, Some(bias))?)
    }

    fn backward(
        &self,
        on: &dyn Machine,
        [x, weight, bias]: [Operand<'_>; 3],
        _: Address,
        grad: Address,
        into: [Option<Slot>; 3],
    ) -> Result<()> {
        self.launch_backward(on, Map::new(x, weight, Some(bias))?, grad, into)
    }
}
