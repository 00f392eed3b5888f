//! What launches kernels, and what they are launched with.

use candle_core::{CpuStorage, Result, Storage, bail};

use super::body::Slot;
pub(crate) use super::memory::{Address, Buffer, Words};
use super::{driver, rehearsal, sums};
use crate::kernels::Precision;
pub(crate) use crate::kernels::product::Write;

/// CUDA source of a family of kernels.
pub(crate) struct Family {
    pub name: &'static str,
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "compiled by a GPU alone"))]
    pub source: &'static str,
}

/// The family in a file of this folder, after a header that it needs.
macro_rules! family {
    ($name:literal $(, $header:literal)?) => {
        $crate::kernels::cuda::machine::Family {
            name: $name,
            source: concat!(
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/cuda/common.cuh")),
                $(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/cuda/", $header)),)?
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/cuda/", $name, ".cu"))
            ),
        }
    };
}
pub(crate) use family;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    At(Address),
    /// A count of 64 bits.
    Long(u64),
    /// A count that a kernel takes as an `int`.
    Int(i32),
    /// A word of a random stream.
    Word(u32),
    Real(f32),
}

impl Arg {
    /// A size that a kernel takes as an `int`.
    pub fn size(n: usize) -> Result<Self> {
        match i32::try_from(n) {
            Ok(n) => Ok(Self::Int(n)),
            Err(_) => bail!("a kernel counts to {}, not to {n}", i32::MAX),
        }
    }

    /// Where the value lies.
    pub fn pointer(&mut self) -> *mut std::ffi::c_void {
        match self {
            Self::At(address) => std::ptr::from_ref(address.word()).cast_mut().cast(),
            Self::Long(value) => std::ptr::from_mut(value).cast(),
            Self::Int(value) => std::ptr::from_mut(value).cast(),
            Self::Word(value) => std::ptr::from_mut(value).cast(),
            Self::Real(value) => std::ptr::from_mut(value).cast(),
        }
    }

    pub fn flag(on: bool) -> Self {
        Self::Int(i32::from(on))
    }
}

/// A matrix whose rows lie `stride` elements apart, or the transpose of one.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub at: Address,
    pub rows: usize,
    pub columns: usize,
    pub stride: usize,
    pub transposed: bool,
}

impl Matrix {
    /// Rows that follow each other without a gap.
    pub fn new(at: Address, rows: usize, columns: usize) -> Self {
        Self { at, rows, columns, stride: columns, transposed: false }
    }

    pub fn t(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// Elements from the first to the last.
    pub fn extent(self) -> usize {
        let (rows, columns) =
            if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) };
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * self.stride + columns }
    }
}

/// Threads of a block that works on a row.
pub(crate) const ROW: u32 = 128;
/// Threads of a block that works on single elements.
const ELEMENTS: u32 = 256;
/// Blocks enough to fill a GPU; beyond them threads take several elements.
const BLOCKS: usize = 1 << 16;

/// Something that has memory and launches kernels, one after another.
pub(crate) trait Machine {
    /// Where the elements of a tensor lie; an error where they are of another type, or not in the memory of this machine.
    fn address(&self, storage: &Storage) -> Result<Address>;

    /// Room for `n` elements, which hold anything.
    fn room(&self, precision: Precision, n: usize) -> Result<Buffer>;

    fn upload(&self, words: &[u32]) -> Result<Words>;

    fn download(&self, buffer: &Buffer) -> Result<Vec<f32>>;

    /// Elements of a matrix that is computed piece by piece.
    fn chunk(&self) -> usize;

    /// Writes zeros.
    fn clear(&self, at: Address, n: usize) -> Result<()>;

    fn launch(
        &self,
        family: &Family,
        kernel: &str,
        grid: [usize; 3],
        threads: u32,
        arguments: &[Arg],
    ) -> Result<()>;

    /// `out = a b` or `out += a b`, out dense; both factors are f32, and out too, or both are bf16.
    fn product(&self, out: Address, a: Matrix, b: Matrix, write: Write) -> Result<()>;

    /// A buffer as candle keeps it.
    fn store(&self, buffer: Buffer) -> Result<Storage>;

    /// What candle keeps as a buffer, copied only where it cannot be taken.
    fn take(&self, storage: std::rc::Rc<Storage>) -> Result<Buffer>;
}

impl dyn Machine + '_ {
    /// Launches a kernel for each of `n` elements; their number is its first argument.
    pub fn each(&self, family: &Family, kernel: &str, n: usize, arguments: &[Arg]) -> Result<()> {
        let blocks = n.div_ceil(ELEMENTS as usize).min(BLOCKS);
        let all: Vec<Arg> = [Arg::Long(n as u64)].into_iter().chain(arguments.iter().copied()).collect();
        self.launch(family, kernel, [blocks, 1, 1], ELEMENTS, &all)
    }

    /// Launches a block for each row.
    pub fn rows(&self, family: &Family, kernel: &str, rows: usize, arguments: &[Arg]) -> Result<()> {
        self.launch(family, kernel, [rows, 1, 1], ROW, arguments)
    }

    /// `out = a b` or `out += a b`, out dense, in the precision of this thread.
    pub fn multiply(&self, out: Address, a: Matrix, b: Matrix, write: Write) -> Result<()> {
        let kept = [out, a.at, b.at].map(Address::precision);
        if !kept.contains(&Precision::Bf16) && Precision::current() == Precision::F32 {
            return self.product(out, a, b, write);
        }
        let ((a, _held), (b, _also)) = (self.rounded(a)?, self.rounded(b)?);
        self.product(out, a, b, write)
    }

    /// The matrix in bf16, and the memory that holds it where it was not.
    fn rounded(&self, matrix: Matrix) -> Result<(Matrix, Option<Buffer>)> {
        if matrix.at.precision() == Precision::Bf16 {
            return Ok((matrix, None));
        }
        let n = matrix.extent();
        let copy = self.room(Precision::Bf16, n)?;
        sums::put(self, n, matrix.at, Slot { at: copy.at(), adds: false })?;
        Ok((Matrix { at: copy.at(), ..matrix }, Some(copy)))
    }

    /// Room for `n` elements of f32, which hold anything.
    pub fn scratch(&self, n: usize) -> Result<Buffer> {
        self.room(Precision::F32, n)
    }

    /// Room for `n` zeros.
    pub fn cleared(&self, precision: Precision, n: usize) -> Result<Buffer> {
        let buffer = self.room(precision, n)?;
        self.clear(buffer.at(), n)?;
        Ok(buffer)
    }
}

/// The machine whose memory holds `storage`; none where the processor computes.
pub(crate) fn machine_of(storage: &Storage) -> Result<Option<Box<dyn Machine>>> {
    match storage {
        Storage::Cpu(CpuStorage::F32(_) | CpuStorage::BF16(_)) => Ok(rehearsal::machine()),
        Storage::Cpu(_) => Ok(None),
        Storage::Cuda(storage) => driver::machine(storage).map(Some),
        Storage::Metal(_) => bail!("no kernels for this device"),
    }
}
