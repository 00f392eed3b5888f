//! Kernels run on the processor, from a library that a C++ compiler makes of their sources.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use candle_core::{CpuStorage, Error, Result, Storage, bail};
use half::bf16;
use libloading::Library;

use super::machine::{Address, Arg, Buffer, Family, Machine, Matrix, Words, Write};
use super::memory::Held;
use crate::kernels::Precision;
use crate::kernels::product::{self, Threads};
use crate::kernels::rows::scratch;

thread_local! {
    static LIBRARY: RefCell<Option<Rc<Library>>> = const { RefCell::new(None) };
}

/// The library keeps the state of the block that runs in variables of its own.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const FAMILIES: [&str; 13] = [
    include_str!("attention.cuh"),
    include_str!("attention.cu"),
    include_str!("attention_bf16.cu"),
    include_str!("cross_entropy.cu"),
    include_str!("embedding.cu"),
    include_str!("ipot.cu"),
    include_str!("layer_norm.cu"),
    include_str!("linear.cu"),
    include_str!("linear_cross_entropy.cu"),
    include_str!("optim.cu"),
    include_str!("patchify.cu"),
    include_str!("residual.cu"),
    include_str!("rows.cu"),
];

/// All kernels as one C++17 source, to be compiled into a shared library for [`rehearse`].
pub fn source() -> String {
    let mut text = [include_str!("rehearsal.h"), include_str!("common.cuh")].concat();
    let mut table = String::from("const Kernel kernels[] = {\n");
    for family in FAMILIES {
        text += family;
        // A family may have its kernels made by a macro, in several widths.
        let widths: Vec<&str> = family
            .lines()
            .filter_map(|line| line.strip_prefix("KERNELS(")?.split([',', ')']).next())
            .collect();
        for after in family.split("__global__ void ").skip(1) {
            let name = after.split('(').next().unwrap_or_default();
            let names: Vec<String> = match name.strip_suffix("##W") {
                Some(stem) => widths.iter().map(|width| format!("{stem}{width}")).collect(),
                None => vec![name.to_owned()],
            };
            for name in names {
                table += &format!(
                    "    {{\"{name}\", Entry<{name}>::call, Entry<{name}>::takes, Entry<{name}>::count}},\n"
                );
            }
        }
    }
    text + &table + "    {nullptr, nullptr, nullptr, 0}};\n"
}

/// Does `work` while this thread's recorded operations on f32 tensors of the processor run their CUDA kernels, compiled
/// from [`source`] into `library`, instead of the processor's own. Only a [`super::super::Tape`] leads there.
///
/// # Errors
/// When the library cannot be loaded, or the work fails.
pub fn rehearse<R>(library: &Path, work: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: the library is made of our sources, whose initialisers do nothing but fill tables.
    let library = unsafe { Library::new(library) }.map_err(Error::wrap)?;
    let outer = LIBRARY.replace(Some(Rc::new(library)));
    let outcome = work();
    LIBRARY.set(outer);
    outcome
}

/// The rehearsal of this thread, if there is one.
pub(super) fn machine() -> Option<Box<dyn Machine>> {
    LIBRARY.with_borrow(|library| Some(Box::new(Rehearsal(Rc::clone(library.as_ref()?))) as Box<dyn Machine>))
}

struct Rehearsal(Rc<Library>);

type Rehearse = unsafe extern "C" fn(*const c_char, *const c_uint, c_uint, *mut *mut c_void, c_int) -> c_int;

impl Matrix {
    /// Everything from its first element to its last.
    ///
    /// # Safety
    /// The elements must be there, of this type, and written by nobody else meanwhile.
    // SAFETY: left to the caller, who knows what lies at the address.
    unsafe fn elements<'a, T>(self) -> &'a [T] {
        match self.extent() {
            0 => &[],
            // SAFETY: the caller's.
            extent => unsafe { std::slice::from_raw_parts(self.at.pointer() as *const T, extent) },
        }
    }

    /// The matrix itself, whose elements those are.
    fn view(self, elements: &[f32]) -> Result<product::Matrix<'_, f32>> {
        let (rows, columns) =
            if self.transposed { (self.columns, self.rows) } else { (self.rows, self.columns) };
        let matrix = product::Matrix::new(elements, rows, columns, self.stride)?;
        Ok(if self.transposed { matrix.t() } else { matrix })
    }
}

impl Machine for Rehearsal {
    fn address(&self, storage: &Storage) -> Result<Address> {
        match storage {
            Storage::Cpu(CpuStorage::F32(data)) => Ok(Address::new(data.as_ptr() as u64, Precision::F32)),
            Storage::Cpu(CpuStorage::BF16(data)) => Ok(Address::new(data.as_ptr() as u64, Precision::Bf16)),
            _ => bail!("a rehearsal computes in f32 and bf16, on the processor"),
        }
    }

    fn room(&self, precision: Precision, n: usize) -> Result<Buffer> {
        Ok(match precision {
            Precision::F32 => Buffer::F32(Held::Host(scratch(n))),
            Precision::Bf16 => Buffer::Bf16(Held::Host(vec![bf16::NAN; n])),
        })
    }

    fn upload(&self, words: &[u32]) -> Result<Words> {
        Ok(Held::Host(words.to_vec()))
    }

    fn download(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        match buffer {
            Buffer::F32(Held::Host(data)) => Ok(data.clone()),
            _ => bail!("expected f32 of this machine"),
        }
    }

    /// So few that small tests have several chunks.
    fn chunk(&self) -> usize {
        1
    }

    fn clear(&self, at: Address, n: usize) -> Result<()> {
        // SAFETY: launchers clear buffers and slots that they hold, within their lengths.
        unsafe { std::ptr::write_bytes(at.pointer() as *mut u8, 0, at.precision().bytes() * n) };
        Ok(())
    }

    fn launch(
        &self,
        family: &Family,
        kernel: &str,
        grid: [usize; 3],
        threads: u32,
        arguments: &[Arg],
    ) -> Result<()> {
        let mut values = arguments.to_vec();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(Arg::pointer).collect();
        let (name, grid) = (CString::new(kernel).map_err(Error::wrap)?, grid.map(|n| n as c_uint));
        // A panic of another thread leaves no block half done: nothing of the library panics.
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the library defines `rehearse` with this type, and takes as many arguments as it is told there are;
        // what the kernels read and write is what they would on a GPU.
        let code = unsafe {
            let rehearse = self.0.get::<Rehearse>(b"rehearse\0").map_err(Error::wrap)?;
            rehearse(name.as_ptr(), grid.as_ptr(), threads, pointers.as_mut_ptr(), pointers.len() as c_int)
        };
        match code {
            0 => Ok(()),
            1 => bail!("{}: no kernel `{kernel}`", family.name),
            3 => bail!("{}: `{kernel}` takes f32 and is given bf16", family.name),
            _ => bail!("{}: `{kernel}` does not take {} arguments", family.name, arguments.len()),
        }
    }

    fn product(&self, out: Address, a: Matrix, b: Matrix, write: Write) -> Result<()> {
        let (m, n) = (a.rows, b.columns);
        // SAFETY: launchers multiply operands whose types their addresses name into buffers or slots of m x n elements, which
        // nobody else holds.
        unsafe {
            let elements = |matrix: Matrix| match matrix.at.precision() {
                Precision::F32 => Cow::Borrowed(matrix.elements::<f32>()),
                Precision::Bf16 => matrix.elements::<bf16>().iter().map(|x| x.to_f32()).collect(),
            };
            let [left, right] = [elements(a), elements(b)];
            let multiply = |out: &mut [f32]| {
                product::multiply(out, n, 1.0, a.view(&left)?, b.view(&right)?, write, Threads::Pool)
            };
            match out.precision() {
                Precision::F32 => multiply(std::slice::from_raw_parts_mut(out.pointer() as *mut f32, m * n)),
                Precision::Bf16 => {
                    let out = std::slice::from_raw_parts_mut(out.pointer() as *mut bf16, m * n);
                    let mut sums: Vec<f32> = out.iter().map(|x| x.to_f32()).collect();
                    multiply(&mut sums)?;
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = bf16::from_f32(sum));
                    Ok(())
                }
            }
        }
    }

    fn store(&self, buffer: Buffer) -> Result<Storage> {
        match buffer {
            Buffer::F32(Held::Host(data)) => Ok(Storage::Cpu(CpuStorage::F32(data))),
            Buffer::Bf16(Held::Host(data)) => Ok(Storage::Cpu(CpuStorage::BF16(data))),
            _ => bail!("memory of another machine"),
        }
    }

    fn take(&self, storage: Rc<Storage>) -> Result<Buffer> {
        let storage = match Rc::try_unwrap(storage) {
            Ok(Storage::Cpu(storage)) => storage,
            Err(shared) => match &*shared {
                Storage::Cpu(storage) => storage.clone(),
                _ => bail!("a gradient of another machine"),
            },
            Ok(_) => bail!("a gradient of another machine"),
        };
        match storage {
            CpuStorage::F32(data) => Ok(Buffer::F32(Held::Host(data))),
            CpuStorage::BF16(data) => Ok(Buffer::Bf16(Held::Host(data))),
            _ => bail!("a gradient is f32 or bf16"),
        }
    }
}
