//! What launches kernels, and what they are launched with.

use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Storage, Tensor, bail};

use super::{driver, rehearsal};
use crate::kernels::Precision;
pub(crate) use crate::kernels::product::Write;

/// Where elements begin, in the memory of the machine.
pub(crate) type Address = u64;

/// The address of an operand that is not there.
pub(crate) const NULL: Address = 0;

/// Bytes of an f32 and of a u32.
const WORD: u64 = 4;

/// The address `n` words on; what is not there stays so.
pub(crate) fn after(at: Address, n: usize) -> Address {
    if at == NULL { NULL } else { at + WORD * n as u64 }
}

/// Memory of a machine.
pub(crate) enum Held<T> {
    Host(Vec<T>),
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "there is no GPU to hold it"))]
    Device(driver::Memory<T>),
}

/// Elements.
pub(crate) type Buffer = Held<f32>;
/// Numbers of rows, and the like.
pub(crate) type Words = Held<u32>;

impl<T> Held<T> {
    pub fn at(&self) -> Address {
        match self {
            Self::Host(data) => data.as_ptr() as Address,
            Self::Device(memory) => memory.at(),
        }
    }
}

/// CUDA source of a family of kernels.
pub(crate) struct Family {
    pub name: &'static str,
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "compiled by a GPU alone"))]
    pub source: &'static str,
}

/// The family in a file of this folder.
macro_rules! family {
    ($name:literal) => {
        $crate::kernels::cuda::machine::Family {
            name: $name,
            source: concat!(
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/cuda/common.cuh")),
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/cuda/", $name, ".cu"))
            ),
        }
    };
}
pub(crate) use family;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arg {
    /// An address or a count of 64 bits.
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

/// What lies where the factors of a product are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factors {
    F32,
    Bf16,
}

const LINEAR: Family = family!("linear");

/// Threads of a block that works on a row.
pub(crate) const ROW: u32 = 128;
/// Threads of a block that works on single elements.
const ELEMENTS: u32 = 256;
/// Blocks enough to fill a GPU; beyond them threads take several elements.
const BLOCKS: usize = 1 << 16;

/// Something that has memory and launches kernels, one after another.
pub(crate) trait Machine {
    /// Room for `n` elements, which hold anything.
    fn scratch(&self, n: usize) -> Result<Buffer>;

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

    /// `out = a b` or `out += a b`, out dense and f32.
    fn product(&self, out: Address, a: Matrix, b: Matrix, factors: Factors, write: Write) -> Result<()>;

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

    /// `out = a b` or `out += a b` of f32, out dense, in the precision of this thread.
    pub fn multiply(&self, out: Address, a: Matrix, b: Matrix, write: Write) -> Result<()> {
        if Precision::current() == Precision::F32 {
            return self.product(out, a, b, Factors::F32, write);
        }
        let ((a, _held), (b, _also)) = (self.rounded(a)?, self.rounded(b)?);
        self.product(out, a, b, Factors::Bf16, write)
    }

    /// A copy in bf16, and the memory that holds it.
    fn rounded(&self, matrix: Matrix) -> Result<(Matrix, Buffer)> {
        let n = matrix.extent();
        // Two of them take the place of an f32.
        let copy = self.scratch(n.div_ceil(2))?;
        self.each(&LINEAR, "to_bf16", n, &[Arg::Long(matrix.at), Arg::Long(copy.at())])?;
        Ok((Matrix { at: copy.at(), ..matrix }, copy))
    }

    /// Room for `n` zeros.
    pub fn cleared(&self, n: usize) -> Result<Buffer> {
        let buffer = self.scratch(n)?;
        self.clear(buffer.at(), n)?;
        Ok(buffer)
    }
}

/// The machine whose memory holds `storage`; none where the processor computes.
pub(crate) fn machine_of(storage: &Storage) -> Result<Option<Box<dyn Machine>>> {
    match storage {
        Storage::Cpu(CpuStorage::F32(_)) => Ok(rehearsal::machine()),
        Storage::Cpu(_) => Ok(None),
        Storage::Cuda(storage) => driver::machine(storage).map(Some),
        Storage::Metal(_) => bail!("no kernels for this device"),
    }
}

/// Where a dense f32 operand begins; an error where it is not dense or not f32.
pub(crate) fn address(storage: &Storage, layout: &Layout) -> Result<Address> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("an operand is not contiguous") };
    let at = match storage {
        Storage::Cpu(CpuStorage::F32(data)) if data.len() >= end => data.as_ptr() as Address,
        Storage::Cuda(storage) => driver::address(storage)?,
        _ => bail!("a GPU computes in f32 alone"),
    };
    Ok(after(at, start))
}

/// Lends the elements of a dense f32 tensor for writing.
pub(crate) fn lend(tensor: &Tensor, write: impl Fn(Address) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Lent(write))
}

struct Lent<F>(F);

impl<F: Fn(Address) -> Result<()>> InplaceOp1 for Lent<F> {
    fn name(&self) -> &'static str {
        "lend"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        match (storage, layout.contiguous_offsets()) {
            (CpuStorage::F32(data), Some((start, _))) => (self.0)(after(data.as_mut_ptr() as Address, start)),
            _ => bail!("expected a contiguous f32 tensor"),
        }
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        match layout.contiguous_offsets() {
            Some((start, _)) => (self.0)(after(driver::address(storage)?, start)),
            None => bail!("expected a contiguous f32 tensor"),
        }
    }
}
